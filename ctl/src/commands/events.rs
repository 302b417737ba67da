//! `wynectl events`: lists and follows events.

use tonic::{Code, transport::Channel};
use tonic_types::StatusExt as _;
use wyneos::{client, v1};

use super::{PAGE, follow::Follower, nothing};
use wyneos_core::text::Quoted;

use crate::{
    args::EventsArgs,
    context::Context,
    exit::Exit,
    failure::Failure,
    text::{self, clean},
};

/// Indentation of the further lines of an event.
const INDENT: usize = 9;

/// Lists or follows.
pub(crate) async fn run(context: &Context, args: EventsArgs) -> Result<(), Failure> {
    let channel = context.connect().await?;
    if args.follow {
        follow(context, channel, args).await
    } else {
        list(context, channel, args).await
    }
}

/// An event in at most `most` columns.
pub(super) fn line(event: &v1::Event, most: Option<usize>) -> String {
    let node = match event.node_name.as_str() {
        "" if event.node_id.is_empty() => "-".to_owned(),
        "" => text::short(&event.node_id),
        name => clean(name),
    };
    let time = text::timestamp(event.time.as_ref());
    let prefix = format!("{:>6}   {time}   {node:<10}   ", event.sequence);
    text::hanging(&prefix, &clean(&event.summary), INDENT, most)
}

async fn list(context: &Context, channel: Channel, args: EventsArgs) -> Result<(), Failure> {
    let mut client = client::events(channel);
    let mut merged = v1::ListEventsResponse::default();
    let (mut from, mut any) = (args.from.unwrap_or_default(), false);
    loop {
        let request = v1::ListEventsRequest {
            from_sequence: from,
            node: args.node.clone().unwrap_or_default(),
            page_size: PAGE,
        };
        let mut page = context.call("list the events", client.list_events(request)).await?;
        any |= !page.events.is_empty();
        if context.is_json() {
            merged.events.append(&mut page.events);
            merged.oldest_sequence = page.oldest_sequence;
        } else {
            let most = text::columns();
            let lines: String = page.events.iter().map(|event| line(event, most)).collect();
            context.text(&lines)?;
        }
        if page.next_sequence == 0 {
            break;
        }
        if page.next_sequence <= from {
            return Err(Failure::new(
                Exit::Failed,
                "list the events: the server's pages have no end",
            ));
        }
        from = page.next_sequence;
    }
    if context.is_json() {
        return context.json(&merged);
    }
    if !any {
        nothing("events");
    }
    Ok(())
}

/// Number of the oldest event that is retained.
async fn oldest(context: &Context, channel: Channel) -> Result<u64, Failure> {
    let request = v1::ListEventsRequest {
        page_size: 1,
        ..v1::ListEventsRequest::default()
    };
    let mut client = client::events(channel);
    let page = context.call("list the events", client.list_events(request)).await?;
    Ok(page.oldest_sequence.max(1))
}

/// Id of the node that `name` refers to.
async fn resolve(context: &Context, channel: Channel, node: String) -> Result<String, Failure> {
    let what = format!("get node {}", Quoted(&node));
    let mut client = client::cluster(channel);
    let answer = context
        .call(&what, client.get_node(v1::GetNodeRequest { node }))
        .await?;
    Ok(answer.node.unwrap_or_default().id)
}

/// Follows the events, each exactly once, over any number of connections: the number of the next one, which is known
/// from the start, is where a new connection continues.
async fn follow(context: &Context, channel: Channel, args: EventsArgs) -> Result<(), Failure> {
    let node = match args.node {
        Some(node) => Some(resolve(context, channel.clone(), node).await?),
        None => None,
    };
    let mut next = match args.from {
        Some(from) => from,
        None => oldest(context, channel.clone()).await?,
    };
    let mut follower = Follower::new(context, "follow the events");
    let mut client = client::events(channel);
    loop {
        let request = v1::WatchEventsRequest { from_sequence: next };
        let Some(mut stream) = follower.open(client.watch_events(request)).await? else {
            continue;
        };
        loop {
            match stream.message().await {
                Ok(Some(v1::WatchEventsResponse { event: Some(event) })) => {
                    follower.heard();
                    next = hand_out(context, &event, next, node.as_deref())?;
                }
                Ok(Some(_)) => {}
                Ok(None) => {
                    follower.ended().await;
                    break;
                }
                Err(status) if status.code() == Code::OutOfRange => return Err(compacted(context, &status, next)),
                Err(status) => {
                    follower.lost(&status).await?;
                    break;
                }
            }
        }
    }
}

/// Writes the event `next`; returns the number of the one after it.
fn hand_out(context: &Context, event: &v1::Event, next: u64, node: Option<&str>) -> Result<u64, Failure> {
    if event.sequence < next {
        return Ok(next);
    }
    if event.sequence > next {
        let gap = format!("follow the events: {} to {} are missing", next, event.sequence - 1);
        return Err(
            Failure::new(Exit::Failed, gap).hint("this is a fault of the coordinator; `wynectl events` may list them")
        );
    }
    if node.is_none_or(|node| node == event.node_id) {
        if context.is_json() {
            context.json_line(event)?;
        } else {
            context.text(&line(event, text::columns()))?;
        }
    }
    Ok(event.sequence + 1)
}

/// Fails if events were removed before they were read, since continuing silently would hide it.
fn compacted(context: &Context, status: &tonic::Status, next: u64) -> Failure {
    let failure = context.failed("follow the events", status);
    match status.get_details_error_info() {
        Some(info) if info.metadata.contains_key("oldest") => failure,
        _ => failure.hint(format!("the next event was {next}")),
    }
}

#[cfg(test)]
mod tests;
