//! `wynectl forget`.

use wyneos::{client, v1};

use super::changes::{change, more_changes};
use wyneos_core::text::Quoted;

use crate::{
    args::ForgetArgs,
    context::Context,
    failure::Failure,
    text::{self, clean},
};

/// `wynectl forget`.
pub(crate) async fn run(context: &Context, args: ForgetArgs) -> Result<(), Failure> {
    let what = format!("forget node {}", Quoted(&args.node));
    let request = v1::ForgetNodeRequest {
        node: args.node,
        plan: args.plan,
        reason: args.reason,
    };
    let mut client = client::cluster(context.connect().await?);
    let answer = context.call(&what, client.forget_node(request)).await?;
    context.show(&answer, told)
}

/// The result of forgetting a node, or of planning it.
pub(super) fn told(answer: &v1::ForgetNodeResponse) -> String {
    let (name, id) = (clean(&answer.name), text::short(&answer.node_id));
    let stops = |change: &v1::WorkloadChange| change.stops.len() as u64 + u64::from(change.more_stops);
    let lost: u64 = answer.changes.iter().map(stops).sum();
    let lost = text::count(lost + u64::from(answer.more_stops), "instance");
    let mut told = match answer.applied {
        true => format!(
            "{name} ({id}) is forgotten (event {}): {lost} given up permanently\n",
            answer.event_sequence
        ),
        false => format!("{name} ({id}) would be forgotten: {lost} given up permanently\n"),
    };
    told = text::hanging("", told.trim_end(), 4, Some(text::view_columns()));
    if let Some(time) = &answer.not_before {
        let time = text::timestamp(Some(time));
        let line = format!("not before {time}: until then a lease that was granted to the node may run");
        told.push_str(&text::hanging("", &line, 4, Some(text::view_columns())));
    }
    if answer.barred {
        told.push_str("it was revoked, and stays excluded: `wynectl admit` with its id reverts that\n");
    }
    for one in &answer.changes {
        told.push('\n');
        told.push_str(&change(Some(one)));
    }
    told + &more_changes(answer.more_changes, "workload")
}
