//! Findings: what the mesh concludes beside who is alive. Each is one event with its members when it begins, and one when
//! it is over.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    id::{NodeId, NodeIndex},
    time::{Time, WallTime},
};

/// A finding begins when it was the same for so long.
const STABLE: Duration = Duration::from_secs(3);

/// The same for one of few links that lose packets: of many links that lose a few, some are seen to first.
const STABLE_SMALL: Duration = Duration::from_secs(4);

/// Or when it was there for so long, its members changing.
const PATIENCE: Duration = Duration::from_secs(8);

/// A finding is over when nothing of it was seen for this long. What comes back sooner was never gone.
const CLEAR: Duration = Duration::from_secs(5);

/// The same for loss: a meter is calm for several seconds itself before a link is well again.
const CLEAR_LOSS: Duration = Duration::from_secs(3);

/// Looks that are further apart were held up, as they come once a second: nobody knows what was meanwhile.
const LATE: Duration = Duration::from_secs(2);

/// Findings that are followed at the same time at most; further ones are not told until others are over.
pub const FINDINGS: usize = 128;

/// What is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// These nodes are offline; those that went together are one finding.
    NodesDown,
    /// More than half of the nodes fell silent: they died, or the coordinator is cut off. Nothing is declared offline.
    Ambiguous,
    /// The coordinator does not hear these nodes; their peers do.
    CoordinatorCut,
    /// The coordinator hears this node; none of its peers does.
    PeersCut,
    /// Two groups do not reach one another; the coordinator hears both.
    GroupSplit,
    /// Two nodes do not reach one another.
    LinkDown,
    /// What the near side sends does not arrive at the far side; what that sends arrives.
    OneWay,
    /// Some probes get through, many do not.
    LinkLossy,
    /// Answers take much longer than they used to.
    LinkSlow,
    /// Small probes get through, datagrams of full size do not.
    LargeLost,
    /// It comes and goes.
    Flapping,
    /// The agent stands still again and again: its process gets too little time.
    Starved,
    /// The disk of the agent's state does not take writes.
    DiskStalled,
    /// What this agent says of its peers is contradicted, impossible or more than it may: it is not counted.
    Untrusted,
    /// So many nodes were declared offline that no further one is until that calms down.
    Breaker,
}

impl FindingKind {
    /// Every kind.
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

    /// Its name, as people and scenarios write it.
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

    /// See [`CLEAR`].
    const fn clear(self) -> Duration {
        match self {
            FindingKind::LinkLossy => CLEAR_LOSS,
            _ => CLEAR,
        }
    }

    /// True for what follows from the registry alone: it is over as soon as that says so.
    const fn ends_at_once(self) -> bool {
        matches!(
            self,
            FindingKind::NodesDown | FindingKind::Flapping | FindingKind::Breaker
        )
    }

    /// True for what is concluded from the links between nodes.
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

    /// What it means, as people read it.
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

/// A finding as the snapshot and events show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Unique in the coordinator's epoch.
    pub id: u64,
    /// What is found.
    pub kind: FindingKind,
    /// When it began.
    pub since: WallTime,
    /// Whom it is about: the smaller side of a cut. Empty for everybody.
    pub near: Vec<NodeId>,
    /// The other side of a cut. Empty for all others, and where there is no other side.
    pub far: Vec<NodeId>,
    /// More about it, for people.
    pub detail: String,
}

/// What was seen at one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What.
    pub kind: FindingKind,
    /// One side.
    pub near: BTreeSet<NodeIndex>,
    /// The other side.
    pub far: BTreeSet<NodeIndex>,
    /// More about it.
    pub detail: String,
    /// Needs no time to be believed.
    pub sure: bool,
    /// May be the first that is seen of something larger: needs more time to be believed.
    pub small: bool,
}

impl Candidate {
    /// One about `near`.
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

    /// How long it must have been the same to be believed.
    fn stable(&self) -> Duration {
        match (self.sure, self.small) {
            (true, _) => Duration::ZERO,
            (false, true) => STABLE_SMALL,
            (false, false) => STABLE,
        }
    }

    /// How long it must have been the same to take the place of what was told. Loss that ends does so link by link.
    fn settled(&self) -> Duration {
        match self.kind {
            FindingKind::LinkLossy => PATIENCE,
            _ => STABLE,
        }
    }

    /// True when it is about the same nodes.
    fn is(&self, other: &Candidate) -> bool {
        self.kind == other.kind && self.near == other.near && self.far == other.far
    }

    /// True when it is about the same, though some of its members may have changed.
    fn continues(&self, other: &Candidate) -> bool {
        let alike = |one: &BTreeSet<NodeIndex>, other: &BTreeSet<NodeIndex>| {
            2 * one.intersection(other).count() >= one.len().max(other.len())
        };
        self.kind == other.kind && alike(&self.near, &other.near) && alike(&self.far, &other.far)
    }
}

/// One that is followed.
#[derive(Clone, Debug)]
pub struct Followed {
    /// What it is.
    pub seen: Candidate,
    /// Since when.
    first: Time,
    /// Since when with these members.
    same: Time,
    /// When it was seen last.
    last: Time,
    /// Other members that it has now, and since when.
    next: Option<(Candidate, Time)>,
    /// Its number, once it was told.
    pub told: Option<u64>,
    /// When it was told.
    pub since: WallTime,
}

/// What changed with a look.
#[derive(Clone, Debug)]
pub enum Change {
    /// It begins.
    Opened(Followed),
    /// It is over.
    Closed(Followed),
}

impl Followed {
    /// So much of the time since then nobody looked: it tells nothing.
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
            // What was told stands until its members have been others for long enough.
            let is_known = self.next.as_ref().is_some_and(|(next, _)| next.is(&candidate));
            let since = self.next.as_ref().filter(|_| is_known).map_or(now, |(_, since)| *since);
            self.next = Some((candidate, since));
        }
    }
}

/// The findings.
#[derive(Debug, Default)]
pub struct Findings {
    followed: Vec<Followed>,
    told: u64,
    /// When was looked last.
    looked: Option<Time>,
}

impl Findings {
    /// Takes in what a look showed. A finding that has other members now is over, and another one begins, once these have been the same for as long as
    /// the first had to be.
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
        // What is exactly as before comes first: another one that is like it must not take its place.
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
                // Loss that was not seen for a moment is still the same.
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

    /// Forgets a node. Returns what was told and is over by that, as it was: of one of its sides nobody is left.
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

    /// Those that were told and are not over.
    pub fn open(&self) -> impl Iterator<Item = &Followed> {
        self.followed.iter().filter(|known| known.told.is_some())
    }

    /// True when nothing is followed.
    pub fn is_quiet(&self) -> bool {
        self.followed.is_empty()
    }

    /// True when it was told that a node is of this kind and alone.
    pub fn is(&self, kind: FindingKind, node: NodeIndex) -> bool {
        self.open()
            .any(|known| known.seen.kind == kind && known.seen.near.contains(&node))
    }
}
