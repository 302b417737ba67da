//! Aggregation of repeating events: the first is recorded at once, then one a minute with a count.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::Ctx;
use crate::{
    event::EventBody,
    node::NodeIndex,
    text::{SENTENCE, shortened},
    time::Time,
    workload::AssignmentId,
};

/// Aggregation interval. Longer: fewer events, recorded later.
const MINUTE: Duration = Duration::from_secs(60);

/// Subjects that are counted at once. What repeats for a further one is told each time: the history's shares bound it all the same.
const COUNTED: usize = 16_384;

/// A repeating condition and its subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Repeating {
    /// A program is started again: its workload and slot.
    Restart(Arc<str>, u32),
    /// An instance failed for good, and is placed anew: its workload and slot.
    Failure(Arc<str>, u32),
    /// The kernel kills processes of a program for want of memory: its workload and slot.
    OutOfMemory(Arc<str>, u32),
    /// An agent tells of an instance that is not its own.
    Foreign(NodeIndex, AssignmentId),
    /// Sessions end over what is said in them.
    Session(NodeIndex),
    /// Two processes claim to be one node.
    Impostor(NodeIndex),
}

/// Occurrences since the last event.
#[derive(Debug)]
struct Count {
    since: Time,
    times: u32,
    last: Option<Told>,
}

/// The content of the event: the node, what happened, and details.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) node: Option<NodeIndex>,
    pub(crate) what: String,
    pub(crate) detail: String,
    pub(crate) body: EventBody,
}

impl Told {
    fn summary(&self, times: u32) -> String {
        let Told { what, detail, .. } = self;
        let summary = match (times, detail.is_empty()) {
            (0 | 1, true) => what.clone(),
            (0 | 1, false) => format!("{what}: {detail}"),
            (_, true) => format!("{what}, {times} times in the last minute"),
            (_, false) => format!("{what}, {times} times in the last minute; the last time: {detail}"),
        };
        shortened(&summary, SENTENCE)
    }
}

/// Conditions that repeat at present.
#[derive(Debug, Default)]
pub(crate) struct Repeats(BTreeMap<Repeating, Count>);

impl Ctx {
    /// Records something that happened `times` times, at once if it did not within the last minute.
    pub(crate) fn record_repeating(&mut self, key: Repeating, times: u32, told: Told) {
        let now = self.clock.now;
        if let Some(count) = self.outbox.repeats.0.get_mut(&key) {
            count.times = count.times.saturating_add(times);
            count.last = Some(told);
            return;
        }
        if self.outbox.repeats.0.len() < COUNTED {
            let (since, times, last) = (now, 0, None);
            self.outbox.repeats.0.insert(key, Count { since, times, last });
        }
        self.record_times(told.node, told.summary(times), told.body, times);
    }

    /// Records something that does not repeat.
    pub(crate) fn record_told(&mut self, told: Told) {
        self.record_times(told.node, told.summary(1), told.body, 1);
    }

    /// A node is forgotten, and its place may become another's: nothing that was counted of it is told any more.
    pub(crate) fn forget_repeating(&mut self, index: NodeIndex) {
        self.outbox.repeats.0.retain(|key, count| {
            let of_node = match key {
                Repeating::Foreign(node, _) | Repeating::Session(node) | Repeating::Impostor(node) => *node == index,
                Repeating::Restart(..) | Repeating::Failure(..) | Repeating::OutOfMemory(..) => false,
            };
            let told_of_node = count.last.as_ref().is_some_and(|told| told.node == Some(index));
            !of_node && !told_of_node
        });
    }

    /// Records what was counted for a minute, or (`all`) for less.
    pub(crate) fn record_repeated(&mut self, all: bool) {
        let now = self.clock.now;
        let due = |count: &Count| all || now.since(count.since) >= MINUTE;
        let due = self.outbox.repeats.0.iter().filter(|(_, count)| due(count));
        let keys: Vec<Repeating> = due.map(|(key, _)| key.clone()).collect();
        for key in keys {
            let Some(Count { times, last, .. }) = self.outbox.repeats.0.remove(&key) else {
                continue;
            };
            // What did not happen again is not counted any more.
            let Some(told) = last else { continue };
            self.record_times(told.node, told.summary(times), told.body, times);
            let (since, times, last) = (now, 0, None);
            self.outbox.repeats.0.insert(key, Count { since, times, last });
        }
    }
}
