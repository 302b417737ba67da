//! Healing: the budget for automatic replacement of lost instances, and approval beyond it.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use super::{Autonomy, WINDOW, approvals::Wish};
use crate::{
    autonomy::{Alternative, Because, Evidence, Fact, Kind, Mode, Proposal, Source, Why},
    ctx::Ctx,
    placement::{Allowance, Plan},
    time::Time,
    workload::{AssignmentId, Table},
};

/// Budget of replacements per window after node losses: `HEALS`, or one in `HEALS_SHARE` of all instances if that is
/// more. Losses beyond it wait for an operator.
const HEALS: usize = 10;
const HEALS_SHARE: usize = 2;

/// Maximum number of lost instances listed in a decision's evidence.
const LISTED: usize = 32;

impl Autonomy {
    /// Actions that a plan may take now without approval.
    pub(crate) fn allowance(&self, now: Time) -> Allowance<'_> {
        let budget = HEALS.max(self.instances / HEALS_SHARE);
        let recent = self.heals.iter().filter(|at| now.since(**at) < WINDOW);
        Allowance {
            heals: match self.policy.heal {
                Mode::Act => budget.saturating_sub(recent.count()),
                Mode::Observe | Mode::Advise => 0,
            },
            approved: &self.approved,
            evictions: self.evictions_left(now),
        }
    }

    /// Time at which an exhausted budget that limits this plan recovers.
    pub(crate) fn budget_returns(&self, now: Time, plan: &Plan) -> Option<Time> {
        let returns = |stands: bool, mode: Mode, spent: &VecDeque<Time>| {
            let oldest = spent.iter().find(|at| now.since(**at) < WINDOW);
            oldest.filter(|_| stands && mode == Mode::Act).map(|at| *at + WINDOW)
        };
        let heals = returns(!plan.held_back.is_empty(), self.policy.heal, &self.heals);
        let room = returns(!plan.would_preempt.is_empty(), self.policy.preempt, &self.preemptions);
        heals.into_iter().chain(room).min()
    }

    /// Charges the replacements of a plan to the budget.
    pub(crate) fn healed(&mut self, now: Time, plan: &Plan) {
        self.heals.retain(|at| now.since(*at) < WINDOW);
        for id in &plan.healed {
            self.told.remove(id);
            if self.approved.remove(id).is_none() {
                self.heals.push_back(now);
            }
        }
        if self.breaker && plan.held_back.is_empty() && self.heals.len() < HEALS {
            self.breaker = false;
        }
    }

    /// Records a decision, once, about lost instances that are not replaced automatically. It is pending approval if
    /// the mode is `advise` or the budget is exhausted. Returns a workload to reconcile.
    #[must_use]
    pub(crate) fn hold_back(&mut self, ctx: &mut Ctx, table: &Table, name: &Arc<str>, plan: &Plan) -> Option<Arc<str>> {
        let lost = plan.held_back.iter().map(|(id, _)| *id);
        let news: BTreeSet<AssignmentId> = lost.filter(|id| !self.told.contains(id)).collect();
        if news.is_empty() {
            return None;
        }
        let asked = self.policy.heal;
        let mode = match asked {
            Mode::Act => Mode::Advise,
            mode => mode,
        };
        if asked == Mode::Act && !std::mem::replace(&mut self.breaker, true) {
            let summary = "healing has used up its budget: what else was lost waits for `wynectl decisions approve`";
            ctx.record_workload(name, summary.to_owned());
        }
        let wall = ctx.wall_now();
        let evidence = plan.held_back.iter().filter(|(id, _)| news.contains(id)).take(LISTED);
        let evidence: Vec<Evidence> = evidence
            .filter_map(|(id, why)| {
                let held = table.held(*id)?;
                let (of, on, why) = (held.instance(), ctx.registry[held.index].named(), why.clone());
                let fact = Fact::HeldBack { of, on, why };
                Some(Evidence::new(wall, Source::Placement, fact))
            })
            .collect();
        let proposal = Proposal {
            index: None,
            node: None,
            time: wall,
            cycle: ctx.clock.cycle,
            rule: "lost-is-replaced",
            action: format!("{name}: place {} elsewhere", news.len()),
            evidence,
            alternatives: vec![Alternative::new("wait until its node is back", "it was given up")],
            caused_by: causes(plan.held_back.iter().map(|(_, why)| why)).into_iter().collect(),
        };
        let decision = self.ledger.about(name, Kind::Heal, mode, proposal);
        self.told.retain(|id| table.held(*id).is_some());
        self.approved.retain(|id, _| table.held(*id).is_some());
        self.told.extend(&news);
        let again = self.wait_for_approval(ctx, mode, &decision, Wish::Heal(Arc::clone(name), news));
        ctx.record_decision(None, decision);
        again
    }
}

/// Distinct causes of the given reasons.
pub(super) fn causes<'a>(whys: impl Iterator<Item = &'a Why>) -> BTreeSet<Because> {
    whys.filter_map(Why::because).collect()
}
