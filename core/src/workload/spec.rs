//! The declaration of a workload.

mod check;

use std::{collections::BTreeMap, fmt, time::Duration};

pub use check::{BadSpec, is_user};
use serde::{Deserialize, Serialize};

use super::Secret;

/// Bounds of a declaration; beyond one it is refused, with the field named.
pub mod limits {
    use std::time::Duration;

    /// Bytes of a name.
    pub const NAME: usize = 63;
    /// Instances of one workload.
    pub const REPLICAS: u32 = 100_000;
    /// Arguments.
    pub const ARGS: usize = 256;
    /// Environment variables.
    pub const ENV: usize = 256;
    /// Bytes of a command, of one argument, of a variable's value.
    pub const TEXT: usize = 4_096;
    /// Bytes of a user's name.
    pub const USER: usize = 256;
    /// Bytes of arguments and environment together.
    pub const TEXTS: usize = 64 * 1024;
    /// Bytes of an environment variable's name.
    pub const VARIABLE: usize = 128;
    /// Constraints.
    pub const CONSTRAINTS: usize = 32;
    /// Values of one constraint.
    pub const VALUES: usize = 32;
    /// Ports.
    pub const PORTS: usize = 16;
    /// Health checks.
    pub const CHECKS: usize = 8;
    /// Words of a check's command.
    pub const CHECK_ARGS: usize = 64;
    /// Bytes of a check's path.
    pub const PATH: usize = 2_048;
    /// Bytes of a check's address: the longest name of a host.
    pub const ADDRESS: usize = 253;
    /// The shortest wait before a program is started again. Shorter: a program that ends at once costs its host, the sessions and the
    /// history more than it can be worth; longer: what crashes rarely is away for longer than it need be.
    pub const BACKOFF: Duration = Duration::from_millis(50);
    /// A singleton's time to end.
    pub const SINGLETON_GRACE: Duration = Duration::from_secs(10);
    /// Thousandths of one CPU that a limit leaves at least: the kernel counts out no less than a millisecond in a tenth of a second.
    pub const CPU_LIMIT: u64 = 10;
    /// Processes and threads that an instance may have where it says nothing else. More: a program that starts others without end takes
    /// more of its host before it is stopped; fewer: large programs of many threads must say so.
    pub const PIDS: u32 = 4_096;
    /// Processes and threads that an instance may ask for.
    pub const MOST_PIDS: u32 = 1_000_000;
    /// Files that a process may be allowed to have open: the kernel's own bound, unless that was raised.
    pub const MOST_NOFILE: u32 = 1_048_576;
    /// And at least: fewer do not let a shell start a program.
    pub const LEAST_NOFILE: u32 = 16;
    /// Any span of time.
    pub const SPAN: Duration = Duration::from_secs(7 * 24 * 3600);
    /// Priorities are 0 to this.
    pub const PRIORITY: u8 = 100;
}

/// How many instances there should be, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// So many, for ever.
    Service {
        /// How many.
        replicas: u32,
    },
    /// So many, each until it ends with success.
    Batch {
        /// How many.
        replicas: u32,
        /// How often one that fails is tried again.
        retries: u32,
    },
    /// One on every node that fits.
    Daemon,
}

impl Kind {
    /// True for what ends.
    pub fn is_batch(self) -> bool {
        matches!(self, Kind::Batch { .. })
    }
}

/// What an instance is promised of its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of one CPU.
    pub cpu_millis: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

impl Resources {
    /// Both together.
    pub fn plus(self, other: Resources) -> Resources {
        Resources {
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }

    /// What is left without `other`; nothing where that is more.
    pub fn less(self, other: Resources) -> Resources {
        Resources {
            cpu_millis: self.cpu_millis.saturating_sub(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
        }
    }

    /// True when `wanted` fits into it.
    pub fn has(self, wanted: Resources) -> bool {
        wanted.cpu_millis <= self.cpu_millis && wanted.memory_bytes <= self.memory_bytes
    }
}

/// What an instance may use at most, besides the memory that it is promised: more than that it never gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Thousandths of one CPU; 0 for whatever others leave.
    pub cpu_millis: u64,
    /// Processes and threads together.
    pub pids: u32,
    /// Files that one process may have open; 0 for as many as the agent's own may.
    #[serde(default)]
    pub nofile: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            cpu_millis: 0,
            pids: limits::PIDS,
            nofile: 0,
        }
    }
}

/// How a constraint compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    /// The node has the label with one of the values.
    In,
    /// It has not.
    NotIn,
    /// It has the label, whatever its value.
    Exists,
    /// It has not.
    Absent,
}

/// A condition on a node's labels, or its attributes `os`, `kernel`, `architecture`, `cgroups`, `containment`, `name`, written `node.os` and so on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    /// The label's key.
    pub key: String,
    /// How it compares.
    pub operator: Operator,
    /// With what.
    pub values: Vec<String>,
}

impl Constraint {
    /// Whether a node with this value of the label (`None`: without it) meets it.
    pub fn is_met_by(&self, value: Option<&str>) -> bool {
        let is_one = value.is_some_and(|value| self.values.iter().any(|wanted| wanted == value));
        match self.operator {
            Operator::In => is_one,
            Operator::NotIn => !is_one,
            Operator::Exists => value.is_some(),
            Operator::Absent => value.is_none(),
        }
    }
}

/// What happens when an instance's process ends though it should not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// Restarts on its node within `window`; then it is placed anew, elsewhere.
    pub attempts: u32,
    /// Over which they are counted.
    pub window: Duration,
    /// Before the first; doubles with each.
    pub backoff: Duration,
    /// Never longer than this.
    pub backoff_max: Duration,
}

impl Restart {
    /// With waits within the bounds of today.
    #[must_use]
    pub fn clamped(self) -> Restart {
        let backoff = self.backoff.max(limits::BACKOFF);
        Restart {
            backoff,
            backoff_max: self.backoff_max.max(backoff),
            ..self
        }
    }
}

/// What is spoken on a port: the same number is another port by each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// A port that an instance has wherever it runs: one alone has it on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FixedPort {
    /// Its number, 1 to 65,535.
    pub port: u16,
    /// What is spoken there.
    pub protocol: Protocol,
}

impl fmt::Display for FixedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol.name())
    }
}

/// What becomes of a part of a batch whose host ended it, and not its own program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interruption {
    /// It is run again, also where it may have done its work: at least once.
    #[default]
    Rerun,
    /// It has failed, and is not run again by itself: at most once a try.
    Fail,
}

/// Which of two comes first where one takes the place of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The new one is started and well before the old one is stopped, where there is room for both.
    #[default]
    StartFirst,
    /// The old one has ended before the new one is started: no two of a slot run at once unless a node is given up.
    StopFirst,
}

/// How an instance's health is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// A command that ends with 0.
    Exec(Vec<String>),
    /// A port that accepts connections.
    Tcp(String),
    /// A port that answers GET on a path with 200 to 399.
    Http(String, String),
    /// A port that serves `grpc.health.v1`.
    Grpc(String),
}

/// A health check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// How.
    pub probe: Probe,
    /// How often.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Failures in a row after which the instance is restarted.
    pub failures: u32,
    /// How long a process may take until it passes for the first time; failures before that do not count. `None` for `interval` × `failures`.
    #[serde(default)]
    pub start_grace: Option<Duration>,
    /// Where ports are asked: a host's name or address; empty for the one that others reach the instance by.
    #[serde(default)]
    pub address: String,
}

impl Check {
    /// How long a process may take until it passes for the first time.
    pub fn grace(&self) -> Duration {
        self.start_grace
            .unwrap_or_else(|| self.interval.saturating_mul(self.failures))
    }
}

/// How an instance is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// The signal's number: SIGTERM by default.
    pub signal: i32,
    /// How long it may take; then it is killed, with all that it started.
    pub grace: Duration,
    /// How long it goes on after it was told to end and is found no longer, so that whoever uses it notices.
    #[serde(default)]
    pub delay: Duration,
}

/// How instances are replaced by those of a new revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// Instances that are replaced at once.
    pub max_parallel: u32,
    /// How long a new one must be healthy before the next is replaced.
    pub min_healthy: Duration,
    /// How long a new one may take to become healthy; then the update has failed.
    pub deadline: Duration,
    /// Instances of the new revision that wait for an operator before the rest follows.
    pub canary: u32,
    /// A failed update goes back to the revision before.
    pub rollback: bool,
    /// Which comes first, the old one's end or the new one's start; so also where an instance leaves a node that is emptied.
    #[serde(default)]
    pub order: Order,
}

/// What should run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Its name, unique in the cluster.
    pub name: String,
    /// How many, and until when.
    pub kind: Kind,
    /// The program.
    pub command: String,
    /// Its arguments; `${PORT_name}` is replaced by a port.
    pub args: Vec<String>,
    /// Its environment.
    pub env: BTreeMap<String, Secret>,
    /// Where it runs; empty for a directory of its own.
    pub directory: String,
    /// The user that programs run as; empty for the default user of the node's agent.
    pub user: String,
    /// What it is promised.
    pub resources: Resources,
    /// What it may use at most.
    #[serde(default)]
    pub limits: Limits,
    /// Where it may run.
    pub constraints: Vec<Constraint>,
    /// Where it should rather run; each that is met counts.
    pub affinity: Vec<Constraint>,
    /// The label over whose values instances are spread evenly; empty for none.
    pub spread: String,
    /// The workload to whose instances the way should be short; empty for none.
    #[serde(default)]
    pub near: String,
    /// At most one instance a node.
    pub alone: bool,
    /// Higher ones are placed first, and push out those that are lower by 10; 0 to 100.
    pub priority: u8,
    /// At most one instance runs, whatever happens.
    pub singleton: bool,
    /// How long after its node is given up an instance is replaced; `None` for what the node's end says.
    pub reschedule_delay: Option<Duration>,
    /// Names of ports; the agent hands out those that are not fixed.
    pub ports: Vec<String>,
    /// Those of them that are fixed, by name.
    #[serde(default)]
    pub fixed_ports: BTreeMap<String, FixedPort>,
    /// Of a batch: how many of its parts may run at once; 0 for all.
    #[serde(default)]
    pub parallelism: u32,
    /// Of a batch: what becomes of a part that was ended by its host.
    #[serde(default)]
    pub on_interruption: Interruption,
    /// How long after its host's start an agent without a coordinator starts it again by itself, if it ran there before; `None` for never.
    #[serde(default)]
    pub offline_start: Option<Duration>,
    /// What happens when a process ends.
    pub restart: Restart,
    /// Health checks.
    pub checks: Vec<Check>,
    /// How it is stopped.
    pub stop: Stop,
    /// How it is updated.
    pub update: Update,
}

impl Spec {
    /// A service of one instance of `command`, everything else as it is by default.
    pub fn new(name: &str, command: &str) -> Spec {
        Spec {
            name: name.to_owned(),
            kind: Kind::Service { replicas: 1 },
            command: command.to_owned(),
            args: Vec::new(),
            env: BTreeMap::new(),
            directory: String::new(),
            user: String::new(),
            resources: Resources {
                cpu_millis: 100,
                memory_bytes: 128 << 20,
            },
            limits: Limits::default(),
            constraints: Vec::new(),
            affinity: Vec::new(),
            spread: String::new(),
            near: String::new(),
            alone: false,
            priority: 50,
            singleton: false,
            reschedule_delay: None,
            ports: Vec::new(),
            fixed_ports: BTreeMap::new(),
            parallelism: 0,
            on_interruption: Interruption::default(),
            offline_start: None,
            restart: Restart {
                attempts: 5,
                window: Duration::from_secs(300),
                backoff: Duration::from_secs(1),
                backoff_max: Duration::from_secs(60),
            },
            checks: Vec::new(),
            stop: Stop {
                signal: 15,
                grace: Duration::from_secs(10),
                delay: Duration::ZERO,
            },
            update: Update {
                max_parallel: 1,
                min_healthy: Duration::from_secs(10),
                deadline: Duration::from_secs(300),
                canary: 0,
                rollback: true,
                order: Order::default(),
            },
        }
    }

    /// True when another declaration says the same, but for the number of instances.
    pub fn equals_but_for_count(&self, other: &Spec) -> bool {
        let mut other = other.clone();
        match (&mut other.kind, self.kind) {
            (Kind::Service { replicas }, Kind::Service { replicas: own })
            | (Kind::Batch { replicas, .. }, Kind::Batch { replicas: own, .. }) => *replicas = own,
            _ => {}
        }
        *self == other
    }

    /// Whether an instance of `other` runs as this one wants it: nothing that its process or its supervisor is given differs.
    pub fn runs_like(&self, other: &Spec) -> bool {
        let what = |spec: &Spec| {
            (
                spec.kind.is_batch(),
                spec.singleton,
                spec.resources,
                spec.limits,
                spec.restart,
                spec.stop,
            )
        };
        self.command == other.command
            && self.args == other.args
            && self.env == other.env
            && self.directory == other.directory
            && self.user == other.user
            && self.ports == other.ports
            && self.fixed_ports == other.fixed_ports
            && self.offline_start == other.offline_start
            && self.checks == other.checks
            && what(self) == what(other)
    }

    /// The declaration as it was accepted by an earlier version, within the bounds of today that can be set without asking.
    #[must_use]
    pub fn clamped(mut self) -> Spec {
        self.restart = self.restart.clamped();
        self
    }

    /// Whether an instance that its host ended is started again as one that has not failed.
    pub fn reruns_what_was_cut_off(&self) -> bool {
        !self.kind.is_batch() || self.on_interruption == Interruption::Rerun
    }

    /// True when the one before has to have ended before an instance may start in its place.
    pub fn stops_first(&self) -> bool {
        self.singleton || self.update.order == Order::StopFirst
    }

    /// Instances that there should be; `None` for one on every node that fits.
    pub fn replicas(&self) -> Option<u32> {
        match self.kind {
            Kind::Service { replicas } | Kind::Batch { replicas, .. } => Some(replicas),
            Kind::Daemon => None,
        }
    }
}
