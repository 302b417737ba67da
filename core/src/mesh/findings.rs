//! Tracking of conditions until they are findings, and of findings until they are over.

use std::{collections::BTreeSet, time::Duration};

use super::finding::{Candidate, FindingKind, PATIENCE};
use crate::{
    id::NodeIndex,
    time::{Time, WallTime},
};

/// Maximum time between two looks, which come once per second. After a longer one, the time between is not counted.
const LATE: Duration = Duration::from_secs(2);

/// Maximum number of findings tracked at a time; further ones are not reported until others close.
pub const FINDINGS: usize = 128;

/// A tracked condition.
#[derive(Clone, Debug)]
pub struct Followed {
    /// The condition as it is reported.
    pub seen: Candidate,
    /// Time of the first observation.
    first: Time,
    /// Time since which its members are unchanged.
    same: Time,
    /// Time of the last observation.
    last: Time,
    /// Changed members, and the time since which they are observed.
    next: Option<(Candidate, Time)>,
    /// Number of the finding, once it opened.
    pub told: Option<u64>,
    /// Time at which it opened.
    pub since: WallTime,
}

/// A change that results from a look.
#[derive(Clone, Debug)]
pub enum Change {
    /// A finding opens.
    Opened(Followed),
    /// A finding closes.
    Closed(Followed),
}

impl Followed {
    /// Excludes `time` without looks from all measured durations.
    fn pass_over(&mut self, time: Duration) {
        for at in [&mut self.first, &mut self.same, &mut self.last] {
            *at = *at + time;
        }
        if let Some((_, since)) = &mut self.next {
            *since = *since + time;
        }
    }

    fn goes_on(&mut self, now: Time, candidate: Candidate) {
        self.last = now;
        if self.seen.is(&candidate) {
            self.seen.detail = candidate.detail;
            self.next = None;
        } else if self.told.is_none() {
            (self.seen, self.same) = (candidate, now);
        } else {
            // An open finding keeps its members until the changed ones persist.
            let is_known = self.next.as_ref().is_some_and(|(next, _)| next.is(&candidate));
            let since = self.next.as_ref().filter(|_| is_known).map_or(now, |(_, since)| *since);
            self.next = Some((candidate, since));
        }
    }
}

/// All tracked conditions.
#[derive(Debug, Default)]
pub struct Findings {
    followed: Vec<Followed>,
    told: u64,
    /// Time of the last look.
    looked: Option<Time>,
}

impl Findings {
    /// Applies the conditions observed in a look. If a finding's members change for long enough, that finding closes
    /// and another one opens, once the new members are unchanged for as long as the first ones had to be.
    pub fn look(&mut self, now: Time, wall: WallTime, seen: Vec<Candidate>) -> Vec<Change> {
        let apart = self.looked.map_or(Duration::ZERO, |looked| now.since(looked));
        self.looked = Some(now);
        if apart > LATE {
            for known in &mut self.followed {
                known.pass_over(apart);
            }
        }
        let mut changes = Vec::new();
        let mut taken: BTreeSet<usize> = BTreeSet::new();
        // Unchanged candidates come first, so that a similar one does not take their place.
        let (same, others): (Vec<_>, Vec<_>) = seen
            .into_iter()
            .partition(|candidate| self.followed.iter().any(|known| known.seen.is(candidate)));
        for candidate in same.into_iter().chain(others) {
            let free = |at: &usize| !taken.contains(at);
            let all = || 0..self.followed.len();
            let at = all()
                .filter(free)
                .find(|&at| self.followed[at].seen.is(&candidate))
                .or_else(|| {
                    all()
                        .filter(free)
                        .find(|&at| self.followed[at].seen.continues(&candidate))
                });
            match at {
                Some(at) => {
                    taken.insert(at);
                    self.followed[at].goes_on(now, candidate);
                }
                None if self.followed.len() < FINDINGS => {
                    taken.insert(self.followed.len());
                    self.followed.push(Followed {
                        seen: candidate,
                        first: now,
                        same: now,
                        last: now,
                        next: None,
                        told: None,
                        since: wall,
                    });
                }
                None => {}
            }
        }
        let told = &mut self.told;
        self.followed.retain_mut(|known| {
            if known.last < now {
                let kind = known.seen.kind;
                // Loss that is not observed for a moment still counts.
                let is_fleeting = known.told.is_none() && kind != FindingKind::LinkLossy;
                let over = is_fleeting || kind.ends_at_once() || now.since(known.last) >= kind.clear();
                if over && known.told.is_some() {
                    changes.push(Change::Closed(known.clone()));
                }
                return !over;
            }
            if let Some((next, since)) = known.next.take_if(|(next, since)| now.since(*since) >= next.settled()) {
                changes.push(Change::Closed(known.clone()));
                (known.seen, known.same, known.told) = (next, since, None);
            }
            let believed = now.since(known.same) >= known.seen.stable() || now.since(known.first) >= PATIENCE;
            if believed && known.told.is_none() {
                *told += 1;
                (known.told, known.since) = (Some(*told), wall);
                changes.push(Change::Opened(known.clone()));
            }
            true
        });
        changes
    }

    /// Removes a node from all findings. Returns the findings that close because one of their sides is empty now, as
    /// they were before.
    pub fn forget(&mut self, node: NodeIndex) -> Vec<Followed> {
        let mut over = Vec::new();
        self.followed.retain_mut(|known| {
            let before = known.clone();
            known.next = None;
            let mut emptied = false;
            for side in [&mut known.seen.near, &mut known.seen.far] {
                emptied |= side.remove(&node) && side.is_empty();
            }
            if emptied && known.told.is_some() {
                over.push(before);
            }
            !emptied
        });
        over
    }

    /// Returns the open findings.
    pub fn open(&self) -> impl Iterator<Item = &Followed> {
        self.followed.iter().filter(|known| known.told.is_some())
    }

    /// Returns whether nothing is tracked.
    pub fn is_quiet(&self) -> bool {
        self.followed.is_empty()
    }

    /// Returns whether an open finding of this kind names the node on its near side.
    pub fn is(&self, kind: FindingKind, node: NodeIndex) -> bool {
        self.open()
            .any(|known| known.seen.kind == kind && known.seen.near.contains(&node))
    }
}
