//! Plans, made beside the coordinator: what a command would do is worked out on a copy, for as long as it takes.

use super::{Answer, Command, Coordinator, Limit, Refusal};
use crate::{
    recycled::Recycled,
    systems::{behaviour::Behaviour, coherence::rows::Rows, telemetry::Telemetry},
};

/// A copy of what plans rest on: nodes, workloads, policies. Nothing that happens to it reaches the coordinator.
#[derive(Debug)]
pub struct Planner(Coordinator);

impl Coordinator {
    /// A copy to plan with, as everything is now.
    pub fn planner(&self) -> Planner {
        Planner(self.copy())
    }

    /// A copy without what no plan looks at: measurements, links, timers, and what is to be written.
    fn copy(&self) -> Coordinator {
        Coordinator {
            ctx: self.ctx.to_plan_with(),
            admissions: self.admissions.clone(),
            autonomy: self.autonomy.to_plan_with(self.ctx.term.epoch),
            work: self.work.to_plan_with(),
            predictive: self.predictive.to_plan_with(),
            telemetry: Telemetry::new(self.ctx.config.history),
            guardian: self.guardian.to_plan_with(self.ctx.config.seed),
            behaviour: Behaviour::new(self.ctx.term.epoch),
            rows: Rows::default(),
            details: Recycled::default(),
            ..*self
        }
    }
}

impl Clone for Planner {
    fn clone(&self) -> Planner {
        Planner(self.0.copy())
    }
}

impl Planner {
    /// What `command` would do; anything but a plan is refused.
    ///
    /// # Errors
    /// The refusal that the coordinator would answer with.
    pub fn answer(mut self, command: Command, by: &str) -> Result<Answer, Refusal> {
        match command.is_plan() {
            true => self.0.carry_out(command, by),
            false => Err(Refusal::Overloaded(Limit::stands(
                "only plans are made beside the coordinator",
            ))),
        }
    }
}
