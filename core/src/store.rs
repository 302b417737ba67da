//! What is durable, and how it is handed to the store.

use std::sync::Arc;

use crate::{
    access::Access,
    autonomy::Policy,
    event::Event,
    id::ClusterId,
    integrity::{Digest, ZERO_DIGEST},
    node::NodeRecord,
    workload::{Assignment, AssignmentId, Workload},
};

/// What a coordinator starts from.
#[derive(Clone, Debug)]
pub struct Durable {
    /// The cluster's id.
    pub cluster: ClusterId,
    /// Epoch of this start: one more than the one before.
    pub epoch: u64,
    /// The nodes.
    pub nodes: Vec<Arc<NodeRecord>>,
    /// Tokens and operators.
    pub access: Arc<Access>,
    /// Workloads, those included that are to be gone.
    pub workloads: Vec<Arc<Workload>>,
    /// Their instances.
    pub assignments: Vec<Arc<Assignment>>,
    /// Number of the newest event; 0 when there is none.
    pub last_event: u64,
    /// What Autonomy may do.
    pub policy: Policy,
    /// Number of decisions in the cluster's life.
    pub decisions: u64,
    /// Epoch, cycle and chain of the newest snapshot.
    pub last_snapshot: (u64, u64, Digest),
}

impl Durable {
    /// A cluster's first start.
    pub fn new(cluster: ClusterId) -> Durable {
        Durable {
            cluster,
            epoch: 1,
            nodes: Vec::new(),
            access: Arc::default(),
            workloads: Vec::new(),
            assignments: Vec::new(),
            policy: Policy::default(),
            last_event: 0,
            decisions: 0,
            last_snapshot: (0, 0, ZERO_DIGEST),
        }
    }
}

/// Changes that become durable together, or not at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Nodes as they are now.
    pub nodes: Vec<Arc<NodeRecord>>,
    /// Events, in order, without a gap to those before.
    pub events: Vec<Arc<Event>>,
    /// Tokens and operators, when they changed.
    pub access: Option<Arc<Access>>,
    /// Workloads as they are now; `None` for one that is gone.
    pub workloads: Vec<(Arc<str>, Option<Arc<Workload>>)>,
    /// Instances as they are now; `None` for one that need not be kept.
    pub assignments: Vec<(AssignmentId, Option<Arc<Assignment>>)>,
    /// What Autonomy may do, when that changed.
    pub policy: Option<Policy>,
    /// Number of decisions in the cluster's life; 0 when it did not change.
    pub decisions: u64,
}

impl Batch {
    /// True when there is nothing to make durable.
    pub fn is_empty(&self) -> bool {
        let work = self.workloads.is_empty() && self.assignments.is_empty();
        work && self.policy.is_none() && self.nodes.is_empty() && self.events.is_empty() && self.access.is_none()
    }
}
