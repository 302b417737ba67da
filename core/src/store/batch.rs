//! Changes on their way to the store.

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

/// Changes that become durable together, or not at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Nodes that are forgotten. One that is among `nodes`, too, came back afterwards.
    pub forgotten: Vec<NodeId>,
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
    /// That the state was restored, when that changed.
    pub restored: Option<Restored>,
    /// Numbers of the audit's intents that are carried out once this is durable, with all that they change: after a crash they tell what
    /// was done. One that changed nothing is kept as well: the newest one tells how far the state has come.
    pub intents: Vec<u64>,
}

impl Batch {
    /// True when there is nothing to make durable.
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

    /// Each of the changes, in the order in which they are to be taken over. A field that is new here does not compile until it is one of them.
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

/// One change.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// A node is forgotten.
    Forgotten(NodeId),
    /// A node as it is now.
    Node(&'a Arc<NodeRecord>),
    /// A workload as it is now, by its name; `None` when it is gone.
    Workload(&'a Arc<str>, Option<&'a Arc<Workload>>),
    /// An instance as it is now; `None` when it need not be kept.
    Assignment(AssignmentId, Option<&'a Arc<Assignment>>),
    /// What happened.
    Event(&'a Arc<Event>),
    /// Tokens and operators.
    Access(&'a Arc<Access>),
    /// What Autonomy may do.
    Policy(Policy),
    /// Number of decisions in the cluster's life, at least.
    Decisions(u64),
    /// That the state was restored.
    Restored(Restored),
    /// An intent of the audit that is carried out.
    Intent(u64),
}
