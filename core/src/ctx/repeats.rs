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

/// Aggregation interval. A longer interval records fewer events, later.
const MINUTE: Duration = Duration::from_secs(60);

/// Maximum number of conditions that are aggregated. Occurrences of further conditions are recorded individually; the
/// history's own limits still apply.
const COUNTED: usize = 16_384;

/// A repeating condition and its subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Repeating {
    /// Restart of a program, by workload and slot.
    Restart(Arc<str>, u32),
    /// Permanent failure of an instance that is then replaced, by workload and slot.
    Failure(Arc<str>, u32),
    /// Processes of a program killed by the kernel for lack of memory, by workload and slot.
    OutOfMemory(Arc<str>, u32),
    /// Report of an instance that does not belong to the reporting agent.
    Foreign(NodeIndex, AssignmentId),
    /// Sessions that ended because of invalid content.
    Session(NodeIndex),
    /// Two processes that claim the identity of one node.
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

/// Conditions that are currently being aggregated.
#[derive(Debug, Default)]
pub(crate) struct Repeats(BTreeMap<Repeating, Count>);

impl Ctx {
    /// Records `times` occurrences of a condition, immediately unless one was recorded within the last minute.
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

    /// Records an event that is not aggregated.
    pub(crate) fn record_told(&mut self, told: Told) {
        self.record_times(told.node, told.summary(1), told.body, 1);
    }

    /// Discards the counts of a forgotten node, whose index may be reused.
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

    /// Records counts that are a minute old, or all of them if `all` is set.
    pub(crate) fn record_repeated(&mut self, all: bool) {
        let now = self.clock.now;
        let due = |count: &Count| all || now.since(count.since) >= MINUTE;
        let due = self.outbox.repeats.0.iter().filter(|(_, count)| due(count));
        let keys: Vec<Repeating> = due.map(|(key, _)| key.clone()).collect();
        for key in keys {
            let Some(Count { times, last, .. }) = self.outbox.repeats.0.remove(&key) else {
                continue;
            };
            // A condition without further occurrences is no longer aggregated.
            let Some(told) = last else { continue };
            self.record_times(told.node, told.summary(times), told.body, times);
            let (since, times, last) = (now, 0, None);
            self.outbox.repeats.0.insert(key, Count { since, times, last });
        }
    }
}
