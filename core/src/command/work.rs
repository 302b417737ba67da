//! Changes to the desired state of workloads, and their results.

use std::sync::Arc;

use crate::{
    id::{EventNo, NodeId, Revision},
    placement::{Score, Waiting},
    time::WallTime,
    workload::{AssignmentId, Spec},
};

/// A change to the desired state of a workload.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangeWorkload {
    /// Whether to only report the changes.
    pub plan: bool,
    /// Expected revision; the change is refused at another one. 0 for a workload that must not exist.
    pub at: Option<Revision>,
    /// For a declaration: whether to keep the current number of replicas, if the workload exists.
    pub keep_replicas: bool,
    /// For a declaration: whether to apply it even if instances stop without a replacement.
    pub force: bool,
    /// The change.
    pub verb: WorkloadVerb,
}

/// Kind of a change.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkloadVerb {
    /// Creates or updates the declaration.
    Apply(Arc<Spec>),
    /// Sets the number of replicas.
    Scale {
        /// Name of the workload.
        name: String,
        /// Number of replicas.
        replicas: u32,
    },
    /// Replaces the instances, one after another.
    Restart {
        /// Name of the workload.
        name: String,
    },
    /// Promotes the canaries: the rollout continues with the other instances.
    Promote {
        /// Name of the workload.
        name: String,
    },
    /// Deletes the workload.
    Delete {
        /// Name of the workload.
        name: String,
    },
}

impl WorkloadVerb {
    /// Returns the workload's name.
    pub fn workload(&self) -> &str {
        match self {
            WorkloadVerb::Apply(spec) => &spec.name,
            WorkloadVerb::Scale { name, .. }
            | WorkloadVerb::Restart { name }
            | WorkloadVerb::Promote { name }
            | WorkloadVerb::Delete { name } => name,
        }
    }

    /// Returns the name of the change, for people.
    pub const fn name(&self) -> &'static str {
        match self {
            WorkloadVerb::Apply(_) => "apply",
            WorkloadVerb::Scale { .. } => "scale",
            WorkloadVerb::Restart { .. } => "restart",
            WorkloadVerb::Promote { .. } => "promote",
            WorkloadVerb::Delete { .. } => "delete",
        }
    }
}

/// The result of a change to a workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changed {
    /// Name of the workload.
    pub name: String,
    /// Current revision, or for a plan the one before the change; 0 for none.
    pub revision: Revision,
    /// Whether the change was applied; false for a plan.
    pub applied: bool,
    /// Whether anything differs from the previous state.
    pub changed: bool,
    /// The declaration, with defaults applied.
    pub spec: Option<Arc<Spec>>,
    /// Number of replicas before the change, if it differs.
    pub replicas_before: Option<u32>,
    /// Instances that are started immediately, with node and reason.
    pub starts: Vec<PlannedStart>,
    /// Instances that are stopped immediately.
    pub stops: Vec<PlannedStop>,
    /// Number of running instances without a workload that this one adopts.
    pub adopted: u32,
    /// Number of instances that follow later because of the update limits.
    pub later: u32,
    /// Pending slots, with reasons.
    pub waiting: Vec<Waiting>,
    /// Nodes that accept no instance, or no further one, with reasons.
    pub rejections: Vec<(NodeId, String, String)>,
    /// The event that records the change; 0 if nothing changed.
    pub event: EventNo,
}

/// A planned stop of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStop {
    /// Id of the instance.
    pub id: AssignmentId,
    /// Slot of the instance.
    pub slot: u32,
    /// Name of the node.
    pub node_name: String,
    /// Reason of the stop.
    pub reason: String,
    /// Whether no replacement is started.
    pub unreplaced: bool,
}

/// The result of forgetting a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Forgotten {
    /// The node.
    pub node: NodeId,
    /// Name of the node, which is free now.
    pub name: String,
    /// Whether the node was forgotten; false for a plan.
    pub applied: bool,
    /// Whether the node was revoked, and stays refused.
    pub barred: bool,
    /// For a plan: end of a lease that the node may still hold; it must not be forgotten before.
    pub not_before: Option<WallTime>,
    /// For each workload with instances on the node: its stops are the instances given up, its starts the first replacements.
    pub changes: Vec<Changed>,
    /// The event that records the change; 0 for a plan.
    pub event: EventNo,
}

/// A planned start of an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedStart {
    /// Name of the workload.
    pub workload: String,
    /// Slot of the instance.
    pub slot: u32,
    /// Node of the instance.
    pub node: NodeId,
    /// The node's name.
    pub node_name: String,
    /// Score of the node.
    pub score: Score,
    /// Reason of the start.
    pub reason: String,
}
