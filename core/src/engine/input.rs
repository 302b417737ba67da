//! Inputs of the coordinator's logic.

use std::{sync::Arc, time::Duration};

use crate::{
    command::Asked,
    effect::{Published, RequestId},
    node::{ConnId, Hello, Origin},
    protocol::FromAgent,
    time::WallTime,
};

/// An external fact.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The current wall clock time.
    WallClock(WallTime),
    /// The first message of a session.
    Opened {
        /// The transport.
        conn: ConnId,
        /// The agent's hello.
        hello: Box<Hello>,
        /// Remote address and identity proven by the transport.
        origin: Origin,
    },
    /// A message from an agent. A hello arrives as [`Opened`](Input::Opened) instead, since here nothing proves its
    /// origin.
    FromAgent(ConnId, FromAgent),
    /// An invalid message; `detail` names the field.
    Invalid {
        /// The transport.
        conn: ConnId,
        /// The error.
        detail: String,
    },
    /// Content that cannot be decoded: it is too large, or not a message.
    Unreadable {
        /// The transport.
        conn: ConnId,
        /// The error.
        detail: String,
    },
    /// A transport ended.
    Closed {
        /// The transport.
        conn: ConnId,
        /// Whether the remote host ended it. Otherwise it timed out, which proves nothing about the host.
        by_peer: bool,
    },
    /// An operator's command.
    Command {
        /// The request to be answered.
        request: RequestId,
        /// The command.
        command: Asked,
        /// The caller's name, for people.
        by: Arc<str>,
    },
    /// The oldest unconfirmed batch is durable. If a batch cannot be made durable, the process ends.
    Committed,
    /// The newest snapshot was sealed, made durable and published.
    Published(Published),
    /// The process shuts down: agents are notified, and later events of their sessions are ignored.
    Shutdown {
        /// Time after which agents may reconnect.
        retry_after: Duration,
    },
    /// Audit entries were found missing at the start.
    AuditLost {
        /// Explanation for people.
        detail: String,
    },
}
