//! The Orchestrator Node: state of one machine.

mod identity;
mod life;
mod users;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
pub use users::{User, Users};

pub use identity::{Identity, Ruling};
use life::Life;
pub use life::LifeKey;

pub use crate::id::NodeIndex;
use crate::{
    id::{Cycle, DecisionId, Epoch, NodeId, ProcessId, SessionNo},
    integrity::{Digest, ZERO_DIGEST},
    mesh::Coordinate,
    telemetry::Channel,
    time::{Time, WallTime},
    transit::Transit,
};

/// A node's id with its name at a certain time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The node.
    pub id: NodeId,
    /// The name of the node at that time.
    pub name: Arc<str>,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Admission state of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Admission {
    /// Known, pending admission.
    Pending,
    /// Takes part.
    #[default]
    Admitted,
    /// Barred.
    Revoked,
}

/// Liveness of a node as concluded by the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Liveness {
    /// Known from the store; no session since the coordinator started.
    Unseen,
    /// Live session with current heartbeats.
    Online,
    /// Session ended or fell silent.
    Suspect,
    /// Not heard by the coordinator, but by peers.
    Unreachable,
    /// Considered gone.
    Offline,
    /// Said goodbye.
    Left,
}

impl Liveness {
    /// All values.
    pub const ALL: [Liveness; 6] = [
        Liveness::Unseen,
        Liveness::Online,
        Liveness::Suspect,
        Liveness::Unreachable,
        Liveness::Offline,
        Liveness::Left,
    ];

    /// Display name.
    pub const fn name(self) -> &'static str {
        match self {
            Liveness::Unseen => "unseen",
            Liveness::Online => "online",
            Liveness::Suspect => "suspect",
            Liveness::Unreachable => "unreachable",
            Liveness::Offline => "offline",
            Liveness::Left => "left",
        }
    }

    /// Predicate for use in a sentence.
    pub const fn predicate(self) -> &'static str {
        match self {
            Liveness::Unseen => "is unseen",
            Liveness::Online => "is online",
            Liveness::Suspect => "is suspect",
            Liveness::Unreachable => "is unreachable",
            Liveness::Offline => "is offline",
            Liveness::Left => "has left",
        }
    }

    /// Whether the node is neither known to be present nor known to be gone.
    pub const fn is_in_doubt(self) -> bool {
        matches!(self, Liveness::Suspect | Liveness::Unreachable)
    }
}

/// Cause of a node's liveness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Heartbeats are received.
    Heartbeat,
    /// The session's transport ended without a goodbye.
    SessionEnded,
    /// Nothing was heard for 1.5 heartbeat intervals.
    Silent,
    /// The agent said goodbye.
    Goodbye,
    /// The node has not returned since the coordinator started.
    UnseenSinceRestart,
    /// Neither the coordinator nor peers hear the host.
    HostSilent,
    /// The host answers, but no agent is running.
    AgentGone,
    /// Peers hear the node, but the coordinator does not.
    PeersHearIt,
    /// Peers do not hear the node, and it does not answer the coordinator.
    PeersLostIt,
    /// The node was revoked.
    Revoked,
    /// The node returned too often; it is heard, and must be for longer.
    Flapping,
    /// The node may take part, but its agent has not connected yet.
    Awaited,
}

impl Cause {
    /// Human-readable description.
    pub const fn meaning(self) -> &'static str {
        match self {
            Cause::Heartbeat => "heartbeats arrive",
            Cause::SessionEnded => "its session ended without a goodbye",
            Cause::Silent => "nothing heard for 1.5 heartbeat intervals",
            Cause::Goodbye => "it said goodbye",
            Cause::UnseenSinceRestart => "not back since the coordinator started",
            Cause::HostSilent => "neither the coordinator nor its peers hear its host",
            Cause::AgentGone => "its host answers, and no agent is there",
            Cause::PeersHearIt => "its peers hear it, the coordinator does not",
            Cause::Revoked => "it was revoked",
            Cause::Awaited => "it may take part, and its agent has not come yet",
            Cause::PeersLostIt => "its peers do not hear it, and it does not answer the coordinator",
            Cause::Flapping => "it came and went too often: it is heard, and must be for longer",
        }
    }
}

/// Eligibility of a node for new work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Eligibility {
    /// New work may be placed.
    #[default]
    Eligible,
    /// No new work is placed; running work stays.
    Cordoned,
    /// Work is being moved away.
    Draining,
    /// Isolated by enforcement.
    Isolated,
}

impl Eligibility {
    /// Display name.
    pub const fn name(self) -> &'static str {
        match self {
            Eligibility::Eligible => "eligible",
            Eligibility::Cordoned => "cordoned",
            Eligibility::Draining => "draining",
            Eligibility::Isolated => "isolated",
        }
    }
}

/// Resources of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// CPU, in thousandths of a CPU.
    pub cpu_millis: u64,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Storage, in bytes; 0 if unknown.
    pub disk_bytes: u64,
}

/// Static attributes of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Operating system.
    pub os: String,
    /// Kernel release.
    pub kernel: String,
    /// CPU architecture.
    pub architecture: String,
    /// Number of logical CPUs.
    pub cpus: u32,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Version of control groups that limits its instances: `v2`, `v1` or `none`; empty if its agent does not report
    /// it.
    #[serde(default)]
    pub cgroups: String,
    /// Containment of instances: [`PID_NAMESPACE`] or [`NOT_CONTAINED`]; empty if its agent does not report it.
    #[serde(default)]
    pub containment: String,
    /// Reason why containment is [`NOT_CONTAINED`], human-readable; at most [`CONTAINMENT_REASON`] bytes, otherwise
    /// empty.
    #[serde(default)]
    pub containment_reason: String,
    /// Users that programs may run as; `None` if its agent does not report them: it is of a version that runs programs
    /// as any user that a specification names, and as root by default.
    #[serde(default)]
    pub users: Option<Users>,
}

/// Containment of a node whose kernel ends everything that an instance started when its supervisor ends.
pub const PID_NAMESPACE: &str = "pid-namespace";

/// Containment of a node on which processes of an instance may outlive its supervisor.
pub const NOT_CONTAINED: &str = "none";

/// Maximum length of the reason for missing containment, in bytes; longer ones are truncated.
pub const CONTAINMENT_REASON: usize = 256;

impl Attributes {
    /// Sets the containment from a probe of the host; `Err` contains the reason why there is none.
    #[must_use]
    pub fn with_containment(mut self, probed: Result<(), String>) -> Attributes {
        self.containment = probed.as_ref().map_or(NOT_CONTAINED, |()| PID_NAMESPACE).to_owned();
        self.containment_reason = probed.err().map_or_else(String::new, |reason| told(&reason));
        self
    }
}

/// Truncates a reason for the wire and reduces it to one line.
fn told(reason: &str) -> String {
    let mut line = reason.replace(crate::text::is_hidden, " ");
    line.truncate(line.floor_char_boundary(CONTAINMENT_REASON));
    line
}

/// Labels by key.
pub type Labels = BTreeMap<String, String>;

/// Facts that an agent states about its node when a session opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The node's id.
    pub id: NodeId,
    /// The node's name; not necessarily unique.
    pub name: String,
    /// Version of the agent.
    pub agent_version: String,
    /// Boot time of the host.
    pub boot_time: WallTime,
    /// Resources.
    pub capacity: Capacity,
    /// Static attributes.
    pub attributes: Attributes,
    /// Labels from the agent's configuration.
    pub labels: Labels,
    /// Digest of the agent's binary.
    pub binary_digest: Digest,
    /// Digest of the agent's effective configuration.
    pub config_digest: Digest,
    /// Address at which peers probe it, as host:port; empty if they cannot.
    pub probe_address: String,
}

/// Health of an agent according to its own measurements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether its process stalls repeatedly.
    pub strained: bool,
    /// Whether the disk with its state does not accept writes.
    pub disk_stalled: bool,
}

/// The first message of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Facts about the node.
    pub facts: Facts,
    /// Number of starts of the agent.
    pub incarnation: u64,
    /// Number of sessions that this agent process opened before.
    pub attempt: u64,
    /// Channels packed by heartbeats, in order; `None` for a channel unknown here.
    pub channels: Vec<Option<Channel>>,
    /// Random number drawn at the start of the agent's process, to distinguish two processes with one identity; zero if
    /// not reported.
    pub process_id: ProcessId,
    /// Identity of the machine; zero if not reported.
    pub machine: Digest,
    /// Content that the agent could not read in its last session; empty if there was none.
    pub last_failure: String,
}

/// Origin of a session and the identity proven by its transport.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Remote address as host:port, for display.
    pub address: String,
    /// The node named in its certificate, and BLAKE3 of its public key; `None` without TLS.
    pub proven: Option<(NodeId, Digest)>,
}

/// Durable record of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Facts stated when its newest session opened.
    pub facts: Arc<Facts>,
    /// Number of starts of its agent.
    pub incarnation: u64,
    /// The process that used this incarnation, by the random number of its hello; zero if unknown.
    #[serde(default)]
    pub process: ProcessId,
    /// Number of its newest session.
    pub session: SessionNo,
    /// Admission state.
    pub admission: Admission,
    /// Eligibility for new work.
    pub eligibility: Eligibility,
    /// Labels set by operators; they override the agent's.
    #[serde(default)]
    pub operator_labels: Labels,
    /// Heartbeat interval set by an operator, if any.
    #[serde(default)]
    pub heartbeat: Option<Duration>,
    /// Proven identity; `None` for a node that never had a certificate.
    #[serde(default)]
    pub identity: Option<Identity>,
    /// Reason for its admission state.
    #[serde(default)]
    pub ruling: Option<Arc<Ruling>>,
    /// `offline` or `left`, with cause and time; `None` for a node that was present.
    #[serde(default)]
    pub departed: Option<(Liveness, Cause, WallTime)>,
    /// The decision behind `departed`; `None` if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub departed_by: Option<DecisionId>,
    /// The longest lease ever granted to the node.
    #[serde(default)]
    pub lease: Duration,
    /// While draining: the time at which remaining instances are stopped.
    #[serde(default)]
    pub drain_deadline: Option<WallTime>,
    /// While draining: whether daemons stay.
    #[serde(default)]
    pub drain_keeps_daemons: bool,
    /// Running time of coordinators accumulated since the node has been gone. Counted only if nodes are forgotten by
    /// age.
    #[serde(default)]
    pub gone: Duration,
    /// The drain deadline in accumulated running time of the cluster's coordinators, which applies after a restart.
    #[serde(default)]
    pub drain_lived: Option<Duration>,
}

impl NodeRecord {
    /// Creates the record of a node that has joined and of which nothing else is known.
    pub fn enrolled(id: NodeId, name: &str) -> NodeRecord {
        let facts = Facts {
            id,
            name: name.to_owned(),
            agent_version: String::new(),
            boot_time: WallTime::default(),
            capacity: Capacity::default(),
            attributes: Attributes::default(),
            labels: Labels::new(),
            binary_digest: ZERO_DIGEST,
            config_digest: ZERO_DIGEST,
            probe_address: String::new(),
        };
        NodeRecord::new(Arc::new(facts))
    }

    /// Creates the record of an admitted node of which only these facts are known.
    pub fn new(facts: Arc<Facts>) -> NodeRecord {
        NodeRecord {
            facts,
            incarnation: 0,
            process: ProcessId::default(),
            session: SessionNo(0),
            admission: Admission::Admitted,
            eligibility: Eligibility::Eligible,
            operator_labels: Labels::new(),
            heartbeat: None,
            identity: None,
            ruling: None,
            departed: None,
            departed_by: None,
            lease: Duration::ZERO,
            drain_deadline: None,
            drain_keeps_daemons: false,
            gone: Duration::ZERO,
            drain_lived: None,
        }
    }

    /// The node's id.
    pub fn id(&self) -> NodeId {
        self.facts.id
    }

    /// Effective labels: the agent's, overridden by the operators'.
    pub fn labels(&self) -> Labels {
        let mut labels = self.facts.labels.clone();
        labels.extend(self.operator_labels.clone());
        labels
    }
}

/// A session's transport, numbered by the driver; never reused. It need not be a connection to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// A live session.
#[derive(Clone, Debug)]
pub struct Session {
    /// The transport.
    pub conn: ConnId,
    /// Session number, unique in the cluster's lifetime.
    pub number: SessionNo,
    /// Number of sessions that the agent's process opened before.
    pub attempt: u64,
    /// Random number of the agent's process.
    pub process_id: ProcessId,
    /// Identity of the machine.
    pub machine: Digest,
    /// Remote address as host:port.
    pub address: Arc<str>,
    /// Channels packed by its heartbeats.
    pub channels: Arc<[Option<Channel>]>,
    /// Whether its changes are durable and the agent was welcomed.
    pub welcomed: bool,
    /// Sequence number of the newest heartbeat.
    pub sequence: u64,
    /// Number of heartbeats received.
    pub heartbeats: u64,
    /// The newest seal that the agent has acknowledged, as (epoch, cycle).
    pub acknowledged: (Epoch, Cycle),
    /// The agent's wall clock minus the coordinator's at the newest heartbeat, in milliseconds.
    pub clock_skew_millis: i64,
    /// Load stated by the agent, 0 to 1.
    pub load: f32,
    /// Heartbeat interval that the agent uses; the longer one while a change is in progress.
    pub interval: Duration,
    /// Estimate of its messages' transit time.
    pub transit: Transit,
}

/// A node: the durable record and transient state.
#[derive(Clone, Debug)]
pub struct Node {
    /// The durable record.
    pub record: Arc<NodeRecord>,
    life: Life,
    /// Time at which it was last heard since this coordinator started.
    pub last_seen: Option<Time>,
    /// Current session.
    pub session: Option<Session>,
    /// Time of the oldest unanswered request for a heartbeat.
    pub asked: Option<Time>,
    /// The unanswered ping: its number and time.
    pub pinged: Option<(u64, Time)>,
    /// Longest recent silence towards the coordinator, and when it ended.
    pub gap: (Duration, Time),
    /// Longest recent silence towards everybody while it was in doubt and alive, and when it ended.
    pub lull: (Duration, Time),
    /// Time at which it sent its most recently received message.
    pub said: Time,
    /// Time up to which all its observations of peers are known.
    pub confirmed: Time,
    /// Health reported by its agent.
    pub health: Health,
    /// Time since which it has been heard without interruption, while it is not online.
    pub steady_since: Option<Time>,
    /// Liveness with which readers are shown its instances.
    pub shown: Liveness,
    /// Load last shown to readers, in percent.
    pub shown_load: u32,
    /// The peer that last forwarded its question about its standing, and when.
    pub relayed: Option<(NodeIndex, Time)>,
    /// Time at which any observer heard it while it was in doubt.
    pub erratic: Option<Time>,
    /// Number of recent returns, and the time of the last one.
    pub returns: (u32, Time),
    /// Network coordinate.
    pub coordinate: Option<Coordinate>,
    /// Conduct as an observer.
    pub conduct: Conduct,
    /// Another process that claims this node during a session.
    pub claim: Option<Claim>,
    /// Content because of which sessions ended, and when one last did.
    pub unreadable: Option<(String, Time)>,
    /// Time at which it was last granted a lease via a peer.
    pub lent: Option<Time>,
    /// While draining: the time at which remaining instances are stopped.
    pub drain_until: Option<Time>,
    /// Token of its newest liveness timer.
    pub timer: u64,
}

/// A process that claims a node whose session belongs to another process.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Random number of the claiming process.
    pub process_id: ProcessId,
    /// Time of the claim.
    pub since: Time,
    /// Whether both processes were heard and this was reported.
    pub told: bool,
}

/// Conduct of a node as an observer.
#[derive(Clone, Copy, Debug)]
pub struct Conduct {
    /// Number of observations that it may still send.
    pub allowance: u32,
    /// Time up to which the allowance was computed.
    pub reckoned: Time,
    /// Number of observations of nodes that it was not assigned to probe, and since when they are counted.
    pub unasked: (u32, Time),
    /// Time and description of the last behaviour that no honest observer shows.
    pub distrusted: Option<(Time, &'static str)>,
}

impl Node {
    /// Creates a node that has not been heard since this coordinator started.
    pub fn new(record: Arc<NodeRecord>, wall: WallTime, now: Time) -> Node {
        let unseen = (Liveness::Unseen, Cause::UnseenSinceRestart, wall);
        let (liveness, cause, changed_at) = record.departed.unwrap_or(unseen);
        let drain_until = record.drain_deadline.map(|deadline| now + deadline.after(wall));
        Node {
            record,
            life: Life {
                liveness,
                cause,
                changed_at,
                since: now,
            },
            last_seen: None,
            session: None,
            asked: None,
            pinged: None,
            gap: (Duration::ZERO, Time(0)),
            lull: (Duration::ZERO, Time(0)),
            said: Time(0),
            confirmed: Time(0),
            health: Health::default(),
            steady_since: None,
            shown: Liveness::Online,
            shown_load: 0,
            relayed: None,
            erratic: None,
            returns: (0, now),
            coordinate: None,
            conduct: Conduct {
                allowance: u32::MAX,
                reckoned: now,
                unasked: (0, now),
                distrusted: None,
            },
            claim: None,
            unreadable: None,
            lent: None,
            drain_until,
            timer: 0,
        }
    }

    /// Liveness.
    pub fn liveness(&self) -> Liveness {
        self.life.liveness
    }

    /// Cause of the liveness.
    pub fn cause(&self) -> Cause {
        self.life.cause
    }

    /// Wall-clock time of the last change of liveness.
    pub fn liveness_since(&self) -> WallTime {
        self.life.changed_at
    }

    /// Time of the last change of liveness or its cause.
    pub fn since(&self) -> Time {
        self.life.since
    }

    /// Changes the liveness.
    pub(crate) fn set_life(&mut self, _: &LifeKey, to: Liveness, cause: Cause, wall: WallTime, now: Time) {
        self.life = Life {
            liveness: to,
            cause,
            changed_at: wall,
            since: now,
        };
    }

    /// Changes the cause of the liveness alone, and the time since which it holds.
    pub(crate) fn set_cause(&mut self, _: &LifeKey, cause: Cause, since: Time) {
        (self.life.cause, self.life.since) = (cause, since);
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.record.facts.name
    }

    /// The node's id with its current name, for later reports.
    pub fn named(&self) -> Named {
        Named {
            id: self.record.id(),
            name: self.name().into(),
        }
    }

    /// The session, once the agent was welcomed.
    pub fn live_session(&self) -> Option<&Session> {
        self.session.as_ref().filter(|session| session.welcomed)
    }
}
