//! Per-session state about instances, and the messages that bring nodes closer to the desired state.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{Work, parcels::Parcels};
use crate::{
    ctx::Ctx,
    ctx::alarm::Timer,
    effect::RequestId,
    id::SessionNo,
    limits,
    node::NodeIndex,
    protocol::Message,
    time::Time,
    workload::{Assigned, AssignmentId, Goal, Status, Table},
};

/// Interval after which a node is sent the rest of its assignments.
const MORE: Duration = Duration::from_millis(50);

/// Maximum number of bytes about work sent to all nodes together within [`MORE`]; the rest follows in later intervals.
/// A larger value costs more memory for a wave of large specifications; a smaller one takes longer to reach all nodes.
const OF_ALL: usize = 32 * 1024 * 1024;

/// Maximum number of pending requests for descriptions per node.
const ASKED: usize = 32;

/// State of one session about instances.
#[derive(Debug, Default)]
pub(crate) struct Dialogue {
    /// Number of the session.
    pub(crate) session: SessionNo,
    /// Instances that the agent reported.
    pub(crate) told: BTreeSet<AssignmentId>,
    /// Whether the agent has reported all its instances.
    pub(crate) complete: bool,
    /// Instances that the agent was told to run, and to stop.
    pub(crate) assigned: BTreeSet<AssignmentId>,
    pub(crate) stopped: BTreeSet<AssignmentId>,
    /// Instances that the agent may forget.
    pub(crate) forget: BTreeSet<AssignmentId>,
    /// Instances that the agent runs although they were considered ended.
    pub(crate) again: BTreeSet<AssignmentId>,
    /// Unknown instances whose description is pending, and those of them whose description was requested.
    pub(crate) strangers: BTreeMap<AssignmentId, Status>,
    pub(crate) asked: BTreeSet<AssignmentId>,
    /// Reported instances that belong to another node, and that an event has recorded.
    pub(crate) foreign: BTreeSet<AssignmentId>,
    /// Whether a message was sent since the complete report.
    pub(crate) answered: bool,
}

/// All current dialogues.
#[derive(Debug, Default)]
pub(crate) struct Dialogues {
    pub(crate) nodes: BTreeMap<NodeIndex, Dialogue>,
    /// Nodes that are to be sent more later, and whether the timer for that is set.
    pub(crate) more: BTreeSet<NodeIndex>,
    pub(crate) waiting: bool,
    /// Start of the current send interval, and the number of bytes sent to all nodes since.
    pub(crate) sent: (Time, usize),
    /// Nodes whose last session ended with descriptions pending.
    pub(crate) unsaid: BTreeSet<NodeIndex>,
    /// Pending log reads by number, with their callers, nodes and start times.
    pub(crate) reads: BTreeMap<u64, (RequestId, NodeIndex, Time)>,
    pub(crate) numbers: u64,
}

impl Dialogues {
    /// Removes a forgotten node. Returns the callers of its pending log reads.
    pub(crate) fn forget(&mut self, index: NodeIndex) -> Vec<RequestId> {
        self.nodes.remove(&index);
        self.more.remove(&index);
        self.unsaid.remove(&index);
        let asked = self.reads.values().filter(|(_, of, _)| *of == index);
        let waiting = asked.map(|(request, ..)| *request).collect();
        self.reads.retain(|_, (_, of, _)| *of != index);
        waiting
    }

    /// Ends the dialogue of a session; the next session starts afresh.
    pub(crate) fn end(&mut self, index: NodeIndex) {
        let dialogue = self.nodes.remove(&index);
        if dialogue.is_some_and(|dialogue| !dialogue.strangers.is_empty()) {
            self.unsaid.insert(index);
        }
        self.more.remove(&index);
    }
}

impl Dialogue {
    /// Selects the instances whose description is to be requested next.
    pub(crate) fn ask(&mut self) -> Vec<AssignmentId> {
        let room = ASKED.saturating_sub(self.asked.len());
        let unasked = self.strangers.keys().filter(|id| !self.asked.contains(id));
        let ask: Vec<AssignmentId> = unasked.take(room).copied().collect();
        self.asked.extend(&ask);
        ask
    }
}

/// Fills messages for a node and returns whether something is left for later.
fn fill(parcels: &mut Parcels, dialogue: &mut Dialogue, table: &Table, index: NodeIndex) -> bool {
    parcels.describe(dialogue.ask());
    while let Some(&id) = dialogue.forget.first() {
        if !parcels.forget(id) {
            return true;
        }
        dialogue.forget.pop_first();
    }
    while let Some(&id) = dialogue.again.first() {
        if !parcels.stop(id, "it was taken for ended", true) {
            return true;
        }
        dialogue.again.pop_first();
    }
    for held in table.of_node(index) {
        let id = held.record.id;
        let repeated = held.heard;
        match held.record.goal {
            Goal::Run if held.durable && !dialogue.told.contains(&id) && !dialogue.assigned.contains(&id) => {
                let Some(spec) = table.spec_of(&held.record) else {
                    continue;
                };
                let assigned = Assigned {
                    id,
                    slot: held.record.slot,
                    revision: held.record.revision,
                    spec: Arc::clone(spec),
                };
                if !parcels.assign(assigned, repeated) {
                    return true;
                }
                dialogue.assigned.insert(id);
            }
            Goal::Stop if !dialogue.stopped.contains(&id) => {
                if !parcels.stop(id, &held.record.stop_reason, repeated) {
                    return true;
                }
                dialogue.stopped.insert(id);
            }
            _ => {}
        }
    }
    false
}

impl Work {
    /// Sends a node the differences between its instances and the desired state.
    pub(crate) fn tell(&mut self, ctx: &mut Ctx, index: NodeIndex) {
        self.dialogues.more.remove(&index);
        let Some((conn, session)) = ctx.registry[index]
            .live_session()
            .map(|session| (session.conn, session.number))
        else {
            return;
        };
        let Some(dialogue) = self.dialogues.nodes.get_mut(&index) else {
            return;
        };
        if dialogue.session != session || !dialogue.complete {
            return;
        }
        if ctx.clock.now >= self.dialogues.sent.0 + MORE {
            self.dialogues.sent = (ctx.clock.now, 0);
        }
        let left = OF_ALL.saturating_sub(self.dialogues.sent.1);
        if left < limits::NODE_MESSAGE {
            self.tell_later(ctx, index);
            return;
        }
        let mut parcels = Parcels::new();
        let more = fill(&mut parcels, dialogue, &self.table, index);
        // The first message acknowledges the complete report, even if it is otherwise empty.
        let anyway = !std::mem::replace(&mut dialogue.answered, true);
        self.dialogues.sent.1 += parcels.bytes();
        for work in parcels.close(anyway) {
            ctx.send(conn, Message::Work(Box::new(work)));
        }
        if more {
            self.tell_later(ctx, index);
        }
    }

    pub(crate) fn tell_later(&mut self, ctx: &mut Ctx, index: NodeIndex) {
        self.dialogues.more.insert(index);
        if !std::mem::replace(&mut self.dialogues.waiting, true) {
            ctx.timers.set(ctx.clock.now + MORE, Timer::Tell);
        }
    }

    /// Continues with the nodes that are to be sent more.
    pub(crate) fn tell_more(&mut self, ctx: &mut Ctx) {
        self.dialogues.waiting = false;
        for index in std::mem::take(&mut self.dialogues.more) {
            self.tell(ctx, index);
        }
    }

    /// Ends the dialogue of a session; the next session starts afresh.
    pub(crate) fn end_dialogue(&mut self, index: NodeIndex) {
        self.dialogues.end(index);
    }

    /// Removes a forgotten node. Returns the callers of its pending log reads.
    pub(crate) fn forget_dialogue(&mut self, index: NodeIndex) -> Vec<RequestId> {
        self.dialogues.forget(index)
    }
}
