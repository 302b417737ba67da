//! Consequences of liveness transitions, applied to every system before the next input is handled.

use super::{Coordinator, Timer};
use crate::{
    autonomy::Evidence,
    node::{Cause, Liveness, NodeIndex},
    systems::guardian::Transition,
};

impl Coordinator {
    /// Applies a transition: the decision and its evidence, timers, telemetry, the session, the mesh and work.
    pub(super) fn conclude(&mut self, transition: Option<Transition>) {
        let Some(mut transition) = transition else { return };
        let (index, from, to) = (transition.node, transition.from, transition.to);
        let idle = self.work.table().of_node(index).next().is_none();
        let evidence = std::mem::take(&mut transition.evidence);
        let verdict = (to, transition.event, evidence);
        let decision = self.autonomy.liveness(&mut self.ctx, index, verdict, idle);
        self.guardian.decided(&mut self.ctx, &transition, decision);
        if from == to {
            self.work.node_changed(&mut self.ctx, index);
            return;
        }
        self.guardian.follow(&mut self.ctx, &transition);
        if from == Liveness::Online {
            self.telemetry.matrix_mut().silence(index);
        }
        if to == Liveness::Offline {
            self.drop_session(index);
        }
        self.guardian.follow_in_mesh(&mut self.ctx, &transition);
        self.work.node_changed(&mut self.ctx, index);
    }

    /// Changes a node's liveness to `to` and applies the consequences.
    pub(super) fn transition(&mut self, index: NodeIndex, to: Liveness, cause: Cause, evidence: Vec<Evidence>) {
        let transition = self.guardian.transition(&mut self.ctx, index, to, cause, evidence);
        self.conclude(transition);
    }

    /// Re-evaluates the liveness of a node after a period of silence.
    pub(super) fn look_at(&mut self, index: NodeIndex, token: u64) {
        let transition = self.guardian.look_at(&mut self.ctx, index, token);
        self.conclude(transition);
    }

    /// Ends the restart grace period: nodes still unseen are given up.
    pub(super) fn give_up_unseen(&mut self) {
        let over = self.ctx.clock.resumed_at + self.ctx.config.restart_grace;
        if over > self.ctx.clock.now {
            self.ctx.timers.set(over, Timer::RestartGrace);
            return;
        }
        let nodes = self.ctx.registry.iter();
        let unseen = nodes.filter(|(_, node)| node.liveness() == Liveness::Unseen && node.session.is_none());
        let unseen: Vec<NodeIndex> = unseen.map(|(index, _)| index).collect();
        for index in unseen {
            let transition = self.guardian.give_up_unseen(&mut self.ctx, index);
            self.conclude(transition);
        }
    }
}
