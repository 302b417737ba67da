//! Assignments for a node, in messages that are bounded in bytes.

use crate::{
    limits,
    protocol::Work,
    workload::{Assigned, AssignmentId, size},
};

/// Instances that one message assigns at most, and messages that a node is sent at once.
const ASSIGNED: usize = 32;
const MESSAGES: usize = 8;

/// Bytes around what a message lists.
const ENVELOPE: usize = 64;

/// Bytes that a node is sent at once: one message of the largest kind, or several small ones. Every declaration fits.
const AT_ONCE: usize = limits::NODE_MESSAGE - MESSAGES * ENVELOPE;

/// Messages that are being filled. What has no room any more is to be sent later.
#[derive(Debug)]
pub(crate) struct Parcels {
    done: Vec<Work>,
    open: Work,
    /// Bytes that may still be added to all of them together.
    room: usize,
}

impl Parcels {
    /// Empty ones.
    pub(crate) fn new() -> Parcels {
        Parcels {
            done: Vec::new(),
            open: Work::default(),
            room: AT_ONCE,
        }
    }

    fn takes(&mut self, bytes: usize) -> bool {
        let takes = bytes <= self.room && self.done.len() < MESSAGES;
        if takes {
            self.room -= bytes;
        }
        takes
    }

    /// Whether an order to run an instance has found room; the node may have told of it before, so that this is `repeated`.
    pub(crate) fn assign(&mut self, assigned: Assigned, repeated: bool) -> bool {
        if !self.takes(assigned.size() + size::NUMBER) {
            return false;
        }
        self.open.repeated.extend(repeated.then_some(assigned.id));
        self.open.assign.push(assigned);
        if self.open.assign.len() >= ASSIGNED {
            self.done.push(std::mem::take(&mut self.open));
        }
        true
    }

    /// Whether an order to end an instance has found room.
    pub(crate) fn stop(&mut self, id: AssignmentId, reason: &str, repeated: bool) -> bool {
        let takes = self.takes(3 * size::NUMBER + size::sentence(reason));
        if takes {
            self.open.repeated.extend(repeated.then_some(id));
            self.open.stop.push((id, reason.to_owned()));
        }
        takes
    }

    /// Whether leave to forget an instance has found room.
    pub(crate) fn forget(&mut self, id: AssignmentId) -> bool {
        let takes = self.takes(size::NUMBER);
        if takes {
            self.open.forget.push(id);
        }
        takes
    }

    /// Asks what instances are for. These are a few numbers, and come first.
    pub(crate) fn describe(&mut self, ids: Vec<AssignmentId>) {
        self.room = self.room.saturating_sub(ids.len() * size::NUMBER);
        self.open.describe = ids;
    }

    /// Bytes that the messages have together, from above.
    pub(crate) fn bytes(&self) -> usize {
        AT_ONCE - self.room
    }

    /// The messages; one without content when `anyway` there is to be one.
    pub(crate) fn close(mut self, anyway: bool) -> Vec<Work> {
        if self.open != Work::default() || (anyway && self.done.is_empty()) {
            self.done.push(self.open);
        }
        self.done
    }
}
