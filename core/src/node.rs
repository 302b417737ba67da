//! The Orchestrator Node: what is known of one machine.

mod identity;
mod users;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
pub use users::{User, Users};

pub use identity::{Identity, Ruling};

pub use crate::id::NodeIndex;
use crate::{
    id::NodeId,
    integrity::{Digest, ZERO_DIGEST},
    mesh::Coordinate,
    telemetry::Channel,
    time::{Time, WallTime},
    transit::Transit,
};

/// A node, and the name that it had then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The node.
    pub id: NodeId,
    /// Its name at the time.
    pub name: Arc<str>,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Whether a node may take part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Admission {
    /// Known, and waiting to be admitted.
    Pending,
    /// Takes part.
    #[default]
    Admitted,
    /// Shut out.
    Revoked,
}

/// Whether a node is alive, as the engine concludes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Liveness {
    /// Known from the store; no session since the coordinator started.
    Unseen,
    /// A live session with fresh heartbeats.
    Online,
    /// The session ended or fell silent.
    Suspect,
    /// The coordinator has lost it, its peers have not.
    Unreachable,
    /// Gone.
    Offline,
    /// Said goodbye.
    Left,
}

impl Liveness {
    /// Every liveness.
    pub const ALL: [Liveness; 6] = [
        Liveness::Unseen,
        Liveness::Online,
        Liveness::Suspect,
        Liveness::Unreachable,
        Liveness::Offline,
        Liveness::Left,
    ];

    /// Its name, as people read it.
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

    /// What a node of this liveness is or has done, as the end of a sentence.
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

    /// True for what is neither known to be there nor known to be gone.
    pub const fn is_in_doubt(self) -> bool {
        matches!(self, Liveness::Suspect | Liveness::Unreachable)
    }
}

/// Why a node's liveness is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Heartbeats arrive.
    Heartbeat,
    /// The session's transport ended without a goodbye.
    SessionEnded,
    /// Nothing was heard for 1.5 heartbeat intervals.
    Silent,
    /// It said goodbye.
    Goodbye,
    /// Not back since the coordinator started.
    UnseenSinceRestart,
    /// Neither the coordinator nor its peers hear its host.
    HostSilent,
    /// Its host answers, and no agent is there.
    AgentGone,
    /// Its peers hear it, the coordinator does not.
    PeersHearIt,
    /// Its peers do not hear it, and it does not answer the coordinator.
    PeersLostIt,
    /// It was revoked.
    Revoked,
    /// It came and went too often: it is heard, and must be for longer.
    Flapping,
    /// It may take part, and its agent has not come yet.
    Awaited,
}

impl Cause {
    /// What it means, as people read it.
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

/// Whether new work may be placed on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Eligibility {
    /// New work may be placed.
    #[default]
    Eligible,
    /// No new work; what runs stays.
    Cordoned,
    /// Its work is being moved away.
    Draining,
    /// Cut off by enforcement.
    Isolated,
}

impl Eligibility {
    /// Its name, as people read it.
    pub const fn name(self) -> &'static str {
        match self {
            Eligibility::Eligible => "eligible",
            Eligibility::Cordoned => "cordoned",
            Eligibility::Draining => "draining",
            Eligibility::Isolated => "isolated",
        }
    }
}

/// What a node can carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Thousandths of one CPU.
    pub cpu_millis: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of storage; 0 when unknown.
    pub disk_bytes: u64,
}

/// What a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Operating system.
    pub os: String,
    /// Kernel release.
    pub kernel: String,
    /// CPU architecture.
    pub architecture: String,
    /// Logical CPUs.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// By which version of control groups its instances are limited: `v2`, `v1`, or `none`; empty when its agent does not say.
    #[serde(default)]
    pub cgroups: String,
    /// Containment of instances: [`PID_NAMESPACE`] or [`NOT_CONTAINED`]; empty when its agent does not report it.
    #[serde(default)]
    pub containment: String,
    /// Why containment is [`NOT_CONTAINED`], for people; at most [`CONTAINMENT_REASON`] bytes, otherwise empty.
    #[serde(default)]
    pub containment_reason: String,
    /// Users that programs may run as on it; `None` when its agent does not say: it is of a version that runs them as whatever user a
    /// declaration names, and as root where it names none.
    #[serde(default)]
    pub users: Option<Users>,
}

/// Containment of a node whose kernel ends everything that an instance started, whatever that made of itself, when its supervisor ends.
pub const PID_NAMESPACE: &str = "pid-namespace";

/// Containment of a node on which processes of an instance may outlive its supervisor.
pub const NOT_CONTAINED: &str = "none";

/// Bytes of the reason for a missing containment at most; longer ones are cut.
pub const CONTAINMENT_REASON: usize = 256;

impl Attributes {
    /// Sets the containment from a probe of the host: `Err` has the reason why there is none.
    #[must_use]
    pub fn with_containment(mut self, probed: Result<(), String>) -> Attributes {
        self.containment = probed.as_ref().map_or(NOT_CONTAINED, |()| PID_NAMESPACE).to_owned();
        self.containment_reason = probed.err().map_or_else(String::new, |reason| told(&reason));
        self
    }
}

/// A reason as the wire takes it: one line, and short.
fn told(reason: &str) -> String {
    let mut line = reason.replace(crate::text::is_hidden, " ");
    line.truncate(line.floor_char_boundary(CONTAINMENT_REASON));
    line
}

/// Label keys and values, in order.
pub type Labels = BTreeMap<String, String>;

/// What an agent states of its node when a session opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The node's id.
    pub id: NodeId,
    /// The node's name; not necessarily unique.
    pub name: String,
    /// Version of its agent.
    pub agent_version: String,
    /// When its host booted.
    pub boot_time: WallTime,
    /// What it can carry.
    pub capacity: Capacity,
    /// What it is.
    pub attributes: Attributes,
    /// Labels from its configuration.
    pub labels: Labels,
    /// Digest of its agent's binary.
    pub binary_digest: Digest,
    /// Digest of its agent's effective configuration.
    pub config_digest: Digest,
    /// Where its peers probe it, as host:port; empty when they cannot.
    pub probe_address: String,
}

/// How an agent is, by its own measurements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Its process stands still again and again.
    pub strained: bool,
    /// The disk that keeps its state does not take writes.
    pub disk_stalled: bool,
}

/// The opening of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What the agent states of its node.
    pub facts: Facts,
    /// Starts of the agent.
    pub incarnation: u64,
    /// Sessions that this agent process opened before.
    pub attempt: u64,
    /// The channels that heartbeats pack, in order; `None` for one that is not known here.
    pub channels: Vec<Option<Channel>>,
    /// Drawn when the agent's process started: tells two of them with one identity apart. Zero when it does not say.
    pub instance: [u8; 16],
    /// Of the machine that it is on; zero when that does not tell.
    pub machine: Digest,
    /// The content that the agent could not read in its last session; empty if there was none.
    pub last_failure: String,
}

/// Where a session comes from, and what its transport proved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The address that it comes from, as host:port, for people.
    pub address: String,
    /// The node that its certificate names, and BLAKE3 of its public key; `None` without TLS.
    pub proven: Option<(NodeId, Digest)>,
}

/// What the store keeps of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// What its agent stated when its newest session opened.
    pub facts: Arc<Facts>,
    /// Starts of its agent.
    pub incarnation: u64,
    /// The process that had this incarnation, by the number that its hello gave; zero where that is unknown.
    #[serde(default)]
    pub process: [u8; 16],
    /// Number of its newest session.
    pub session: u64,
    /// May it take part?
    pub admission: Admission,
    /// May new work be placed on it?
    pub eligibility: Eligibility,
    /// Labels that operators gave it; they win over the agent's.
    #[serde(default)]
    pub operator_labels: Labels,
    /// Its own heartbeat interval, when an operator set one.
    #[serde(default)]
    pub heartbeat: Option<Duration>,
    /// By what it is known; `None` for a node that never had a certificate.
    #[serde(default)]
    pub identity: Option<Identity>,
    /// Why its admission is what it is.
    #[serde(default)]
    pub ruling: Option<Arc<Ruling>>,
    /// `offline` or `left`, its cause and since when; absent for a node that was there.
    #[serde(default)]
    pub departed: Option<(Liveness, Cause, WallTime)>,
    /// The decision behind `departed`; `None` where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub departed_by: Option<u64>,
    /// The longest lease that it was ever promised.
    #[serde(default)]
    pub lease: Duration,
    /// While it is drained: when what is left on it is stopped all the same.
    #[serde(default)]
    pub drain_deadline: Option<WallTime>,
    /// While it is drained: daemons stay.
    #[serde(default)]
    pub drain_keeps_daemons: bool,
    /// Recorded running time of coordinators since the node has been gone. Counted only if nodes are forgotten by age.
    #[serde(default)]
    pub gone: Duration,
    /// The same, by how long coordinators of this cluster have run by then: what holds after a restart.
    #[serde(default)]
    pub drain_lived: Option<Duration>,
}

impl NodeRecord {
    /// A node that has joined, of which nothing else is known yet.
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

    /// A node that may take part, of which only these facts are known.
    pub fn new(facts: Arc<Facts>) -> NodeRecord {
        NodeRecord {
            facts,
            incarnation: 0,
            process: [0; 16],
            session: 0,
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

    /// Its labels: the agent's, and over them the operators'.
    pub fn labels(&self) -> Labels {
        let mut labels = self.facts.labels.clone();
        labels.extend(self.operator_labels.clone());
        labels
    }
}

/// A session's transport, named by the driver; never used twice. It need not be a connection to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// A live session.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its transport.
    pub conn: ConnId,
    /// Its number, unique in the cluster's life.
    pub number: u64,
    /// Which of the agent process's sessions it is.
    pub attempt: u64,
    /// Which of the agent's processes it is.
    pub instance: [u8; 16],
    /// Of the machine that it is on.
    pub machine: Digest,
    /// Where it comes from, as host:port.
    pub address: Arc<str>,
    /// What its heartbeats pack.
    pub channels: Arc<[Option<Channel>]>,
    /// False until what it changed is durable and the agent was welcomed.
    pub welcomed: bool,
    /// Sequence of the newest heartbeat.
    pub sequence: u64,
    /// Heartbeats received.
    pub heartbeats: u64,
    /// The newest seal that the agent has, as (epoch, cycle).
    pub acknowledged: (u64, u64),
    /// The agent's wall clock less ours at the newest heartbeat, milliseconds.
    pub clock_skew_millis: i64,
    /// Load indicator that the agent stated, 0 to 1.
    pub load: f32,
    /// Heartbeat interval that the agent keeps to; the longer one while a change is under way.
    pub interval: Duration,
    /// How long its messages were on their way.
    pub transit: Transit,
}

/// A node: what the store keeps, and what is known only while sessions live.
#[derive(Clone, Debug)]
pub struct Node {
    /// What the store keeps.
    pub record: Arc<NodeRecord>,
    /// Is it alive?
    pub liveness: Liveness,
    /// Why.
    pub cause: Cause,
    /// Since when, by the wall clock.
    pub liveness_since: WallTime,
    /// Since when.
    pub since: Time,
    /// When it was last heard, in this coordinator's life.
    pub last_seen: Option<Time>,
    /// Its session.
    pub session: Option<Session>,
    /// When it was asked for a heartbeat that it still owes.
    pub asked: Option<Time>,
    /// The ping that it has not answered yet, by number, and when it was sent.
    pub pinged: Option<(u64, Time)>,
    /// The longest that it was silent of late, and when that ended.
    pub gap: (Duration, Time),
    /// The longest that nobody heard it of late while it was in doubt and there, and when that ended.
    pub lull: (Duration, Time),
    /// When it sent the newest that came of it.
    pub said: Time,
    /// Until when all is known that it had to say of its peers.
    pub confirmed: Time,
    /// How its agent says that it is.
    pub health: Health,
    /// Since when it was heard without a break, while it is not online again.
    pub steady_since: Option<Time>,
    /// The liveness by which readers are shown its instances.
    pub shown: Liveness,
    /// The load, in hundredths, that readers were shown of it last.
    pub shown_load: u32,
    /// By way of which peer it asked for its standing last, and when.
    pub relayed: Option<(NodeIndex, Time)>,
    /// When somebody heard it though it was in doubt.
    pub erratic: Option<Time>,
    /// How often it came back lately, and when it did last.
    pub returns: (u32, Time),
    /// Where it is in the network.
    pub coordinate: Option<Coordinate>,
    /// How it conducts itself as an observer.
    pub conduct: Conduct,
    /// Another process that claims to be this node while there is a session.
    pub claim: Option<Claim>,
    /// The content over which sessions ended, and when one last did.
    pub unreadable: Option<(String, Time)>,
    /// When it was last promised a lease by way of a peer.
    pub lent: Option<Time>,
    /// While it is drained: when what is left on it is stopped all the same.
    pub drain_until: Option<Time>,
    /// Token of its newest liveness timer.
    pub timer: u64,
}

/// A process that claims to be a node which has a session with another one.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Which.
    pub instance: [u8; 16],
    /// Since when.
    pub since: Time,
    /// Both were heard, and that was told.
    pub told: bool,
}

/// How a node conducts itself as an observer.
#[derive(Clone, Copy, Debug)]
pub struct Conduct {
    /// Observations that it may still send.
    pub allowance: u32,
    /// Until when the allowance was reckoned.
    pub reckoned: Time,
    /// Observations of nodes that it was not asked to probe, and since when they are counted.
    pub unasked: (u32, Time),
    /// When it last did what no honest observer does, and what that was.
    pub distrusted: Option<(Time, &'static str)>,
}

impl Node {
    /// A node of which nothing was heard in this coordinator's life.
    pub fn new(record: Arc<NodeRecord>, wall: WallTime, now: Time) -> Node {
        let unseen = (Liveness::Unseen, Cause::UnseenSinceRestart, wall);
        let (liveness, cause, liveness_since) = record.departed.unwrap_or(unseen);
        let drain_until = record.drain_deadline.map(|deadline| now + deadline.after(wall));
        Node {
            record,
            liveness,
            cause,
            liveness_since,
            since: now,
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

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.record.facts.name
    }

    /// The node and its present name, for what is told of it later.
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
