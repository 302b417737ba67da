//! Reconciliation: brings the running instances of one workload after another closer to its specification.

use std::{sync::Arc, time::Duration};

use super::Coordinator;
use crate::{
    id::DecisionId,
    placement::{Fleet, Plan},
};

/// Delay of reconciliation while the store is behind.
const LOOK_AGAIN: Duration = Duration::from_millis(40);

impl Coordinator {
    /// Reconciles the workloads that are due.
    pub(super) fn reconcile(&mut self, token: u64) {
        if !self.work.is_due(token) || self.ctx.stopping {
            return;
        }
        let now = self.ctx.clock.now;
        if self.ctx.outbox.is_behind() {
            self.work.look_at_work(&mut self.ctx, now + LOOK_AGAIN);
            return;
        }
        let names = self.work.take_due(now);
        self.autonomy.begin(self.work.table().desired());
        let mut fleet = self.cluster().fleet();
        for name in names {
            self.reconcile_one(&name, &mut fleet);
        }
        self.work.look_at_next(&mut self.ctx);
        self.ctx.view_soon();
    }

    fn reconcile_one(&mut self, name: &Arc<str>, fleet: &mut Fleet) {
        let now = self.ctx.clock.now;
        self.work.begin(&mut self.ctx, name);
        let ambiguous = self.guardian.climate(&mut self.ctx).ambiguous;
        let Some(declared) = self.work.table().declared(name) else {
            return;
        };
        let may = self.autonomy.allowance(now);
        let plan = self.work.plan(&self.ctx, declared, ambiguous, fleet, may);
        let table = self.work.table();
        let held_back = self.autonomy.hold_back(&mut self.ctx, table, name, &plan);
        let asked = self.autonomy.ask_for_room(&mut self.ctx, table, name, &plan);
        for name in held_back.into_iter().chain(asked) {
            self.work.dirty(&mut self.ctx, name);
        }
        let more = self.autonomy.budget_returns(now, &plan);
        if let Some(wake) = plan.wake.into_iter().chain(more).min() {
            self.work.wake(name, wake);
        }
        self.carry_out_plan(name, plan);
        self.work.end_deleted(&mut self.ctx, name);
    }

    /// Executes a plan: records the decision, charges the budgets and changes assignments.
    pub(super) fn carry_out_plan(&mut self, name: &Arc<str>, mut plan: Plan) {
        let now = self.ctx.clock.now;
        self.work.tell_failure_once(name, &mut plan);
        let decision = match plan.is_idle() {
            true => DecisionId::default(),
            false => self.autonomy.placed(&mut self.ctx, self.work.table(), name, &plan),
        };
        self.autonomy.healed(now, &plan);
        self.autonomy.preempts(now, &plan);
        // Preempted instances are to be placed elsewhere.
        for id in &plan.preempted {
            if let Some(held) = self.work.table().held(*id) {
                let name = Arc::clone(&held.record.workload);
                self.work.dirty(&mut self.ctx, name);
            }
        }
        self.work.carry_out(&mut self.ctx, name, plan, decision);
    }

    /// Publishes changes to readers.
    pub(super) fn view(&mut self) {
        self.ctx.outbox.viewed();
        self.view_now();
    }
}
