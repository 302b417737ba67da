//! Looking back: whether what was done helped.

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

/// When it is looked whether a decision helped.
const RUNS_BY: Duration = Duration::from_secs(30);
const COOLS_BY: Duration = Duration::from_secs(120);

/// Decisions that are looked at afterwards at most; further ones are not.
const CHECKED: usize = 1_024;

/// What a decision is for.
#[derive(Clone, Debug)]
pub(super) enum Aim {
    /// These slots of a workload run.
    Runs(Arc<str>, Vec<u32>),
    /// A node has less load than this, in hundredths.
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
    /// Has it looked later whether a decision helped.
    pub(super) fn check_later(&mut self, now: Time, decision: Arc<Decision>, aim: Aim) {
        let after = match aim {
            Aim::Runs(..) => RUNS_BY,
            Aim::Cools(..) => COOLS_BY,
        };
        if self.checks.len() < CHECKED {
            self.checks.push_back((now + after, decision, aim));
        }
    }

    /// Records of the decisions that are due whether they helped.
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
