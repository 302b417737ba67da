//! Loading of durable work state at startup.

use std::{collections::BTreeSet, sync::Arc};

use super::Work;
use crate::{
    ctx::Ctx,
    node::NodeIndex,
    workload::{Assignment, Numbers, Spec, Workload},
};

impl Work {
    /// Loads workloads and instances.
    pub(crate) fn recall(&mut self, ctx: &mut Ctx, workloads: Vec<Arc<Workload>>, assignments: Vec<Arc<Assignment>>) {
        let now = ctx.clock.now;
        for mut record in workloads {
            // Specifications accepted by an earlier version are clamped to what agents accept today.
            if record
                .revisions
                .values()
                .any(|spec| spec.restart != spec.restart.clamped())
            {
                for spec in Arc::make_mut(&mut record).revisions.values_mut() {
                    *spec = Arc::new(Spec::clone(spec).clamped());
                }
            }
            if let Some(name) = record.spec().map(|spec| spec.name.clone()) {
                self.table.declare(&name, record);
            }
        }
        for record in assignments {
            let index = match (ctx.registry.find(record.node), &record.end) {
                (Some(index), _) => index,
                // The node was forgotten; the ended instance is retained for reference.
                (None, Some(_)) => NodeIndex::NOWHERE,
                (None, None) => continue,
            };
            let id = record.id;
            self.table.hold(record, index, now);
            self.table.kept(id);
            self.table.recall(id);
        }
        let names: Vec<Arc<str>> = self.table.workloads().map(|(name, _)| Arc::clone(name)).collect();
        for name in names {
            self.call_apart(ctx, &name);
            self.recall_lost(ctx, &name);
            self.dirty(ctx, name);
        }
        ctx.view_soon();
    }

    /// Assumes that an instance in unknown state runs until all leases of the previous coordinator are over.
    fn recall_lost(&mut self, ctx: &mut Ctx, name: &str) {
        let until = self.leases_are_over(ctx);
        let newest = self
            .table
            .declared(name)
            .and_then(|declared| self.table.instances(declared).last());
        let lost = newest.filter(|held| !held.is_there() && held.status.unknown);
        if let Some(id) = lost.map(|held| held.record.id) {
            self.note_lost(name, id, until);
        }
    }

    /// Renumbers duplicate slots of a daemon: earlier versions used the node index as slot, so two instances could
    /// share a number; the later one gets a new one.
    fn call_apart(&mut self, ctx: &mut Ctx, name: &str) {
        let Some(declared) = self.table.declared(name) else {
            return;
        };
        if declared.record.spec().is_none_or(|spec| spec.replicas().is_some()) {
            return;
        }
        let (mut seen, mut twice) = (BTreeSet::new(), Vec::new());
        for held in self.table.instances(declared).filter(|held| held.is_there()) {
            if !seen.insert(held.record.slot) {
                twice.push(held.record.id);
            }
        }
        let mut numbers = Numbers::of(self.table.instances(declared));
        for id in twice {
            let number = numbers.take(None);
            if let Some(held) = self.table.held_mut(id) {
                Arc::make_mut(&mut held.record).slot = number;
                ctx.outbox.keep_assignment(id);
            }
        }
    }
}
