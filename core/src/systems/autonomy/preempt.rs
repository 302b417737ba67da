//! Preemption: the budget for stopping instances automatically to make room, and approval beyond it.

use std::sync::Arc;

use super::{
    Autonomy, WINDOW,
    approvals::{EXPIRY, Wish},
};
use crate::{
    autonomy::{Alternative, Evidence, Fact, Kind, Mode, Proposal, Source},
    ctx::Ctx,
    placement::Plan,
    time::Time,
    workload::Table,
};

/// Budget of preemptions per window: `PREEMPTIONS`, or one in `PREEMPTIONS_SHARE` of all instances if that is more.
const PREEMPTIONS: usize = 10;
const PREEMPTIONS_SHARE: usize = 10;

impl Autonomy {
    /// Number of instances that may be preempted now.
    pub(super) fn evictions_left(&self, now: Time) -> usize {
        let budget = PREEMPTIONS.max(self.instances / PREEMPTIONS_SHARE);
        let recent = self.preemptions.iter().filter(|at| now.since(**at) < WINDOW);
        match self.policy.preempt {
            Mode::Act => budget.saturating_sub(recent.count()),
            Mode::Observe | Mode::Advise => 0,
        }
    }

    /// Charges the preemptions of a plan to the budget.
    pub(crate) fn preempts(&mut self, now: Time, plan: &Plan) {
        self.preemptions.retain(|at| now.since(*at) < WINDOW);
        self.preemptions.extend(plan.preempted.iter().map(|_| now));
    }

    /// Charges a preemption that an operator approved to the budget.
    pub(crate) fn preempted(&mut self, now: Time) {
        self.preemptions.push_back(now);
    }

    /// Records a decision about a preemption that is not carried out automatically, at most once per expiry period.
    /// Returns a workload to reconcile.
    #[must_use]
    pub(crate) fn ask_for_room(
        &mut self,
        ctx: &mut Ctx,
        table: &Table,
        name: &Arc<str>,
        plan: &Plan,
    ) -> Option<Arc<str>> {
        let now = ctx.clock.now;
        self.asked.retain(|_, at| now.since(*at) < EXPIRY);
        if plan.would_preempt.is_empty() || self.asked.contains_key(name) {
            return None;
        }
        self.asked.insert(Arc::clone(name), now);
        let mode = match self.policy.preempt {
            Mode::Act => Mode::Advise,
            mode => mode,
        };
        let wall = ctx.wall_now();
        let evidence = plan.would_preempt.iter().filter_map(|(id, why)| {
            let held = table.held(*id)?;
            let (of, on, why) = (held.instance(), ctx.registry[held.index].named(), why.clone());
            let fact = Fact::WouldStop { of, on, why };
            Some(Evidence::new(wall, Source::Placement, fact))
        });
        let proposal = Proposal {
            index: None,
            node: None,
            time: wall,
            cycle: ctx.clock.cycle,
            rule: "higher-priority-first",
            action: format!(
                "{name}: stop {} of a lower priority to make room",
                plan.would_preempt.len()
            ),
            evidence: evidence.take(32).collect(),
            alternatives: vec![Alternative::new(
                "wait until there is room",
                format!("its priority is {}", table.priority(name)),
            )],
            caused_by: Vec::new(),
        };
        let decision = self.ledger.about(name, Kind::Preempt, mode, proposal);
        let again = self.wait_for_approval(
            ctx,
            mode,
            &decision,
            Wish::MakeRoom(Arc::clone(name), plan.would_preempt.clone()),
        );
        ctx.record_decision(None, decision);
        again
    }
}
