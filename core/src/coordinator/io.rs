//! What goes into the coordinator's logic, and what comes out.

mod commands;

use std::{sync::Arc, time::Duration};

pub use self::commands::{
    Answer, Changed, Command, Denial, Forgotten, Limit, PlannedStart, PlannedStop, Refusal, TokenProblem,
    WorkloadCommand, WorkloadVerb,
};
use crate::{
    behaviour::{self, Directive},
    coherence::{Nodes, Snapshot},
    id::{ClusterId, NodeId},
    integrity::Seal,
    mesh::{Coordinate, LinkReport, Observation},
    node::{Admission, ConnId, Health, Hello, Origin},
    standing::{Question, Standing},
    store::Batch,
    time::WallTime,
    workload::{Assigned, AssignmentId, Status, View, log},
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
    /// What instances on a node are for, as [`Work::describe`] asked.
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
        command: Command,
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

/// A heartbeat.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heartbeat {
    /// Grows within a session.
    pub sequence: u64,
    /// The agent's wall clock.
    pub wall: WallTime,
    /// Load indicator, 0 to 1.
    pub load: f32,
    /// A finite value a channel, in the order of the hello.
    pub values: Vec<f32>,
    /// Positions without a reading, ascending.
    pub absent: Vec<u32>,
    /// Links that changed.
    pub links: Vec<(NodeId, LinkReport)>,
    /// Where the node is in the network, when that changed.
    pub coordinate: Option<Coordinate>,
    /// The newest seal that the agent has, as (epoch, cycle).
    pub acknowledged: (u64, u64),
    /// The highest number of a ping in this session, 0 before the first; `None` from agents that do not say.
    pub answers: Option<u64>,
    /// The agent's monotonic clock, milliseconds; 0 when it does not say.
    pub sent_millis: u64,
}

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
    /// Make durable, in the order of these effects; then answer [`Input::Committed`].
    Commit(Box<Batch>),
    /// Seal, make durable and publish, behind the commits before it; then answer [`Input::Published`].
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

/// From the coordinator to an agent.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// The session stands.
    Welcome(Box<Welcome>),
    /// The session does not stand; its end follows.
    Refused(Refused),
    /// An order.
    Directive(Directive),
    /// Whom to probe.
    ProbePlan(ProbePlan),
    /// A snapshot was sealed.
    Seal {
        /// Its seal.
        seal: Arc<Seal>,
        /// The newest heartbeat that was received; 0 for none.
        heard: u64,
    },
    /// The answer to a question that the agent passed on.
    Standing {
        /// The agent's number of the question.
        number: u64,
        /// The asker's standing.
        standing: Standing,
    },
    /// A heartbeat is wanted now, behind all that the agent has to say of its peers.
    Ping {
        /// Grows; the heartbeat has it.
        number: u64,
    },
    /// Sightings or arrivals were noted: the next ones may come.
    Noted,
    /// What is to run, and what is not.
    Work(Box<Work>),
    /// What an instance wrote is wanted.
    ReadLog(log::Request),
}

/// What is to run on a node, and what is not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Work {
    /// To be started, unless it runs.
    pub assign: Vec<Assigned>,
    /// Instances to be started that the agent cannot accept, and the reasons. Never sent.
    pub refused: Vec<(AssignmentId, String)>,
    /// To be ended, and why.
    pub stop: Vec<(AssignmentId, String)>,
    /// That these ended is known; nothing of them need be kept.
    pub forget: Vec<AssignmentId>,
    /// It is not known here what these are for: that is to be told.
    pub describe: Vec<AssignmentId>,
    /// Those of `assign` and `stop` of which this node has told before: it has begun them, whatever it has written down of that.
    pub repeated: Vec<AssignmentId>,
}

/// The session stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Welcome {
    /// The cluster's id.
    pub cluster: ClusterId,
    /// The coordinator's epoch.
    pub epoch: u64,
    /// The session's number.
    pub session: u64,
    /// Time between two cycles.
    pub cycle_interval: Duration,
    /// Time between two heartbeats.
    pub heartbeat_interval: Duration,
    /// Whom to probe.
    pub probe_plan: ProbePlan,
    /// The node's admission.
    pub admission: Admission,
    /// How long the node may take itself for a member after the sending of its hello, or of a heartbeat that was received.
    pub lease: Duration,
    /// The lowest id that an instance may be given from now on; 0 from coordinators that do not tell.
    pub next_assignment: AssignmentId,
    /// Evidence is answered by [`Message::Noted`].
    pub notes_sightings: bool,
}

/// Whom an agent probes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbePlan {
    /// Grows with every plan.
    pub version: u64,
    /// Time between two probes of one target.
    pub interval: Duration,
    /// The targets and where they answer.
    pub targets: Vec<(NodeId, String)>,
    /// Who probes this node. It answers those, and its targets.
    pub observers: Vec<NodeId>,
}

/// Why a session does not stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// A message could not be accepted.
    Invalid,
    /// The node is known with a newer incarnation or session.
    Stale,
    /// The node was revoked.
    Revoked,
    /// A newer session took its place.
    Replaced,
    /// Another process that is alive claims to be this node.
    Disputed,
    /// The node's admission changed: a new session says to what.
    Readmitted,
    /// A message could not be read.
    Unreadable,
    /// The coordinator shuts down.
    Shutdown,
    /// A limit is reached.
    Overloaded,
    /// Nothing was heard for too long.
    Timeout,
}

/// The session does not stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why, for programs.
    pub reason: RefusalReason,
    /// Why and what to do, for people.
    pub detail: String,
    /// When to try again.
    pub retry_after: Option<Duration>,
}
