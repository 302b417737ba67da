//! Commands on nodes. Each is answered once it is durable.

use wyneos::{client, convert, v1};
use wyneos_core::text::Quoted;

use crate::{
    args::{Interval, LabelChange},
    context::Context,
    failure::Failure,
    text::{self, clean},
};

/// The result of a change.
fn changed(node: &str, now: &str, changed: bool, event: u64) -> String {
    let node = clean(node);
    match changed {
        true => format!("{node}: {now} (event {event})\n"),
        false => format!("{node}: {now} already\n"),
    }
}

/// `wynectl cordon`.
pub(crate) async fn cordon(context: &Context, node: String) -> Result<(), Failure> {
    let mut client = client::cluster(context.connect().await?);
    let request = v1::CordonNodeRequest { node: node.clone() };
    let answer = context
        .call(&format!("cordon node {}", Quoted(&node)), client.cordon_node(request))
        .await?;
    context.show(&answer, |answer| {
        changed(
            &node,
            &text::eligibility(answer.eligibility),
            answer.changed,
            answer.event_sequence,
        )
    })
}

/// `wynectl uncordon`.
pub(crate) async fn uncordon(context: &Context, node: String) -> Result<(), Failure> {
    let mut client = client::cluster(context.connect().await?);
    let request = v1::UncordonNodeRequest { node: node.clone() };
    let answer = context
        .call(
            &format!("uncordon node {}", Quoted(&node)),
            client.uncordon_node(request),
        )
        .await?;
    context.show(&answer, |answer| {
        changed(
            &node,
            &text::eligibility(answer.eligibility),
            answer.changed,
            answer.event_sequence,
        )
    })
}

/// `wynectl label`.
pub(crate) async fn label(context: &Context, node: String, changes: Vec<LabelChange>) -> Result<(), Failure> {
    let mut request = v1::LabelNodeRequest {
        node: node.clone(),
        ..v1::LabelNodeRequest::default()
    };
    for change in changes {
        match change {
            LabelChange::Set(key, value) => request.set.push(v1::Label { key, value }),
            LabelChange::Remove(key) => request.remove.push(key),
        }
    }
    let mut client = client::cluster(context.connect().await?);
    let answer = context
        .call(&format!("label node {}", Quoted(&node)), client.label_node(request))
        .await?;
    context.show(&answer, |answer| {
        let labels = answer.labels.iter();
        let labels: Vec<String> = labels
            .map(|label| clean(&format!("{}={}", label.key, label.value)))
            .collect();
        let now = match labels.is_empty() {
            true => "no labels".to_owned(),
            false => labels.join(", "),
        };
        changed(&node, &now, answer.changed, answer.event_sequence)
    })
}

/// `wynectl refresh`.
pub(crate) async fn refresh(context: &Context, node: String) -> Result<(), Failure> {
    let mut client = client::cluster(context.connect().await?);
    let request = v1::RefreshNodeRequest { node: node.clone() };
    let answer = context
        .call(&format!("refresh node {}", Quoted(&node)), client.refresh_node(request))
        .await?;
    context.show(&answer, |answer| {
        let (directive, event) = (answer.directive_id, answer.event_sequence);
        format!(
            "{}: refresh issued as directive {directive} (event {event})\n",
            clean(&node)
        )
    })
}

/// `wynectl set-heartbeat`.
pub(crate) async fn set_heartbeat(context: &Context, node: String, interval: Interval) -> Result<(), Failure> {
    let mut client = client::cluster(context.connect().await?);
    let request = v1::SetHeartbeatIntervalRequest {
        node: node.clone(),
        interval: interval.0.map(convert::duration),
    };
    let what = format!("set the heartbeat interval of node {}", Quoted(&node));
    let answer = context.call(&what, client.set_heartbeat_interval(request)).await?;
    context.show(&answer, |answer| {
        let interval = interval.0.map_or_else(|| "the cluster's".to_owned(), text::span);
        let how = match answer.directive_id {
            0 => "the node receives it when it reconnects".to_owned(),
            directive => format!("issued as directive {directive}"),
        };
        let event = answer.event_sequence;
        format!(
            "{}: heartbeat interval {interval}; {how} (event {event})\n",
            clean(&node)
        )
    })
}
