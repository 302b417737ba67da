//! Execution of plans: instances are started, stopped, moved and carried over, and updates settle or fail.

use std::{collections::BTreeSet, sync::Arc};

use super::Work;
use crate::{
    ctx::{Ctx, outbox::Then},
    id::{Because, DecisionId, Revision},
    node::{Admission, NodeIndex},
    placement::{self, Plan},
    workload::{Assignment, AssignmentId, Goal, Held, Spec, Workload},
};

impl Work {
    /// Begins the reconciliation of a workload: adopts orphans and discards expired failures.
    pub(crate) fn begin(&mut self, ctx: &mut Ctx, name: &Arc<str>) {
        self.adopt(ctx, name);
        self.table.prune_failures(name, ctx.clock.now);
    }

    /// Applies a new record of a workload. Failures under an earlier specification, or before a repeated request, cause
    /// no back-off.
    pub(crate) fn declare(&mut self, ctx: &mut Ctx, name: &str, record: &Arc<Workload>) {
        self.table.declare(name, Arc::clone(record));
        if let Some(declared) = self.table.declared_mut(name) {
            declared.not_before.clear();
        }
        ctx.outbox.keep_workload(name);
    }

    /// Removes a node's instances from the table and returns them; they are given up.
    pub(crate) fn forget_node(&mut self, index: NodeIndex) -> Vec<Arc<Assignment>> {
        self.table.forget_node(index)
    }

    /// Executes a plan on behalf of `decision`.
    pub(crate) fn carry_out(&mut self, ctx: &mut Ctx, name: &Arc<str>, mut plan: Plan, decision: DecisionId) {
        for (id, why) in &plan.stops {
            self.set_goal(ctx, *id, Goal::Stop, &why.to_string());
        }
        let revision = self
            .table
            .declared(name)
            .map_or(Revision(0), |declared| declared.record.revision);
        for id in &plan.revised {
            if let Some(held) = self.table.held_mut(*id) {
                Arc::make_mut(&mut held.record).revision = revision;
                ctx.outbox.keep_assignment(*id);
            }
        }
        for start in &plan.starts {
            self.start_instance(ctx, name, start, decision);
        }
        if let Some(declared) = self.table.declared_mut(name) {
            declared.waiting.clone_from(&plan.waiting);
            declared.claims.clone_from(&plan.claims);
            declared.absent = plan.absent;
            let (revision, now) = (declared.record.revision, ctx.clock.now);
            let was = declared.unplaced.take().filter(|(of, ..)| *of == revision);
            let since = was.map_or(now, |(_, since, _)| since);
            declared.unplaced = plan.unplaced.take().map(|why| (revision, since, why));
        }
        self.judge_update(ctx, name, &plan);
        self.prune_revisions(ctx, name);
    }

    /// Removes a failure from the plan that was already recorded and handled.
    pub(crate) fn tell_failure_once(&self, name: &str, plan: &mut Plan) {
        let known = self.table.declared(name).map(|declared| &declared.record.rolled_back);
        if plan.failed.is_some() && plan.failed.as_ref() == known {
            plan.failed = None;
        }
    }

    /// Removes a deleted workload once none of its instances may run.
    pub(crate) fn end_deleted(&mut self, ctx: &mut Ctx, name: &Arc<str>) {
        let may_run = self.table.declared(name).filter(|declared| declared.record.deleted);
        if let Some((_, until)) = may_run.and_then(|declared| declared.may_still_run(ctx.clock.now)) {
            // Until then the name must not become available for a new workload.
            self.wake(name, until);
            return;
        }
        let over = self.table.declared(name).is_some_and(|declared| {
            // A revoked node sends no further reports.
            let counts = |held: &Held| ctx.registry[held.index].record.admission != Admission::Revoked;
            let mut left = self.table.instances(declared).filter(|held| held.is_there());
            declared.record.deleted && !left.any(counts)
        });
        if over {
            let ended = self.table.forget_workload(name);
            self.forget(ctx, ended);
            ctx.outbox.keep_workload(name);
            self.sleep(name);
            ctx.record_workload(name, format!("{name} is gone"));
        }
    }

    fn start_instance(&mut self, ctx: &mut Ctx, name: &Arc<str>, start: &placement::Start, decision: DecisionId) {
        let id = self.next_assignment(ctx);
        self.placed += 1;
        let record = Assignment {
            id,
            workload: Arc::clone(name),
            slot: start.slot,
            revision: start.revision,
            node: ctx.registry[start.node].record.id(),
            goal: Goal::Run,
            placed: ctx.wall_now(),
            reason: start.why.to_string(),
            score: start.score,
            decision,
            replaces: start.replaces,
            attempt: start.attempt,
            stop_reason: String::new(),
            leaving: String::new(),
            leaving_because: None,
            end: None,
            orphan: None,
        };
        let now = ctx.clock.now;
        self.table.hold(Arc::new(record), start.node, now);
        ctx.outbox.keep_assignment(id);
        ctx.outbox.then(Then::Tell(start.node));
    }

    /// Settles an update, or marks it as failed and rolls it back.
    fn judge_update(&mut self, ctx: &mut Ctx, name: &Arc<str>, plan: &Plan) {
        let Some(declared) = self.table.declared(name) else {
            return;
        };
        let record = &declared.record;
        if plan.settled {
            let mut record = Arc::clone(record);
            let own = Arc::make_mut(&mut record);
            (own.stable, own.restarted) = (own.revision, None);
            own.rolled_back.clear();
            let revision = own.revision;
            self.table.declare(name, record);
            ctx.outbox.keep_workload(name);
            ctx.record_workload(name, format!("{name}: all instances of revision {revision} are well"));
            return;
        }
        let Some(why) = &plan.failed else { return };
        let stable = record.revisions.get(&record.stable).cloned();
        let (Some(spec), Some(stable)) = (record.spec(), stable) else {
            return;
        };
        if *record.rolled_back == **why {
            return;
        }
        let mut record = Arc::clone(record);
        let own = Arc::make_mut(&mut record);
        own.rolled_back.clone_from(why);
        own.failed = Some((own.revision, why.clone()));
        let back = spec.update.rollback && !spec.equals_but_for_count(&stable);
        let summary = if back {
            let (failed, to) = (own.revision, own.stable);
            // A rollback retains the current replica count.
            let mut spec = Spec::clone(&stable);
            spec.kind = own.spec().map_or(spec.kind, |now| now.kind);
            own.revision = own.revision.next();
            own.revisions.insert(own.revision, Arc::new(spec));
            // The specification was healthy before and needs no promotion.
            own.promoted = own.revision;
            format!(
                "{name}: revision {failed} failed and is taken back to {to}, as revision {}: {why}",
                own.revision
            )
        } else {
            format!(
                "{name}: the update to revision {} has failed and goes no further: {why}",
                own.revision
            )
        };
        // The restored specification is not delayed by the failures of the update.
        self.declare(ctx, name, &record);
        ctx.record_workload(name, summary);
        self.dirty(ctx, Arc::clone(name));
    }

    /// Removes revisions that no instance runs and no rollback needs.
    fn prune_revisions(&mut self, ctx: &mut Ctx, name: &Arc<str>) {
        let Some(declared) = self.table.declared(name) else {
            return;
        };
        let batch = declared.record.spec().is_some_and(|spec| spec.kind.is_batch());
        let used: BTreeSet<Revision> = self
            .table
            .instances(declared)
            // Completed instances of a batch refer to the specification that they ran.
            .filter(|held| held.is_there() || batch)
            .map(|held| held.record.revision)
            .chain([declared.record.revision, declared.record.stable])
            .collect();
        if declared.record.revisions.keys().all(|revision| used.contains(revision)) {
            return;
        }
        let mut record = Arc::clone(&declared.record);
        Arc::make_mut(&mut record)
            .revisions
            .retain(|revision, _| used.contains(revision));
        self.table.declare(name, record);
        ctx.outbox.keep_workload(name);
    }

    /// Sets the goal of an instance; its node is informed once this is durable.
    pub(crate) fn set_goal(&mut self, ctx: &mut Ctx, id: AssignmentId, goal: Goal, reason: &str) {
        let Some(held) = self.table.held_mut(id) else { return };
        let index = held.index;
        let record = Arc::make_mut(&mut held.record);
        record.goal = goal;
        reason.clone_into(&mut record.stop_reason);
        ctx.outbox.keep_assignment(id);
        ctx.outbox.then(Then::Tell(index));
    }

    /// Marks an instance to leave its node once its replacement runs. Returns false if the instance is not meant to
    /// run.
    pub(crate) fn leave(&mut self, ctx: &mut Ctx, id: AssignmentId, reason: &str, because: Because) -> bool {
        let Some(held) = self.table.held_mut(id).filter(|held| held.is_wanted()) else {
            return false;
        };
        let name = Arc::clone(&held.record.workload);
        let record = Arc::make_mut(&mut held.record);
        reason.clone_into(&mut record.leaving);
        record.leaving_because = Some(because);
        ctx.outbox.keep_assignment(id);
        self.dirty(ctx, name);
        true
    }
}
