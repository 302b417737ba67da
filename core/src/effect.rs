//! Effects of the coordinator.

use std::sync::Arc;

use crate::{
    coherence::{Nodes, Snapshot},
    command::{Answer, Refusal},
    integrity::Seal,
    node::ConnId,
    protocol::Message,
    store::Batch,
    workload::View,
};

/// A caller that waits for an answer, by a number that the driver assigns: that of the audit's intent for a change, and
/// numbers from [`UNRECORDED`](RequestId::UNRECORDED) for other requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

impl RequestId {
    /// The first number of requests without an intent.
    pub const UNRECORDED: u64 = 1 << 63;

    /// The number of the audit's intent, if there is one.
    pub fn intent(self) -> Option<u64> {
        (self.0 < RequestId::UNRECORDED).then_some(self.0)
    }
}

/// An action to be executed by the driver.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send a message to a session; if its queue is full, close it.
    Send {
        /// The transport.
        conn: ConnId,
        /// The message.
        message: Message,
    },
    /// Deliver this seal to every accepted session, with its next heartbeat at the latest; a newer seal replaces it.
    Announce(Arc<Seal>),
    /// Close a transport after all pending messages are sent.
    Close {
        /// The transport.
        conn: ConnId,
    },
    /// Make a batch durable, in the order of these effects; confirmed by
    /// [`Input::Committed`](crate::engine::Input::Committed).
    Commit(Box<Batch>),
    /// Seal a snapshot, make it durable and publish it, after all earlier commits; confirmed by
    /// [`Input::Published`](crate::engine::Input::Published).
    Publish(Arc<Snapshot>),
    /// Publish workloads and instances to readers, after all earlier commits.
    View(Arc<View>),
    /// Publish nodes to readers, after all earlier commits. Precedes the snapshot with the same state.
    Nodes(Arc<Nodes>),
    /// Answer a caller.
    Reply {
        /// The request.
        request: RequestId,
        /// The answer.
        answer: Result<Answer, Refusal>,
    },
}

/// Result of publishing a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// Seal of the snapshot.
    pub seal: Arc<Seal>,
    /// Number of subscribers.
    pub subscribers: u32,
    /// Number of subscribers that have not received the previous snapshot.
    pub lagging: u32,
}
