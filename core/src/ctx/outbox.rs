//! Changes that are to become durable, and actions deferred until they are.

use std::{
    collections::{BTreeSet, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use super::{Ctx, repeats::Repeats};
use crate::{
    access::Access,
    autonomy::{Decision, Policy},
    command::{Answer, Refusal},
    ctx::alarm::Timer,
    effect::{Effect, RequestId},
    event::{Event, EventBody},
    id::{DirectiveId, EventNo, NodeId},
    node::{ConnId, Liveness, NodeIndex},
    protocol::{Message, Refused},
    registry::Registry,
    store::{Batch, Restored},
    time::Time,
    workload::{AssignmentId, Table},
};

/// Maximum number of batches handed to the store and not yet confirmed. At this limit, changes accumulate in the next
/// batch, and commands and hellos are refused because the store is behind.
pub(crate) const MAX_AWAITED: usize = 64;

/// Time without confirmation of a batch after which the store counts as stalled.
pub(crate) const OVERDUE: Duration = Duration::from_secs(2);

/// An action deferred until a batch is durable.
#[derive(Debug)]
pub(crate) enum Then {
    /// Sends a caller its answer.
    Reply(RequestId, Result<Answer, Refusal>),
    /// Welcomes an agent.
    Welcome(ConnId, NodeIndex),
    /// Delivers a directive.
    Deliver(DirectiveId),
    /// Marks the records of these instances as durable.
    Kept(Vec<AssignmentId>),
    /// Sends a node its assignments.
    Tell(NodeIndex),
}

/// Output of the coordinator: changes to be made durable, actions that depend on them, changes to publish to readers,
/// and effects.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) effects: VecDeque<Effect>,
    /// Repeating events whose counts have not been recorded yet.
    pub(crate) repeats: Repeats,
    /// The batch being assembled.
    batch: Batch,
    changed: BTreeSet<NodeIndex>,
    workloads: BTreeSet<Arc<str>>,
    assignments: BTreeSet<AssignmentId>,
    /// Whether a decision was recorded, so that the batch includes the decision counter.
    decided: bool,
    then: Vec<Then>,
    /// Unconfirmed batches: the time of their submission and the actions that depend on them.
    awaited: VecDeque<(Time, Vec<Then>)>,
    last_event: EventNo,
    /// Nodes whose state changed since their rows were last published.
    touched: BTreeSet<NodeIndex>,
    /// Nodes whose instances' reported state changed since the last publication.
    restood: BTreeSet<NodeIndex>,
    /// Whether the timer that publishes changes to readers is set.
    viewing: bool,
}

impl Outbox {
    pub(crate) fn new(last_event: EventNo) -> Outbox {
        Outbox {
            effects: VecDeque::new(),
            repeats: Repeats::default(),
            batch: Batch::default(),
            changed: BTreeSet::new(),
            workloads: BTreeSet::new(),
            assignments: BTreeSet::new(),
            decided: false,
            then: Vec::new(),
            awaited: VecDeque::new(),
            last_event,
            touched: BTreeSet::new(),
            restood: BTreeSet::new(),
            viewing: false,
        }
    }

    /// Queues an effect.
    pub(crate) fn push(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    /// Defers an action until all changes made so far are durable.
    pub(crate) fn then(&mut self, then: Then) {
        self.then.push(then);
    }

    /// Includes an instance's record in the next batch, as it is at that time; a record that is gone by then is
    /// removed.
    pub(crate) fn keep_assignment(&mut self, id: AssignmentId) {
        self.assignments.insert(id);
    }

    /// Includes a workload's record in the next batch, as it is at that time.
    pub(crate) fn keep_workload(&mut self, name: &str) {
        self.workloads.insert(name.into());
    }

    /// Removes a node's record with the next batch.
    pub(crate) fn drop_node(&mut self, index: NodeIndex, id: NodeId) {
        self.changed.remove(&index);
        self.batch.forgotten.push(id);
    }

    /// Includes the policy of Autonomy in the next batch.
    pub(crate) fn keep_policy(&mut self, policy: Policy) {
        self.batch.policy = Some(policy);
    }

    /// Includes join tokens and operators in the next batch.
    pub(crate) fn keep_access(&mut self, access: &Arc<Access>) {
        self.batch.access = Some(Arc::clone(access));
    }

    /// Includes the state of a restoration from a backup in the next batch.
    pub(crate) fn keep_restored(&mut self, restored: Restored) {
        self.batch.restored = Some(restored);
    }

    /// Includes the audit intent of a command in the next batch, with all changes that follow.
    pub(crate) fn keep_intent(&mut self, request: RequestId) {
        self.batch.intents.extend(request.intent());
    }

    /// Withdraws the audit intent of a refused command, which changed nothing.
    pub(crate) fn drop_intent(&mut self, request: RequestId) {
        self.batch.intents.retain(|intent| Some(*intent) != request.intent());
    }

    /// Whether the store has reached the limit of unconfirmed batches.
    pub(crate) fn is_behind(&self) -> bool {
        self.awaited.len() >= MAX_AWAITED
    }

    /// Whether changes are held back because the store is behind.
    pub(crate) fn is_held_back(&self) -> bool {
        let changes = self.changed.len() + self.workloads.len() + self.assignments.len();
        self.is_behind() && (changes > 0 || !self.batch.is_empty())
    }

    /// Number of the newest event.
    pub(crate) fn last_event(&self) -> EventNo {
        self.last_event
    }

    /// Number of batches that the store has not confirmed.
    pub(crate) fn awaited(&self) -> usize {
        self.awaited.len()
    }

    /// Whether the oldest batch is overdue. Nodes whose welcome is delayed by the store are not considered silent.
    pub(crate) fn is_overdue(&self, now: Time) -> bool {
        self.awaited.front().is_some_and(|(at, _)| now.since(*at) >= OVERDUE)
    }

    /// Takes the nodes whose state changed since the last call.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<NodeIndex> {
        mem::take(&mut self.touched)
    }

    /// Whether a change of a node's state has not been published to readers.
    pub(crate) fn is_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Takes the nodes whose instances' reported state changed.
    pub(crate) fn take_restood(&mut self) -> BTreeSet<NodeIndex> {
        mem::take(&mut self.restood)
    }

    /// Removes a forgotten node from the pending publications.
    pub(crate) fn forget(&mut self, index: NodeIndex) {
        self.touched.remove(&index);
    }

    /// Marks the publication timer as fired.
    pub(crate) fn viewed(&mut self) {
        self.viewing = false;
    }

    /// Marks the oldest batch as durable and returns the actions that depended on it.
    pub(crate) fn committed(&mut self) -> Vec<Then> {
        self.awaited.pop_front().unwrap_or_default().1
    }

    /// Returns the assembled changes as a batch for the store; `None` if there are none or the store is behind.
    pub(crate) fn flush(&mut self, now: Time, registry: &Registry, table: &Table, decisions: u64) -> Option<Batch> {
        let nothing = self.changed.is_empty() && self.workloads.is_empty() && self.assignments.is_empty();
        let idle = self.then.is_empty() && self.batch.is_empty() && nothing;
        if idle || self.is_behind() {
            return None;
        }
        let mut batch = mem::take(&mut self.batch);
        let changed = mem::take(&mut self.changed).into_iter();
        let workloads = mem::take(&mut self.workloads).into_iter();
        let assignments = mem::take(&mut self.assignments);
        if mem::take(&mut self.decided) {
            batch.decisions = decisions;
        }
        batch.nodes = changed.map(|index| Arc::clone(&registry[index].record)).collect();
        let record = |name: &str| table.declared(name).map(|declared| Arc::clone(&declared.record));
        batch.workloads = workloads.map(|name| (Arc::clone(&name), record(&name))).collect();
        if !assignments.is_empty() {
            let kept = assignments.iter().copied().collect();
            self.then.insert(0, Then::Kept(kept));
        }
        let record = |id| table.held(id).map(|held| Arc::clone(&held.record));
        batch.assignments = assignments.into_iter().map(|id| (id, record(id))).collect();
        self.awaited.push_back((now, mem::take(&mut self.then)));
        Some(batch)
    }
}

/// Delay before changes are published, so that further ones are included; with the commit, readers see a change within
/// 50 ms. A longer delay causes fewer publications and later ones.
const VIEW: Duration = Duration::from_millis(40);

impl Ctx {
    /// Sends a message to a transport.
    pub(crate) fn send(&mut self, conn: ConnId, message: Message) {
        self.outbox.push(Effect::Send { conn, message });
    }

    /// Refuses a transport with a reason and closes it.
    pub(crate) fn refuse(&mut self, conn: ConnId, refused: Refused) {
        self.send(conn, Message::Refused(refused));
        self.outbox.push(Effect::Close { conn });
    }

    /// Records an event in the next batch and returns its number.
    pub(crate) fn record(&mut self, node: Option<NodeIndex>, summary: String, body: EventBody) -> EventNo {
        self.record_times(node, summary, body, 1)
    }

    /// Records an event that represents `times` occurrences, truncated to the size limit.
    pub(crate) fn record_times(
        &mut self,
        node: Option<NodeIndex>,
        summary: String,
        body: EventBody,
        times: u32,
    ) -> EventNo {
        self.outbox.last_event.0 += 1;
        let (id, node_name) = node.map_or((None, String::new()), |index| {
            let node = &self.registry[index];
            (Some(node.record.id()), node.name().to_owned())
        });
        let event = Event {
            sequence: self.outbox.last_event,
            time: self.wall_now(),
            epoch: self.term.epoch,
            cycle: self.clock.cycle,
            node: id,
            node_name,
            summary,
            body,
            times,
        };
        self.outbox.batch.events.push(Arc::new(event.bounded()));
        self.outbox.last_event
    }

    /// Records an event about a workload.
    pub(crate) fn record_workload(&mut self, name: &str, summary: String) -> EventNo {
        let body = EventBody::Workload {
            workload: name.to_owned(),
            assignment: None,
            by: String::new(),
        };
        self.record(None, summary, body)
    }

    /// Records an event about an instance.
    pub(crate) fn record_instance(&mut self, index: Option<NodeIndex>, name: &str, id: AssignmentId, summary: String) {
        let body = EventBody::Workload {
            workload: name.to_owned(),
            assignment: Some(id),
            by: String::new(),
        };
        self.record(index, summary, body);
    }

    /// Records a decision, or its outcome, in the next batch.
    pub(crate) fn record_decision(&mut self, index: Option<NodeIndex>, decision: Arc<Decision>) {
        self.outbox.decided = true;
        let summary = decision.summary();
        self.record(index, summary, EventBody::Decision(decision));
        if let Some(index) = index {
            self.concluded(index);
        }
    }

    /// Includes a node's record in the next batch and publishes the node to readers.
    pub(crate) fn keep(&mut self, index: NodeIndex) {
        self.outbox.changed.insert(index);
        self.concluded(index);
    }

    /// Marks a node whose state changed, or that appeared or disappeared, for publication. Heartbeats and measurements
    /// are not state changes.
    pub(crate) fn concluded(&mut self, index: NodeIndex) {
        self.outbox.touched.insert(index);
        self.show_instances(index);
        self.view_soon();
    }

    /// Updates whether readers see a node's instances as reported or as unknown. A node in doubt that is being heard
    /// counts as reporting.
    pub(crate) fn show_instances(&mut self, index: NodeIndex) {
        if self.registry.get(index).is_none() {
            return;
        }
        let node = &mut self.registry[index];
        let is_heard = node.liveness().is_in_doubt() && node.steady_since.is_some();
        let liveness = if is_heard { Liveness::Online } else { node.liveness() };
        if mem::replace(&mut node.shown, liveness) != liveness {
            self.outbox.restood.insert(index);
            self.view_soon();
        }
    }

    /// Schedules a publication of changes to readers.
    pub(crate) fn view_soon(&mut self) {
        if !mem::replace(&mut self.outbox.viewing, true) {
            self.timers.set(self.clock.now + VIEW, Timer::View);
        }
    }
}
