//! Autonomy's periodic actions, and operator commands that configure and approve them.

use std::sync::Arc;

use super::{Changed, Coordinator, Refusal};
use crate::{
    autonomy::{Because, Decision, PolicyChange, Why},
    command::{Command, PolicySet, Rebalance},
    event::EventBody,
    id::{DecisionId, EventNo},
    node::NodeIndex,
    systems::{
        autonomy::{approvals::Wish, rebalance::Shift},
        fleet::Cluster,
    },
    text::count,
    workload::{AssignmentId, Goal},
};

impl Coordinator {
    /// State read by placement and rebalancing.
    pub(super) fn cluster(&self) -> Cluster<'_> {
        Cluster {
            ctx: &self.ctx,
            table: self.work.table(),
            predictive: &self.predictive,
        }
    }

    /// Reviews decisions each cycle: expires unanswered ones, evaluates executed ones, and proposes moves off hot nodes.
    pub(super) fn review_decisions(&mut self, hot: &[NodeIndex]) {
        for name in self.autonomy.expire(&mut self.ctx) {
            self.work.dirty(&mut self.ctx, name);
        }
        self.autonomy
            .look_back(&mut self.ctx, self.work.table(), &self.predictive);
        self.autonomy.watch_heat(hot);
        if self.guardian.climate(&mut self.ctx).ambiguous {
            return;
        }
        for shift in self.autonomy.shifts_due(self.cluster()) {
            let proposed = self.autonomy.propose_shift(&mut self.ctx, self.work.table(), shift);
            if let Some(name) = proposed.again {
                self.work.dirty(&mut self.ctx, name);
            }
            if let Some((id, reason, because)) = proposed.leaves {
                self.leave(id, &reason, because);
            }
        }
    }

    /// Moves an instance off its node once its replacement runs.
    fn leave(&mut self, id: AssignmentId, reason: &str, because: Because) {
        if self.work.leave(&mut self.ctx, id, reason, because) {
            self.autonomy.moves(self.ctx.clock.now);
        }
    }

    /// Rebalances load on behalf of an operator.
    pub(super) fn rebalance_now(&mut self, plan: bool, by: &str) -> Vec<Changed> {
        let shifts = self.autonomy.shifts_wanted(self.cluster());
        let told = |shift: &Shift| shift.told(&self.ctx, self.work.table(), !plan);
        let mut told: Vec<Changed> = shifts.iter().filter_map(told).collect();
        if !plan && !shifts.is_empty() {
            let detail = format!("{} to be moved", count(shifts.len() as u64, "instance"));
            let summary = format!("rebalance: {detail}");
            let (verb, by) = (Rebalance::VERB.to_owned(), by.to_owned());
            let event = self.ctx.record(None, summary, EventBody::Command { verb, detail, by });
            told.iter_mut().for_each(|change| change.event = event);
            for shift in shifts {
                self.leave(shift.id, &shift.wanted_because(), Because::Event(event));
            }
        }
        told
    }

    /// Updates the policy of Autonomy.
    pub(super) fn set_policy(&mut self, change: PolicyChange, by: &str) -> PolicySet {
        let (policy, event) = self.autonomy.set_policy(&mut self.ctx, change, by);
        if event > EventNo(0) {
            self.work.dirty_all(&mut self.ctx);
        }
        PolicySet { policy, event }
    }

    /// Handles an operator's approval or rejection of a decision.
    pub(super) fn decide(&mut self, id: DecisionId, approve: bool, by: &str) -> Result<Arc<Decision>, Refusal> {
        let (decision, wish) = self.autonomy.answer(&mut self.ctx, id, approve, by)?;
        match wish {
            None => {}
            Some(Wish::Heal(name, ids)) => {
                self.autonomy.approve(ids, id);
                self.work.dirty(&mut self.ctx, name);
            }
            Some(Wish::Move(moved, reason)) => self.leave(moved, &reason, Because::Decision(id)),
            Some(Wish::MakeRoom(name, ids)) => self.make_room(name, ids),
        }
        Ok(decision)
    }

    /// Preempts the instances that an operator approved.
    fn make_room(&mut self, name: Arc<str>, ids: Vec<(AssignmentId, Why)>) {
        for (id, why) in ids {
            let Some(held) = self.work.table().held(id).filter(|held| held.is_wanted()) else {
                continue;
            };
            let workload = Arc::clone(&held.record.workload);
            self.work.set_goal(&mut self.ctx, id, Goal::Stop, &why.to_string());
            self.autonomy.preempted(self.ctx.clock.now);
            self.work.dirty(&mut self.ctx, workload);
        }
        self.work.dirty(&mut self.ctx, name);
    }
}
