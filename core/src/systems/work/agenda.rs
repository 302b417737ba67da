//! The agenda: workloads that are to be looked at, and when.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::Work;
use crate::{ctx::Ctx, ctx::alarm::Timer, node::NodeIndex, time::Time, workload::Kind};

/// What is to be looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Agenda {
    /// Workloads of which something changed.
    dirty: BTreeSet<Arc<str>>,
    /// When to look at a workload though nothing changes.
    wakes: BTreeMap<Arc<str>, Time>,
    /// The newest timer.
    timer: u64,
    due: Option<Time>,
}

impl Work {
    /// A workload is looked at again.
    pub(crate) fn dirty(&mut self, ctx: &mut Ctx, name: Arc<str>) {
        self.agenda.dirty.insert(name);
        self.look_at_work(ctx, ctx.clock.now);
    }

    /// All workloads are looked at again.
    pub(crate) fn dirty_all(&mut self, ctx: &mut Ctx) {
        let names: Vec<Arc<str>> = self.table.workloads().map(|(name, _)| Arc::clone(name)).collect();
        for name in names {
            self.dirty(ctx, name);
        }
    }

    /// A node is otherwise than before: what it has, or what waits for one like it, is looked at again.
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

    /// Some node has more room than before.
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

    /// Looks at work at that time, at the latest.
    pub(crate) fn look_at_work(&mut self, ctx: &mut Ctx, at: Time) {
        if self.agenda.due.is_none_or(|due| at < due) {
            self.agenda.due = Some(at);
            self.agenda.timer += 1;
            ctx.timers.set(at, Timer::Reconcile(self.agenda.timer));
        }
    }

    /// Looks at a workload at that time though nothing changes.
    pub(crate) fn wake(&mut self, name: &Arc<str>, at: Time) {
        self.agenda.wakes.insert(Arc::clone(name), at);
    }

    /// A timer is over: false when it is not the newest.
    pub(crate) fn is_due(&mut self, token: u64) -> bool {
        let newest = token == self.agenda.timer;
        if newest {
            self.agenda.due = None;
        }
        newest
    }

    /// Takes the workloads that are to be looked at now, those with the highest priority first.
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

    /// Looks at work when the next workload is to be looked at.
    pub(crate) fn look_at_next(&mut self, ctx: &mut Ctx) {
        if let Some(next) = self.agenda.wakes.values().min().copied() {
            self.look_at_work(ctx, next);
        }
    }

    /// Nothing more is looked at for a workload that is gone.
    pub(super) fn sleep(&mut self, name: &str) {
        self.agenda.wakes.remove(name);
    }
}
