//! Suitability and scoring of nodes for an instance.

use std::sync::Arc;

use super::Score;
use crate::{
    id::NodeId,
    mesh::Coordinate,
    node::{Admission, Eligibility, Liveness, NodeIndex, NodeRecord, PID_NAMESPACE},
    text::Quoted,
    workload::{Constraint, FixedPort, Resources, Spec},
};

/// A node as input to placement.
#[derive(Clone, Debug)]
pub struct Node {
    /// Index in the registry.
    pub index: NodeIndex,
    /// The durable record.
    pub record: Arc<NodeRecord>,
    /// Admission state.
    pub admission: Admission,
    /// Liveness.
    pub liveness: Liveness,
    /// Eligibility for new work.
    pub eligibility: Eligibility,
    /// Total resources.
    pub capacity: Resources,
    /// Reserved resources.
    pub promised: Resources,
    /// Fixed ports in use.
    pub taken: Vec<FixedPort>,
    /// Observed or predicted load, whichever is higher, in percent.
    pub load_percent: u32,
    /// Trust, in percent.
    pub trust_percent: u32,
    /// Network coordinate, if known.
    pub coordinate: Option<Coordinate>,
}

impl Node {
    /// The node's name.
    pub fn name(&self) -> &str {
        &self.record.facts.name
    }

    /// The node's id.
    pub fn id(&self) -> NodeId {
        self.record.id()
    }

    /// Value of a label, or of an attribute such as `node.os`.
    pub fn label(&self, key: &str) -> Option<&str> {
        match key {
            "node.os" => Some(&self.record.facts.attributes.os),
            "node.kernel" => Some(&self.record.facts.attributes.kernel),
            "node.architecture" => Some(&self.record.facts.attributes.architecture),
            "node.cgroups" => told(&self.record.facts.attributes.cgroups),
            "node.containment" => told(&self.record.facts.attributes.containment),
            "node.name" => Some(self.name()),
            key => {
                let given = self.record.operator_labels.get(key);
                given.or_else(|| self.record.facts.labels.get(key)).map(String::as_str)
            }
        }
    }

    /// Whether the kernel ends everything that an instance started when its supervisor ends; singletons run only on
    /// such nodes.
    pub fn contains(&self) -> bool {
        self.record.facts.attributes.containment == PID_NAMESPACE
    }

    /// Reason why the node does not take a singleton, if any.
    fn uncontained(&self) -> Option<Unfit> {
        let attributes = &self.record.facts.attributes;
        match attributes.containment.as_str() {
            PID_NAMESPACE => None,
            "" => Some(Unfit::ContainmentUntold),
            // Values of later agent versions are not known to be sufficient.
            other => Some(Unfit::Uncontained(other.to_owned())),
        }
    }

    /// Unreserved resources.
    pub fn free(&self) -> Resources {
        self.capacity.less(self.promised)
    }
}

/// An attribute that agents of earlier versions do not report; absent rather than empty.
fn told(attribute: &str) -> Option<&str> {
    (!attribute.is_empty()).then_some(attribute)
}

/// Reason why a node does not take an instance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The node is not admitted.
    #[error("it is not admitted")]
    Admission,
    /// The node is not online.
    #[error("it {}", .0.predicate())]
    Liveness(Liveness),
    /// The node takes no new work.
    #[error("it is {}: it takes no new work", .0.name())]
    Eligibility(Eligibility),
    /// The node does not contain instances; the value of its containment attribute.
    #[error("it cannot contain what it runs (node.containment is {0})")]
    Uncontained(String),
    /// The node's agent is of a version that does not report containment.
    #[error("its agent does not tell whether it can contain what it runs (node.containment is not set)")]
    ContainmentUntold,
    /// A constraint is not met.
    #[error("constraint on {} is not met", Quoted(.0))]
    Constraint(String),
    /// The node's agent does not permit the user.
    #[error("its agent runs no program as {}, only as {}: see `work_user` and `users` in its configuration", named(.declared), listed(.permitted))]
    User {
        /// The user in the specification; empty for none.
        declared: String,
        /// The permitted users.
        permitted: String,
    },
    /// The node's agent is not root.
    #[error(
        "its agent is not root and runs every program as its own user, {}, not as {}: remove `user` from the declaration, or run the agent as root",
        listed(.permitted), named(.declared)
    )]
    OwnUserOnly {
        /// The user in the specification; empty for none.
        declared: String,
        /// The agent's own user.
        permitted: String,
    },
    /// The user is permitted by the agent but unknown on its host.
    #[error("the user {} is permitted but unknown on this host: create it, then restart the agent", Quoted(.0))]
    UnknownUser(String),
    /// Insufficient free CPU.
    #[error("{free}m of CPU are free, {wanted}m wanted")]
    Cpu {
        /// Free CPU, in thousandths of a CPU.
        free: u64,
        /// Requested CPU, in thousandths of a CPU.
        wanted: u64,
    },
    /// Insufficient free memory.
    #[error("{} MiB of memory are free, {} MiB wanted", .free >> 20, .wanted.div_ceil(1 << 20))]
    Memory {
        /// Free memory, in bytes.
        free: u64,
        /// Requested memory, in bytes.
        wanted: u64,
    },
    /// A fixed port is in use.
    #[error("its port {0} is taken")]
    Port(FixedPort),
    /// The node already has an instance, and only one is allowed.
    #[error("it has an instance already")]
    Taken,
}

fn named(user: &str) -> String {
    match user {
        "" => "the default user (its host does not know that user)".to_owned(),
        user => format!("{user:?}"),
    }
}

fn listed(users: &str) -> &str {
    match users {
        "" => "no user that its host knows",
        users => users,
    }
}

impl Unfit {
    /// The reason without figures, for counting nodes.
    pub fn kind(&self) -> &'static str {
        match self {
            Unfit::Admission => "not admitted",
            Unfit::Liveness(_) => "not online",
            Unfit::Eligibility(_) => "take no new work",
            Unfit::Uncontained(_) => "cannot contain what they run (node.containment)",
            Unfit::ContainmentUntold => "have an agent that does not tell whether they can contain what they run",
            Unfit::Constraint(_) => "do not meet the constraints",
            Unfit::User { .. } | Unfit::OwnUserOnly { .. } => "do not permit its user",
            Unfit::UnknownUser(_) => "do not know its user",
            Unfit::Cpu { .. } => "have too little CPU left",
            Unfit::Memory { .. } => "have too little memory left",
            Unfit::Port(_) => "have its port taken",
            Unfit::Taken => "have an instance already",
        }
    }
}

/// Phrase for the number of nodes with the same [`Unfit::kind`]: `1 has an instance already`, `2 have an instance
/// already`.
pub(super) fn nodes_that(number: u32, kind: &str) -> String {
    let (verb, rest) = kind.split_once(' ').unwrap_or((kind, ""));
    let verb = match (number, verb) {
        (1, "take") => "takes",
        (1, "have") => "has",
        (1, "do") => "does",
        (_, verb) => verb,
    };
    let rest = match number {
        1 => rest.replace("they run", "it runs").replace("they can", "it can"),
        _ => rest.to_owned(),
    };
    format!("{number} {verb} {rest}")
}

pub(super) fn unfit(spec: &Spec, node: &Node, instances: u32) -> Option<Unfit> {
    if node.admission != Admission::Admitted {
        return Some(Unfit::Admission);
    }
    if node.liveness != Liveness::Online {
        return Some(Unfit::Liveness(node.liveness));
    }
    if node.eligibility != Eligibility::Eligible {
        return Some(Unfit::Eligibility(node.eligibility));
    }
    if spec.singleton
        && let Some(uncontained) = node.uncontained()
    {
        return Some(uncontained);
    }
    let unmet = |constraint: &&Constraint| !constraint.is_met_by(node.label(&constraint.key));
    if let Some(constraint) = spec.constraints.iter().find(unmet) {
        return Some(Unfit::Constraint(constraint.key.clone()));
    }
    // An agent that does not report its users is of a version that accepts any user; it keeps doing so until it is
    // upgraded.
    if let Some(users) = &node.record.facts.attributes.users
        && !users.permit(&spec.user)
    {
        if let Some(name) = users.unknown.iter().find(|name| **name == spec.user) {
            return Some(Unfit::UnknownUser(name.clone()));
        }
        let (declared, permitted) = (spec.user.clone(), users.names());
        return Some(match users.own_only {
            true => Unfit::OwnUserOnly { declared, permitted },
            false => Unfit::User { declared, permitted },
        });
    }
    if instances > 0 && (spec.alone || spec.replicas().is_none()) {
        return Some(Unfit::Taken);
    }
    if let Some(port) = spec.fixed_ports.values().find(|port| node.taken.contains(port)) {
        return Some(Unfit::Port(*port));
    }
    let (free, wanted) = (node.free(), spec.resources);
    if wanted.cpu_millis > free.cpu_millis {
        let (free, wanted) = (free.cpu_millis, wanted.cpu_millis);
        return Some(Unfit::Cpu { free, wanted });
    }
    if wanted.memory_bytes > free.memory_bytes {
        let (free, wanted) = (free.memory_bytes, wanted.memory_bytes);
        return Some(Unfit::Memory { free, wanted });
    }
    None
}

/// Weights of the parts of the score. The risks of a node together outweigh preferences.
const HEADROOM: i64 = 3;
const CALM: i64 = 3;
const AFFINITY: i64 = 4;
const TRUST: i64 = 4;
const RECORD: i64 = 6;
const CLOSENESS: i64 = 4;

/// Maximum value of a part of the score.
pub(super) const FULL: i64 = 1_000;

fn share(part: u64, whole: u64) -> i64 {
    let share = u128::from(part) * FULL as u128 / u128::from(whole.max(1));
    i64::try_from(share).unwrap_or(FULL).min(FULL)
}

/// Pseudo-random tie-breaker, constant for a workload and node: FNV-1a of the name, then the finalizer of SplitMix64
/// (Steele, Lea and Flood 2014) over the hash and the node id.
fn tie(spec: &Spec, node: &Node) -> u32 {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let name = spec.name.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    let id = u128::from_be_bytes(node.id().0);
    let mut mixed = name ^ (id as u64) ^ ((id >> 64) as u64).rotate_left(32);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 32) as u32
}

pub(super) fn score(spec: &Spec, node: &Node, failures: u32, closeness: i64) -> Score {
    let left = node.free().less(spec.resources);
    let headroom =
        share(left.cpu_millis, node.capacity.cpu_millis).min(share(left.memory_bytes, node.capacity.memory_bytes));
    let calm = FULL - share(node.load_percent.into(), 100);
    let met = spec
        .affinity
        .iter()
        .filter(|wish| wish.is_met_by(node.label(&wish.key)));
    let affinity = share(met.count() as u64, spec.affinity.len() as u64);
    let trust = share(node.trust_percent.into(), 100);
    // Halved with every failure.
    let record = FULL >> failures.min(10);
    let total = HEADROOM * headroom
        + CALM * calm
        + AFFINITY * affinity
        + TRUST * trust
        + RECORD * record
        + CLOSENESS * closeness;
    Score {
        total,
        tie: tie(spec, node),
        headroom,
        calm,
        affinity,
        trust,
        record,
        closeness,
    }
}
