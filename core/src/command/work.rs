//! Changes of what should run, and what they come to.

use std::sync::Arc;

use crate::{
    id::{EventNo, NodeId},
    placement::{Score, Waiting},
    time::WallTime,
    workload::{AssignmentId, Spec},
};

/// A change of what should run.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangeWorkload {
    /// Nothing is done; the answer says what would be.
    pub plan: bool,
    /// The revision at which it is meant to be carried out; refused at another one. 0 for a workload that must not be there.
    pub at: Option<u64>,
    /// Of a declaration: as many instances as there should be now, if there are any, whatever it says.
    pub keep_replicas: bool,
    /// Of a declaration: also where instances would stop that nothing takes the place of.
    pub force: bool,
    /// What.
    pub verb: WorkloadVerb,
}

/// A change of what should run.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkloadVerb {
    /// Should run like this from now on.
    Apply(Arc<Spec>),
    /// Should have so many instances.
    Scale {
        /// Its name.
        name: String,
        /// How many.
        replicas: u32,
    },
    /// Its instances should be replaced, one after another.
    Restart {
        /// Its name.
        name: String,
    },
    /// Its canaries are well: the rest may follow.
    Promote {
        /// Its name.
        name: String,
    },
    /// Should not run any more.
    Delete {
        /// Its name.
        name: String,
    },
}

impl WorkloadVerb {
    /// The workload's name.
    pub fn workload(&self) -> &str {
        match self {
            WorkloadVerb::Apply(spec) => &spec.name,
            WorkloadVerb::Scale { name, .. }
            | WorkloadVerb::Restart { name }
            | WorkloadVerb::Promote { name }
            | WorkloadVerb::Delete { name } => name,
        }
    }

    /// Its name, as people give it.
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

/// What becomes of a workload by a change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changed {
    /// Its name.
    pub name: String,
    /// Its revision now, or (of a plan) before the change; 0 for none.
    pub revision: u64,
    /// It was carried out; otherwise it is what would be done.
    pub applied: bool,
    /// Whether anything differs from what was.
    pub changed: bool,
    /// Its declaration, with its defaults.
    pub spec: Option<Arc<Spec>>,
    /// How many instances there should be before the change, where that is another number.
    pub replicas_before: Option<u32>,
    /// Instances that are started at once: node, its name, and why.
    pub starts: Vec<PlannedStart>,
    /// Instances that are stopped at once.
    pub stops: Vec<PlannedStop>,
    /// Instances that run and that no workload had, which it takes over.
    pub adopted: u32,
    /// Instances that follow later, as only so many are replaced at once.
    pub later: u32,
    /// Slots that wait, and for what.
    pub waiting: Vec<Waiting>,
    /// Nodes that take none, or no further one, and why.
    pub rejections: Vec<(NodeId, String, String)>,
    /// The event that records it; 0 when nothing changed.
    pub event: EventNo,
}

/// An instance that would stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStop {
    /// Its id.
    pub id: AssignmentId,
    /// Its slot.
    pub slot: u32,
    /// Its node's name.
    pub node_name: String,
    /// Why it stops.
    pub reason: String,
    /// Nothing takes its place.
    pub unreplaced: bool,
}

/// The result of forgetting a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Forgotten {
    /// The node.
    pub node: NodeId,
    /// The node's name, which is free now.
    pub name: String,
    /// It was carried out; otherwise it is what would be done.
    pub applied: bool,
    /// It was revoked, and stays shut out.
    pub barred: bool,
    /// Of a plan: a lease that the node was promised may run until then, and the node must not be forgotten before.
    pub not_before: Option<WallTime>,
    /// For each workload with instances on the node: its stops are the instances given up, its starts the first replacements.
    pub changes: Vec<Changed>,
    /// The event that records it; 0 of a plan.
    pub event: EventNo,
}

/// An instance that is started.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedStart {
    /// Its workload's name.
    pub workload: String,
    /// Its slot.
    pub slot: u32,
    /// Its node.
    pub node: NodeId,
    /// The node's name.
    pub node_name: String,
    /// By what that wins.
    pub score: Score,
    /// Why it is started.
    pub reason: String,
}
