//! The coordinator's possible knowledge, derived from what has reached it: the reference for checking its verdicts.
//!
//! All data is typed: events of the coordinator's own transitions, and messages delivered by the simulator. No check
//! parses an explanation, so rewording one does not disable a check.

use std::{collections::BTreeMap, time::Duration};

use wyneos_core::{
    mesh::FindingKind,
    node::{Cause, Liveness},
    time::Time,
};

/// Time for which a fresh observation may be in transit to the coordinator.
const UNDER_WAY: Duration = Duration::from_millis(50);

/// Time for which observers, sessions and links must have been undisturbed for an answer to be known to the
/// coordinator.
pub(crate) const SETTLED: Duration = Duration::from_secs(5);

/// Duration of a stall that the coordinator certainly detects.
const NOTICEABLE: Duration = Duration::from_millis(1_600);

/// A node's liveness according to the coordinator's transitions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Believed {
    pub(crate) liveness: Liveness,
    pub(crate) cause: Cause,
    pub(crate) since: Time,
}

/// Answers of a subject to an observer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    pub(crate) observer: usize,
    /// Start of the current uninterrupted series of answers.
    pub(crate) since: Time,
    /// Time of the second-newest answer.
    before: Time,
    last: Time,
}

impl Heard {
    /// The newest answer that may have been reported to the coordinator.
    pub(crate) fn told_of(&self, now: Time) -> Time {
        if now.since(self.last) < UNDER_WAY {
            self.before
        } else {
            self.last
        }
    }
}

/// Record of the messages that reached the coordinator and the nodes.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Coordinator's view by node; nodes without an entry are unknown.
    pub(crate) believed: BTreeMap<usize, Believed>,
    /// Time at which the coordinator's process last started or resumed; and the same for stalls long enough to be
    /// certainly detected.
    pub(crate) resumed: Time,
    noticed: Time,
    /// Time of the last sign of life received on each node's session.
    received: BTreeMap<usize, Time>,
    /// Time of the last message received from each node, including a hello.
    reached: BTreeMap<usize, Time>,
    /// Time at which each node's session was welcomed.
    pub(crate) welcomed: BTreeMap<usize, Time>,
    /// Answers by subject.
    pub(crate) answers: BTreeMap<usize, Vec<Heard>>,
    /// Time at which each observer last received any answer.
    pub(crate) answered: BTreeMap<usize, Time>,
    /// Number of open findings per distrusted observer.
    pub(crate) untrusted: BTreeMap<usize, usize>,
}

impl Known {
    /// Resets to the durable knowledge of a new coordinator process: the nodes and which of them departed.
    pub(crate) fn restart(&mut self, now: Time, nodes: impl Iterator<Item = (usize, Option<(Liveness, Cause)>)>) {
        let unseen = (Liveness::Unseen, Cause::UnseenSinceRestart);
        let believed = nodes.map(|(node, departed)| {
            let (liveness, cause) = departed.unwrap_or(unseen);
            let since = now;
            (node, Believed { liveness, cause, since })
        });
        *self = Known {
            believed: believed.collect(),
            resumed: now,
            noticed: now,
            answers: std::mem::take(&mut self.answers),
            answered: std::mem::take(&mut self.answered),
            ..Known::default()
        };
    }

    /// Records that the process resumes after a stall that began at `from`. With a timer every second, it detects being
    /// half a second late.
    pub(crate) fn resume(&mut self, from: Time, now: Time) {
        self.resumed = now;
        if now.since(from) >= NOTICEABLE {
            self.noticed = now;
        }
    }

    /// Records a message from a node's agent; it is a `sign` of life if it belongs to the current session.
    pub(crate) fn receive(&mut self, node: usize, sign: bool, now: Time) {
        self.reached.insert(node, now);
        if sign {
            self.received.insert(node, now);
        }
    }

    pub(crate) fn welcome(&mut self, node: usize, now: Time) {
        self.welcomed.insert(node, now);
        self.receive(node, true, now);
    }

    pub(crate) fn forget(&mut self, node: usize) {
        self.believed.remove(&node);
    }

    pub(crate) fn answer(&mut self, subject: usize, observer: usize, now: Time) {
        self.answered.insert(observer, now);
        let heard = self.answers.entry(subject).or_default();
        match heard.iter_mut().find(|one| one.observer == observer) {
            Some(one) => {
                if now.since(one.last) >= SETTLED {
                    one.since = now;
                }
                (one.before, one.last) = (one.last, now);
            }
            None => heard.push(Heard {
                observer,
                since: now,
                before: now,
                last: now,
            }),
        }
    }

    pub(crate) fn believe(&mut self, node: usize, liveness: Liveness, cause: Cause, now: Time) {
        let believed = Believed {
            liveness,
            cause,
            since: now,
        };
        self.believed.insert(node, believed);
    }

    /// The coordinator's view of a node.
    pub(crate) fn of(&self, node: usize) -> Option<Believed> {
        self.believed.get(&node).copied()
    }

    /// Time without a sign of life on the node's session.
    pub(crate) fn silence(&self, node: usize, now: Time) -> Duration {
        let received = self.received.get(&node).copied().unwrap_or_default();
        now.since(received.max(self.noticed))
    }

    /// Time without any message from the node.
    pub(crate) fn stillness(&self, node: usize, now: Time) -> Duration {
        let reached = self.reached.get(&node).copied().unwrap_or_default();
        now.since(reached.max(self.resumed))
    }

    /// Records the effect of a finding on the trust in observers.
    pub(crate) fn believe_finding(&mut self, kind: FindingKind, near: impl Iterator<Item = usize>, open: bool) {
        if kind != FindingKind::Untrusted {
            return;
        }
        for node in near {
            let count = self.untrusted.entry(node).or_default();
            *count = if open { *count + 1 } else { count.saturating_sub(1) };
        }
        self.untrusted.retain(|_, count| *count > 0);
    }
}
