//! What waits to become durable, and what waits for that.

use std::{
    collections::{BTreeSet, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use super::{Answer, Coordinator, Effect, Refusal, RequestId};
use crate::{
    autonomy::Decision,
    event::{Event, EventBody},
    id::NodeId,
    node::{ConnId, NodeIndex},
    store::{Batch, Restored},
    time::Time,
    workload::AssignmentId,
};

/// Batches handed to the store and not confirmed. At this many, changes gather in the next one, and commands and hellos
/// are refused: the store is behind.
pub(super) const MAX_AWAITED: usize = 64;

/// A batch that is not durable after this long: the disk stands still.
pub(super) const OVERDUE: Duration = Duration::from_secs(2);

/// What happens once a batch is durable.
#[derive(Debug)]
pub(super) enum Then {
    /// A caller gets its answer.
    Reply(RequestId, Result<Answer, Refusal>),
    /// An agent is welcomed.
    Welcome(ConnId, NodeIndex),
    /// A directive is delivered.
    Deliver(u64),
    /// These instances are written down.
    Kept(Vec<AssignmentId>),
    /// A node is told what it is to run.
    Tell(NodeIndex),
}

/// The batch that is being gathered, and those on their way.
#[derive(Debug)]
pub(super) struct Staging {
    batch: Batch,
    changed: BTreeSet<NodeIndex>,
    workloads: BTreeSet<Arc<str>>,
    assignments: BTreeSet<AssignmentId>,
    then: Vec<Then>,
    /// Since when each was handed over, and what waits for it.
    awaited: VecDeque<(Time, Vec<Then>)>,
    last_event: u64,
}

impl Staging {
    pub(super) fn new(last_event: u64) -> Staging {
        Staging {
            batch: Batch::default(),
            changed: BTreeSet::new(),
            workloads: BTreeSet::new(),
            assignments: BTreeSet::new(),
            then: Vec::new(),
            awaited: VecDeque::new(),
            last_event,
        }
    }

    /// Has what is known of a restoration kept.
    pub(super) fn keep_restored(&mut self, restored: Restored) {
        self.batch.restored = Some(restored);
    }

    pub(super) fn is_behind(&self) -> bool {
        self.awaited.len() >= MAX_AWAITED
    }

    /// True while changes gather that the store does not take yet.
    pub(super) fn is_held_back(&self) -> bool {
        let changes = self.changed.len() + self.workloads.len() + self.assignments.len();
        self.is_behind() && (changes > 0 || !self.batch.is_empty())
    }

    /// The number of the newest event.
    pub(super) fn last_event(&self) -> u64 {
        self.last_event
    }

    pub(super) fn awaited(&self) -> usize {
        self.awaited.len()
    }

    /// True when the store has taken too long: whom it keeps from being welcomed is not silent.
    pub(super) fn is_overdue(&self, now: Time) -> bool {
        self.awaited.front().is_some_and(|(at, _)| now.since(*at) >= OVERDUE)
    }
}

impl Coordinator {
    /// Notes an event for the next batch; returns its number.
    pub(super) fn record(&mut self, node: Option<NodeIndex>, summary: String, body: EventBody) -> u64 {
        self.record_times(node, summary, body, 1)
    }

    /// Notes an event that stands for `times` like it, shortened to its bound.
    pub(super) fn record_times(
        &mut self,
        node: Option<NodeIndex>,
        summary: String,
        body: EventBody,
        times: u32,
    ) -> u64 {
        self.ctx.outbox.staging.last_event += 1;
        let sequence = self.ctx.outbox.staging.last_event;
        let (id, node_name) = node.map_or((None, String::new()), |index| {
            let node = &self.ctx.registry[index];
            (Some(node.record.id()), node.name().to_owned())
        });
        let (time, epoch, cycle) = (self.wall_now(), self.ctx.term.epoch, self.ctx.clock.cycle);
        let event = Event {
            sequence,
            time,
            epoch,
            cycle,
            node: id,
            node_name,
            summary,
            body,
            times,
        };
        self.ctx.outbox.staging.batch.events.push(Arc::new(event.bounded()));
        sequence
    }

    /// Notes a decision, or what became of one, for the next batch.
    pub(super) fn record_decision(&mut self, index: Option<NodeIndex>, decision: Arc<Decision>) {
        self.ctx.outbox.staging.batch.decisions = self.autonomy.total();
        let summary = decision.summary();
        self.record(index, summary, EventBody::Decision(decision));
        if let Some(index) = index {
            self.concluded(index);
        }
    }

    /// Notes that a node's record is to be kept as it is when the batch goes, and shown to readers.
    pub(super) fn keep(&mut self, index: NodeIndex) {
        self.ctx.outbox.staging.changed.insert(index);
        self.concluded(index);
    }

    /// Notes that a workload's record is to be kept as it is when the batch goes, or forgotten with it.
    pub(super) fn keep_workload(&mut self, name: &str) {
        self.ctx.outbox.staging.workloads.insert(name.into());
    }

    /// Removes a node's record with the batch.
    pub(super) fn drop_node(&mut self, index: NodeIndex, id: NodeId) {
        self.ctx.outbox.staging.changed.remove(&index);
        self.ctx.outbox.staging.batch.forgotten.push(id);
    }

    /// The same for an instance's.
    pub(super) fn keep_assignment(&mut self, id: AssignmentId) {
        self.ctx.outbox.staging.assignments.insert(id);
    }

    /// Has what Autonomy may do kept as it is now.
    pub(super) fn keep_policy(&mut self) {
        self.ctx.outbox.staging.batch.policy = Some(self.steering.policy());
    }

    /// Has tokens and operators kept as they are now.
    pub(super) fn keep_access(&mut self) {
        self.ctx.outbox.staging.batch.access = Some(Arc::clone(&self.access));
    }

    /// Has the audit's intent of a command kept with whatever changes from now on.
    pub(super) fn keep_intent(&mut self, request: RequestId) {
        self.ctx.outbox.staging.batch.intents.extend(request.intent());
    }

    /// Takes the intent of a command back that was refused: it changed nothing.
    pub(super) fn drop_intent(&mut self, request: RequestId) {
        self.ctx
            .outbox
            .staging
            .batch
            .intents
            .retain(|intent| Some(*intent) != request.intent());
    }

    /// Has something happen once all that changed so far is durable.
    pub(super) fn then(&mut self, then: Then) {
        self.ctx.outbox.staging.then.push(then);
    }

    /// Hands what was gathered to the store.
    pub(super) fn flush(&mut self) {
        let staging = &mut self.ctx.outbox.staging;
        let nothing = staging.changed.is_empty() && staging.workloads.is_empty() && staging.assignments.is_empty();
        let idle = staging.then.is_empty() && staging.batch.is_empty() && nothing;
        if idle || staging.is_behind() {
            return;
        }
        let mut batch = mem::take(&mut staging.batch);
        let changed = mem::take(&mut staging.changed);
        let workloads = mem::take(&mut staging.workloads);
        let assignments = mem::take(&mut staging.assignments);
        batch.nodes = changed
            .into_iter()
            .map(|index| Arc::clone(&self.ctx.registry[index].record))
            .collect();
        batch.workloads = workloads
            .into_iter()
            .map(|name| {
                let record = self.table.declared(&name).map(|declared| Arc::clone(&declared.record));
                (name, record)
            })
            .collect();
        if !assignments.is_empty() {
            staging
                .then
                .insert(0, Then::Kept(assignments.iter().copied().collect()));
        }
        batch.assignments = assignments
            .into_iter()
            .map(|id| (id, self.table.held(id).map(|held| Arc::clone(&held.record))))
            .collect();
        staging
            .awaited
            .push_back((self.ctx.clock.now, mem::take(&mut staging.then)));
        self.ctx.outbox.effects.push_back(Effect::Commit(Box::new(batch)));
    }

    /// The oldest batch is durable.
    pub(super) fn committed(&mut self) {
        self.note_held();
        let (_, waiting) = self.ctx.outbox.staging.awaited.pop_front().unwrap_or_default();
        for then in waiting {
            match then {
                Then::Reply(request, answer) => self.ctx.outbox.effects.push_back(Effect::Reply { request, answer }),
                Then::Welcome(conn, index) => self.welcome(conn, index),
                Then::Deliver(id) => self.redeliver(id),
                Then::Kept(ids) => {
                    for id in ids {
                        self.table.kept(id);
                    }
                }
                Then::Tell(index) => self.tell(index),
            }
        }
    }
}
