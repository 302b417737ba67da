//! Liveness: how it changes, and whom that concerns. What it should be is concluded in `verdict.rs`.

use std::{sync::Arc, time::Duration};

use super::{Coordinator, Timer};
use crate::{
    autonomy::{Alternative, Evidence, Proposal},
    event::EventBody,
    node::{Admission, Cause, Liveness, Node, NodeIndex, NodeRecord},
    text::Span,
};

/// How long a return counts.
const LATELY: Duration = Duration::from_secs(300);

/// Returns that make the wait for a steady node longer at most: 4 s become 256 s.
const RETURNS: u32 = 3;

/// From so many returns on, a node flaps.
const FLAPS: u32 = 3;

impl Coordinator {
    /// Takes in what the store kept: departed nodes as they were, all others as unseen.
    pub(super) fn recall(&mut self, records: Vec<Arc<NodeRecord>>) {
        let (now, wall) = (self.ctx.clock.now, self.ctx.wall_now());
        for record in records {
            let drain_lived = record.drain_lived;
            let index = self.ctx.registry.add(record.id(), || Node::new(record, wall, now));
            if let Some(by) = drain_lived {
                // The clock may have been set meanwhile.
                self.ctx.registry[index].drain_until = Some(now + by.saturating_sub(self.ctx.lived()));
            }
            self.matrix.add(index);
        }
        self.ctx
            .timers
            .set(now + self.ctx.config.restart_grace, Timer::RestartGrace);
        self.replan();
    }

    /// The grace period after a start is over.
    pub(super) fn give_up_unseen(&mut self) {
        let over = self.ctx.clock.resumed_at + self.ctx.config.restart_grace;
        if over > self.ctx.clock.now {
            self.ctx.timers.set(over, Timer::RestartGrace);
            return;
        }
        let unseen: Vec<NodeIndex> = self
            .ctx
            .registry
            .iter()
            .filter(|(_, node)| node.liveness == Liveness::Unseen && node.session.is_none())
            .map(|(index, _)| index)
            .collect();
        for index in unseen {
            let grace = self.ctx.config.restart_grace;
            let fact = format!("not back {} after the coordinator started", Span(grace));
            let evidence = vec![
                self.last_heard(index),
                Evidence::new(self.ctx.wall_now(), "session", fact),
            ];
            // What its peers see of it says whether it is gone.
            self.transition(index, Liveness::Suspect, Cause::UnseenSinceRestart, evidence);
        }
    }

    /// A node that is not online gave a sign of life: it is online at once when nothing speaks against it (`anew`: its agent was
    /// started again), and when it was heard for long enough otherwise.
    pub(super) fn heard_again(&mut self, index: NodeIndex, anew: bool, fact: String) {
        let now = self.ctx.clock.now;
        let returns = self.returns_lately(index);
        let (steady, wait) = (self.ctx.config.rules.steady, self.steady_wait(index));
        let evidence = vec![Evidence::new(self.ctx.wall_now(), "session", fact)];
        let node = &mut self.ctx.registry[index];
        let steady_since = *node.steady_since.get_or_insert(now);
        if steady_since == now {
            self.ctx.show_instances(index);
        }
        let node = &mut self.ctx.registry[index];
        let at_once = match node.liveness {
            Liveness::Online => return,
            Liveness::Unseen | Liveness::Left => true,
            Liveness::Offline => returns == 0,
            Liveness::Suspect | Liveness::Unreachable => anew && returns == 0,
        };
        if at_once {
            self.transition(index, Liveness::Online, Cause::Heartbeat, evidence);
        } else if node.liveness == Liveness::Offline {
            self.quarantine(index, wait, evidence);
        } else if now.since(steady_since) >= wait {
            let tally = self.tally(index);
            if !self.is_missed(index, &tally) {
                self.transition(index, Liveness::Online, Cause::Heartbeat, evidence);
            }
        } else if returns > 0 && now.since(steady_since) >= steady {
            self.quarantine(index, wait, evidence);
        }
    }

    /// A node that came back lately is heard again: it is `suspect` until it has been heard for `wait`. Where it was not offline, this is concluded once
    /// it has been heard for a few seconds, so that a link which comes and goes makes no more transitions.
    fn quarantine(&mut self, index: NodeIndex, wait: Duration, mut evidence: Vec<Evidence>) {
        let node = &mut self.ctx.registry[index];
        if node.cause == Cause::Flapping && node.liveness == Liveness::Suspect {
            return;
        }
        let fact = format!(
            "returns within {}: {}; it is online again once it is heard for {} without a break",
            Span(LATELY),
            node.returns.0,
            Span(wait)
        );
        evidence.push(Evidence::new(self.ctx.wall_now(), "session", fact));
        if self.ctx.registry[index].liveness != Liveness::Suspect {
            return self.transition(index, Liveness::Suspect, Cause::Flapping, evidence);
        }
        // Still in doubt, and for another reason.
        let node = &mut self.ctx.registry[index];
        (node.cause, node.since) = (Cause::Flapping, self.ctx.clock.now);
        self.decide_liveness(index, Liveness::Suspect, evidence);
        self.node_changed(index);
    }

    /// How often the node came back lately, [`RETURNS`] at most.
    fn returns_lately(&self, index: NodeIndex) -> u32 {
        let (returns, last) = self.ctx.registry[index].returns;
        if self.ctx.clock.now.since(last) < LATELY {
            returns
        } else {
            0
        }
    }

    /// How long a node in doubt must be heard without a break to be online again.
    fn steady_wait(&self, index: NodeIndex) -> Duration {
        self.ctx.config.rules.steady * 4u32.pow(self.returns_lately(index))
    }

    /// True when it came and went often, or is in quarantine for longer than it would be had it stayed.
    pub(super) fn flaps(&self, index: NodeIndex) -> bool {
        let node = &self.ctx.registry[index];
        let in_quarantine = node.liveness == Liveness::Suspect && node.cause == Cause::Flapping;
        let outstays = || self.ctx.clock.now.since(node.since) > self.steady_wait(index) + self.silence_limit(index);
        self.returns_lately(index) >= FLAPS || (in_quarantine && outstays())
    }

    /// Looks at a node whose silence may have lasted too long.
    pub(super) fn look_at(&mut self, index: NodeIndex, token: u64) {
        let node = &self.ctx.registry[index];
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
        let node = &mut self.ctx.registry[index];
        node.timer += 1;
        self.ctx.timers.set(at, Timer::Liveness(index, node.timer));
    }

    /// Concludes that a node's liveness is `to`: the record, the decision with its evidence, the timers, and whom it
    /// concerns in the other systems. Concluding what is so already changes nothing.
    pub(super) fn transition(&mut self, index: NodeIndex, to: Liveness, cause: Cause, evidence: Vec<Evidence>) {
        let wall = self.ctx.wall_now();
        let now = self.ctx.clock.now;
        let node = &mut self.ctx.registry[index];
        let known_before = node.liveness != Liveness::Unseen;
        let from = node.liveness;
        if from == to {
            return;
        }
        let came_back =
            to == Liveness::Online && matches!(from, Liveness::Suspect | Liveness::Unreachable | Liveness::Offline);
        if came_back {
            let returns = self.returns_lately(index);
            self.ctx.registry[index].returns = ((returns + 1).min(RETURNS), now);
        }
        let node = &mut self.ctx.registry[index];
        if to == Liveness::Online || from == Liveness::Online {
            node.steady_since = None;
        }
        (node.liveness, node.cause, node.liveness_since, node.since) = (to, cause, wall, now);
        self.ctx.concluded(index);
        let node = &mut self.ctx.registry[index];
        let departed = matches!(to, Liveness::Offline | Liveness::Left).then_some((to, cause, wall));
        if node.record.departed != departed {
            Arc::make_mut(&mut node.record).departed = departed;
            self.ctx.keep(index);
        }
        let name = self.ctx.registry[index].name().to_owned();
        let summary = format!("{name} {}: {}", to.predicate(), cause.meaning());
        self.ctx.record(
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

    /// What a transition means for timers, telemetry and mesh.
    fn concerns(&mut self, index: NodeIndex, from: Liveness, to: Liveness) {
        let now = self.ctx.clock.now;
        match to {
            Liveness::Online => {
                let at = self.ctx.clock.now + self.silence_limit(index);
                self.look_later(index, at);
            }
            // What is known already may be enough.
            Liveness::Suspect | Liveness::Unreachable => self.look_later(index, self.ctx.clock.now),
            _ => {}
        }
        if from == Liveness::Online {
            self.matrix.silence(index);
        }
        if to == Liveness::Offline {
            self.drop_session(index);
            self.fallen.push((now, index));
        }
        let in_mesh = |liveness| !matches!(liveness, Liveness::Offline | Liveness::Left);
        if in_mesh(from) && !in_mesh(to) {
            self.mesh.silence(index);
        } else {
            self.mesh.mute(index, to != Liveness::Online);
        }
        if in_mesh(from) != in_mesh(to) || to == Liveness::Online {
            self.plan_soon();
        }
        self.node_changed(index);
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
