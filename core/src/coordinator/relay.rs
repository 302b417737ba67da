//! Relays: what the coordinator tells a node that only its peers can reach, and what it learns of that node's own peers.

use std::time::Duration;

use super::{Coordinator, Message};
use crate::{
    node::{ConnId, NodeIndex},
    standing::{self, Question, Standing},
    time::Time,
};

impl Coordinator {
    /// A node asks for its standing by way of a peer. What strangers ask is passed over, and so is what a peer passes on beyond
    /// its allowance: whom it is asked by is not its fault.
    pub(super) fn question(&mut self, conn: ConnId, number: u64, question: &Question, sent_millis: u64) {
        let Some(via) = self.witness(conn, "question") else {
            return;
        };
        let at = self.sent_at(via, sent_millis);
        let asked = self.ctx.registry.find(question.asker);
        let (Some(index), true) = (asked, self.may_pass_on(via)) else {
            return;
        };
        // Another start of its agent, or a copy of its disk: what that holds for is not this one's.
        let same = self.ctx.registry[index].record.incarnation == question.incarnation;
        if let (true, Some(path)) = (same, self.path(via, index, question)) {
            self.reached(via, index, &path, question, at);
        }
        let node = &self.ctx.registry[index];
        let (admission, liveness) = (node.record.admission, node.liveness);
        let lease = match same && Standing::is_member(admission, liveness) {
            true => self.lease(index),
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

    /// The nodes that passed a question on before `via`, if each was asked by a node that it observes or is observed by. A node that cannot be
    /// told of a new plan asks whom it probed before; only an observer's word says that it is there.
    fn path(&self, via: NodeIndex, asker: NodeIndex, question: &Question) -> Option<Vec<NodeIndex>> {
        if !self.vouches(via) {
            return None;
        }
        let path = question.path.iter().map(|node| self.ctx.registry.find(*node));
        let path: Vec<NodeIndex> = path.collect::<Option<_>>()?;
        let chain: Vec<NodeIndex> = [asker].into_iter().chain(path.iter().copied()).chain([via]).collect();
        let are_paired = |pair: &[NodeIndex]| self.mesh.are_paired(pair[0], pair[1]);
        chain.windows(2).all(are_paired).then_some(path)
    }

    /// The asker and whoever passed its question on are there, and so is whom it hears.
    fn reached(&mut self, via: NodeIndex, asker: NodeIndex, path: &[NodeIndex], question: &Question, at: Time) {
        for &node in path.iter().chain([&asker]) {
            self.ctx.registry[node].relayed = Some((via, at));
        }
        // What a node says by its own session is newer than what a question brings that was on its way for long.
        if !self.is_heard_well(asker) && self.may_say(asker, question.observations.len()) {
            for (subject, observation) in &question.observations {
                // Who cannot be told of a new plan still sees whom the one before had it probe: that is no offence.
                self.sees(asker, *subject, *observation, at);
            }
        }
        for &node in path.iter().chain([&asker]) {
            if self.ctx.registry[node].liveness.is_in_doubt() {
                self.judge(node);
            }
        }
    }

    /// How long a node may take itself for a member after it was heard.
    pub(super) fn lease(&self, index: NodeIndex) -> Duration {
        standing::lease(self.ctx.config.cycle, self.heartbeat_interval(index))
    }

    /// By whose way it asked last, and when, if that peer can still be counted on.
    pub(super) fn relayed(&self, index: NodeIndex) -> Option<(NodeIndex, Time)> {
        self.ctx.registry[index]
            .relayed
            .filter(|(via, _)| self.is_heard_well(*via))
    }

    /// True when the node asks by way of its peers now.
    pub(super) fn is_reached(&self, index: NodeIndex) -> bool {
        self.relayed(index)
            .is_some_and(|(_, at)| self.ctx.clock.now.since(at) < self.ctx.config.rules.asked_for)
    }
}
