//! Conclusions: what a node's new liveness means, carried out in every system before the next question is asked.

use super::{Coordinator, Timer};
use crate::{
    autonomy::{Alternative, Evidence, Proposal},
    node::{Admission, Cause, Liveness, NodeIndex},
    systems::guardian::Transition,
};

impl Coordinator {
    /// Carries out what follows from a transition: the decision with its evidence, timers, telemetry, the session, the mesh, and work.
    pub(super) fn conclude(&mut self, transition: Option<Transition>) {
        let Some(mut transition) = transition else { return };
        let (index, from, to) = (transition.node, transition.from, transition.to);
        self.decide_liveness(index, to, std::mem::take(&mut transition.evidence));
        if from == to {
            self.node_changed(index);
            return;
        }
        self.guardian.follow(&mut self.ctx, &transition);
        if from == Liveness::Online {
            self.matrix.silence(index);
        }
        if to == Liveness::Offline {
            self.drop_session(index);
        }
        self.guardian.follow_in_mesh(&mut self.ctx, &transition);
        self.node_changed(index);
    }

    /// Concludes that a node's liveness is `to`.
    pub(super) fn transition(&mut self, index: NodeIndex, to: Liveness, cause: Cause, evidence: Vec<Evidence>) {
        let transition = self.guardian.transition(&mut self.ctx, index, to, cause, evidence);
        self.conclude(transition);
    }

    /// Looks at a node whose silence may have lasted too long.
    pub(super) fn look_at(&mut self, index: NodeIndex, token: u64) {
        let transition = self.guardian.look_at(&mut self.ctx, index, token);
        self.conclude(transition);
    }

    /// The grace period after a start is over.
    pub(super) fn give_up_unseen(&mut self) {
        let over = self.ctx.clock.resumed_at + self.ctx.config.restart_grace;
        if over > self.ctx.clock.now {
            self.ctx.timers.set(over, Timer::RestartGrace);
            return;
        }
        let nodes = self.ctx.registry.iter();
        let unseen = nodes.filter(|(_, node)| node.liveness == Liveness::Unseen && node.session.is_none());
        let unseen: Vec<NodeIndex> = unseen.map(|(index, _)| index).collect();
        for index in unseen {
            let transition = self.guardian.give_up_unseen(&mut self.ctx, index);
            self.conclude(transition);
        }
    }

    fn decide_liveness(&mut self, index: NodeIndex, to: Liveness, evidence: Vec<Evidence>) {
        let node = &self.ctx.registry[index];
        let admitted = node.record.admission == Admission::Admitted;
        let idle = self.table.of_node(index).next().is_none();
        let (rule, conclusion, alternative) = match (to, node.cause) {
            (Liveness::Suspect, Cause::Flapping) => FLAPPING,
            (Liveness::Left, Cause::Revoked) => REVOKED,
            _ => verdict(to),
        };
        let conclusion = match (admitted, to) {
            (false, Liveness::Online | Liveness::Suspect | Liveness::Unreachable) => UNADMITTED,
            (false, Liveness::Offline) if idle => UNADMITTED,
            _ => conclusion,
        };
        let proposal = Proposal {
            index: Some(index),
            node: Some(node.record.id()),
            time: self.ctx.wall_now(),
            cycle: self.ctx.clock.cycle,
            rule,
            action: format!("{} {}: {conclusion}", node.name(), to.predicate()),
            evidence,
            alternatives: alternative
                .map(|(action, because)| Alternative::new(action, because))
                .into_iter()
                .collect(),
        };
        let settled = matches!(to, Liveness::Online | Liveness::Left);
        for decision in self.autonomy.liveness(index, proposal, settled) {
            self.ctx.record_decision(Some(index), decision);
        }
    }
}

/// Conclusion for a node that an operator has not admitted: nothing is placed on it, and nothing of it is moved.
const UNADMITTED: &str = "it is not admitted and takes no part";

/// The rule that leads to a liveness, what follows from it, and what else could have been concluded.
type Verdict = (&'static str, &'static str, Option<(&'static str, &'static str)>);

/// Verdict on a node that is heard, and came back too often to be counted on at once.
const FLAPPING: Verdict = (
    "flapping",
    "no new work would be placed on it until it has been heard for long enough",
    Some(("count it as online", "it came back often, and may be gone again")),
);

/// Verdict on a node that an operator shut out.
const REVOKED: Verdict = ("revoked", "it takes no part until it is admitted again", None);

fn verdict(to: Liveness) -> Verdict {
    match to {
        Liveness::Online => ("session-alive", "it takes part", None),
        Liveness::Suspect => (
            "session-lost",
            "no new work would be placed on it until it is heard again",
            Some((
                "declare it offline",
                "a lost session alone does not prove a dead machine",
            )),
        ),
        Liveness::Offline => (
            "nobody-hears-it",
            "its work is to be placed elsewhere, as the mode of `heal` allows",
            Some((
                "wait longer",
                "nobody who would know has heard it for longer than it may stand still",
            )),
        ),
        Liveness::Left => ("goodbye", "nothing is expected of it", None),
        Liveness::Unreachable => (
            "peers-hear-it",
            "nothing would be moved",
            Some(("declare it offline", "its peers still hear it")),
        ),
        Liveness::Unseen => ("restart", "it is waited for", None),
    }
}
