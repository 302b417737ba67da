//! Instances on their nodes: agents' reports about them, and leases.
//!
//! Agents report all their instances at the start of a session, and changes afterwards. Nothing is repeated within a
//! session, and a lost session loses no state.

use std::{sync::Arc, time::Duration};

use super::{Work, dialogue::Dialogue};
use crate::{
    ctx::{
        Ctx,
        outbox::Then,
        repeats::{Repeating, Told},
    },
    event::EventBody,
    node::{Eligibility, NodeIndex},
    placement::backoff,
    time::Time,
    workload::{AssignmentId, End, Exit, Goal, Held, Phase, Status},
};

/// Maximum number of unknown instances accepted per session, and maximum number of unknown ids remembered per session.
const STRANGERS: usize = 4_096;
const TOLD: usize = 65_536;

/// Delay before an instance that its host interrupted is started again; it limits the rate on a host that interrupts
/// everything.
const CUT_OFF: Duration = Duration::from_secs(1);

/// Maximum number of foreign instances reported per session.
const FOREIGN: usize = 64;

impl Work {
    /// Handles an agent's report of instances; `all` marks the report as complete.
    pub(crate) fn told(&mut self, ctx: &mut Ctx, index: NodeIndex, instances: Vec<(AssignmentId, Status)>, all: bool) {
        let session = ctx.registry[index].record.session;
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
            self.instance(ctx, index, id, status);
        }
        let first = match self.dialogues.nodes.get_mut(&index) {
            Some(dialogue) => all && !std::mem::replace(&mut dialogue.complete, true),
            None => false,
        };
        if first {
            self.dialogues.unsaid.remove(&index);
            self.agree(ctx, index);
        }
        ctx.outbox.then(Then::Tell(index));
    }

    fn instance(&mut self, ctx: &mut Ctx, index: NodeIndex, id: AssignmentId, status: Status) {
        let ended = status.phase == Phase::Ended;
        let held = self.table.held(id);
        let known = held.is_some_and(|held| held.index == index);
        let over = held.is_none_or(|held| !held.is_there());
        let foreign = held.is_some() && !known || self.is_of_later(ctx, id);
        let Some(dialogue) = self.dialogues.nodes.get_mut(&index) else {
            return;
        };
        if known || dialogue.told.len() < TOLD {
            dialogue.told.insert(id);
        }
        if ended && over {
            dialogue.strangers.remove(&id);
            dialogue.asked.remove(&id);
            // The record of an ended instance is retained here, so its node retains the logs as well.
            if self.table.held(id).is_none() {
                dialogue.forget.insert(id);
            }
            return;
        }
        if foreign {
            if dialogue.foreign.len() < FOREIGN && dialogue.foreign.insert(id) {
                let name = ctx.registry[index].name();
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
                ctx.record_repeating(Repeating::Foreign(index, id), 1, told);
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
        self.update(ctx, id, status);
    }

    pub(crate) fn update(&mut self, ctx: &mut Ctx, id: AssignmentId, status: Status) {
        let now = ctx.clock.now;
        let spec = self.table.held(id).and_then(|held| self.table.spec_of(&held.record));
        let min_healthy = spec.map_or(Duration::ZERO, |spec| spec.update.min_healthy);
        let Some(held) = self.table.held_mut(id) else { return };
        (held.heard, held.recalled) = (true, false);
        if held.status == status {
            return;
        }
        if !status.healthy && held.has_settled(min_healthy, now) {
            held.unwell_since = now;
        }
        held.was_healthy |= status.healthy;
        held.healthy_since = match status.healthy {
            true => Some(held.healthy_since.unwrap_or(now)),
            false => None,
        };
        let news = held.status.phase != status.phase
            || held.status.healthy != status.healthy
            || held.status.restarts != status.restarts
            || held.status.oom_kills != status.oom_kills;
        let runs = held.record.goal == Goal::Run && status.phase != Phase::Ended;
        let alone = status.started_alone.saturating_sub(held.status.started_alone);
        let kills = status.oom_kills.saturating_sub(held.status.oom_kills);
        let crashed = match runs {
            true => status
                .restarts
                .saturating_sub(held.status.restarts)
                .saturating_sub(alone),
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
                what: format!("{name} on {} is started again", ctx.registry[index].name()),
                detail,
                body: EventBody::Workload {
                    workload: workload.to_string(),
                    assignment: Some(id),
                    by: String::new(),
                },
            };
            ctx.record_repeating(Repeating::Restart(Arc::clone(&workload), slot), crashed, told);
        }
        if alone > 0 {
            let node = ctx.registry[index].name();
            let what =
                format!("{name} on {node} was started by its agent while no coordinator was there (offline_start)");
            ctx.record_instance(Some(index), &workload, id, what);
        }
        if kills > 0 {
            let told = Told {
                node: Some(index),
                what: format!(
                    "processes of {name} on {} are killed for want of memory",
                    ctx.registry[index].name()
                ),
                detail: String::new(),
                body: EventBody::Workload {
                    workload: workload.to_string(),
                    assignment: Some(id),
                    by: String::new(),
                },
            };
            ctx.record_repeating(Repeating::OutOfMemory(Arc::clone(&workload), slot), kills, told);
        }
        if ended {
            self.instance_ended(ctx, id);
        }
        if news {
            self.dirty(ctx, workload);
        }
    }

    /// Handles the end of an instance: no process of it is left.
    pub(crate) fn instance_ended(&mut self, ctx: &mut Ctx, id: AssignmentId) {
        let (now, wall, of_before) = (ctx.clock.now, ctx.wall_now(), self.is_of_before(id));
        let Some(held) = self.table.held_mut(id) else { return };
        let (index, status) = (held.index, held.status.clone());
        let record = Arc::make_mut(&mut held.record);
        if of_before && status.complete && !status.exit.is_some_and(Exit::is_success) {
            // The instance was stopped after the backup was taken; it did not complete its work.
            record.goal = Goal::Stop;
        }
        record.end = Some(End {
            time: wall,
            exit: status.exit,
            complete: status.complete,
            unknown: status.unknown,
            interrupted: status.interrupted,
            detail: status.detail.clone(),
            last_stderr: status.last_stderr.clone(),
        });
        let (workload, slot, attempt) = (Arc::clone(&record.workload), record.slot, record.attempt);
        let failed = record.goal == Goal::Run && !status.complete;
        let asked = record.goal == Goal::Stop;
        let cut_off = failed && status.interrupted && !status.unknown;
        let orphan = record.orphan.is_some();
        if status.unknown {
            self.note_lost(&workload, id, ctx.lease_ends(index));
        }
        let mut old = self.table.ended(id);
        if orphan {
            old.extend(self.table.remove(id).map(|index| (id, index)));
        }
        self.forget(ctx, old);
        ctx.outbox.keep_assignment(id);
        let node = ctx.registry[index].name().to_owned();
        let spec = self
            .table
            .declared(&workload)
            .and_then(|declared| declared.record.spec());
        let is_rerun = cut_off && spec.is_none_or(|spec| spec.reruns_what_was_cut_off());
        // A daemon's back-off is keyed by node: its slot number is only a name and may belong to another instance by
        // now.
        let place = match spec {
            Some(spec) if spec.replicas().is_none() => index.0,
            _ => slot,
        };
        if orphan {
            // Nothing depends on an orphan.
        } else if is_rerun {
            if let Some(declared) = self.table.declared_mut(&workload) {
                declared.not_before.insert(place, now + CUT_OFF);
            }
        } else if failed {
            self.table.failed(&workload, index, now);
            let until = now + backoff(attempt + 1);
            if let Some(declared) = self.table.declared_mut(&workload) {
                declared.not_before.insert(place, until);
            }
        } else if let Some(declared) = self.table.declared_mut(&workload) {
            declared.not_before.remove(&place);
        }
        let how = match (failed, asked) {
            _ if cut_off => "was cut off by its host",
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
            true => ctx.record_repeating(Repeating::Failure(Arc::clone(&workload), slot), 1, told),
            false => ctx.record_told(told),
        }
        self.dirty(ctx, workload);
        self.room_changed(ctx);
        if ctx.registry[index].record.eligibility == Eligibility::Draining && self.table.of_node(index).next().is_none()
        {
            let summary = format!("{node} is empty");
            let (verb, detail) = ("drain".to_owned(), "no instance is left on it".to_owned());
            let by = String::new();
            ctx.record(Some(index), summary, EventBody::Command { verb, detail, by });
        }
    }

    /// Records that an instance is in unknown state and may run until its lease ends. For a singleton, the node's
    /// report that it is gone is not sufficient.
    pub(crate) fn note_lost(&mut self, workload: &str, id: AssignmentId, until: Time) {
        if let Some(declared) = self.table.declared_mut(workload) {
            let later = declared.lost.map_or(until, |(_, before)| before.max(until));
            declared.lost = Some((id, later));
        }
    }

    /// Forgets instances here and, once told, on their nodes.
    pub(crate) fn forget(&mut self, ctx: &mut Ctx, instances: Vec<(AssignmentId, NodeIndex)>) {
        for (id, index) in instances {
            ctx.outbox.keep_assignment(id);
            if let Some(dialogue) = self.dialogues.nodes.get_mut(&index) {
                for known in [&mut dialogue.told, &mut dialogue.assigned, &mut dialogue.stopped] {
                    known.remove(&id);
                }
                dialogue.forget.insert(id);
                ctx.outbox.then(Then::Tell(index));
            }
        }
    }

    /// Handles a complete report: missing instances are assigned again, and returned ones are evaluated.
    fn agree(&mut self, ctx: &mut Ctx, index: NodeIndex) {
        let Some(dialogue) = self.dialogues.nodes.get(&index) else {
            return;
        };
        let mut gone = Vec::new();
        let mut back = Vec::new();
        for held in self.table.of_node(index) {
            let id = held.record.id;
            match (dialogue.told.contains(&id), held.record.goal) {
                (false, Goal::Stop) => gone.push(id),
                // The id was assigned before the restoration and may have had successors; it is not reused.
                (false, Goal::Run) if self.is_of_before(id) => gone.push(id),
                (true, Goal::Stop) => back.push(id),
                _ => {}
            }
        }
        let all: Vec<AssignmentId> = self
            .table
            .of_node(index)
            .filter(|held| held.recalled)
            .map(|held| held.record.id)
            .collect();
        for id in all {
            if let Some(held) = self.table.held_mut(id) {
                held.recalled = false;
            }
        }
        for id in gone {
            let singleton = self.table.held(id).is_some_and(|held| {
                let declared = self.table.declared(&held.record.workload);
                declared
                    .and_then(|declared| declared.record.spec())
                    .is_some_and(|spec| spec.singleton)
            });
            if let Some(held) = self.table.held_mut(id) {
                Arc::make_mut(&mut held.record).goal = Goal::Stop;
                // A node that lost an instance does not prove that the instance has ended.
                (held.status.phase, held.status.complete, held.status.unknown) = (Phase::Ended, !singleton, singleton);
                (held.status.healthy, held.healthy_since) = (false, None);
                held.status.detail = "its node does not have it any more".to_owned();
            }
            self.instance_ended(ctx, id);
        }
        for id in back {
            self.take_back(ctx, id);
        }
        self.node_changed(ctx, index);
    }

    /// Decides about an instance that was given up with its node and is reported again: it is kept unless its
    /// replacement already runs; if both run, the newer one is kept.
    fn take_back(&mut self, ctx: &mut Ctx, id: AssignmentId) {
        let Some(held) = self.table.held(id) else { return };
        let Some(declared) = self.table.declared(&held.record.workload) else {
            return;
        };
        let singleton = declared.record.spec().is_none_or(|spec| spec.singleton);
        let runs = held.status.phase == Phase::Running;
        if singleton || !runs || declared.record.deleted {
            return;
        }
        // Without a successor the instance is being stopped for another reason.
        let of_it = |other: &&Held| other.record.replaces == Some(id);
        let Some(successor) = self.table.instances(declared).filter(of_it).last() else {
            return;
        };
        let batch = declared.record.spec().is_some_and(|spec| spec.kind.is_batch());
        if batch && successor.status.complete {
            return;
        }
        let slot = successor.record.slot;
        let in_its_place = |other: &&Held| other.is_wanted() && other.record.slot == slot && other.record.id != id;
        let others: Vec<&Held> = self.table.instances(declared).filter(in_its_place).collect();
        if others.iter().any(|other| other.status.phase == Phase::Running) {
            return;
        }
        let others: Vec<AssignmentId> = others.iter().map(|other| other.record.id).collect();
        let reason = format!("{id}, whose place it was to take, is there again");
        for other in others {
            self.set_goal(ctx, other, Goal::Stop, &reason);
        }
        self.set_goal(ctx, id, Goal::Run, "");
    }
}
