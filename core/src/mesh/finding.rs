//! Findings: conclusions about the mesh beyond the liveness of nodes. Each produces one event with its members when it
//! opens, and one when it closes.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    id::{NodeId, NodeIndex},
    time::WallTime,
};

/// Time after which a finding opens even though its members change.
pub(super) const PATIENCE: Duration = Duration::from_secs(8);

/// Time for which a candidate must be unchanged before its finding opens.
const STABLE: Duration = Duration::from_secs(3);

/// The same for a lossy link that is one of few: when many links become lossy, some are detected first.
const STABLE_SMALL: Duration = Duration::from_secs(4);

/// Time without an observation after which a finding closes. A shorter absence does not count.
const CLEAR: Duration = Duration::from_secs(5);

/// The same for loss: a meter already waits several seconds before it reports a lossy link as up.
const CLEAR_LOSS: Duration = Duration::from_secs(3);

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
    pub(super) const fn clear(self) -> Duration {
        match self {
            FindingKind::LinkLossy => CLEAR_LOSS,
            _ => CLEAR,
        }
    }

    /// Returns whether findings of this kind follow from the registry alone; these close as soon as the registry no
    /// longer shows them.
    pub(super) const fn ends_at_once(self) -> bool {
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
    pub(super) fn stable(&self) -> Duration {
        match (self.sure, self.small) {
            (true, _) => Duration::ZERO,
            (false, true) => STABLE_SMALL,
            (false, false) => STABLE,
        }
    }

    /// Returns how long changed members must persist before they replace those of an open finding. Longer for loss,
    /// which ends link by link.
    pub(super) fn settled(&self) -> Duration {
        match self.kind {
            FindingKind::LinkLossy => PATIENCE,
            _ => STABLE,
        }
    }

    /// Returns whether the kind and the nodes are equal.
    pub(super) fn is(&self, other: &Candidate) -> bool {
        self.kind == other.kind && self.near == other.near && self.far == other.far
    }

    /// Returns whether the candidate continues `other`: the same kind, with at least half of the members of each side
    /// in common.
    pub(super) fn continues(&self, other: &Candidate) -> bool {
        let alike = |one: &BTreeSet<NodeIndex>, other: &BTreeSet<NodeIndex>| {
            2 * one.intersection(other).count() >= one.len().max(other.len())
        };
        self.kind == other.kind && alike(&self.near, &other.near) && alike(&self.far, &other.far)
    }
}
