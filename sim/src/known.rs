//! What the coordinator can know, by what has reached it: the reference that its verdicts are checked against.
//!
//! Everything here is typed data: the events of the coordinator's own transitions, and what the simulator delivered. No check reads an
//! explanation, so that rewording one switches nothing off.

use std::{collections::BTreeMap, time::Duration};

use wyneos_core::{
    mesh::FindingKind,
    node::{Cause, Liveness},
    time::Time,
};

/// What an observer has just heard may be on its way to the coordinator for so long.
const UNDER_WAY: Duration = Duration::from_millis(50);

/// How long observers, sessions and links must have been undisturbed for an answer to be known to the coordinator.
pub(crate) const SETTLED: Duration = Duration::from_secs(5);

/// A coordinator that stood still for this long has noticed it.
const NOTICEABLE: Duration = Duration::from_millis(1_600);

/// The state of a node by the coordinator's own transitions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Believed {
    pub(crate) liveness: Liveness,
    pub(crate) cause: Cause,
    pub(crate) since: Time,
}

/// An observer's answers by a subject.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    pub(crate) observer: usize,
    /// Since when it was answered again and again.
    pub(crate) since: Time,
    /// The one before the last.
    before: Time,
    last: Time,
}

impl Heard {
    /// The newest answer that the coordinator may have been told of: words take their time.
    pub(crate) fn told_of(&self, now: Time) -> Time {
        if now.since(self.last) < UNDER_WAY {
            self.before
        } else {
            self.last
        }
    }
}

/// What reached whom.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// By node; nodes without an entry were not known before.
    pub(crate) believed: BTreeMap<usize, Believed>,
    /// When the coordinator's process last started, or went on after it had stood still; and the same where it stood still for so long that it
    /// is sure to have noticed.
    pub(crate) resumed: Time,
    noticed: Time,
    /// When it got something by each node's session that is a sign of life.
    received: BTreeMap<usize, Time>,
    /// When it got anything by each node, a hello included.
    reached: BTreeMap<usize, Time>,
    /// Since when each node has its session.
    pub(crate) welcomed: BTreeMap<usize, Time>,
    /// Answers, by subject.
    pub(crate) answers: BTreeMap<usize, Vec<Heard>>,
    /// When each observer last got any answer.
    pub(crate) answered: BTreeMap<usize, Time>,
    /// Open findings on observers that are not believed.
    pub(crate) untrusted: BTreeMap<usize, usize>,
}

impl Known {
    /// A new process of the coordinator knows what is durable: which nodes there are, and which departed.
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

    /// The process goes on after it stood still since `from`. One that has a timer every second notices when it is half a second late.
    pub(crate) fn resume(&mut self, from: Time, now: Time) {
        self.resumed = now;
        if now.since(from) >= NOTICEABLE {
            self.noticed = now;
        }
    }

    /// Something came from the node's agent; a `sign` of life is what belongs to the session that counts.
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

    /// The coordinator's belief about a node.
    pub(crate) fn of(&self, node: usize) -> Option<Believed> {
        self.believed.get(&node).copied()
    }

    /// How long the coordinator has got no sign of life by the node's session.
    pub(crate) fn silence(&self, node: usize, now: Time) -> Duration {
        let received = self.received.get(&node).copied().unwrap_or_default();
        now.since(received.max(self.noticed))
    }

    /// How long the coordinator has got nothing at all by the node.
    pub(crate) fn stillness(&self, node: usize, now: Time) -> Duration {
        let reached = self.reached.get(&node).copied().unwrap_or_default();
        now.since(reached.max(self.resumed))
    }

    /// What the coordinator's findings say of whom it believes.
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
