//! What agents and the coordinator say to each other in a session.

use std::{sync::Arc, time::Duration};

use crate::{
    behaviour::{self, Directive},
    id::{ClusterId, DirectiveId, NodeId},
    integrity::Seal,
    mesh::{Coordinate, LinkReport, Observation},
    node::{Admission, Health, Hello},
    standing::{Question, Standing},
    time::WallTime,
    workload::{Assigned, AssignmentId, Status, log},
};

/// From the agent to the coordinator.
#[derive(Clone, Debug, PartialEq)]
pub enum FromAgent {
    /// Opens the session.
    Hello(Box<Hello>),
    /// Proof of life.
    Heartbeat(Heartbeat),
    /// How a directive fares.
    Directive {
        /// The directive.
        id: DirectiveId,
        /// Its state.
        state: behaviour::State,
        /// For `failed` and `refused`: why.
        detail: String,
    },
    /// A graceful end.
    Goodbye {
        /// Why.
        reason: String,
    },
    /// What the agent sees of some of its peers changed.
    Evidence {
        /// What changed.
        observations: Vec<(NodeId, Observation)>,
        /// How the agent itself is, when that changed.
        health: Option<Health>,
        /// The agent's monotonic clock, milliseconds; 0 when it does not say.
        sent_millis: u64,
    },
    /// A node asks for its standing by way of this agent.
    Question {
        /// This agent's number of the question.
        number: u64,
        /// What is asked.
        question: Box<Question>,
        /// The agent's monotonic clock, milliseconds; 0 when it does not say.
        sent_millis: u64,
    },
    /// Peers whose beacons come (true), or no longer come.
    Arrivals(Vec<(NodeId, bool)>),
    /// How instances are.
    Instances {
        /// Those that changed; at the beginning of a session all.
        instances: Vec<(AssignmentId, Status)>,
        /// With these, all were told.
        all: bool,
    },
    /// What instances are for, as [`Work::describe`] asked.
    Described {
        /// What the agent was told to run.
        instances: Vec<Assigned>,
        /// Instances whose declarations cannot be accepted, and the reasons. Never sent.
        refused: Vec<(AssignmentId, String)>,
    },
    /// What an instance wrote.
    Log(log::Chunk),
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
