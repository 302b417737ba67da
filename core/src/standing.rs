//! Standing: what the coordinator says to a node of itself, and for how long that holds.

use std::time::Duration;

use crate::{
    id::NodeId,
    mesh::Observation,
    node::{Admission, Liveness},
};

/// How long a node may take itself for a member after it asked, at least. Longer: a cut between it and the coordinator is
/// survived for longer; shorter: a node without any way to the coordinator knows sooner that it can no longer count on being one.
const LEASE: Duration = Duration::from_secs(30);

/// Cycles and heartbeats that a lease lasts at least: it is renewed once in the longer of the two.
const RENEWALS: u32 = 5;

/// So many times as long a singleton may run. Longer: the coordinator's absence is survived for longer; shorter: a singleton is started
/// elsewhere sooner after its machine died.
pub const SINGLETON: u32 = 2;

/// The lease where a cycle and a heartbeat take so long.
pub fn lease(cycle: Duration, heartbeat: Duration) -> Duration {
    LEASE.max(cycle.max(heartbeat) * RENEWALS)
}

/// How long a coordinator that seals every cycle may say nothing before an agent asks its peers, though its session seems to stand.
pub fn quiet(cycle: Duration, heartbeat: Duration) -> Duration {
    cycle.max(heartbeat) + heartbeat
}

/// What the coordinator says to a node of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The coordinator's epoch.
    pub epoch: u64,
    /// May it take part?
    pub admission: Admission,
    /// What the coordinator concluded.
    pub liveness: Liveness,
    /// How long it may take itself for a member, counted from when it asked; zero when it is none: who was given up may have
    /// been replaced.
    pub lease: Duration,
}

/// Nodes that pass a question on at most, the one whose session takes it to the coordinator included. Longer: nodes behind longer chains of nodes
/// without a session are reached; each takes its time.
pub const HOPS: usize = 8;

/// A question for a node's standing, on its way to the coordinator.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Whose standing is asked for.
    pub asker: NodeId,
    /// Starts of its agent.
    pub incarnation: u64,
    /// Nodes that passed the question on so far, the asker's peer first; fewer than [`HOPS`].
    pub path: Vec<NodeId>,
    /// What the asker sees of its peers.
    pub observations: Vec<(NodeId, Observation)>,
}

impl Question {
    /// Who asked the node that the question is at.
    pub fn peer(&self) -> NodeId {
        self.path.last().copied().unwrap_or(self.asker)
    }

    /// True when the question was at this node, or comes from it.
    pub fn passed(&self, node: NodeId) -> bool {
        self.asker == node || self.path.contains(&node)
    }
}

impl Standing {
    /// True when a node of this admission and liveness is a member.
    pub fn is_member(admission: Admission, liveness: Liveness) -> bool {
        let gone = matches!(liveness, Liveness::Offline | Liveness::Left);
        admission == Admission::Admitted && !gone
    }
}
