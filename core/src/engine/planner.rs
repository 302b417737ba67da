//! Planning on a copy of the coordinator, so that a command's effects can be computed without blocking the coordinator.

use super::{Answer, Asked, Coordinator, Limit, Refusal};
use crate::{
    recycled::Recycled,
    systems::{behaviour::Behaviour, coherence::rows::Rows, telemetry::Telemetry},
};

/// A copy of the state that plans depend on: nodes, workloads and policies. Changes to it do not affect the
/// coordinator.
#[derive(Debug)]
pub struct Planner(Coordinator);

impl Coordinator {
    /// Creates a planner from the current state.
    pub fn planner(&self) -> Planner {
        Planner(self.copy())
    }

    /// Copies the state without measurements, links, timers and pending writes, which no plan reads.
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
    /// Computes the result of `command`, which must be a plan.
    ///
    /// # Errors
    /// The refusal that the coordinator would return.
    pub fn answer(mut self, command: Asked, by: &str) -> Result<Answer, Refusal> {
        match command.is_plan() {
            true => self.0.carry_out(command, by),
            false => Err(Refusal::Overloaded(Limit::stands(
                "only plans are made beside the coordinator",
            ))),
        }
    }
}
