//! What goes into the agent's logic, and what comes out.

use std::{sync::Arc, time::Duration};

use crate::{
    id::{ClusterId, NodeId},
    mesh::{Coordinate, LinkFailure},
    node::ConnId,
    protocol::{Message, ProbePlan, Refused, Report},
    standing::{Question, Standing},
    telemetry::Reading,
    time::{Time, WallTime},
    workload::{Assigned, AssignmentId, Status, log},
};

/// One fact from outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// What the wall clock reads.
    WallClock(WallTime),
    /// The transport asked for stands.
    Connected {
        /// Which.
        conn: ConnId,
    },
    /// The transport ended, or could not be made.
    Closed {
        /// Which.
        conn: ConnId,
        /// Why, for people.
        reason: String,
    },
    /// Something that came by the transport cannot be read: it is too large, or no message.
    Unreadable {
        /// Which.
        conn: ConnId,
        /// The error.
        detail: String,
    },
    /// The coordinator said something.
    Message {
        /// The transport it came by.
        conn: ConnId,
        /// What.
        message: Message,
    },
    /// The host was read, as [`Effect::Measure`] asked.
    Measured(Reading),
    /// A probe ended.
    Probed {
        /// The node that was probed.
        target: NodeId,
        /// The number of the probe.
        sequence: u64,
        /// What came of it.
        outcome: ProbeOutcome,
    },
    /// A beacon of a peer came.
    Beacon {
        /// The cluster that it says both belong to.
        cluster: ClusterId,
        /// Who sent it.
        sender: NodeId,
        /// Where it came from, as host:port.
        address: Arc<str>,
        /// The sender probes this node, and wants beacons of it.
        observes: bool,
    },
    /// A peer asks for its standing, or passes on that another node does; answered by [`Effect::Answer`].
    Question {
        /// Names the question.
        id: u64,
        /// The cluster that it says both belong to.
        cluster: ClusterId,
        /// What is asked.
        question: Box<Question>,
    },
    /// A question ended, as [`Effect::Ask`] asked.
    Answered {
        /// Its number.
        number: u64,
        /// The peer that was asked.
        via: NodeId,
        /// What the coordinator said; `None` when nothing came of it.
        standing: Option<Standing>,
    },
    /// Something was written to the agent's disk, as [`Effect::TouchDisk`] asked.
    DiskTouched {
        /// False when that failed.
        done: bool,
    },
    /// The host was asleep: time went by that the clock of this logic does not know of.
    Slept,
    /// A supervisor says how its instance is.
    Instance {
        /// The instance.
        id: AssignmentId,
        /// How it is.
        status: Status,
    },
    /// What an instance wrote was read, as [`Effect::ReadLog`] asked.
    LogRead(log::Chunk),
    /// The process is to end: say goodbye.
    Shutdown {
        /// Why, for people.
        reason: String,
    },
}

/// What came of a probe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ProbeOutcome {
    /// An answer after so long, which may be late, and where the node said that it is.
    Answered(Duration, Option<Coordinate>),
    /// The host answered that nobody listens there.
    Refused,
    /// No answer within the limit, or a wrong one.
    Failed(LinkFailure),
}

/// Something to be done outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Make a transport; answer [`Input::Connected`] or [`Input::Closed`].
    Connect {
        /// Its name from now on.
        conn: ConnId,
        /// The coordinator, as host:port.
        address: String,
    },
    /// Send to the coordinator; when its queue is full, close it.
    Send {
        /// The transport.
        conn: ConnId,
        /// What to send.
        report: Report,
    },
    /// End a transport, behind what was sent to it.
    Close {
        /// Which.
        conn: ConnId,
    },
    /// Read the host; answer [`Input::Measured`].
    Measure,
    /// Have the disk that keeps the agent's state take something; answer [`Input::DiskTouched`], however late.
    TouchDisk,
    /// Probe a node; answer [`Input::Probed`].
    Probe {
        /// The cluster that both should belong to.
        cluster: ClusterId,
        /// The node.
        target: NodeId,
        /// Where it answers.
        address: Arc<str>,
        /// The number of this probe.
        sequence: u64,
        /// How long to wait for an answer, however late.
        timeout: Duration,
    },
    /// Send each of these peers a beacon: a datagram of full size.
    Beacons {
        /// The cluster that all should belong to.
        cluster: ClusterId,
        /// The peers, at most 192.
        to: Arc<[Recipient]>,
    },
    /// Ask a peer to take a question to the coordinator; answer [`Input::Answered`].
    Ask {
        /// The cluster that both should belong to.
        cluster: ClusterId,
        /// The peer.
        via: NodeId,
        /// Where it answers, as host:port.
        address: Arc<str>,
        /// What is asked.
        question: Box<Question>,
        /// The number of this question.
        number: u64,
        /// How long to wait for an answer.
        timeout: Duration,
    },
    /// Answer a peer's question.
    Answer {
        /// The question.
        id: u64,
        /// What the coordinator says; `None` when it cannot be asked now.
        standing: Option<Standing>,
    },
    /// The targets changed; transports to others are of no use.
    Targets(ProbePlan),
    /// The coordinator has welcomed this very process: what earlier agents of this node left is its to end, to start and to clean up.
    /// Sent once by each process. Before it, state on the host is only read: it may be another agent's, if this is a copy.
    TakeOver,
    /// Write down, durably, that every instance of this cluster with a lower id may have been begun here: see [`Begun::Below`](super::Begun).
    Presume {
        /// The cluster.
        cluster: ClusterId,
        /// The lowest id that nothing was begun by.
        below: AssignmentId,
    },
    /// Have a supervisor run an instance; answer [`Input::Instance`] whenever it changes.
    Run(Arc<Assigned>),
    /// Have an instance end for good.
    Halt {
        /// Which.
        id: AssignmentId,
        /// Why, for people.
        reason: String,
    },
    /// A singleton may run until then.
    Lease {
        /// Which.
        id: AssignmentId,
        /// Until when.
        until: Time,
    },
    /// Remove what an instance that ended left behind.
    Discard {
        /// Which.
        id: AssignmentId,
    },
    /// Read what an instance wrote; answer [`Input::LogRead`].
    ReadLog(log::Request),
    /// Something an operator wants to know.
    Tell(Notice),
    /// Everything is said: the process may end.
    Stopped,
}

/// A peer that is sent beacons.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipient {
    /// The peer.
    pub node: NodeId,
    /// Where it is, as host:port.
    pub address: Arc<str>,
    /// This node probes it.
    pub observes: bool,
}

/// Something an operator wants to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// The session stands.
    Joined {
        /// The cluster.
        cluster: ClusterId,
        /// The coordinator's epoch.
        epoch: u64,
        /// The session's number.
        session: u64,
        /// The coordinator's address.
        address: String,
    },
    /// The coordinator refused.
    Refused(Refused),
    /// The coordinator told this node its standing by way of a peer, as the session is lost or silent.
    Told {
        /// The peer.
        via: NodeId,
        /// What it said.
        standing: Standing,
    },
    /// The lease ran out: neither by a session nor by way of a peer did the coordinator say that this node is a member.
    Lapsed,
    /// The session, or the attempt at one, ended.
    Lost {
        /// The coordinator's address.
        address: String,
        /// Why.
        reason: String,
        /// When the next attempt is made.
        retry_in: Duration,
    },
}
