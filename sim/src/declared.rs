//! Workloads of a scenario, as operators of it declare them.

use std::time::Duration;

use serde::Deserialize;
use wyneos_core::workload::{Check, FixedPort, Kind, Order, Probe, Protocol, Resources, Spec};

use crate::span::{some_span, span};

/// What an instance's program does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// Runs until it is told to end, and ends soon then.
    #[default]
    Steady,
    /// Ends half a second after its start, with status 1.
    Crashing,
    /// Is not there.
    Missing,
    /// Ends two seconds after its start, with status 0.
    Once,
    /// Ends only when it is killed.
    Stubborn,
    /// Runs, and is not healthy.
    Unhealthy,
    /// Steady, but it changes its user, session, process group and environment: nothing of it tells whose it is.
    Wandering,
}

impl Program {
    const ALL: [(&'static str, Program); 7] = [
        ("steady", Program::Steady),
        ("crashing", Program::Crashing),
        ("missing", Program::Missing),
        ("once", Program::Once),
        ("stubborn", Program::Stubborn),
        ("unhealthy", Program::Unhealthy),
        ("wandering", Program::Wandering),
    ];

    /// The command that stands for it.
    fn command(self) -> &'static str {
        Program::ALL
            .iter()
            .find(|(_, one)| *one == self)
            .map_or("", |(name, _)| name)
    }

    /// What a command stands for.
    pub(crate) fn of(command: &str) -> Program {
        Program::ALL
            .iter()
            .find(|(name, _)| *name == command)
            .map_or_else(Program::default, |(_, one)| *one)
    }
}

/// How many instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Many {
    /// So many, for ever.
    #[default]
    Service,
    /// So many, each until it ends with success.
    Batch,
    /// One on every node.
    Daemon,
}

/// A declaration, and when it is applied. The same name again is an update.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// When, since the start.
    #[serde(deserialize_with = "span")]
    pub at: Duration,
    /// Its name.
    pub name: String,
    /// How many.
    #[serde(default)]
    pub kind: Many,
    /// For services and batches.
    #[serde(default)]
    pub replicas: Option<u32>,
    /// For batches.
    #[serde(default)]
    pub retries: u32,
    /// What its program does.
    #[serde(default)]
    pub program: Program,
    /// Anything: another value is another declaration.
    #[serde(default)]
    pub version: u32,
    /// At most one runs, whatever happens.
    #[serde(default)]
    pub singleton: bool,
    /// How long after its node is given up an instance is replaced.
    #[serde(default, deserialize_with = "some_span")]
    pub reschedule_delay: Option<Duration>,
    /// Thousandths of a CPU; nodes have 4,000.
    #[serde(default)]
    pub cpu: Option<u64>,
    /// Mebibytes of memory; nodes have 8,192.
    #[serde(default)]
    pub memory: Option<u64>,
    /// The label over which it is spread.
    #[serde(default)]
    pub spread: String,
    /// The workload to which the way should be short.
    #[serde(default)]
    pub near: String,
    /// At most one a node.
    #[serde(default)]
    pub alone: bool,
    /// A port that each instance has, and one alone on a node.
    #[serde(default)]
    pub port: Option<u16>,
    /// The old one ends before the new one starts.
    #[serde(default)]
    pub stop_first: bool,
    /// For batches: how many parts run at once.
    #[serde(default)]
    pub parallelism: u32,
    /// Higher ones are placed first.
    #[serde(default)]
    pub priority: Option<u8>,
    /// How many are replaced at once.
    #[serde(default)]
    pub max_parallel: Option<u32>,
    /// How long a new one must be healthy.
    #[serde(default, deserialize_with = "some_span")]
    pub min_healthy: Option<Duration>,
    /// How long a new one may take to become healthy.
    #[serde(default, deserialize_with = "some_span")]
    pub deadline: Option<Duration>,
    /// How many of a new declaration wait for approval.
    #[serde(default)]
    pub canary: u32,
}

impl Declared {
    /// What is declared.
    pub(crate) fn spec(&self) -> Spec {
        let mut spec = Spec::new(&self.name, self.program.command());
        let replicas = self.replicas.unwrap_or(1);
        spec.kind = match self.kind {
            Many::Service => Kind::Service { replicas },
            Many::Batch => Kind::Batch {
                replicas,
                retries: self.retries,
            },
            Many::Daemon => Kind::Daemon,
        };
        spec.args = vec![self.version.to_string()];
        spec.resources = Resources {
            cpu_millis: self.cpu.unwrap_or(100),
            memory_bytes: self.memory.unwrap_or(64).saturating_mul(1 << 20),
        };
        if self.program == Program::Unhealthy {
            spec.checks.push(Check {
                probe: Probe::Exec(vec!["check".to_owned()]),
                interval: Duration::from_secs(1),
                timeout: Duration::from_secs(1),
                failures: 3,
                start_grace: None,
                address: String::new(),
            });
        }
        spec.singleton = self.singleton;
        spec.reschedule_delay = self.reschedule_delay;
        spec.spread.clone_from(&self.spread);
        spec.near.clone_from(&self.near);
        spec.alone = self.alone;
        if let Some(port) = self.port {
            let protocol = Protocol::Tcp;
            spec.ports.push("fixed".to_owned());
            spec.fixed_ports
                .insert("fixed".to_owned(), FixedPort { port, protocol });
        }
        if self.stop_first {
            spec.update.order = Order::StopFirst;
        }
        spec.parallelism = self.parallelism;
        spec.priority = self.priority.unwrap_or(spec.priority);
        spec.update.max_parallel = self.max_parallel.unwrap_or(spec.update.max_parallel);
        spec.update.min_healthy = self.min_healthy.unwrap_or(spec.update.min_healthy);
        spec.update.deadline = self.deadline.unwrap_or(spec.update.deadline);
        spec.update.canary = self.canary;
        spec
    }
}
