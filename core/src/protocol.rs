//! Messages between agents and the coordinator in a session.

use std::{sync::Arc, time::Duration};

use crate::{
    behaviour::{self, Directive},
    id::{ClusterId, Cycle, DirectiveId, Epoch, NodeId, SessionNo},
    integrity::Seal,
    mesh::{Coordinate, LinkReport, Observation},
    node::{Admission, Health, Hello},
    standing::{Question, Standing},
    time::WallTime,
    workload::{Assigned, AssignmentId, Status, log},
};

/// Messages from an agent to the coordinator.
#[derive(Clone, Debug, PartialEq)]
pub enum FromAgent {
    /// Opens the session.
    Hello(Box<Hello>),
    /// A sign of life.
    Heartbeat(Heartbeat),
    /// Progress of a directive.
    Directive {
        /// Id of the directive.
        id: DirectiveId,
        /// State of the directive.
        state: behaviour::State,
        /// Reason for `failed` and `refused`.
        detail: String,
    },
    /// Ends the session gracefully.
    Goodbye {
        /// Reason.
        reason: String,
    },
    /// Changes in the agent's observations of its peers.
    Evidence {
        /// The changes.
        observations: Vec<(NodeId, Observation)>,
        /// Health of the agent, if it changed.
        health: Option<Health>,
        /// The agent's monotonic clock, milliseconds; 0 if not reported.
        sent_millis: u64,
    },
    /// A node's question for its standing, relayed by this agent.
    Question {
        /// The agent's number of the question.
        number: u64,
        /// The question.
        question: Box<Question>,
        /// The agent's monotonic clock, milliseconds; 0 if not reported.
        sent_millis: u64,
    },
    /// Peers whose beacons arrive (true), or have stopped.
    Arrivals(Vec<(NodeId, bool)>),
    /// States of instances.
    Instances {
        /// The changed instances; at the start of a session, all of them.
        instances: Vec<(AssignmentId, Status)>,
        /// Whether all instances have been reported, including these.
        all: bool,
    },
    /// Declarations of instances, as requested by [`Work::describe`].
    Described {
        /// The declarations that the agent received.
        instances: Vec<Assigned>,
        /// Instances whose declarations cannot be accepted, and the reasons. Never sent.
        refused: Vec<(AssignmentId, String)>,
    },
    /// Output of an instance.
    Log(log::Chunk),
}

/// A heartbeat.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heartbeat {
    /// Sequence number, increasing within a session.
    pub sequence: u64,
    /// The agent's wall clock.
    pub wall: WallTime,
    /// Load indicator, 0 to 1.
    pub load: f32,
    /// Finite values, one per channel in the order of the hello.
    pub values: Vec<f32>,
    /// Positions without a reading, ascending.
    pub absent: Vec<u32>,
    /// Changed links.
    pub links: Vec<(NodeId, LinkReport)>,
    /// The node's network coordinate, if it changed.
    pub coordinate: Option<Coordinate>,
    /// The newest seal received by the agent, as (epoch, cycle).
    pub acknowledged: (Epoch, Cycle),
    /// The highest ping number of this session, 0 before the first; `None` from agents that do not report it.
    pub answers: Option<u64>,
    /// The agent's monotonic clock, milliseconds; 0 if not reported.
    pub sent_millis: u64,
}

/// Messages from the coordinator to an agent.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Accepts the session.
    Welcome(Box<Welcome>),
    /// Refuses or ends the session; the transport closes after it.
    Refused(Refused),
    /// A directive.
    Directive(Directive),
    /// A probe plan.
    ProbePlan(ProbePlan),
    /// The seal of a published snapshot.
    Seal {
        /// The seal.
        seal: Arc<Seal>,
        /// Sequence number of the newest received heartbeat; 0 for none.
        heard: u64,
    },
    /// The answer to a relayed question.
    Standing {
        /// The agent's number of the question.
        number: u64,
        /// The asker's standing.
        standing: Standing,
    },
    /// Requests a heartbeat, after all pending observations of peers.
    Ping {
        /// Increasing number, returned by the heartbeat.
        number: u64,
    },
    /// Acknowledges observations or arrivals: the agent may send the next ones.
    Noted,
    /// Instances to start and to stop.
    Work(Box<Work>),
    /// Requests output of an instance.
    ReadLog(log::Request),
}

/// Instances to start and to stop on a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Work {
    /// Instances to start, unless they run already.
    pub assign: Vec<Assigned>,
    /// Instances to be started that the agent cannot accept, and the reasons. Never sent.
    pub refused: Vec<(AssignmentId, String)>,
    /// Instances to stop, and the reasons.
    pub stop: Vec<(AssignmentId, String)>,
    /// Ended instances that the coordinator has recorded; the agent may drop them.
    pub forget: Vec<AssignmentId>,
    /// Instances unknown to the coordinator, whose declarations the agent should send.
    pub describe: Vec<AssignmentId>,
    /// Instances in `assign` and `stop` that this node has already reported: it has begun them, whether or not its
    /// state on disk shows that.
    pub repeated: Vec<AssignmentId>,
}

/// Acceptance of a session.
#[derive(Clone, Debug, PartialEq)]
pub struct Welcome {
    /// Id of the cluster.
    pub cluster: ClusterId,
    /// Epoch of the coordinator.
    pub epoch: Epoch,
    /// Number of the session.
    pub session: SessionNo,
    /// Time between two cycles.
    pub cycle_interval: Duration,
    /// Time between two heartbeats.
    pub heartbeat_interval: Duration,
    /// The probe plan.
    pub probe_plan: ProbePlan,
    /// Admission of the node.
    pub admission: Admission,
    /// Time for which the node may consider itself a member after it sent its hello, or a heartbeat that was received.
    pub lease: Duration,
    /// The lowest id of any future instance; 0 from coordinators that do not report it.
    pub next_assignment: AssignmentId,
    /// Whether evidence is acknowledged with [`Message::Noted`].
    pub notes_sightings: bool,
}

/// The peers that an agent probes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbePlan {
    /// Version, increasing with every plan.
    pub version: u64,
    /// Time between two probes of one target.
    pub interval: Duration,
    /// The targets and their addresses.
    pub targets: Vec<(NodeId, String)>,
    /// Nodes that probe this node. It answers these and its targets only.
    pub observers: Vec<NodeId>,
}

/// Reason why a session is refused or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// A message was not acceptable.
    Invalid,
    /// A newer incarnation or session of the node is known.
    Stale,
    /// The node was revoked.
    Revoked,
    /// A newer session replaced this one.
    Replaced,
    /// Another live process claims to be this node.
    Disputed,
    /// The node's admission changed; a new session reports the new one.
    Readmitted,
    /// A message could not be decoded.
    Unreadable,
    /// The coordinator is shutting down.
    Shutdown,
    /// A limit is reached.
    Overloaded,
    /// No message arrived for too long.
    Timeout,
}

/// The refusal or end of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Reason, for programs.
    pub reason: RefusalReason,
    /// Reason and remedy, for people.
    pub detail: String,
    /// Minimum time until the next attempt.
    pub retry_after: Option<Duration>,
}
