//! Room for what has a higher priority: what is stopped for it, within a budget, and what is asked for.

use std::sync::Arc;

use super::{
    Coordinator,
    autonomy::{EXPIRY, WINDOW, Wish},
};
use crate::{
    autonomy::{Alternative, Evidence, Kind, Mode, Proposal},
    placement::Plan,
    workload::{AssignmentId, Goal},
};

/// Instances that are stopped in a window to make room for what has a higher priority: so many in any case, and this share of all.
const PREEMPTIONS: usize = 10;
const PREEMPTIONS_SHARE: usize = 10;

impl Coordinator {
    /// How many instances may be stopped now to make room.
    pub(super) fn evictions_left(&self) -> usize {
        let steering = &self.steering;
        let budget = PREEMPTIONS.max(steering.instances / PREEMPTIONS_SHARE);
        let recent = steering
            .preemptions
            .iter()
            .filter(|at| self.ctx.clock.now.since(**at) < WINDOW);
        match steering.policy.preempt {
            Mode::Act => budget.saturating_sub(recent.count()),
            Mode::Observe | Mode::Advise => 0,
        }
    }

    /// What was stopped to make room counts, and goes elsewhere.
    pub(super) fn preempted(&mut self, plan: &Plan) {
        let now = self.ctx.clock.now;
        self.steering.preemptions.retain(|at| now.since(*at) < WINDOW);
        for id in &plan.preempted {
            self.steering.preemptions.push_back(now);
            if let Some(held) = self.table.held(*id) {
                self.dirty(Arc::clone(&held.record.workload));
            }
        }
    }

    /// Room that is not made by itself is asked for, once in a while.
    pub(super) fn ask_for_room(&mut self, name: &Arc<str>, plan: &Plan) {
        let now = self.ctx.clock.now;
        self.steering.asked.retain(|_, at| now.since(*at) < EXPIRY);
        if plan.would_preempt.is_empty() || self.steering.asked.contains_key(name) {
            return;
        }
        self.steering.asked.insert(Arc::clone(name), now);
        let mode = match self.steering.policy.preempt {
            Mode::Act => Mode::Advise,
            mode => mode,
        };
        let wall = self.ctx.wall_now();
        let evidence = plan.would_preempt.iter().filter_map(|(id, why)| {
            let held = self.table.held(*id)?;
            let (of, slot) = (&held.record.workload, held.record.slot);
            let node = self.ctx.registry[held.index].name();
            Some(Evidence::new(
                wall,
                "placement",
                format!("{of}.{slot} on {node}: {why}"),
            ))
        });
        let proposal = Proposal {
            index: None,
            node: None,
            time: wall,
            cycle: self.ctx.clock.cycle,
            rule: "higher-priority-first",
            action: format!(
                "{name}: stop {} of a lower priority to make room",
                plan.would_preempt.len()
            ),
            evidence: evidence.take(32).collect(),
            alternatives: vec![Alternative::new(
                "wait until there is room",
                format!("its priority is {}", self.priority(name)),
            )],
        };
        let decision = self.autonomy.about(name, Kind::Preempt, mode, proposal);
        self.wait_for_approval(
            mode,
            &decision,
            Wish::MakeRoom(Arc::clone(name), plan.would_preempt.clone()),
        );
        self.ctx.record_decision(None, decision);
    }

    /// An operator wants room made.
    pub(super) fn make_room(&mut self, name: Arc<str>, ids: Vec<(AssignmentId, String)>) {
        for (id, why) in ids {
            let Some(held) = self.table.held(id).filter(|held| held.is_wanted()) else {
                continue;
            };
            let workload = Arc::clone(&held.record.workload);
            self.set_goal(id, Goal::Stop, &why);
            self.steering.preemptions.push_back(self.ctx.clock.now);
            self.dirty(workload);
        }
        self.dirty(name);
    }
}
