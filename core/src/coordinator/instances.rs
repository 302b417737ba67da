//! Instances on their nodes: what agents say of them, and what they are told.
//!
//! Agents say at the beginning of a session what they have, and then what changes; they are told what differs from what is wanted.
//! Nothing is repeated within a session, and nothing is lost with one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    Answer, Coordinator, Message, Refusal, RequestId, Timer,
    parcels::Parcels,
    repeats::{Repeating, Told},
    staging::Then,
};
use crate::{
    event::EventBody,
    limits,
    node::{ConnId, Eligibility, Liveness, NodeIndex},
    placement::{Presence, backoff},
    standing::SINGLETON,
    text::Quoted,
    time::Time,
    workload::{Assigned, AssignmentId, End, Exit, Goal, Phase, Status, Table, log},
};

/// When a node that was sent as much as goes at once is sent the rest.
const MORE: Duration = Duration::from_millis(50);

/// Bytes about work that all nodes together are sent within [`MORE`]; the rest follows in the next. More: a wave of large declarations
/// takes more memory at once; less: it takes longer to reach all.
const OF_ALL: usize = 32 * 1024 * 1024;

/// Questions for what instances wrote, under way at most; and how long one may take.
const READS: usize = 256;
const READ_PATIENCE: Duration = Duration::from_secs(10);

/// Instances that nobody knows, which a session is heard of at once; and ids that are kept of one that are not known.
const STRANGERS: usize = 4_096;
const TOLD: usize = 65_536;

/// Instances that a node is asked about at once.
const ASKED: usize = 32;

/// Of what cannot be its own, so much is told of a session.
const FOREIGN: usize = 64;

/// Clocks of agents may be slower than this one by a sixteenth.
pub(super) const DRIFT: u32 = 16;

/// What is said in one session about instances.
#[derive(Debug, Default)]
pub(super) struct Dialogue {
    /// The session.
    session: u64,
    /// What the agent told of.
    told: BTreeSet<AssignmentId>,
    /// It has told of everything that it had.
    complete: bool,
    /// What it was told to run, and to end.
    assigned: BTreeSet<AssignmentId>,
    stopped: BTreeSet<AssignmentId>,
    /// What it may forget.
    forget: BTreeSet<AssignmentId>,
    /// What it runs though it was taken for ended.
    again: BTreeSet<AssignmentId>,
    /// What it has that is not known here, until it has said what that is for; and of what it was asked that.
    pub(super) strangers: BTreeMap<AssignmentId, Status>,
    pub(super) asked: BTreeSet<AssignmentId>,
    /// What it claims that cannot be its own, and that was told.
    foreign: BTreeSet<AssignmentId>,
    /// It was told something since it has told of everything.
    answered: bool,
}

/// The dialogues under way.
#[derive(Debug, Default)]
pub(super) struct Dialogues {
    pub(super) nodes: BTreeMap<NodeIndex, Dialogue>,
    /// Nodes that are to be told more, later, and whether a timer for that runs.
    more: BTreeSet<NodeIndex>,
    waiting: bool,
    /// When it was last begun to count what all nodes are sent, and how much that was since.
    sent: (Time, usize),
    /// Nodes whose last session ended before they had said what their instances are for.
    pub(super) unsaid: BTreeSet<NodeIndex>,
    /// Who waits for what an instance wrote, and since when.
    reads: BTreeMap<u64, (RequestId, NodeIndex, Time)>,
    numbers: u64,
}

impl Dialogues {
    /// A node is forgotten. Returns who waits for what its instances wrote.
    pub(super) fn forget(&mut self, index: NodeIndex) -> Vec<RequestId> {
        self.nodes.remove(&index);
        self.more.remove(&index);
        self.unsaid.remove(&index);
        let asked = self.reads.values().filter(|(_, of, _)| *of == index);
        let waiting = asked.map(|(request, ..)| *request).collect();
        self.reads.retain(|_, (_, of, _)| *of != index);
        waiting
    }

    /// A node's session is over: what was said in it is said anew in the next.
    pub(super) fn end(&mut self, index: NodeIndex) {
        let dialogue = self.nodes.remove(&index);
        if dialogue.is_some_and(|dialogue| !dialogue.strangers.is_empty()) {
            self.unsaid.insert(index);
        }
        self.more.remove(&index);
    }
}

impl Dialogue {
    /// Of what is to be asked next what it is for.
    fn ask(&mut self) -> Vec<AssignmentId> {
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
        if !parcels.stop(id, "it was taken for ended") {
            return true;
        }
        dialogue.again.pop_first();
    }
    for held in table.of_node(index) {
        let id = held.record.id;
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
                if !parcels.assign(assigned) {
                    return true;
                }
                dialogue.assigned.insert(id);
            }
            Goal::Stop if !dialogue.stopped.contains(&id) => {
                if !parcels.stop(id, &held.record.stop_reason) {
                    return true;
                }
                dialogue.stopped.insert(id);
            }
            _ => {}
        }
    }
    false
}

impl Coordinator {
    /// An agent says how its instances are.
    pub(super) fn instances(&mut self, conn: ConnId, instances: Vec<(AssignmentId, Status)>, all: bool) {
        let Some(index) = self.witness(conn, "instances") else {
            return;
        };
        let session = self.registry[index].record.session;
        let dialogue = self.dialogues.nodes.entry(index).or_default();
        if dialogue.session != session {
            if !dialogue.strangers.is_empty() {
                self.dialogues.unsaid.insert(index);
            }
            *dialogue = Dialogue {
                session,
                ..Dialogue::default()
            };
        }
        for (id, status) in instances {
            self.instance(index, id, status);
        }
        let first = match self.dialogues.nodes.get_mut(&index) {
            Some(dialogue) => all && !std::mem::replace(&mut dialogue.complete, true),
            None => false,
        };
        if first {
            self.dialogues.unsaid.remove(&index);
            self.agree(index);
        }
        self.then(Then::Tell(index));
    }

    fn instance(&mut self, index: NodeIndex, id: AssignmentId, status: Status) {
        let ended = status.phase == Phase::Ended;
        let held = self.table.held(id);
        let known = held.is_some_and(|held| held.index == index);
        let over = held.is_none_or(|held| !held.is_there());
        let foreign = held.is_some() && !known || self.is_of_later(id);
        let Some(dialogue) = self.dialogues.nodes.get_mut(&index) else {
            return;
        };
        if known || dialogue.told.len() < TOLD {
            dialogue.told.insert(id);
        }
        if ended && over {
            dialogue.strangers.remove(&id);
            dialogue.asked.remove(&id);
            // What is kept of one that ended, its node keeps, too: what it wrote can still be read.
            if self.table.held(id).is_none() {
                dialogue.forget.insert(id);
            }
            return;
        }
        if foreign {
            if dialogue.foreign.len() < FOREIGN && dialogue.foreign.insert(id) {
                let name = self.registry[index].name();
                let told = Told {
                    node: Some(index),
                    what: format!("{name} has instance {id}, which was never given to it; it is left alone"),
                    detail: String::new(),
                    body: EventBody::Workload {
                        workload: String::new(),
                        assignment: Some(id),
                        by: String::new(),
                    },
                };
                self.record_repeating(Repeating::Foreign(index, id), 1, told);
            }
            return;
        }
        if !known {
            if dialogue.strangers.len() < STRANGERS {
                dialogue.strangers.insert(id, status);
            }
            return;
        }
        if over {
            dialogue.again.insert(id);
            return;
        }
        self.update(id, status);
    }

    pub(super) fn update(&mut self, id: AssignmentId, status: Status) {
        let now = self.now;
        let Some(held) = self.table.held_mut(id) else { return };
        if held.status == status {
            return;
        }
        held.was_healthy |= status.healthy;
        held.healthy_since = match status.healthy {
            true => Some(held.healthy_since.unwrap_or(now)),
            false => None,
        };
        let news = held.status.phase != status.phase
            || held.status.healthy != status.healthy
            || held.status.restarts != status.restarts;
        let runs = held.record.goal == Goal::Run && status.phase != Phase::Ended;
        let crashed = match runs {
            true => status.restarts.saturating_sub(held.status.restarts),
            false => 0,
        };
        let ended = status.phase == Phase::Ended;
        held.status = status;
        let (workload, slot, index) = (Arc::clone(&held.record.workload), held.record.slot, held.index);
        let name = format!("{workload}.{slot}");
        let detail = held.status.detail.clone();
        if crashed > 0 {
            let told = Told {
                node: Some(index),
                what: format!("{name} on {} is started again", self.registry[index].name()),
                detail,
                body: EventBody::Workload {
                    workload: workload.to_string(),
                    assignment: Some(id),
                    by: String::new(),
                },
            };
            self.record_repeating(Repeating::Restart(Arc::clone(&workload), slot), crashed, told);
        }
        if ended {
            self.instance_ended(id);
        }
        if news {
            self.dirty(workload);
        }
    }

    /// No process of an instance is left.
    pub(super) fn instance_ended(&mut self, id: AssignmentId) {
        let (now, wall, of_before) = (self.now, self.wall_now(), self.is_of_before(id));
        let Some(held) = self.table.held_mut(id) else { return };
        let (index, status) = (held.index, held.status.clone());
        let record = Arc::make_mut(&mut held.record);
        if of_before && status.complete && !status.exit.is_some_and(Exit::is_success) {
            // It was told to end, after the backup: it is not done.
            record.goal = Goal::Stop;
        }
        record.end = Some(End {
            time: wall,
            exit: status.exit,
            complete: status.complete,
            detail: status.detail.clone(),
        });
        let (workload, slot, attempt) = (Arc::clone(&record.workload), record.slot, record.attempt);
        let failed = record.goal == Goal::Run && !status.complete;
        let asked = record.goal == Goal::Stop;
        let orphan = record.orphan.is_some();
        let mut old = self.table.ended(id);
        if orphan {
            old.extend(self.table.remove(id).map(|index| (id, index)));
        }
        self.forget(old);
        self.keep_assignment(id);
        let node = self.registry[index].name().to_owned();
        if orphan {
            // Nothing waits for it.
        } else if failed {
            self.table.failed(&workload, index, now);
            let until = now + backoff(attempt + 1);
            if let Some(declared) = self.table.declared_mut(&workload) {
                declared.not_before.insert(slot, until);
            }
        } else if let Some(declared) = self.table.declared_mut(&workload) {
            declared.not_before.remove(&slot);
        }
        let how = match (failed, asked) {
            (true, _) => "failed",
            (false, true) => "was stopped",
            (false, false) => "is over",
        };
        let told = Told {
            node: Some(index),
            what: format!("{workload}.{slot} on {node} {how}"),
            detail: status.detail,
            body: EventBody::Workload {
                workload: workload.to_string(),
                assignment: Some(id),
                by: String::new(),
            },
        };
        match failed {
            true => self.record_repeating(Repeating::Failure(Arc::clone(&workload), slot), 1, told),
            false => self.record_told(told),
        }
        self.dirty(workload);
        self.room_changed();
        if self.registry[index].record.eligibility == Eligibility::Draining
            && self.table.of_node(index).next().is_none()
        {
            let summary = format!("{node} is empty");
            let (verb, detail) = ("drain".to_owned(), "no instance is left on it".to_owned());
            let by = String::new();
            self.record(Some(index), summary, EventBody::Command { verb, detail, by });
        }
    }

    /// Nothing is kept of instances any more, here or on their nodes.
    pub(super) fn forget(&mut self, instances: Vec<(AssignmentId, NodeIndex)>) {
        for (id, index) in instances {
            self.keep_assignment(id);
            if let Some(dialogue) = self.dialogues.nodes.get_mut(&index) {
                for known in [&mut dialogue.told, &mut dialogue.assigned, &mut dialogue.stopped] {
                    known.remove(&id);
                }
                dialogue.forget.insert(id);
                self.then(Then::Tell(index));
            }
        }
    }

    /// An agent has told of everything that it has: what is wanted and not there is assigned again, what came back is looked at.
    fn agree(&mut self, index: NodeIndex) {
        let Some(dialogue) = self.dialogues.nodes.get(&index) else {
            return;
        };
        let mut gone = Vec::new();
        let mut back = Vec::new();
        for held in self.table.of_node(index) {
            let id = held.record.id;
            match (dialogue.told.contains(&id), held.record.goal) {
                (false, Goal::Stop) => gone.push(id),
                // Its number was given out before the state was restored, and may have had successors: it is not used again.
                (false, Goal::Run) if self.is_of_before(id) => gone.push(id),
                (true, Goal::Stop) => back.push(id),
                _ => {}
            }
        }
        for id in gone {
            if let Some(held) = self.table.held_mut(id) {
                Arc::make_mut(&mut held.record).goal = Goal::Stop;
                (held.status.phase, held.status.complete) = (Phase::Ended, true);
                (held.status.healthy, held.healthy_since) = (false, None);
                held.status.detail = "its node does not have it any more".to_owned();
            }
            self.instance_ended(id);
        }
        for id in back {
            self.take_back(id);
        }
        self.node_changed(index);
    }

    /// An instance that was given up with its node is there again: it stays when the one in its place does not run yet; of two
    /// that run, the newer one does.
    fn take_back(&mut self, id: AssignmentId) {
        let Some(held) = self.table.held(id) else { return };
        let Some(declared) = self.table.declared(&held.record.workload) else {
            return;
        };
        let singleton = declared.record.spec().is_none_or(|spec| spec.singleton);
        let runs = held.status.phase == Phase::Running && held.record.revision == declared.record.revision;
        if singleton || !runs || declared.record.deleted {
            return;
        }
        let slot = held.record.slot;
        let successor = self
            .table
            .instances(declared)
            .find(|other| other.is_wanted() && other.record.slot == slot && other.record.replaces == Some(id));
        let Some(successor) = successor.filter(|other| other.status.phase != Phase::Running) else {
            return;
        };
        let successor = successor.record.id;
        let reason = format!("{id}, whose place it was to take, is there again");
        self.set_goal(successor, Goal::Stop, &reason);
        self.set_goal(id, Goal::Run, "");
    }

    /// Sets what an instance is meant to do; its node is told once that is durable.
    pub(super) fn set_goal(&mut self, id: AssignmentId, goal: Goal, reason: &str) {
        let Some(held) = self.table.held_mut(id) else { return };
        let index = held.index;
        let record = Arc::make_mut(&mut held.record);
        record.goal = goal;
        reason.clone_into(&mut record.stop_reason);
        self.keep_assignment(id);
        self.then(Then::Tell(index));
    }

    /// Tells a node what differs from what is wanted.
    pub(super) fn tell(&mut self, index: NodeIndex) {
        self.dialogues.more.remove(&index);
        let Some((conn, session)) = self.registry[index]
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
        if self.now >= self.dialogues.sent.0 + MORE {
            self.dialogues.sent = (self.now, 0);
        }
        let left = OF_ALL.saturating_sub(self.dialogues.sent.1);
        if left < limits::NODE_MESSAGE {
            self.tell_later(index);
            return;
        }
        let mut parcels = Parcels::new();
        let more = fill(&mut parcels, dialogue, &self.table, index);
        // The first says that what the agent told of was heard, also when there is nothing else to say.
        let anyway = !std::mem::replace(&mut dialogue.answered, true);
        self.dialogues.sent.1 += parcels.bytes();
        for work in parcels.close(anyway) {
            self.send(conn, Message::Work(Box::new(work)));
        }
        if more {
            self.tell_later(index);
        }
    }

    fn tell_later(&mut self, index: NodeIndex) {
        self.dialogues.more.insert(index);
        if !std::mem::replace(&mut self.dialogues.waiting, true) {
            self.timers.set(self.now + MORE, Timer::Tell);
        }
    }

    /// Tells those who were to be told more.
    pub(super) fn tell_more(&mut self) {
        self.dialogues.waiting = false;
        for index in std::mem::take(&mut self.dialogues.more) {
            self.tell(index);
        }
    }

    /// What is known of a node as the place of an instance.
    pub(super) fn presence(&self, index: NodeIndex) -> Presence {
        let node = &self.registry[index];
        if matches!(node.liveness, Liveness::Offline | Liveness::Left) {
            return Presence::Lost {
                since: node.since,
                cause: node.cause,
                lease: self.lease_ends(index),
            };
        }
        match node.record.eligibility {
            Eligibility::Draining => Presence::Leaves(node.drain_until),
            Eligibility::Isolated => Presence::Leaves(None),
            Eligibility::Eligible | Eligibility::Cordoned => Presence::There,
        }
    }

    /// When no lease that this node was ever given can run any more. It counts from the sending of what was heard of it, or of what
    /// a peer passed on, by its own clock.
    pub(super) fn lease_ends(&self, index: NodeIndex) -> Time {
        let node = &self.registry[index];
        // What a coordinator before this one promised, it promised before this one started.
        let given = [node.last_seen, node.lent]
            .into_iter()
            .flatten()
            .fold(self.started_at, Time::max);
        // The longest that was ever promised: an agent keeps to what it was told at its welcome.
        let lease = self.lease(index).max(node.record.lease) * SINGLETON;
        given + lease + lease / DRIFT
    }

    /// Somebody wants to know what an instance wrote.
    pub(super) fn read_log(
        &mut self,
        request: RequestId,
        assignment: &str,
        (stream, from, within): (log::Stream, log::From, bool),
    ) -> Result<(), Refusal> {
        let view = self.table.view();
        let row = view.assignment(assignment).ok_or_else(|| Refusal::Unknown {
            what: "assignment",
            name: assignment.to_owned(),
        })?;
        let id = row.record.id;
        let index = self.registry.find(row.record.node);
        let session = index.and_then(|index| {
            let session = self.registry[index].live_session()?;
            Some((index, session.conn))
        });
        let Some((index, conn)) = session else {
            let node = index.map_or(row.record.node.to_string(), |index| {
                self.registry[index].name().to_owned()
            });
            return Err(Refusal::NoSession(node));
        };
        if self.dialogues.reads.len() >= READS {
            return Err(Refusal::Overloaded("too many logs are being read"));
        }
        self.dialogues.numbers += 1;
        let number = self.dialogues.numbers;
        self.dialogues.reads.insert(number, (request, index, self.now));
        self.timers.set(self.now + READ_PATIENCE, Timer::Read(number));
        let wanted = log::Request {
            number,
            id,
            stream,
            from,
            within,
        };
        self.send(conn, Message::ReadLog(wanted));
        Ok(())
    }

    /// An agent says what an instance wrote.
    pub(super) fn log_read(&mut self, conn: ConnId, chunk: log::Chunk) {
        let Some(index) = self.witness(conn, "log") else { return };
        let asked = self.dialogues.reads.get(&chunk.number);
        if asked.is_none_or(|(_, of, _)| *of != index) {
            return;
        }
        let Some((request, ..)) = self.dialogues.reads.remove(&chunk.number) else {
            return;
        };
        let answer = match chunk.error.is_empty() {
            true => Ok(Answer::Log(chunk)),
            false => Err(Refusal::Log(chunk.error)),
        };
        self.effects.push_back(super::Effect::Reply { request, answer });
    }

    /// A question for what an instance wrote was not answered.
    pub(super) fn give_up_reading(&mut self, number: u64) {
        if let Some((request, index, _)) = self.dialogues.reads.remove(&number) {
            let node = self.registry[index].name();
            let answer = Err(Refusal::Log(format!(
                "node {} does not answer: try again",
                Quoted(node)
            )));
            self.effects.push_back(super::Effect::Reply { request, answer });
        }
    }
}
