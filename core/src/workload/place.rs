//! Placement results: scores, claims and reasons for pending slots.

use serde::{Deserialize, Serialize};

use super::Resources;
use crate::id::{NodeId, NodeIndex};

/// Score of a node for an instance. Each part is 0 to 1,000, higher is better; nodes are compared by the weighted sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Score {
    /// The weighted sum.
    pub total: i64,
    /// Tie-breaker between equal scores, different for each workload.
    pub(crate) tie: u32,
    /// Free resources after placement.
    pub headroom: i64,
    /// Inverse of the observed or predicted load.
    pub calm: i64,
    /// Fraction of the affinities that are met.
    pub affinity: i64,
    /// Trust in the node.
    pub trust: i64,
    /// Absence of recent failures of the workload on the node.
    pub record: i64,
    /// Proximity to the `near` workload; 0 for all nodes if there is none.
    #[serde(default)]
    pub closeness: i64,
}

/// Room on a node that is being made and is reserved for one workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The node.
    pub node: NodeIndex,
    /// Amount of resources.
    pub resources: Resources,
}

/// Slots without an instance, and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Number of slots with this reason.
    pub slots: u32,
    /// The reason, human-readable.
    pub reason: String,
    /// If no node fits: nodes, their names and the reasons; at most 16.
    pub nodes: Vec<(NodeId, String, String)>,
    /// Number of consecutive failures of each slot's instances; 0 if the slots wait for another reason.
    pub failures: u32,
    /// Whether the slots failed permanently and are not retried.
    pub given_up: bool,
}
