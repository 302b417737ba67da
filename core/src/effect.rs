//! Effects of the coordinator.

use std::sync::Arc;

use crate::{
    coherence::{Nodes, Snapshot},
    command::{Answer, Refusal, RequestId},
    integrity::Seal,
    node::ConnId,
    protocol::Message,
    store::Batch,
    workload::View,
};

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
