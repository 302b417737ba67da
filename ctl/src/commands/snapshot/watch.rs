//! `wynectl snapshot watch`: one line per cycle.

use wyneos::{client, delta, v1};

use super::super::follow::Follower;
use crate::{
    args::WatchArgs,
    context::Context,
    exit::Exit,
    failure::Failure,
    text::{self, clean},
};

/// Maximum number of nodes named in a line.
const NAMED: usize = 5;

/// Watches until interrupted; a lost connection is resumed with the last token.
pub(super) async fn run(context: &Context, args: WatchArgs) -> Result<(), Failure> {
    let channel = context.connect().await?;
    let mut follower = Follower::new(context, "watch the snapshots");
    let mut client = client::coherence(channel);
    let mut token = args.resume.unwrap_or_default();
    // With a token from elsewhere the first message may be a delta from a state that is not available here.
    let mut state: Option<v1::Snapshot> = None;
    loop {
        let request = v1::WatchSnapshotsRequest {
            sections: args.section.iter().map(|section| *section as i32).collect(),
            node_label: args.label.clone().unwrap_or_default(),
            resume_token: token.clone(),
            always_full: args.full,
        };
        let Some(mut stream) = follower.open(client.watch_snapshots(request)).await? else {
            continue;
        };
        loop {
            match stream.message().await {
                Ok(Some(answer)) => {
                    follower.heard();
                    token.clone_from(&answer.resume_token);
                    if context.is_json() {
                        context.json_line(&answer)?;
                    } else {
                        context.text(&line(answer, &mut state)?)?;
                    }
                }
                Ok(None) => {
                    follower.ended().await;
                    break;
                }
                Err(status) => {
                    follower.lost(&status).await?;
                    break;
                }
            }
        }
    }
}

/// A message in one line; `state` is updated.
pub(in crate::commands) fn line(
    answer: v1::WatchSnapshotsResponse,
    state: &mut Option<v1::Snapshot>,
) -> Result<String, Failure> {
    use v1::watch_snapshots_response::State;
    let mut text = String::new();
    if !answer.reset_reason.is_empty() {
        text += &format!("restarted: {}\n", clean(&answer.reset_reason));
    }
    match answer.state {
        Some(State::Full(snapshot)) => {
            let nodes = text::count(snapshot.nodes.len() as u64, "node");
            text += &format!("{}   full state, {nodes}\n", head(&snapshot));
            *state = Some(snapshot);
        }
        Some(State::Delta(delta)) => {
            let changed = delta.changed.clone().unwrap_or_default();
            let what = step(&changed, &delta.removed_nodes, state.as_ref());
            let head = match state {
                Some(state) => {
                    delta::apply(state, delta)
                        .map_err(|error| Failure::new(Exit::Failed, format!("watch the snapshots: {error}")))?;
                    head(state)
                }
                None => head(&changed),
            };
            text += &format!("{head}   {what}\n");
        }
        None => {}
    }
    Ok(text)
}

fn head(snapshot: &v1::Snapshot) -> String {
    let score = snapshot.coherence.as_ref().map(|report| report.score);
    let score = score.map_or_else(|| "    -".to_owned(), |score| format!("{score:>5.1}"));
    let time = text::time_of_day(snapshot.time.as_ref());
    format!("cycle {:>8}   {time}   score {score}", snapshot.cycle)
}

/// The changed nodes, with changes of liveness in words.
fn step(changed: &v1::Snapshot, removed: &[String], before: Option<&v1::Snapshot>) -> String {
    let nodes = changed.nodes.len();
    if nodes == 0 && removed.is_empty() {
        return "no node changed".to_owned();
    }
    let mut words = format!("{} changed", text::count(nodes as u64, "node"));
    if !removed.is_empty() {
        words += &format!(", {} removed", removed.len());
    }
    let turned = changed.nodes.iter().filter_map(|now| {
        let before = before?.nodes.iter().find(|before| before.id == now.id);
        let from = before.map_or_else(|| "new".to_owned(), |before| text::liveness(before.liveness));
        let same = before.is_some_and(|before| before.liveness == now.liveness);
        let to = text::painted_liveness(now.liveness);
        (!same).then(|| format!("{} {from} → {to}", clean(&now.name)))
    });
    let mut turned: Vec<String> = turned.take(NAMED + 1).collect();
    if turned.len() > NAMED {
        turned.truncate(NAMED);
        turned.push("…".to_owned());
    }
    if !turned.is_empty() {
        words += &format!(": {}", turned.join(", "));
    }
    words
}
