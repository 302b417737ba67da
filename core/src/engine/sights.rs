//! Agents' reports about their peers: checks the sender and passes each observation to the Guardian Mesh.
//!
//! The session is one observer among others. A peer that misses a node reports it at once; the coordinator then pings
//! the node itself ([`Message::Ping`]).

use std::time::Duration;

use super::{Coordinator, Message};
use crate::{
    behaviour::{Order, State},
    id::{DirectiveId, NodeId},
    mesh::Observation,
    node::{ConnId, Health, NodeIndex},
    standing::{Question, Standing},
    time::Time,
    workload::{Assigned, AssignmentId, Status, log},
};

impl Coordinator {
    /// The reporting node, if it has a session.
    pub(super) fn witness(&mut self, conn: ConnId, what: &str) -> Option<NodeIndex> {
        let Some(observer) = self.ctx.registry.of_conn(conn) else {
            self.no_session(conn, what);
            return None;
        };
        if self.ctx.registry[observer].live_session().is_none() {
            self.invalid(conn, format!("{what}: sent before the welcome"));
            return None;
        }
        self.ctx.hear(observer);
        Some(observer)
    }

    /// Handles reports that beacons of peers reach an agent, or no longer do.
    pub(super) fn arrivals(&mut self, conn: ConnId, arrivals: &[(NodeId, bool)]) {
        let Some(receiver) = self.witness(conn, "arrivals") else {
            return;
        };
        self.ctx.send(conn, Message::Noted);
        if !self.guardian.may_say(&mut self.ctx, receiver, arrivals.len()) {
            return;
        }
        for &(sender, arrives) in arrivals {
            self.guardian.arrives(&mut self.ctx, receiver, sender, arrives);
        }
    }

    /// Handles changed observations of peers and changed health of an agent.
    pub(super) fn evidence(
        &mut self,
        conn: ConnId,
        observations: &[(NodeId, Observation)],
        health: Option<Health>,
        sent_millis: u64,
    ) {
        let Some(observer) = self.witness(conn, "sightings") else {
            return;
        };
        self.ctx.send(conn, Message::Noted);
        let at = self.ctx.sent_at(observer, sent_millis);
        if let Some(health) = health {
            self.ctx.registry[observer].health = health;
        }
        if !self.guardian.may_say(&mut self.ctx, observer, observations.len()) {
            return;
        }
        if !self.sees(observer, observations, at) {
            self.guardian.unasked(&mut self.ctx, observer);
        }
    }

    /// Applies an observer's observations. Returns false if the probe plan does not assign all of their subjects to it.
    fn sees(&mut self, observer: NodeIndex, observations: &[(NodeId, Observation)], at: Time) -> bool {
        let mut all_asked = true;
        for (subject, observation) in observations {
            let seen = self.guardian.sees(&mut self.ctx, observer, *subject, *observation, at);
            all_asked &= seen.0;
            self.conclude(seen.1);
        }
        all_asked
    }

    /// Handles a node's question about its standing, forwarded by a peer. Questions of unknown nodes are ignored, and
    /// so are questions beyond the forwarding peer's allowance, which is no offence of the peer.
    pub(super) fn question(&mut self, conn: ConnId, number: u64, question: &Question, sent_millis: u64) {
        let Some(via) = self.witness(conn, "question") else {
            return;
        };
        let at = self.ctx.sent_at(via, sent_millis);
        let asked = self.ctx.registry.find(question.asker);
        let (Some(index), true) = (asked, self.guardian.may_pass_on(&mut self.ctx, via)) else {
            return;
        };
        // A different incarnation is another start of the agent, or a copy of its disk; the standing does not apply to
        // it.
        let same = self.ctx.registry[index].record.incarnation == question.incarnation;
        if let (true, Some(path)) = (same, self.guardian.path(&self.ctx, via, index, question)) {
            self.reached(via, index, &path, question, at);
        }
        let node = &self.ctx.registry[index];
        let (admission, liveness) = (node.record.admission, node.liveness());
        let lease = match same && Standing::is_member(admission, liveness) {
            true => self.ctx.lease(index),
            false => Duration::ZERO,
        };
        if !lease.is_zero() {
            self.ctx.registry[index].lent = Some(self.ctx.clock.now);
        }
        let epoch = self.ctx.term.epoch;
        let standing = Standing {
            epoch,
            admission,
            liveness,
            lease,
        };
        self.ctx.send(conn, Message::Standing { number, standing });
    }

    /// Records that the asker, the forwarding peers and the nodes heard by the asker are alive.
    fn reached(&mut self, via: NodeIndex, asker: NodeIndex, path: &[NodeIndex], question: &Question, at: Time) {
        for &node in path.iter().chain([&asker]) {
            self.ctx.registry[node].relayed = Some((via, at));
        }
        // Observations from a node's own session are newer than those in a question that was in transit for long.
        let (guardian, said) = (&mut self.guardian, &question.observations);
        if !guardian.is_heard_well(&self.ctx, asker) && guardian.may_say(&mut self.ctx, asker, said.len()) {
            // A node that cannot receive a new plan still probes by the previous one; that is no offence.
            self.sees(asker, said, at);
        }
        for &node in path.iter().chain([&asker]) {
            if self.ctx.registry[node].liveness().is_in_doubt() {
                let transition = self.guardian.judge(&mut self.ctx, node);
                self.conclude(transition);
            }
        }
    }

    /// Handles an agent's report of its instances' state.
    pub(super) fn instances(&mut self, conn: ConnId, instances: Vec<(AssignmentId, Status)>, all: bool) {
        if let Some(index) = self.witness(conn, "instances") {
            self.work.told(&mut self.ctx, index, instances, all);
        }
    }

    /// Handles an agent's descriptions of instances.
    pub(super) fn described(&mut self, conn: ConnId, instances: Vec<Assigned>, refused: Vec<(AssignmentId, String)>) {
        if let Some(index) = self.witness(conn, "described") {
            self.work.described(&mut self.ctx, index, instances, refused);
        }
    }

    /// Handles an agent's log chunk of an instance.
    pub(super) fn log_read(&mut self, conn: ConnId, chunk: log::Chunk) {
        if let Some(index) = self.witness(conn, "log") {
            self.work.log_read(&mut self.ctx, index, chunk);
        }
    }

    /// Handles an agent's report on the state of a directive.
    pub(super) fn directive_update(&mut self, conn: ConnId, id: DirectiveId, state: State, detail: &str) {
        let Some(index) = self.ctx.registry.of_conn(conn) else {
            self.no_session(conn, "directive");
            return;
        };
        if state < State::Acknowledged || state == State::Expired {
            self.invalid(
                conn,
                format!("directive.state: {} is not for an agent to report", state.name()),
            );
            return;
        }
        if let Some(Order::SetHeartbeat(interval)) = self.behaviour.update(&mut self.ctx, index, id, state, detail) {
            self.keeps_interval(index, interval);
        }
    }

    /// Applies a new heartbeat interval that the agent has confirmed.
    fn keeps_interval(&mut self, index: NodeIndex, interval: Duration) {
        if let Some(session) = &mut self.ctx.registry[index].session {
            session.interval = interval;
            let at = self.ctx.clock.now + self.ctx.silence_limit(index);
            self.guardian.look_later(&mut self.ctx, index, at);
        }
    }
}
