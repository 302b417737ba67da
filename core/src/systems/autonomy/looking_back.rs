//! Evaluation of executed decisions: whether they helped.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::Autonomy;
use crate::{
    autonomy::{Decision, Outcome},
    ctx::Ctx,
    node::NodeIndex,
    systems::{fleet::Cluster, predictive::Predictive},
    time::Time,
    workload::{Goal, Phase, Table},
};

/// Delay after which a decision is evaluated.
const RUNS_BY: Duration = Duration::from_secs(30);
const COOLS_BY: Duration = Duration::from_secs(120);

/// Maximum number of decisions awaiting evaluation; further ones are not evaluated.
const CHECKED: usize = 1_024;

/// The goal of a decision.
#[derive(Clone, Debug)]
pub(super) enum Aim {
    /// The listed slots of a workload run.
    Runs(Arc<str>, Vec<u32>),
    /// A node's load falls below this value, in percent.
    Cools(NodeIndex, u32),
}

impl Aim {
    fn is_reached(&self, cluster: Cluster<'_>) -> bool {
        match self {
            Aim::Runs(name, slots) => cluster.table.declared(name).is_none_or(|declared| {
                slots.iter().all(|slot| {
                    cluster.table.instances(declared).any(|held| {
                        let runs = held.status.phase == Phase::Running || held.status.complete;
                        held.record.slot == *slot && held.record.goal == Goal::Run && runs
                    })
                })
            }),
            Aim::Cools(index, before) => cluster.heat(*index) < *before,
        }
    }
}

impl Autonomy {
    /// Schedules the evaluation of a decision.
    pub(super) fn check_later(&mut self, now: Time, decision: Arc<Decision>, aim: Aim) {
        let after = match aim {
            Aim::Runs(..) => RUNS_BY,
            Aim::Cools(..) => COOLS_BY,
        };
        if self.checks.len() < CHECKED {
            self.checks.push_back((now + after, decision, aim));
        }
    }

    /// Evaluates the decisions that are due and records the outcomes.
    pub(crate) fn look_back(&mut self, ctx: &mut Ctx, table: &Table, predictive: &Predictive) {
        let now = ctx.clock.now;
        let checks = std::mem::take(&mut self.checks).into_iter();
        let (due, later): (VecDeque<_>, VecDeque<_>) = checks.partition(|(at, ..)| *at <= now);
        self.checks = later;
        for (_, decision, aim) in due {
            let outcome = match aim.is_reached(Cluster { ctx, table, predictive }) {
                true => Outcome::Helped,
                false => Outcome::DidNotHelp,
            };
            self.becomes(ctx, &decision, outcome);
        }
    }
}
