//! Packing of a node's assignments into messages of bounded size.

use crate::{
    limits,
    protocol::Work,
    workload::{Assigned, AssignmentId, size},
};

/// Maximum number of instances assigned per message, and of messages sent to a node at once.
const ASSIGNED: usize = 32;
const MESSAGES: usize = 8;

/// Size of a message without its lists, in bytes.
const ENVELOPE: usize = 64;

/// Maximum number of bytes sent to a node at once: one message of maximum size, or several small ones. Every
/// specification fits.
const AT_ONCE: usize = limits::NODE_MESSAGE - MESSAGES * ENVELOPE;

/// Messages being filled. Items that do not fit are sent later.
#[derive(Debug)]
pub(crate) struct Parcels {
    done: Vec<Work>,
    open: Work,
    /// Remaining capacity of all messages together, in bytes.
    room: usize,
}

impl Parcels {
    /// Creates empty messages.
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

    /// Adds an assignment if it fits, and returns whether it did; `repeated` marks an instance that the node has
    /// reported before.
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

    /// Adds an order to stop an instance if it fits, and returns whether it did.
    pub(crate) fn stop(&mut self, id: AssignmentId, reason: &str, repeated: bool) -> bool {
        let takes = self.takes(3 * size::NUMBER + size::sentence(reason));
        if takes {
            self.open.repeated.extend(repeated.then_some(id));
            self.open.stop.push((id, reason.to_owned()));
        }
        takes
    }

    /// Adds permission to forget an instance if it fits, and returns whether it did.
    pub(crate) fn forget(&mut self, id: AssignmentId) -> bool {
        let takes = self.takes(size::NUMBER);
        if takes {
            self.open.forget.push(id);
        }
        takes
    }

    /// Adds requests for descriptions of instances. They are small and are added first.
    pub(crate) fn describe(&mut self, ids: Vec<AssignmentId>) {
        self.room = self.room.saturating_sub(ids.len() * size::NUMBER);
        self.open.describe = ids;
    }

    /// Upper bound of the size of all messages together, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        AT_ONCE - self.room
    }

    /// Returns the messages; an empty one if there are none and `anyway` is set.
    pub(crate) fn close(mut self, anyway: bool) -> Vec<Work> {
        if self.open != Work::default() || (anyway && self.done.is_empty()) {
            self.done.push(self.open);
        }
        self.done
    }
}
