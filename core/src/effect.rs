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

/// A caller that waits for an answer, numbered by the driver: by the audit's intent of a change, and from
/// [`UNRECORDED`](RequestId::UNRECORDED) on for what changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

impl RequestId {
    /// The first number of requests that have no intent.
    pub const UNRECORDED: u64 = 1 << 63;

    /// The number of the audit's intent, where there is one.
    pub fn intent(self) -> Option<u64> {
        (self.0 < RequestId::UNRECORDED).then_some(self.0)
    }
}

/// An action to be executed by the driver.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send to a session; if the queue is full, close it.
    Send {
        /// The transport.
        conn: ConnId,
        /// The message.
        message: Message,
    },
    /// Deliver this seal to every welcomed session, at the latest with its next heartbeat; a newer seal replaces it.
    Announce(Arc<Seal>),
    /// Close a transport after everything sent to it.
    Close {
        /// The transport.
        conn: ConnId,
    },
    /// Make durable, in the order of these effects; answered by [`Input::Committed`](crate::engine::Input::Committed).
    Commit(Box<Batch>),
    /// Seal, make durable and publish, after all earlier commits; answered by
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
