//! What agents say of their peers: who may say it, and one observation after another to the Guardian Mesh.
//!
//! The session is one observer among others. A peer that misses a node says so at once; the coordinator then asks the node
//! itself ([`Message::Ping`]).

use std::time::Duration;

use super::{Coordinator, Message};
use crate::{
    behaviour::{Order, State},
    id::NodeId,
    mesh::Observation,
    node::{ConnId, Health, NodeIndex},
    standing::{Question, Standing},
    time::Time,
    workload::{Assigned, AssignmentId, Status, log},
};

impl Coordinator {
    /// The node that says something of its peers, if it has a session.
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

    /// Beacons of its peers reach an agent, or no longer do.
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

    /// An agent sees something else of its peers than before, or is otherwise than before.
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

    /// Takes in what an observer says of others. False when the plan does not have it probe all of them.
    fn sees(&mut self, observer: NodeIndex, observations: &[(NodeId, Observation)], at: Time) -> bool {
        let mut all_asked = true;
        for (subject, observation) in observations {
            let seen = self.guardian.sees(&mut self.ctx, observer, *subject, *observation, at);
            all_asked &= seen.0;
            self.conclude(seen.1);
        }
        all_asked
    }

    /// A node asks for its standing by way of a peer. What strangers ask is passed over, and so is what a peer passes on beyond
    /// its allowance: whom it is asked by is not its fault.
    pub(super) fn question(&mut self, conn: ConnId, number: u64, question: &Question, sent_millis: u64) {
        let Some(via) = self.witness(conn, "question") else {
            return;
        };
        let at = self.ctx.sent_at(via, sent_millis);
        let asked = self.ctx.registry.find(question.asker);
        let (Some(index), true) = (asked, self.guardian.may_pass_on(&mut self.ctx, via)) else {
            return;
        };
        // Another start of its agent, or a copy of its disk: what that holds for is not this one's.
        let same = self.ctx.registry[index].record.incarnation == question.incarnation;
        if let (true, Some(path)) = (same, self.guardian.path(&self.ctx, via, index, question)) {
            self.reached(via, index, &path, question, at);
        }
        let node = &self.ctx.registry[index];
        let (admission, liveness) = (node.record.admission, node.liveness);
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

    /// The asker and whoever passed its question on are there, and so is whom it hears.
    fn reached(&mut self, via: NodeIndex, asker: NodeIndex, path: &[NodeIndex], question: &Question, at: Time) {
        for &node in path.iter().chain([&asker]) {
            self.ctx.registry[node].relayed = Some((via, at));
        }
        // What a node says by its own session is newer than what a question brings that was on its way for long.
        let (guardian, said) = (&mut self.guardian, &question.observations);
        if !guardian.is_heard_well(&self.ctx, asker) && guardian.may_say(&mut self.ctx, asker, said.len()) {
            // Who cannot be told of a new plan still sees whom the one before had it probe: that is no offence.
            self.sees(asker, said, at);
        }
        for &node in path.iter().chain([&asker]) {
            if self.ctx.registry[node].liveness.is_in_doubt() {
                let transition = self.guardian.judge(&mut self.ctx, node);
                self.conclude(transition);
            }
        }
    }

    /// An agent says how its instances are.
    pub(super) fn instances(&mut self, conn: ConnId, instances: Vec<(AssignmentId, Status)>, all: bool) {
        if let Some(index) = self.witness(conn, "instances") {
            self.work.told(&mut self.ctx, index, instances, all);
        }
    }

    /// An agent says what some of its instances are for.
    pub(super) fn described(&mut self, conn: ConnId, instances: Vec<Assigned>, refused: Vec<(AssignmentId, String)>) {
        if let Some(index) = self.witness(conn, "described") {
            self.work.described(&mut self.ctx, index, instances, refused);
        }
    }

    /// An agent says what an instance wrote.
    pub(super) fn log_read(&mut self, conn: ConnId, chunk: log::Chunk) {
        if let Some(index) = self.witness(conn, "log") {
            self.work.log_read(&mut self.ctx, index, chunk);
        }
    }

    /// An agent says how a directive fares.
    pub(super) fn directive_update(&mut self, conn: ConnId, id: u64, state: State, detail: &str) {
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

    /// The agent keeps to a new heartbeat interval from now on.
    fn keeps_interval(&mut self, index: NodeIndex, interval: Duration) {
        if let Some(session) = &mut self.ctx.registry[index].session {
            session.interval = interval;
            let at = self.ctx.clock.now + self.ctx.silence_limit(index);
            self.guardian.look_later(&mut self.ctx, index, at);
        }
    }
}
