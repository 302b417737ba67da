//! The agenda: which workloads are to be reconciled, and when.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::Work;
use crate::{ctx::Ctx, ctx::alarm::Timer, node::NodeIndex, time::Time, workload::Kind};

/// Pending reconciliations.
#[derive(Clone, Debug, Default)]
pub(super) struct Agenda {
    /// Workloads that changed.
    dirty: BTreeSet<Arc<str>>,
    /// Time at which a workload is reconciled even without a change.
    wakes: BTreeMap<Arc<str>, Time>,
    /// Token of the newest timer.
    timer: u64,
    due: Option<Time>,
}

impl Work {
    /// Schedules the reconciliation of a workload now.
    pub(crate) fn dirty(&mut self, ctx: &mut Ctx, name: Arc<str>) {
        self.agenda.dirty.insert(name);
        self.look_at_work(ctx, ctx.clock.now);
    }

    /// Schedules the reconciliation of all workloads now.
    pub(crate) fn dirty_all(&mut self, ctx: &mut Ctx) {
        let names: Vec<Arc<str>> = self.table.workloads().map(|(name, _)| Arc::clone(name)).collect();
        for name in names {
            self.dirty(ctx, name);
        }
    }

    /// Schedules the reconciliation of workloads affected by a change of a node: those with instances on it, those with
    /// unplaced instances, and daemons.
    pub(crate) fn node_changed(&mut self, ctx: &mut Ctx, index: NodeIndex) {
        let mut names: BTreeSet<Arc<str>> = self
            .table
            .of_node(index)
            .map(|held| Arc::clone(&held.record.workload))
            .collect();
        names.extend(self.waiting());
        let daemons = self
            .table
            .workloads()
            .filter(|(_, declared)| declared.record.spec().is_some_and(|spec| spec.kind == Kind::Daemon));
        names.extend(daemons.map(|(name, _)| Arc::clone(name)));
        for name in names {
            self.dirty(ctx, name);
        }
    }

    /// Schedules the reconciliation of workloads with unplaced instances after room became available.
    pub(crate) fn room_changed(&mut self, ctx: &mut Ctx) {
        for name in self.waiting() {
            self.dirty(ctx, name);
        }
    }

    fn waiting(&self) -> Vec<Arc<str>> {
        let waits = self
            .table
            .workloads()
            .filter(|(_, declared)| !declared.waiting.is_empty());
        waits.map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Ensures that reconciliation runs no later than `at`.
    pub(crate) fn look_at_work(&mut self, ctx: &mut Ctx, at: Time) {
        if self.agenda.due.is_none_or(|due| at < due) {
            self.agenda.due = Some(at);
            self.agenda.timer += 1;
            ctx.timers.set(at, Timer::Reconcile(self.agenda.timer));
        }
    }

    /// Schedules the reconciliation of a workload for `at`, even without a change.
    pub(crate) fn wake(&mut self, name: &Arc<str>, at: Time) {
        self.agenda.wakes.insert(Arc::clone(name), at);
    }

    /// Handles a fired timer; returns false if it is stale.
    pub(crate) fn is_due(&mut self, token: u64) -> bool {
        let newest = token == self.agenda.timer;
        if newest {
            self.agenda.due = None;
        }
        newest
    }

    /// Takes the workloads to be reconciled now, highest priority first.
    pub(crate) fn take_due(&mut self, now: Time) -> Vec<Arc<str>> {
        let mut names = std::mem::take(&mut self.agenda.dirty);
        let over = self.agenda.wakes.iter().filter(|(_, at)| **at <= now);
        names.extend(over.map(|(name, _)| Arc::clone(name)));
        for name in &names {
            self.agenda.wakes.remove(name);
        }
        let mut order: Vec<Arc<str>> = names.into_iter().collect();
        order.sort_by_key(|name| std::cmp::Reverse(self.table.priority(name)));
        order
    }

    /// Schedules the next reconciliation.
    pub(crate) fn look_at_next(&mut self, ctx: &mut Ctx) {
        if let Some(next) = self.agenda.wakes.values().min().copied() {
            self.look_at_work(ctx, next);
        }
    }

    /// Cancels the scheduled reconciliation of a removed workload.
    pub(super) fn sleep(&mut self, name: &str) {
        self.agenda.wakes.remove(name);
    }
}
