//! Changes for the store.

use std::sync::Arc;

use super::Restored;
use crate::{
    access::Access,
    autonomy::Policy,
    event::Event,
    id::NodeId,
    node::NodeRecord,
    workload::{Assignment, AssignmentId, Workload},
};

/// Changes that become durable atomically.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Forgotten nodes. A node that is also in `nodes` returned afterwards.
    pub forgotten: Vec<NodeId>,
    /// Current records of changed nodes.
    pub nodes: Vec<Arc<NodeRecord>>,
    /// Events in order, continuing the earlier ones without a gap.
    pub events: Vec<Arc<Event>>,
    /// Join tokens and operators, if changed.
    pub access: Option<Arc<Access>>,
    /// Current records of changed workloads; `None` for a removed one.
    pub workloads: Vec<(Arc<str>, Option<Arc<Workload>>)>,
    /// Current records of changed instances; `None` for one that is no longer retained.
    pub assignments: Vec<(AssignmentId, Option<Arc<Assignment>>)>,
    /// Policy of Autonomy, if changed.
    pub policy: Option<Policy>,
    /// Number of decisions in the cluster's lifetime; 0 if unchanged.
    pub decisions: u64,
    /// Restoration from a backup, if changed.
    pub restored: Option<Restored>,
    /// Numbers of audit intents that are carried out once this batch is durable, with all their changes; after a crash
    /// they tell what was done. An intent that changed nothing is included as well: the newest one marks the position
    /// of the state.
    pub intents: Vec<u64>,
}

impl Batch {
    /// Whether there is nothing to make durable.
    pub fn is_empty(&self) -> bool {
        let work = self.workloads.is_empty() && self.assignments.is_empty();
        let rare = self.policy.is_none() && self.restored.is_none();
        work && rare
            && self.nodes.is_empty()
            && self.forgotten.is_empty()
            && self.events.is_empty()
            && self.access.is_none()
            && self.intents.is_empty()
    }

    /// All changes in the order in which they are to be applied. The exhaustive pattern ensures that a new field is not
    /// missed.
    pub fn changes(&self) -> impl Iterator<Item = Entry<'_>> {
        let Batch {
            forgotten,
            nodes,
            events,
            access,
            workloads,
            assignments,
            policy,
            decisions,
            restored,
            intents,
        } = self;
        let forgotten = forgotten.iter().map(|id| Entry::Forgotten(*id));
        let nodes = nodes.iter().map(Entry::Node);
        let workloads = workloads
            .iter()
            .map(|(name, record)| Entry::Workload(name, record.as_ref()));
        let assignments = assignments
            .iter()
            .map(|(id, record)| Entry::Assignment(*id, record.as_ref()));
        let decisions = (*decisions > 0).then_some(Entry::Decisions(*decisions));
        forgotten
            .chain(nodes)
            .chain(workloads)
            .chain(assignments)
            .chain(events.iter().map(Entry::Event))
            .chain(access.iter().map(Entry::Access))
            .chain(policy.iter().map(|policy| Entry::Policy(*policy)))
            .chain(decisions)
            .chain(restored.iter().map(|restored| Entry::Restored(*restored)))
            .chain(intents.iter().map(|intent| Entry::Intent(*intent)))
    }
}

/// A single change.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// Removal of a node.
    Forgotten(NodeId),
    /// Current record of a node.
    Node(&'a Arc<NodeRecord>),
    /// Current record of a workload by its name; `None` for removal.
    Workload(&'a Arc<str>, Option<&'a Arc<Workload>>),
    /// Current record of an instance; `None` if it is no longer retained.
    Assignment(AssignmentId, Option<&'a Arc<Assignment>>),
    /// An event.
    Event(&'a Arc<Event>),
    /// Join tokens and operators.
    Access(&'a Arc<Access>),
    /// Policy of Autonomy.
    Policy(Policy),
    /// Lower bound of the number of decisions in the cluster's lifetime.
    Decisions(u64),
    /// Restoration from a backup.
    Restored(Restored),
    /// An audit intent that is carried out.
    Intent(u64),
}
