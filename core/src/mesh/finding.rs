//! Findings: conclusions about the mesh beyond the liveness of nodes. Each produces one event with its members when it
//! opens, and one when it closes.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    id::{NodeId, NodeIndex},
    time::{Time, WallTime},
};

/// Time for which a candidate must be unchanged before its finding opens.
const STABLE: Duration = Duration::from_secs(3);

/// The same for a lossy link that is one of few: when many links become lossy, some are detected first.
const STABLE_SMALL: Duration = Duration::from_secs(4);

/// Time after which a finding opens even though its members change.
const PATIENCE: Duration = Duration::from_secs(8);

/// Time without an observation after which a finding closes. A shorter absence does not count.
const CLEAR: Duration = Duration::from_secs(5);

/// The same for loss: a meter already waits several seconds before it reports a lossy link as up.
const CLEAR_LOSS: Duration = Duration::from_secs(3);

/// Maximum time between two looks, which come once per second. After a longer one, the time between is not counted.
const LATE: Duration = Duration::from_secs(2);

/// Maximum number of findings tracked at a time; further ones are not reported until others close.
pub const FINDINGS: usize = 128;

/// Kind of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// Nodes are offline; nodes that failed together are one finding.
    NodesDown,
    /// More than half of the nodes are silent: they failed, or the coordinator is cut off. No node is declared offline.
    Ambiguous,
    /// The coordinator does not hear the nodes; their peers do.
    CoordinatorCut,
    /// The coordinator hears the node; none of its peers does.
    PeersCut,
    /// Two groups do not reach one another; the coordinator hears both.
    GroupSplit,
    /// Two nodes do not reach one another.
    LinkDown,
    /// Packets of the near side do not arrive at the far side; those of the far side arrive at the near side.
    OneWay,
    /// Some probes get through, many do not.
    LinkLossy,
    /// Answers take much longer than usual.
    LinkSlow,
    /// Small probes get through, full-size datagrams do not.
    LargeLost,
    /// The node goes offline and returns repeatedly.
    Flapping,
    /// The agent stalls repeatedly: its process gets too little time.
    Starved,
    /// The disk with the agent's state does not accept writes.
    DiskStalled,
    /// The agent's reports on its peers are contradicted, impossible or too many: they are not counted.
    Untrusted,
    /// Too many nodes were declared offline: no further one is until the rate falls.
    Breaker,
}

impl FindingKind {
    /// All kinds.
    pub const ALL: [FindingKind; 15] = [
        FindingKind::NodesDown,
        FindingKind::Ambiguous,
        FindingKind::CoordinatorCut,
        FindingKind::PeersCut,
        FindingKind::GroupSplit,
        FindingKind::LinkDown,
        FindingKind::OneWay,
        FindingKind::LinkLossy,
        FindingKind::LinkSlow,
        FindingKind::LargeLost,
        FindingKind::Flapping,
        FindingKind::Starved,
        FindingKind::DiskStalled,
        FindingKind::Untrusted,
        FindingKind::Breaker,
    ];

    /// Returns the kind's name in texts and scenarios.
    pub const fn name(self) -> &'static str {
        match self {
            FindingKind::NodesDown => "nodes-down",
            FindingKind::Ambiguous => "ambiguous",
            FindingKind::CoordinatorCut => "coordinator-cut",
            FindingKind::PeersCut => "peers-cut",
            FindingKind::GroupSplit => "group-split",
            FindingKind::LinkDown => "link-down",
            FindingKind::OneWay => "one-way",
            FindingKind::LinkLossy => "link-lossy",
            FindingKind::LinkSlow => "link-slow",
            FindingKind::LargeLost => "large-lost",
            FindingKind::Flapping => "flapping",
            FindingKind::Starved => "starved",
            FindingKind::DiskStalled => "disk-stalled",
            FindingKind::Untrusted => "untrusted",
            FindingKind::Breaker => "breaker",
        }
    }

    /// Returns [`CLEAR`] or [`CLEAR_LOSS`].
    const fn clear(self) -> Duration {
        match self {
            FindingKind::LinkLossy => CLEAR_LOSS,
            _ => CLEAR,
        }
    }

    /// Returns whether findings of this kind follow from the registry alone; these close as soon as the registry no
    /// longer shows them.
    const fn ends_at_once(self) -> bool {
        matches!(
            self,
            FindingKind::NodesDown | FindingKind::Flapping | FindingKind::Breaker
        )
    }

    /// Returns whether findings of this kind are concluded from links between nodes.
    pub const fn is_of_links(self) -> bool {
        matches!(
            self,
            FindingKind::PeersCut
                | FindingKind::GroupSplit
                | FindingKind::LinkDown
                | FindingKind::OneWay
                | FindingKind::LinkLossy
                | FindingKind::LinkSlow
                | FindingKind::LargeLost
        )
    }

    /// Returns the kind's description for people.
    pub const fn meaning(self) -> &'static str {
        match self {
            FindingKind::NodesDown => "offline",
            FindingKind::Ambiguous => {
                "silent, and more than half of the nodes: they died, or the coordinator is cut off; nothing is declared"
            }
            FindingKind::CoordinatorCut => "the coordinator does not hear them, their peers do",
            FindingKind::PeersCut => "heard by the coordinator and by no peer",
            FindingKind::GroupSplit => "do not reach one another, and the coordinator hears both",
            FindingKind::LinkDown => "do not reach one another",
            FindingKind::OneWay => "what the former send does not arrive at the latter; what those send does",
            FindingKind::LinkLossy => "many probes are lost",
            FindingKind::LargeLost => {
                "small packets arrive, datagrams of full size do not: a smaller MTU on the way, or UDP is blocked"
            }
            FindingKind::LinkSlow => "answers take much longer than they used to",
            FindingKind::Flapping => "comes and goes",
            FindingKind::Starved => "the agent stands still again and again",
            FindingKind::DiskStalled => "the disk of the agent's state does not take writes",
            FindingKind::Untrusted => "what this agent says of its peers is not counted",
            FindingKind::Breaker => "no further node is declared offline until that calms down",
        }
    }
}

/// A finding in snapshots and events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Id, unique in the coordinator's epoch.
    pub id: u64,
    /// Kind of the finding.
    pub kind: FindingKind,
    /// Time at which the finding opened.
    pub since: WallTime,
    /// Affected nodes: the smaller side of a cut. Empty for all nodes.
    pub near: Vec<NodeId>,
    /// The other side of a cut. Empty for all other nodes, and for findings with a single side.
    pub far: Vec<NodeId>,
    /// Details for people.
    pub detail: String,
}

/// A condition observed in one look, from which a finding may open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Kind of the condition.
    pub kind: FindingKind,
    /// One side.
    pub near: BTreeSet<NodeIndex>,
    /// The other side.
    pub far: BTreeSet<NodeIndex>,
    /// Details for people.
    pub detail: String,
    /// Whether the finding opens without delay.
    pub sure: bool,
    /// Whether this may be the first sign of a larger condition, which requires more time before the finding opens.
    pub small: bool,
}

impl Candidate {
    /// Creates a candidate about `near`.
    pub fn new(kind: FindingKind, near: BTreeSet<NodeIndex>) -> Candidate {
        Candidate {
            kind,
            near,
            far: BTreeSet::new(),
            detail: String::new(),
            sure: false,
            small: false,
        }
    }

    /// Returns how long the candidate must be unchanged before its finding opens.
    fn stable(&self) -> Duration {
        match (self.sure, self.small) {
            (true, _) => Duration::ZERO,
            (false, true) => STABLE_SMALL,
            (false, false) => STABLE,
        }
    }

    /// Returns how long changed members must persist before they replace those of an open finding. Longer for loss,
    /// which ends link by link.
    fn settled(&self) -> Duration {
        match self.kind {
            FindingKind::LinkLossy => PATIENCE,
            _ => STABLE,
        }
    }

    /// Returns whether the kind and the nodes are equal.
    fn is(&self, other: &Candidate) -> bool {
        self.kind == other.kind && self.near == other.near && self.far == other.far
    }

    /// Returns whether the candidate continues `other`: the same kind, with at least half of the members of each side
    /// in common.
    fn continues(&self, other: &Candidate) -> bool {
        let alike = |one: &BTreeSet<NodeIndex>, other: &BTreeSet<NodeIndex>| {
            2 * one.intersection(other).count() >= one.len().max(other.len())
        };
        self.kind == other.kind && alike(&self.near, &other.near) && alike(&self.far, &other.far)
    }
}

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
