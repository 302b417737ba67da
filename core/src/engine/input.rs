//! What goes into the coordinator's logic.

use std::{sync::Arc, time::Duration};

use crate::{
    behaviour,
    command::Asked,
    effect::Published,
    effect::RequestId,
    id::NodeId,
    mesh::Observation,
    node::{ConnId, Health, Hello, Origin},
    protocol::Heartbeat,
    standing::Question,
    time::WallTime,
    workload::{Assigned, AssignmentId, Status, log},
};

/// One fact from outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// What the wall clock reads.
    WallClock(WallTime),
    /// A session's first message.
    Hello {
        /// Its transport.
        conn: ConnId,
        /// What it says.
        hello: Box<Hello>,
        /// Where it comes from, and what that proves.
        origin: Origin,
    },
    /// A heartbeat.
    Heartbeat {
        /// Its session's transport.
        conn: ConnId,
        /// What it says.
        heartbeat: Heartbeat,
    },
    /// How a directive fares.
    DirectiveUpdate {
        /// The transport it came by.
        conn: ConnId,
        /// The directive.
        id: u64,
        /// Its state.
        state: behaviour::State,
        /// For `failed` and `refused`: why.
        detail: String,
    },
    /// A graceful end.
    Goodbye {
        /// The transport it came by.
        conn: ConnId,
        /// Why.
        reason: String,
    },
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
    /// What an agent sees of its peers.
    Evidence {
        /// Its session's transport.
        conn: ConnId,
        /// What changed.
        observations: Vec<(NodeId, Observation)>,
        /// How the agent itself is, when that changed.
        health: Option<Health>,
        /// The agent's monotonic clock, milliseconds; 0 when it does not say.
        sent_millis: u64,
    },
    /// Peers whose beacons reach an agent (true), or no longer do.
    Arrivals {
        /// Its session's transport.
        conn: ConnId,
        /// What changed, and who is heard by beacons alone.
        arrivals: Vec<(NodeId, bool)>,
    },
    /// A node asks for its standing by way of an agent.
    Question {
        /// The agent's session's transport.
        conn: ConnId,
        /// The agent's number of the question.
        number: u64,
        /// What is asked.
        question: Box<Question>,
        /// The agent's monotonic clock, milliseconds; 0 when it does not say.
        sent_millis: u64,
    },
    /// How instances on a node are.
    Instances {
        /// The agent's session's transport.
        conn: ConnId,
        /// Those that changed.
        instances: Vec<(AssignmentId, Status)>,
        /// With these, all were told.
        all: bool,
    },
    /// What instances on a node are for, as [`Work::describe`](crate::protocol::Work::describe) asked.
    Described {
        /// The agent's session's transport.
        conn: ConnId,
        /// What they were told to run.
        instances: Vec<Assigned>,
        /// Instances whose declarations cannot be accepted, and the reasons.
        refused: Vec<(AssignmentId, String)>,
    },
    /// What an instance wrote.
    Log {
        /// The agent's session's transport.
        conn: ConnId,
        /// What.
        chunk: log::Chunk,
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
