//! Inputs and effects of the agent.

use std::{sync::Arc, time::Duration};

use crate::{
    id::{ClusterId, Epoch, NodeId, SessionNo},
    mesh::{Coordinate, LinkFailure},
    node::ConnId,
    protocol::{FromAgent, Message, ProbePlan, Refused},
    standing::{Question, Standing},
    telemetry::Reading,
    time::{Time, WallTime},
    workload::{Assigned, AssignmentId, Status, log},
};

/// One input.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A reading of the wall clock.
    WallClock(WallTime),
    /// The requested transport is established.
    Connected {
        /// The transport.
        conn: ConnId,
    },
    /// The transport ended or could not be established.
    Closed {
        /// The transport.
        conn: ConnId,
        /// The reason, human-readable.
        reason: String,
    },
    /// Data received on the transport cannot be decoded: it is too large or not a message.
    Unreadable {
        /// The transport.
        conn: ConnId,
        /// The error.
        detail: String,
    },
    /// A message from the coordinator.
    Message {
        /// The transport on which it was received.
        conn: ConnId,
        /// The message.
        message: Message,
    },
    /// A measurement of the host, as requested by [`Effect::Measure`].
    Measured(Reading),
    /// A probe ended.
    Probed {
        /// The probed node.
        target: NodeId,
        /// Number of the probe.
        sequence: u64,
        /// The outcome.
        outcome: ProbeOutcome,
    },
    /// A beacon of a peer was received.
    Beacon {
        /// The cluster named in the beacon.
        cluster: ClusterId,
        /// The sender.
        sender: NodeId,
        /// Source address as host:port.
        address: Arc<str>,
        /// Whether the sender probes this node and expects its beacons.
        observes: bool,
    },
    /// A peer asks for its standing or forwards another node's question; answered by [`Effect::Answer`].
    Question {
        /// Identifier of the question.
        id: u64,
        /// The cluster named in the question.
        cluster: ClusterId,
        /// The question.
        question: Box<Question>,
    },
    /// A question ended, as requested by [`Effect::Ask`].
    Answered {
        /// Number of the question.
        number: u64,
        /// The peer that was asked.
        via: NodeId,
        /// The coordinator's answer; `None` if there is none.
        standing: Option<Standing>,
    },
    /// A write to the agent's disk ended, as requested by [`Effect::TouchDisk`].
    DiskTouched {
        /// Whether the write succeeded.
        done: bool,
    },
    /// The host was suspended: time passed that the agent's clock does not include.
    Slept,
    /// A supervisor's report of its instance.
    Instance {
        /// The instance.
        id: AssignmentId,
        /// The status.
        status: Status,
    },
    /// An instance's log was read, as requested by [`Effect::ReadLog`].
    LogRead(log::Chunk),
    /// The process is to end; the agent says goodbye.
    Shutdown {
        /// The reason, human-readable.
        reason: String,
    },
}

/// Outcome of a probe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ProbeOutcome {
    /// Answered after this time, which may be late, with the node's network coordinate.
    Answered(Duration, Option<Coordinate>),
    /// The host answered that no agent is listening.
    Refused,
    /// No answer within the limit, or an invalid one.
    Failed(LinkFailure),
}

/// An action to be executed by the driver.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Establish a transport; answered by [`Input::Connected`] or [`Input::Closed`].
    Connect {
        /// Identifier of the new transport.
        conn: ConnId,
        /// Address of the coordinator as host:port.
        address: String,
    },
    /// Send to the coordinator; if the queue is full, close the transport.
    Send {
        /// The transport.
        conn: ConnId,
        /// The report.
        report: FromAgent,
    },
    /// Close a transport after everything sent to it.
    Close {
        /// The transport.
        conn: ConnId,
    },
    /// Measure the host; answered by [`Input::Measured`].
    Measure,
    /// Write to the disk with the agent's state; answered by [`Input::DiskTouched`], however late.
    TouchDisk,
    /// Probe a node; answered by [`Input::Probed`].
    Probe {
        /// The cluster that both should belong to.
        cluster: ClusterId,
        /// The node.
        target: NodeId,
        /// The node's probe address.
        address: Arc<str>,
        /// Number of the probe.
        sequence: u64,
        /// Maximum wait for an answer, which may be late.
        timeout: Duration,
    },
    /// Send each of these peers a beacon, a datagram of full size.
    Beacons {
        /// The cluster that all should belong to.
        cluster: ClusterId,
        /// The peers, at most 192.
        to: Arc<[Recipient]>,
    },
    /// Ask a peer to forward a question to the coordinator; answered by [`Input::Answered`].
    Ask {
        /// The cluster that both should belong to.
        cluster: ClusterId,
        /// The peer.
        via: NodeId,
        /// The peer's address as host:port.
        address: Arc<str>,
        /// The question.
        question: Box<Question>,
        /// Number of the question.
        number: u64,
        /// Maximum wait for an answer.
        timeout: Duration,
    },
    /// Answer a peer's question.
    Answer {
        /// Identifier of the question.
        id: u64,
        /// The coordinator's answer; `None` if it cannot be asked now.
        standing: Option<Standing>,
    },
    /// The probe targets changed; transports to other nodes can be closed.
    Targets(ProbePlan),
    /// The coordinator has welcomed this process, which now controls what earlier agents of this node left: it may
    /// stop, start and clean up. Emitted once per process. Until then, state on the host is only read, because it may
    /// belong to another agent if this is a copy.
    TakeOver,
    /// Record durably that every instance of this cluster with a lower id may have been started here; see
    /// [`Begun::Below`](super::Begun).
    Presume {
        /// The cluster.
        cluster: ClusterId,
        /// The lowest id that was certainly not started here.
        below: AssignmentId,
    },
    /// Run an instance under a supervisor; each change is answered by [`Input::Instance`].
    Run(Arc<Assigned>),
    /// Stop an instance permanently.
    Halt {
        /// The instance.
        id: AssignmentId,
        /// The reason, human-readable.
        reason: String,
    },
    /// Extend the lease of a singleton.
    Lease {
        /// The instance.
        id: AssignmentId,
        /// End of the lease.
        until: Time,
    },
    /// Remove the files of an ended instance.
    Discard {
        /// The instance.
        id: AssignmentId,
    },
    /// Read an instance's log; answered by [`Input::LogRead`].
    ReadLog(log::Request),
    /// Notify the operator.
    Tell(Notice),
    /// Nothing is left to send; the process may end.
    Stopped,
}

/// A recipient of beacons.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipient {
    /// The peer.
    pub node: NodeId,
    /// The peer's address as host:port.
    pub address: Arc<str>,
    /// Whether this node probes the peer.
    pub observes: bool,
}

/// A notice for the operator.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// The session is live.
    Joined {
        /// The cluster.
        cluster: ClusterId,
        /// The coordinator's epoch.
        epoch: Epoch,
        /// Number of the session.
        session: SessionNo,
        /// Address of the coordinator.
        address: String,
    },
    /// The coordinator refused the session.
    Refused(Refused),
    /// The coordinator answered a question about this node's standing via a peer, while the session is lost or silent.
    Told {
        /// The peer.
        via: NodeId,
        /// The standing.
        standing: Standing,
    },
    /// The lease expired: the coordinator confirmed this node's membership neither by session nor via a peer.
    Lapsed,
    /// The session, or an attempt to open one, ended.
    Lost {
        /// Address of the coordinator.
        address: String,
        /// The reason.
        reason: String,
        /// Time until the next attempt.
        retry_in: Duration,
    },
}
