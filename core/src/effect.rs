//! What the coordinator's logic has done outside.

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

/// Something to be done outside.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send to a session; when its queue is full, close it.
    Send {
        /// The transport.
        conn: ConnId,
        /// What to send.
        message: Message,
    },
    /// Let every welcomed session have this seal, at the latest with its next heartbeat; a newer one takes its place.
    Announce(Arc<Seal>),
    /// End a transport, behind what was sent to it.
    Close {
        /// Which.
        conn: ConnId,
    },
    /// Make durable, in the order of these effects; then answer [`Input::Committed`](crate::engine::Input::Committed).
    Commit(Box<Batch>),
    /// Seal, make durable and publish, behind the commits before it; then answer [`Input::Published`](crate::engine::Input::Published).
    Publish(Arc<Snapshot>),
    /// Have readers see workloads and instances as they are now, behind the commits before it.
    View(Arc<View>),
    /// Have readers see nodes as they are now, behind the commits before it. Precedes the snapshot that shows them so.
    Nodes(Arc<Nodes>),
    /// Answer a caller.
    Reply {
        /// Who waits.
        request: RequestId,
        /// The answer.
        answer: Result<Answer, Refusal>,
    },
}

/// How the newest snapshot was published.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// Its seal.
    pub seal: Arc<Seal>,
    /// Subscribers.
    pub subscribers: u32,
    /// Subscribers that have not got the snapshot before it.
    pub lagging: u32,
}
