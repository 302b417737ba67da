//! The probe plan: which node observes which, and how often.

use std::{collections::BTreeSet, time::Duration};

use super::Guardian;
use crate::{
    ctx::Ctx,
    ctx::alarm::Timer,
    id::NodeId,
    mesh::OBSERVERS,
    node::{Admission, Liveness, Node, NodeIndex},
    protocol::{Message, ProbePlan},
};

/// Delay before the plan is recomputed after a membership change: short in a cluster of up to `SMALL` nodes, longer in
/// a larger one to batch changes.
const PLAN_SOON: Duration = Duration::from_millis(100);
const PLAN_LATER: Duration = Duration::from_secs(1);
const SMALL: usize = 1_000;

impl Guardian {
    /// Schedules a recomputation of the plan after a membership change.
    pub(crate) fn plan_soon(&mut self, ctx: &mut Ctx) {
        if !self.planning {
            self.planning = true;
            let wait = if ctx.registry.len() <= SMALL {
                PLAN_SOON
            } else {
                PLAN_LATER
            };
            ctx.timers.set(ctx.clock.now + wait, Timer::Plan);
        }
    }

    pub(crate) fn replan(&mut self, ctx: &mut Ctx) {
        self.planning = false;
        let takes_part = |node: &Node| {
            matches!(
                node.liveness(),
                Liveness::Unseen | Liveness::Online | Liveness::Suspect | Liveness::Unreachable
            ) && !node.record.facts.probe_address.is_empty()
                && node.record.admission == Admission::Admitted
        };
        let members: Vec<(NodeIndex, NodeId)> = ctx
            .registry
            .iter()
            .filter(|(_, node)| takes_part(node))
            .map(|(index, node)| (index, node.record.id()))
            .collect();
        let changed: BTreeSet<NodeIndex> = self.mesh.replan(&members).into_iter().collect();
        for index in changed {
            if let Some(conn) = ctx.registry[index].live_session().map(|session| session.conn) {
                let plan = self.probe_plan(ctx, index);
                ctx.send(conn, Message::ProbePlan(plan));
            }
        }
    }

    pub(crate) fn probe_plan(&self, ctx: &Ctx, index: NodeIndex) -> ProbePlan {
        let targets = self.mesh.subjects(index).iter().map(|&subject| {
            let facts = &ctx.registry[subject].record.facts;
            (facts.id, facts.probe_address.clone())
        });
        let observers = self.mesh.observers_of(index).iter();
        let observers = observers.map(|&observer| ctx.registry[observer].record.id());
        ProbePlan {
            version: self.mesh.version(),
            interval: self.probe_interval(ctx, index),
            targets: targets.collect(),
            observers: observers.collect(),
        }
    }

    /// Probe interval of a node for each of its subjects. In a small cluster each node has few observers, which probe
    /// more often, so that every node is probed equally often in any cluster.
    fn probe_interval(&self, ctx: &Ctx, index: NodeIndex) -> Duration {
        let subjects = self.mesh.subjects(index).iter();
        let fewest = subjects.map(|&subject| self.mesh.observers_of(subject).len()).min();
        let fewest = fewest.unwrap_or(OBSERVERS).clamp(1, OBSERVERS);
        ctx.config.probe_interval * fewest as u32 / OBSERVERS as u32
    }
}
