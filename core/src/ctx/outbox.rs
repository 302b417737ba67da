//! What waits to become durable, and what waits for that.

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
    command::{Answer, Refusal, RequestId},
    ctx::alarm::Timer,
    effect::Effect,
    event::{Event, EventBody},
    id::NodeId,
    node::{ConnId, Liveness, NodeIndex},
    protocol::{Message, Refused},
    registry::Registry,
    store::{Batch, Restored},
    time::Time,
    workload::{AssignmentId, Table},
};

/// Batches handed to the store and not confirmed. At this many, changes gather in the next one, and commands and hellos
/// are refused: the store is behind.
pub(crate) const MAX_AWAITED: usize = 64;

/// A batch that is not durable after this long: the disk stands still.
pub(crate) const OVERDUE: Duration = Duration::from_secs(2);

/// What happens once a batch is durable.
#[derive(Debug)]
pub(crate) enum Then {
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

/// What leaves the coordinator: changes that are to become durable, what waits for that, what readers are to see, and what is to be done outside.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) effects: VecDeque<Effect>,
    /// Events that repeat, until their counts are told.
    pub(crate) repeats: Repeats,
    /// The batch that is being gathered.
    batch: Batch,
    changed: BTreeSet<NodeIndex>,
    workloads: BTreeSet<Arc<str>>,
    assignments: BTreeSet<AssignmentId>,
    /// A decision was noted, so that the batch has the number of them.
    decided: bool,
    then: Vec<Then>,
    /// Since when each batch was handed over, and what waits for it.
    awaited: VecDeque<(Time, Vec<Then>)>,
    last_event: u64,
    /// Nodes of which something was concluded since readers saw their rows.
    touched: BTreeSet<NodeIndex>,
    /// Nodes whose instances readers see otherwise since.
    restood: BTreeSet<NodeIndex>,
    /// A timer shows readers what changed.
    viewing: bool,
}

impl Outbox {
    pub(crate) fn new(last_event: u64) -> Outbox {
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

    /// Has something done outside.
    pub(crate) fn push(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    /// Has something happen once all that changed so far is durable.
    pub(crate) fn then(&mut self, then: Then) {
        self.then.push(then);
    }

    /// Keeps an instance's record as it is when the batch goes, or forgets it with it.
    pub(crate) fn keep_assignment(&mut self, id: AssignmentId) {
        self.assignments.insert(id);
    }

    /// The same for a workload's record.
    pub(crate) fn keep_workload(&mut self, name: &str) {
        self.workloads.insert(name.into());
    }

    /// Removes a node's record with the batch.
    pub(crate) fn drop_node(&mut self, index: NodeIndex, id: NodeId) {
        self.changed.remove(&index);
        self.batch.forgotten.push(id);
    }

    /// Keeps what Autonomy may do.
    pub(crate) fn keep_policy(&mut self, policy: Policy) {
        self.batch.policy = Some(policy);
    }

    /// Keeps tokens and operators.
    pub(crate) fn keep_access(&mut self, access: &Arc<Access>) {
        self.batch.access = Some(Arc::clone(access));
    }

    /// Keeps what is known of a restoration.
    pub(crate) fn keep_restored(&mut self, restored: Restored) {
        self.batch.restored = Some(restored);
    }

    /// Keeps the audit's intent of a command with whatever changes from now on.
    pub(crate) fn keep_intent(&mut self, request: RequestId) {
        self.batch.intents.extend(request.intent());
    }

    /// Takes the intent of a command back that was refused: it changed nothing.
    pub(crate) fn drop_intent(&mut self, request: RequestId) {
        self.batch.intents.retain(|intent| Some(*intent) != request.intent());
    }

    /// True when the store does not keep up.
    pub(crate) fn is_behind(&self) -> bool {
        self.awaited.len() >= MAX_AWAITED
    }

    /// True while changes gather that the store does not take yet.
    pub(crate) fn is_held_back(&self) -> bool {
        let changes = self.changed.len() + self.workloads.len() + self.assignments.len();
        self.is_behind() && (changes > 0 || !self.batch.is_empty())
    }

    /// The number of the newest event.
    pub(crate) fn last_event(&self) -> u64 {
        self.last_event
    }

    /// Batches that the store has not confirmed.
    pub(crate) fn awaited(&self) -> usize {
        self.awaited.len()
    }

    /// True when the store has taken too long: whom it keeps from being welcomed is not silent.
    pub(crate) fn is_overdue(&self, now: Time) -> bool {
        self.awaited.front().is_some_and(|(at, _)| now.since(*at) >= OVERDUE)
    }

    /// Takes the nodes of which something was concluded since they were taken last.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<NodeIndex> {
        mem::take(&mut self.touched)
    }

    /// True when something was concluded of a node that readers have not seen.
    pub(crate) fn is_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Takes the nodes whose instances readers see otherwise.
    pub(crate) fn take_restood(&mut self) -> BTreeSet<NodeIndex> {
        mem::take(&mut self.restood)
    }

    /// Forgets a node.
    pub(crate) fn forget(&mut self, index: NodeIndex) {
        self.touched.remove(&index);
    }

    /// The timer that shows readers what changed is over.
    pub(crate) fn viewed(&mut self) {
        self.viewing = false;
    }

    /// The oldest batch is durable: what waited for it.
    pub(crate) fn committed(&mut self) -> Vec<Then> {
        self.awaited.pop_front().unwrap_or_default().1
    }

    /// What was gathered, as a batch for the store; `None` when that is nothing, or the store is behind.
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

/// The wait for further changes before readers see the first: with the commit they see it within 50 ms. Longer: fewer views, seen later.
const VIEW: Duration = Duration::from_millis(40);

impl Ctx {
    /// Sends a message to a transport.
    pub(crate) fn send(&mut self, conn: ConnId, message: Message) {
        self.outbox.push(Effect::Send { conn, message });
    }

    /// Ends a transport, and says why.
    pub(crate) fn refuse(&mut self, conn: ConnId, refused: Refused) {
        self.send(conn, Message::Refused(refused));
        self.outbox.push(Effect::Close { conn });
    }

    /// Notes an event for the next batch; returns its number.
    pub(crate) fn record(&mut self, node: Option<NodeIndex>, summary: String, body: EventBody) -> u64 {
        self.record_times(node, summary, body, 1)
    }

    /// Notes an event that stands for `times` like it, shortened to its bound.
    pub(crate) fn record_times(
        &mut self,
        node: Option<NodeIndex>,
        summary: String,
        body: EventBody,
        times: u32,
    ) -> u64 {
        self.outbox.last_event += 1;
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

    /// Notes what happened to a workload, as an event.
    pub(crate) fn record_workload(&mut self, name: &str, summary: String) -> u64 {
        let body = EventBody::Workload {
            workload: name.to_owned(),
            assignment: None,
            by: String::new(),
        };
        self.record(None, summary, body)
    }

    /// Notes what happened to an instance, as an event.
    pub(crate) fn record_instance(&mut self, index: Option<NodeIndex>, name: &str, id: AssignmentId, summary: String) {
        let body = EventBody::Workload {
            workload: name.to_owned(),
            assignment: Some(id),
            by: String::new(),
        };
        self.record(index, summary, body);
    }

    /// Notes a decision, or what became of one, for the next batch.
    pub(crate) fn record_decision(&mut self, index: Option<NodeIndex>, decision: Arc<Decision>) {
        self.outbox.decided = true;
        let summary = decision.summary();
        self.record(index, summary, EventBody::Decision(decision));
        if let Some(index) = index {
            self.concluded(index);
        }
    }

    /// Keeps a node's record as it is when the batch goes, and shows it to readers.
    pub(crate) fn keep(&mut self, index: NodeIndex) {
        self.outbox.changed.insert(index);
        self.concluded(index);
    }

    /// Something was concluded of a node, or it came or went: readers see it soon. Heartbeats and measurements conclude nothing.
    pub(crate) fn concluded(&mut self, index: NodeIndex) {
        self.outbox.touched.insert(index);
        self.show_instances(index);
        self.view_soon();
    }

    /// Readers are shown a node's instances as it says, or that nobody knows how they are. One that is in doubt and heard says it, too.
    pub(crate) fn show_instances(&mut self, index: NodeIndex) {
        if self.registry.get(index).is_none() {
            return;
        }
        let node = &mut self.registry[index];
        let is_heard = node.liveness.is_in_doubt() && node.steady_since.is_some();
        let liveness = if is_heard { Liveness::Online } else { node.liveness };
        if mem::replace(&mut node.shown, liveness) != liveness {
            self.outbox.restood.insert(index);
            self.view_soon();
        }
    }

    /// Readers are to see what changed, soon.
    pub(crate) fn view_soon(&mut self) {
        if !mem::replace(&mut self.outbox.viewing, true) {
            self.timers.set(self.clock.now + VIEW, Timer::View);
        }
    }
}
