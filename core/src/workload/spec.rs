//! The declaration of a workload, and what makes one acceptable.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

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
    /// Bytes of arguments and environment together.
    pub const TEXTS: usize = 64 * 1024;
    /// Constraints.
    pub const CONSTRAINTS: usize = 32;
    /// Values of one constraint.
    pub const VALUES: usize = 32;
    /// Ports.
    pub const PORTS: usize = 16;
    /// Health checks.
    pub const CHECKS: usize = 8;
    /// A singleton's time to end.
    pub const SINGLETON_GRACE: Duration = Duration::from_secs(10);
    /// Thousandths of one CPU that a limit leaves at least: the kernel counts out no less than a millisecond in a tenth of a second.
    pub const CPU_LIMIT: u64 = 10;
    /// Processes and threads that an instance may have where it says nothing else. More: a program that starts others without end takes
    /// more of its host before it is stopped; fewer: large programs of many threads must say so.
    pub const PIDS: u32 = 4_096;
    /// Processes and threads that an instance may ask for.
    pub const MOST_PIDS: u32 = 1_000_000;
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
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            cpu_millis: 0,
            pids: limits::PIDS,
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

/// A condition on a node's labels, or its attributes `os`, `kernel`, `architecture`, `cgroups`, `name`, written `node.os` and so on.
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
}

/// How an instance is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// The signal's number: SIGTERM by default.
    pub signal: i32,
    /// How long it may take; then it is killed, with all that it started.
    pub grace: Duration,
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
    pub env: BTreeMap<String, String>,
    /// Where it runs; empty for a directory of its own.
    pub directory: String,
    /// As whom; empty for the agent's user.
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
    /// Names of ports that the agent hands out.
    pub ports: Vec<String>,
    /// What happens when a process ends.
    pub restart: Restart,
    /// Health checks.
    pub checks: Vec<Check>,
    /// How it is stopped.
    pub stop: Stop,
    /// How it is updated.
    pub update: Update,
}

/// Why a declaration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct BadSpec {
    /// The field, by its path.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub reason: String,
}

fn bad(field: impl Into<String>, reason: impl Into<String>) -> Result<(), BadSpec> {
    let (field, reason) = (field.into(), reason.into());
    Err(BadSpec { field, reason })
}

fn at_most(field: &str, count: usize, most: usize) -> Result<(), BadSpec> {
    match count > most {
        true => bad(field, format!("{count}; at most {most}")),
        false => Ok(()),
    }
}

/// A name of letters, digits and dashes, as host names have it.
fn name(field: &str, text: &str) -> Result<(), BadSpec> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let edges = !text.starts_with('-') && !text.ends_with('-');
    match (1..=limits::NAME).contains(&text.len()) && text.bytes().all(fits) && edges {
        true => Ok(()),
        false => bad(field, "1 to 63 of a-z, 0-9 and '-', not at an end"),
    }
}

fn text(field: &str, text: &str) -> Result<(), BadSpec> {
    if text.len() > limits::TEXT {
        return bad(field, format!("{} bytes; at most {}", text.len(), limits::TEXT));
    }
    match text.contains('\0') {
        true => bad(field, "has a zero byte, which no program can be given"),
        false => Ok(()),
    }
}

fn span(field: &str, span: Duration, least: Duration) -> Result<(), BadSpec> {
    match (least..=limits::SPAN).contains(&span) {
        true => Ok(()),
        false => bad(field, format!("{span:?} is not between {least:?} and 7 days")),
    }
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
            },
            update: Update {
                max_parallel: 1,
                min_healthy: Duration::from_secs(10),
                deadline: Duration::from_secs(300),
                canary: 0,
                rollback: true,
            },
        }
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
            && self.checks == other.checks
            && what(self) == what(other)
    }

    /// Instances that there should be; `None` for one on every node that fits.
    pub fn replicas(&self) -> Option<u32> {
        match self.kind {
            Kind::Service { replicas } | Kind::Batch { replicas, .. } => Some(replicas),
            Kind::Daemon => None,
        }
    }

    /// Whether it can be accepted.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self) -> Result<(), BadSpec> {
        name("name", &self.name)?;
        if let Some(replicas) = self.replicas()
            && replicas > limits::REPLICAS
        {
            return bad("replicas", format!("{replicas}; at most {}", limits::REPLICAS));
        }
        if self.singleton && self.kind != (Kind::Service { replicas: 1 }) {
            return bad("singleton", "goes with kind service and replicas = 1");
        }
        if self.priority > limits::PRIORITY {
            return bad("priority", format!("{} is not between 0 and 100", self.priority));
        }
        self.check_process()?;
        self.check_placement()?;
        self.check_times()
    }

    fn check_process(&self) -> Result<(), BadSpec> {
        if self.command.is_empty() {
            return bad("command", "missing");
        }
        text("command", &self.command)?;
        text("directory", &self.directory)?;
        text("user", &self.user)?;
        at_most("args", self.args.len(), limits::ARGS)?;
        at_most("env", self.env.len(), limits::ENV)?;
        for (at, arg) in self.args.iter().enumerate() {
            text(&format!("args[{at}]"), arg)?;
        }
        for (key, value) in &self.env {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            let named = !key.is_empty() && key.len() <= 128 && key.bytes().all(fits);
            if !named || key.as_bytes().first().is_some_and(u8::is_ascii_digit) {
                return bad("env", format!("{key:?} is no name of a variable"));
            }
            text(&format!("env.{key}"), value)?;
        }
        let args = self.args.iter().map(String::len);
        let env = self.env.iter().map(|(key, value)| key.len() + value.len());
        at_most("args and env, bytes together", args.chain(env).sum(), limits::TEXTS)?;
        at_most("ports", self.ports.len(), limits::PORTS)?;
        for (at, port) in self.ports.iter().enumerate() {
            name(&format!("ports[{at}]"), port)?;
            if self.ports[..at].contains(port) {
                return bad(format!("ports[{at}]"), format!("{port:?} stands twice in the list"));
            }
        }
        Ok(())
    }

    fn check_placement(&self) -> Result<(), BadSpec> {
        let Resources {
            cpu_millis,
            memory_bytes,
        } = self.resources;
        if !(1..=u64::from(crate::limits::CPUS) * 1000).contains(&cpu_millis) {
            return bad(
                "resources.cpu",
                format!("{cpu_millis}m is less than 1m, or more than any node has"),
            );
        }
        if !(1 << 20..=crate::limits::BYTES).contains(&memory_bytes) {
            return bad(
                "resources.memory",
                format!("{memory_bytes} bytes is less than 1 MiB, or more than any node has"),
            );
        }
        if !self.near.is_empty() {
            name("near", &self.near)?;
            if self.near == self.name {
                return bad("near", "it is always near to itself: name another workload");
            }
        }
        let most = u64::from(crate::limits::CPUS) * 1000;
        let Limits { cpu_millis, pids } = self.limits;
        if cpu_millis != 0 && !(limits::CPU_LIMIT..=most).contains(&cpu_millis) {
            let least = limits::CPU_LIMIT;
            return bad(
                "limits.cpu",
                format!("{cpu_millis}m is less than {least}m, or more than any node has"),
            );
        }
        if !(1..=limits::MOST_PIDS).contains(&pids) {
            let most = limits::MOST_PIDS;
            return bad("limits.pids", format!("{pids} is not 1 to {most}"));
        }
        for (list, constraints) in [("constraints", &self.constraints), ("affinity", &self.affinity)] {
            at_most(list, constraints.len(), limits::CONSTRAINTS)?;
            for (at, constraint) in constraints.iter().enumerate() {
                let field = format!("{list}[{at}]");
                if constraint.key.is_empty() || constraint.key.len() > crate::limits::LABEL_KEY {
                    return bad(format!("{field}.key"), "1 to 63 bytes");
                }
                at_most(&format!("{field}.values"), constraint.values.len(), limits::VALUES)?;
                let wants = matches!(constraint.operator, Operator::In | Operator::NotIn);
                if wants == constraint.values.is_empty() {
                    return bad(
                        format!("{field}.values"),
                        "`in` and `not_in` want values, the others none",
                    );
                }
            }
        }
        Ok(())
    }

    fn check_times(&self) -> Result<(), BadSpec> {
        let (tenth, second) = (Duration::from_millis(100), Duration::from_secs(1));
        span("restart.window", self.restart.window, second)?;
        span("restart.backoff", self.restart.backoff, Duration::ZERO)?;
        span("restart.backoff_max", self.restart.backoff_max, self.restart.backoff)?;
        span("stop.grace", self.stop.grace, Duration::ZERO)?;
        if self.singleton && self.stop.grace > limits::SINGLETON_GRACE {
            let most = limits::SINGLETON_GRACE;
            return bad(
                "stop.grace",
                format!("more than {most:?}: a singleton must be gone before its lease ends"),
            );
        }
        if !(1..=31).contains(&self.stop.signal) {
            return bad("stop.signal", format!("{} is no signal", self.stop.signal));
        }
        span("update.min_healthy", self.update.min_healthy, Duration::ZERO)?;
        span("update.deadline", self.update.deadline, second)?;
        if self.update.max_parallel == 0 {
            return bad("update.max_parallel", "0: nothing would ever be replaced");
        }
        if let Some(delay) = self.reschedule_delay {
            span("reschedule_delay", delay, Duration::ZERO)?;
        }
        at_most("checks", self.checks.len(), limits::CHECKS)?;
        for (at, check) in self.checks.iter().enumerate() {
            span(&format!("checks[{at}].interval"), check.interval, tenth)?;
            span(&format!("checks[{at}].timeout"), check.timeout, tenth)?;
            if check.failures == 0 {
                return bad(format!("checks[{at}].failures"), "0: it would fail before it was asked");
            }
            let port = match &check.probe {
                Probe::Exec(command) if command.is_empty() => return bad(format!("checks[{at}].exec"), "missing"),
                Probe::Exec(_) => continue,
                Probe::Tcp(port) | Probe::Http(port, _) | Probe::Grpc(port) => port,
            };
            if !self.ports.contains(port) {
                return bad(format!("checks[{at}].port"), format!("{port:?} is none of `ports`"));
            }
        }
        Ok(())
    }
}
