//! Relays: what the coordinator tells a node that only its peers can reach.

use std::time::Duration;

use super::{Coordinator, Message};
use crate::{
    id::NodeId,
    node::{ConnId, NodeIndex},
    standing::{self, Standing},
    time::Time,
};

impl Coordinator {
    /// A node asks for its standing by way of a peer. What strangers ask is passed over, and so is what a peer passes on beyond
    /// its allowance: whom it is asked by is not its fault.
    pub(super) fn question(&mut self, conn: ConnId, number: u64, asker: NodeId, incarnation: u64) {
        let Some(via) = self.witness(conn, "question") else {
            return;
        };
        let asked = self.registry.find(asker);
        let (Some(index), true) = (asked, self.may_pass_on(via)) else {
            return;
        };
        // Another start of its agent, or a copy of its disk: what that holds for is not this one's.
        let same = self.registry[index].record.incarnation == incarnation;
        // A node that cannot be told of a new plan asks whom it probed before; only an observer's word says that it is there.
        if same && self.mesh.are_paired(via, index) && self.counts(via) {
            self.registry[index].relayed = Some((via, self.now));
            if self.registry[index].liveness.is_in_doubt() {
                self.judge(index);
            }
        }
        let node = &self.registry[index];
        let (admission, liveness) = (node.record.admission, node.liveness);
        let lease = match same && Standing::is_member(admission, liveness) {
            true => self.lease(index),
            false => Duration::ZERO,
        };
        if !lease.is_zero() {
            self.registry[index].lent = Some(self.now);
        }
        let epoch = self.epoch;
        let standing = Standing {
            epoch,
            admission,
            liveness,
            lease,
        };
        self.send(conn, Message::Standing { number, standing });
    }

    /// How long a node may take itself for a member after it was heard.
    pub(super) fn lease(&self, index: NodeIndex) -> Duration {
        standing::lease(self.config.cycle, self.heartbeat_interval(index))
    }

    /// By whose way it asked last, and when, if that peer can still be counted on.
    pub(super) fn relayed(&self, index: NodeIndex) -> Option<(NodeIndex, Time)> {
        self.registry[index].relayed.filter(|(via, _)| self.counts(*via))
    }
}
