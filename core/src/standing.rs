//! Standing: the coordinator's statement to a node about its membership, and its validity.

use std::time::Duration;

use crate::{
    id::{Epoch, NodeId},
    mesh::Observation,
    node::{Admission, Liveness},
};

/// Minimum lease: time for which a node may consider itself a member after it asked. A longer lease survives longer
/// partitions from the coordinator; with a shorter one, a node without any path to the coordinator notices sooner that
/// it may have been replaced.
const LEASE: Duration = Duration::from_secs(30);

/// Minimum lease in cycles or heartbeats, whichever is longer; a lease is renewed once in each.
const RENEWALS: u32 = 5;

/// Lease of a singleton, as a multiple of the node's lease. A larger value survives a longer absence of the
/// coordinator; a smaller one allows a singleton to be started elsewhere sooner after its machine failed.
pub const SINGLETON: u32 = 2;

/// Lease for the given cycle and heartbeat intervals.
pub fn lease(cycle: Duration, heartbeat: Duration) -> Duration {
    LEASE.max(cycle.max(heartbeat) * RENEWALS)
}

/// Silence of a coordinator, which seals every cycle, after which an agent asks its peers although its session seems
/// live.
pub fn quiet(cycle: Duration, heartbeat: Duration) -> Duration {
    cycle.max(heartbeat) + heartbeat
}

/// The coordinator's statement to a node about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Epoch of the coordinator.
    pub epoch: Epoch,
    /// Admission state of the node.
    pub admission: Admission,
    /// Liveness of the node as concluded by the coordinator.
    pub liveness: Liveness,
    /// Time for which the node may consider itself a member, counted from when it asked; zero if it is none, since a
    /// node that was given up may have been replaced.
    pub lease: Duration,
}

/// Maximum number of nodes that forward a question, including the one whose session delivers it. A larger value reaches
/// nodes behind longer chains of nodes without a session; each hop takes time.
pub const HOPS: usize = 8;

/// A question about a node's standing, forwarded to the coordinator.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The node that asks.
    pub asker: NodeId,
    /// Incarnation of the asking agent.
    pub incarnation: u64,
    /// Nodes that forwarded the question so far, the asker's peer first; fewer than [`HOPS`].
    pub path: Vec<NodeId>,
    /// The asker's observations of its peers.
    pub observations: Vec<(NodeId, Observation)>,
}

impl Question {
    /// The node from which the current holder received the question.
    pub fn peer(&self) -> NodeId {
        self.path.last().copied().unwrap_or(self.asker)
    }

    /// Whether this node asked or already forwarded the question.
    pub fn passed(&self, node: NodeId) -> bool {
        self.asker == node || self.path.contains(&node)
    }
}

impl Standing {
    /// Whether a node of this admission state and liveness is a member.
    pub fn is_member(admission: Admission, liveness: Liveness) -> bool {
        let gone = matches!(liveness, Liveness::Offline | Liveness::Left);
        admission == Admission::Admitted && !gone
    }
}
