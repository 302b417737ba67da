//! Workload specifications.

mod check;

use std::{collections::BTreeMap, fmt, time::Duration};

pub use check::{BadSpec, is_user};
use serde::{Deserialize, Serialize};

use super::Secret;

/// Limits of a specification. A specification beyond a limit is refused with the name of the field.
pub mod limits {
    use std::time::Duration;

    /// Maximum length of a name, in bytes.
    pub const NAME: usize = 63;
    /// Maximum number of instances of a workload.
    pub const REPLICAS: u32 = 100_000;
    /// Maximum number of arguments.
    pub const ARGS: usize = 256;
    /// Maximum number of environment variables.
    pub const ENV: usize = 256;
    /// Maximum length of the command, of an argument and of a variable's value, in bytes.
    pub const TEXT: usize = 4_096;
    /// Maximum length of a user name, in bytes.
    pub const USER: usize = 256;
    /// Maximum total size of arguments and environment, in bytes.
    pub const TEXTS: usize = 64 * 1024;
    /// Maximum length of an environment variable's name, in bytes.
    pub const VARIABLE: usize = 128;
    /// Maximum number of constraints.
    pub const CONSTRAINTS: usize = 32;
    /// Maximum number of values of a constraint.
    pub const VALUES: usize = 32;
    /// Maximum number of ports.
    pub const PORTS: usize = 16;
    /// Maximum number of health checks.
    pub const CHECKS: usize = 8;
    /// Maximum number of words of a check's command.
    pub const CHECK_ARGS: usize = 64;
    /// Maximum length of a check's path, in bytes.
    pub const PATH: usize = 2_048;
    /// Maximum length of a check's address, in bytes: that of a host name.
    pub const ADDRESS: usize = 253;
    /// Minimum delay before a program is restarted. With a smaller value, a program that exits immediately overloads
    /// its host, the sessions and the history; a larger value prolongs the outage of programs that crash rarely.
    pub const BACKOFF: Duration = Duration::from_millis(50);
    /// Maximum stop grace period of a singleton.
    pub const SINGLETON_GRACE: Duration = Duration::from_secs(10);
    /// Minimum CPU limit, in thousandths of a CPU: the kernel's smallest quota is one millisecond per 100 ms.
    pub const CPU_LIMIT: u64 = 10;
    /// Default limit of processes and threads of an instance. With a larger value, a runaway program takes more of its
    /// host before it is stopped; with a smaller one, programs with many threads must set the limit themselves.
    pub const PIDS: u32 = 4_096;
    /// Maximum limit of processes and threads of an instance.
    pub const MOST_PIDS: u32 = 1_000_000;
    /// Maximum limit of open files of a process: the kernel's default bound.
    pub const MOST_NOFILE: u32 = 1_048_576;
    /// Minimum limit of open files of a process: with fewer a shell cannot start a program.
    pub const LEAST_NOFILE: u32 = 16;
    /// Maximum of any duration.
    pub const SPAN: Duration = Duration::from_secs(7 * 24 * 3600);
    /// Maximum priority; priorities start at 0.
    pub const PRIORITY: u8 = 100;
}

/// Number of instances and their life cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Instances that run until stopped.
    Service {
        /// Number of instances.
        replicas: u32,
    },
    /// Instances that each run until they succeed.
    Batch {
        /// Number of instances.
        replicas: u32,
        /// Number of retries of a failed instance.
        retries: u32,
    },
    /// One instance on every suitable node.
    Daemon,
}

impl Kind {
    /// Whether instances run to completion.
    pub fn is_batch(self) -> bool {
        matches!(self, Kind::Batch { .. })
    }
}

/// Resources reserved for an instance on its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// CPU, in thousandths of a CPU.
    pub cpu_millis: u64,
    /// Memory, in bytes.
    pub memory_bytes: u64,
}

impl Resources {
    /// Adds two amounts, saturating.
    pub fn plus(self, other: Resources) -> Resources {
        Resources {
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }

    /// Subtracts `other`, saturating at zero.
    pub fn less(self, other: Resources) -> Resources {
        Resources {
            cpu_millis: self.cpu_millis.saturating_sub(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
        }
    }

    /// Whether `wanted` fits.
    pub fn has(self, wanted: Resources) -> bool {
        wanted.cpu_millis <= self.cpu_millis && wanted.memory_bytes <= self.memory_bytes
    }
}

/// Resource limits of an instance beyond its memory reservation, which is also its memory limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// CPU, in thousandths of a CPU; 0 for no limit.
    pub cpu_millis: u64,
    /// Number of processes and threads.
    pub pids: u32,
    /// Number of open files per process; 0 for the agent's own limit.
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

/// Comparison of a constraint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    /// The node has the label with one of the values.
    In,
    /// The node does not have the label with one of the values.
    NotIn,
    /// The node has the label, with any value.
    Exists,
    /// The node does not have the label.
    Absent,
}

/// A condition on a node's labels, or on its attributes `os`, `kernel`, `architecture`, `cgroups`, `containment`,
/// `name`, written as `node.os` etc.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    /// Key of the label.
    pub key: String,
    /// The comparison.
    pub operator: Operator,
    /// Values to compare with.
    pub values: Vec<String>,
}

impl Constraint {
    /// Whether a node with this value of the label (`None`: without the label) meets the constraint.
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

/// Restart policy of an instance whose process ended unexpectedly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// Maximum number of restarts on the node within `window`; beyond it the instance is replaced elsewhere.
    pub attempts: u32,
    /// Period over which restarts are counted.
    pub window: Duration,
    /// Delay before the first restart; doubles with each further one.
    pub backoff: Duration,
    /// Maximum delay.
    pub backoff_max: Duration,
}

impl Restart {
    /// Returns the policy with its delays clamped to the current limits.
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

/// Transport protocol of a port; the same number denotes a different port for each protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Name of the protocol.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// A fixed port of an instance; only one instance per node can have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FixedPort {
    /// Port number, 1 to 65,535.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

impl fmt::Display for FixedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol.name())
    }
}

/// Handling of a part of a batch that its host ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interruption {
    /// Run the part again, even if it may have completed: at least once.
    #[default]
    Rerun,
    /// Treat the part as failed and do not run it again automatically: at most once per try.
    Fail,
}

/// Order of stop and start when an instance is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The new instance is started and healthy before the old one is stopped, where there is room for both.
    #[default]
    StartFirst,
    /// The old instance has ended before the new one is started: a slot never runs twice at once unless a node is given
    /// up.
    StopFirst,
}

/// Method of a health check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// A command that exits with status 0.
    Exec(Vec<String>),
    /// A port that accepts TCP connections.
    Tcp(String),
    /// A port that answers GET on a path with status 200 to 399.
    Http(String, String),
    /// A port that serves `grpc.health.v1`.
    Grpc(String),
}

/// A health check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Method of the check.
    pub probe: Probe,
    /// Interval between checks.
    pub interval: Duration,
    /// Timeout of a check.
    pub timeout: Duration,
    /// Number of consecutive failures after which the instance is restarted.
    pub failures: u32,
    /// Time for which a new process may fail the check until it first passes. `None` for `interval` × `failures`.
    #[serde(default)]
    pub start_grace: Option<Duration>,
    /// Host name or address at which ports are checked; empty for the address under which others reach the instance.
    #[serde(default)]
    pub address: String,
}

impl Check {
    /// Time for which a new process may fail the check until it first passes.
    pub fn grace(&self) -> Duration {
        self.start_grace
            .unwrap_or_else(|| self.interval.saturating_mul(self.failures))
    }
}

/// Stop behaviour of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Number of the stop signal; SIGTERM by default.
    pub signal: i32,
    /// Grace period, after which the instance is killed with everything it started.
    pub grace: Duration,
    /// Time for which the instance keeps running after it was told to stop and is no longer listed, so that clients
    /// notice.
    #[serde(default)]
    pub delay: Duration,
}

/// Update strategy of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// Maximum number of instances replaced at once.
    pub max_parallel: u32,
    /// Time for which a new instance must be healthy before the next one is replaced.
    pub min_healthy: Duration,
    /// Time within which a new instance must become healthy; otherwise the update fails.
    pub deadline: Duration,
    /// Number of instances of the new revision that run before an operator approves the rest.
    pub canary: u32,
    /// Whether a failed update is rolled back to the previous revision.
    pub rollback: bool,
    /// Order of stop and start; it also applies to instances that leave a drained node.
    #[serde(default)]
    pub order: Order,
}

/// The specification of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Name, unique in the cluster.
    pub name: String,
    /// Number of instances and their life cycle.
    pub kind: Kind,
    /// The program to run.
    pub command: String,
    /// Arguments; `${PORT_name}` is replaced by a port number.
    pub args: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, Secret>,
    /// Working directory; empty for a private directory of the instance.
    pub directory: String,
    /// User that the program runs as; empty for the default user of the node's agent.
    pub user: String,
    /// Resources reserved for an instance.
    pub resources: Resources,
    /// Resource limits of an instance.
    #[serde(default)]
    pub limits: Limits,
    /// Hard constraints on nodes.
    pub constraints: Vec<Constraint>,
    /// Preferences for nodes; each one met increases the score.
    pub affinity: Vec<Constraint>,
    /// Label over whose values instances are spread evenly; empty for none.
    pub spread: String,
    /// Workload close to whose instances these are placed; empty for none.
    #[serde(default)]
    pub near: String,
    /// Whether a node runs at most one instance.
    pub alone: bool,
    /// Priority, 0 to 100. Higher priorities are placed first and preempt those lower by at least 10.
    pub priority: u8,
    /// Whether at most one instance may ever run at a time.
    pub singleton: bool,
    /// Delay before the replacement of an instance whose node was given up; `None` for a default that depends on the
    /// cause.
    pub reschedule_delay: Option<Duration>,
    /// Names of ports; the agent assigns those that are not fixed.
    pub ports: Vec<String>,
    /// Fixed ports, by name.
    #[serde(default)]
    pub fixed_ports: BTreeMap<String, FixedPort>,
    /// For a batch: maximum number of parts that run at once; 0 for all.
    #[serde(default)]
    pub parallelism: u32,
    /// For a batch: handling of a part that its host ended.
    #[serde(default)]
    pub on_interruption: Interruption,
    /// Delay after its host's boot before an agent without a coordinator starts an instance that ran there before;
    /// `None` for never.
    #[serde(default)]
    pub offline_start: Option<Duration>,
    /// Restart policy.
    pub restart: Restart,
    /// Health checks.
    pub checks: Vec<Check>,
    /// Stop behaviour.
    pub stop: Stop,
    /// Update strategy.
    pub update: Update,
}

impl Spec {
    /// Creates a service with one instance of `command` and defaults for everything else.
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

    /// Whether another specification is equal except for the replica count.
    pub fn equals_but_for_count(&self, other: &Spec) -> bool {
        let mut other = other.clone();
        match (&mut other.kind, self.kind) {
            (Kind::Service { replicas }, Kind::Service { replicas: own })
            | (Kind::Batch { replicas, .. }, Kind::Batch { replicas: own, .. }) => *replicas = own,
            _ => {}
        }
        *self == other
    }

    /// Whether instances of `other` satisfy this specification without a new start: nothing that a process or its
    /// supervisor receives differs.
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

    /// Returns a specification accepted by an earlier version with those values clamped to current limits that can be
    /// adjusted without the operator.
    #[must_use]
    pub fn clamped(mut self) -> Spec {
        self.restart = self.restart.clamped();
        self
    }

    /// Whether an instance that its host ended is started again without counting as failed.
    pub fn reruns_what_was_cut_off(&self) -> bool {
        !self.kind.is_batch() || self.on_interruption == Interruption::Rerun
    }

    /// Whether an instance must have ended before its replacement starts.
    pub fn stops_first(&self) -> bool {
        self.singleton || self.update.order == Order::StopFirst
    }

    /// Desired number of instances; `None` for one on every suitable node.
    pub fn replicas(&self) -> Option<u32> {
        match self.kind {
            Kind::Service { replicas } | Kind::Batch { replicas, .. } => Some(replicas),
            Kind::Daemon => None,
        }
    }
}
