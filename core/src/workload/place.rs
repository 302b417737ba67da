//! Where instances go, and what those wait for that have no place.

use serde::{Deserialize, Serialize};

use super::Resources;
use crate::id::{NodeId, NodeIndex};

/// What a node scores for an instance; each part is 0 to 1,000, more is better. Compared as a whole by their weighted sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Score {
    /// The weighted sum.
    pub total: i64,
    /// Orders nodes that score the same, another way for each workload.
    pub(crate) tie: u32,
    /// What would be left of what it has.
    pub headroom: i64,
    /// How little it is loaded, observed or forecast.
    pub calm: i64,
    /// How many of the affinities are met.
    pub affinity: i64,
    /// How far it is trusted.
    pub trust: i64,
    /// How rarely the workload failed on it lately.
    pub record: i64,
    /// How short the way is to the workload that it is to be near to; 0 for all when there is none.
    #[serde(default)]
    pub closeness: i64,
}

/// Room on a node that is being made, and is for one workload alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The node.
    pub node: NodeIndex,
    /// How much.
    pub resources: Resources,
}

/// A slot that has no instance, and what it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// How many slots wait for the same.
    pub slots: u32,
    /// For what, for people.
    pub reason: String,
    /// When no node takes it: nodes, their names, and why not; at most 16.
    pub nodes: Vec<(NodeId, String, String)>,
    /// Failures in a row of each of these slots' instances; 0 when no failure is what they wait for.
    pub failures: u32,
    /// They failed for good: they are not tried again.
    pub given_up: bool,
}
