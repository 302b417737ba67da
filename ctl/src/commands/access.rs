//! Access control: admission, join tokens, operators, the CA.

pub(super) mod authorities;
pub(super) mod operators;
pub(super) mod tokens;

use wyneos::{client, v1};
use wyneos_core::text::Quoted;

use crate::{
    context::Context,
    failure::Failure,
    text::{self, clean},
};

/// `wynectl admit`.
pub(crate) async fn admit(context: &Context, node: String) -> Result<(), Failure> {
    let mut client = client::cluster(context.connect().await?);
    let request = v1::AdmitNodeRequest { node: node.clone() };
    let what = format!("admit node {}", Quoted(&node));
    let answer = context.call(&what, client.admit_node(request)).await?;
    context.show(&answer, |answer| {
        changed(&node, answer.admission, answer.changed, answer.event_sequence)
    })
}

/// `wynectl revoke`.
pub(crate) async fn revoke(context: &Context, node: String, reason: String) -> Result<(), Failure> {
    let mut client = client::cluster(context.connect().await?);
    let what = format!("revoke node {}", Quoted(&node));
    let request = v1::RevokeNodeRequest {
        node: node.clone(),
        reason,
    };
    let answer = context.call(&what, client.revoke_node(request)).await?;
    context.show(&answer, |answer| {
        changed(&node, answer.admission, answer.changed, answer.event_sequence)
    })
}

fn changed(node: &str, admission: i32, changed: bool, event: u64) -> String {
    let (node, now) = (clean(node), text::admission(admission));
    match changed {
        true => format!("{node}: {now} (event {event})\n"),
        false => format!("{node}: {now} already\n"),
    }
}

fn or_none(value: &str) -> String {
    match value {
        "" => text::NONE.to_owned(),
        value => clean(value),
    }
}
