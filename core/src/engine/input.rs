//! What goes into the coordinator's logic.

use std::{sync::Arc, time::Duration};

use crate::{
    command::Asked,
    effect::{Published, RequestId},
    node::{ConnId, Hello, Origin},
    protocol::FromAgent,
    time::WallTime,
};

/// One fact from outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// What the wall clock reads.
    WallClock(WallTime),
    /// A session's first message.
    Opened {
        /// Its transport.
        conn: ConnId,
        /// What it says.
        hello: Box<Hello>,
        /// Where it comes from, and what that proves.
        origin: Origin,
    },
    /// What an agent says by a transport. Its hello comes as [`Opened`](Input::Opened): here it proves nothing of where it comes from.
    FromAgent(ConnId, FromAgent),
    /// The transport sent something that is no valid message; `detail` names the field.
    Invalid {
        /// The transport it came by.
        conn: ConnId,
        /// What is wrong.
        detail: String,
    },
    /// Something that came by the transport cannot be read: it is too large, or no message.
    Unreadable {
        /// The transport it came by.
        conn: ConnId,
        /// The error.
        detail: String,
    },
    /// The transport ended.
    Closed {
        /// Which.
        conn: ConnId,
        /// Did the other host end it? Otherwise nothing came through for too long, which proves nothing about the host.
        by_peer: bool,
    },
    /// An operator's command.
    Command {
        /// Who waits for the answer.
        request: RequestId,
        /// What is asked.
        command: Asked,
        /// Who asks, for people.
        by: Arc<str>,
    },
    /// The oldest batch that was not confirmed yet is durable. A batch that cannot be made durable ends the process.
    Committed,
    /// The newest snapshot was sealed, made durable and published.
    Published(Published),
    /// The process is to end: agents are told, and nothing that happens to their sessions from now on counts.
    Shutdown {
        /// When agents may try again.
        retry_after: Duration,
    },
    /// Entries of the audit were found missing at the start.
    AuditLost {
        /// What became of them, for people.
        detail: String,
    },
}
