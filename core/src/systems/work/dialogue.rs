//! What sessions say about instances, and telling nodes what differs from what is wanted.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{Work, parcels::Parcels};
use crate::{
    command::RequestId,
    ctx::Ctx,
    ctx::alarm::Timer,
    limits,
    node::NodeIndex,
    protocol::Message,
    time::Time,
    workload::{Assigned, AssignmentId, Goal, Status, Table},
};

/// When a node that was sent as much as goes at once is sent the rest.
const MORE: Duration = Duration::from_millis(50);

/// Bytes about work that all nodes together are sent within [`MORE`]; the rest follows in the next. More: a wave of large declarations
/// takes more memory at once; less: it takes longer to reach all.
const OF_ALL: usize = 32 * 1024 * 1024;

/// Instances that a node is asked about at once.
const ASKED: usize = 32;

/// What is said in one session about instances.
#[derive(Debug, Default)]
pub(crate) struct Dialogue {
    /// The session.
    pub(crate) session: u64,
    /// What the agent told of.
    pub(crate) told: BTreeSet<AssignmentId>,
    /// It has told of everything that it had.
    pub(crate) complete: bool,
    /// What it was told to run, and to end.
    pub(crate) assigned: BTreeSet<AssignmentId>,
    pub(crate) stopped: BTreeSet<AssignmentId>,
    /// What it may forget.
    pub(crate) forget: BTreeSet<AssignmentId>,
    /// What it runs though it was taken for ended.
    pub(crate) again: BTreeSet<AssignmentId>,
    /// What it has that is not known here, until it has said what that is for; and of what it was asked that.
    pub(crate) strangers: BTreeMap<AssignmentId, Status>,
    pub(crate) asked: BTreeSet<AssignmentId>,
    /// What it claims that cannot be its own, and that was told.
    pub(crate) foreign: BTreeSet<AssignmentId>,
    /// It was told something since it has told of everything.
    pub(crate) answered: bool,
}

/// The dialogues under way.
#[derive(Debug, Default)]
pub(crate) struct Dialogues {
    pub(crate) nodes: BTreeMap<NodeIndex, Dialogue>,
    /// Nodes that are to be told more, later, and whether a timer for that runs.
    pub(crate) more: BTreeSet<NodeIndex>,
    pub(crate) waiting: bool,
    /// When it was last begun to count what all nodes are sent, and how much that was since.
    pub(crate) sent: (Time, usize),
    /// Nodes whose last session ended before they had said what their instances are for.
    pub(crate) unsaid: BTreeSet<NodeIndex>,
    /// Who waits for what an instance wrote, and since when.
    pub(crate) reads: BTreeMap<u64, (RequestId, NodeIndex, Time)>,
    pub(crate) numbers: u64,
}

impl Dialogues {
    /// A node is forgotten. Returns who waits for what its instances wrote.
    pub(crate) fn forget(&mut self, index: NodeIndex) -> Vec<RequestId> {
        self.nodes.remove(&index);
        self.more.remove(&index);
        self.unsaid.remove(&index);
        let asked = self.reads.values().filter(|(_, of, _)| *of == index);
        let waiting = asked.map(|(request, ..)| *request).collect();
        self.reads.retain(|_, (_, of, _)| *of != index);
        waiting
    }

    /// A node's session is over: what was said in it is said anew in the next.
    pub(crate) fn end(&mut self, index: NodeIndex) {
        let dialogue = self.nodes.remove(&index);
        if dialogue.is_some_and(|dialogue| !dialogue.strangers.is_empty()) {
            self.unsaid.insert(index);
        }
        self.more.remove(&index);
    }
}

impl Dialogue {
    /// Of what is to be asked next what it is for.
    pub(crate) fn ask(&mut self) -> Vec<AssignmentId> {
        let room = ASKED.saturating_sub(self.asked.len());
        let unasked = self.strangers.keys().filter(|id| !self.asked.contains(id));
        let ask: Vec<AssignmentId> = unasked.take(room).copied().collect();
        self.asked.extend(&ask);
        ask
    }
}

/// Fills messages with what a node is to hear; whether something is left for later.
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
    /// Tells a node what differs from what is wanted.
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
        // The first says that what the agent told of was heard, also when there is nothing else to say.
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

    /// Tells those who were to be told more.
    pub(crate) fn tell_more(&mut self, ctx: &mut Ctx) {
        self.dialogues.waiting = false;
        for index in std::mem::take(&mut self.dialogues.more) {
            self.tell(ctx, index);
        }
    }

    /// A node's session is over: what was said in it is said anew in the next.
    pub(crate) fn end_dialogue(&mut self, index: NodeIndex) {
        self.dialogues.end(index);
    }

    /// A node is forgotten. Returns who waits for what its instances wrote.
    pub(crate) fn forget_dialogue(&mut self, index: NodeIndex) -> Vec<RequestId> {
        self.dialogues.forget(index)
    }
}
