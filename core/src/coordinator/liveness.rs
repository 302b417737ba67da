//! Liveness: how it changes, and whom that concerns. What it should be is concluded in `verdict.rs`.

use std::sync::Arc;

use super::{Coordinator, Timer};
use crate::{
    autonomy::{Alternative, Evidence, Proposal},
    event::EventBody,
    node::{Cause, Liveness, Node, NodeIndex, NodeRecord},
};

impl Coordinator {
    /// Takes in what the store kept: departed nodes as they were, all others as unseen.
    pub(super) fn recall(&mut self, records: Vec<Arc<NodeRecord>>) {
        let (now, wall) = (self.now, self.wall_now());
        for record in records {
            let unseen = (Liveness::Unseen, Cause::UnseenSinceRestart, wall);
            let (liveness, cause, liveness_since) = record.departed.unwrap_or(unseen);
            let index = self.registry.add(record.id(), || Node {
                record,
                liveness,
                cause,
                liveness_since,
                since: now,
                last_seen: None,
                session: None,
                asked: None,
                ended_by_peer: false,
                timer: 0,
            });
            self.matrix.add(index);
        }
        self.timers.set(now + self.config.restart_grace, Timer::RestartGrace);
    }

    /// The grace period after a start is over.
    pub(super) fn give_up_unseen(&mut self) {
        let over = self.resumed_at + self.config.restart_grace;
        if over > self.now {
            self.timers.set(over, Timer::RestartGrace);
            return;
        }
        let unseen: Vec<NodeIndex> = self
            .registry
            .iter()
            .filter(|(_, node)| node.liveness == Liveness::Unseen && node.session.is_none())
            .map(|(index, _)| index)
            .collect();
        for index in unseen {
            let grace = self.config.restart_grace;
            let fact = format!("not back {grace:?} after the coordinator started");
            let evidence = vec![self.last_heard(index), Evidence::new(self.wall_now(), "session", fact)];
            self.transition(index, Liveness::Offline, Cause::UnseenSinceRestart, evidence);
        }
    }

    /// Looks at a node whose silence may have lasted too long.
    pub(super) fn look_at(&mut self, index: NodeIndex, token: u64) {
        let node = &self.registry[index];
        if node.timer != token {
            return;
        }
        match node.liveness {
            Liveness::Online => self.look_at_online(index),
            Liveness::Suspect | Liveness::Unreachable => self.judge(index),
            Liveness::Unseen | Liveness::Offline | Liveness::Left => {}
        }
    }

    pub(super) fn look_later(&mut self, index: NodeIndex, at: crate::time::Time) {
        let node = &mut self.registry[index];
        node.timer += 1;
        self.timers.set(at, Timer::Liveness(index, node.timer));
    }

    /// Concludes that a node's liveness is `to`: the record, the decision with its evidence, the timers, and whom it
    /// concerns in the other systems. Concluding what is so already changes nothing.
    pub(super) fn transition(&mut self, index: NodeIndex, to: Liveness, cause: Cause, evidence: Vec<Evidence>) {
        let wall = self.wall_now();
        let now = self.now;
        let node = &mut self.registry[index];
        let known_before = node.record.departed.is_some() || node.liveness != Liveness::Unseen;
        let from = node.liveness;
        if from == to {
            return;
        }
        (node.liveness, node.cause, node.liveness_since, node.since) = (to, cause, wall, now);
        let departed = matches!(to, Liveness::Offline | Liveness::Left).then_some((to, cause, wall));
        if node.record.departed != departed {
            Arc::make_mut(&mut node.record).departed = departed;
            self.keep(index);
        }
        let name = self.registry[index].name().to_owned();
        let summary = format!("{name} is {}: {}", to.name(), cause.meaning());
        self.record(
            Some(index),
            summary,
            EventBody::Liveness {
                from: known_before.then_some(from),
                to,
                cause,
            },
        );
        self.decide_liveness(index, to, evidence);
        self.concerns(index, from, to);
    }

    fn decide_liveness(&mut self, index: NodeIndex, to: Liveness, evidence: Vec<Evidence>) {
        let node = &self.registry[index];
        let (rule, conclusion, alternative) = verdict(to);
        let proposal = Proposal {
            index,
            node: node.record.id(),
            time: self.wall_now(),
            cycle: self.cycle,
            rule,
            action: format!("{} is {}: {conclusion}", node.name(), to.name()),
            evidence,
            alternatives: alternative
                .map(|(action, because)| Alternative::new(action, because))
                .into_iter()
                .collect(),
        };
        let settled = matches!(to, Liveness::Online | Liveness::Left);
        for decision in self.autonomy.liveness(proposal, settled) {
            self.record_decision(index, decision);
        }
    }

    /// What a transition means for timers, telemetry and mesh.
    fn concerns(&mut self, index: NodeIndex, from: Liveness, to: Liveness) {
        match to {
            Liveness::Online => {
                let at = self.now + self.silence_limit(index);
                self.look_later(index, at);
            }
            // What is known already may be enough.
            Liveness::Suspect | Liveness::Unreachable => self.look_later(index, self.now),
            _ => {}
        }
        if from == Liveness::Online {
            self.matrix.silence(index);
            self.mesh.silence(index);
        }
        if to == Liveness::Offline {
            self.drop_session(index);
        }
        let in_mesh = |liveness| matches!(liveness, Liveness::Online | Liveness::Suspect | Liveness::Unreachable);
        if in_mesh(from) != in_mesh(to) || to == Liveness::Online {
            self.plan_soon();
        }
    }
}

/// The rule that leads to a liveness, what follows from it, and what else could have been concluded.
fn verdict(to: Liveness) -> (&'static str, &'static str, Option<(&'static str, &'static str)>) {
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
            "its work would be placed elsewhere",
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
