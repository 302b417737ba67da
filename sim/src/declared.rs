//! Workload declarations of a scenario.

use std::time::Duration;

use serde::Deserialize;
use wyneos_core::workload::{Check, FixedPort, Kind, Order, Probe, Protocol, Resources, Spec};

use crate::span::{some_span, span};

/// Behaviour of an instance's program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// Runs until it is told to stop, and then ends promptly.
    #[default]
    Steady,
    /// Ends half a second after its start, with status 1.
    Crashing,
    /// Does not exist.
    Missing,
    /// Ends two seconds after its start, with status 0.
    Once,
    /// Ends only when it is killed.
    Stubborn,
    /// Runs but is never healthy.
    Unhealthy,
    /// Like steady, but changes its user, session, process group and environment, so that nothing identifies its
    /// instance.
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

    /// The command that represents it.
    fn command(self) -> &'static str {
        Program::ALL
            .iter()
            .find(|(_, one)| *one == self)
            .map_or("", |(name, _)| name)
    }

    /// The program that a command represents.
    pub(crate) fn of(command: &str) -> Program {
        Program::ALL
            .iter()
            .find(|(name, _)| *name == command)
            .map_or_else(Program::default, |(_, one)| *one)
    }
}

/// Kind of a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Many {
    /// Instances that run until stopped.
    #[default]
    Service,
    /// Instances that each run until they succeed.
    Batch,
    /// One instance on every node.
    Daemon,
}

/// A declaration and the time at which it is applied. A further one of the same name is an update.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// Time since the start.
    #[serde(deserialize_with = "span")]
    pub at: Duration,
    /// Name of the workload.
    pub name: String,
    /// Kind of the workload.
    #[serde(default)]
    pub kind: Many,
    /// Number of instances of a service or batch.
    #[serde(default)]
    pub replicas: Option<u32>,
    /// Number of retries of a batch.
    #[serde(default)]
    pub retries: u32,
    /// Behaviour of the program.
    #[serde(default)]
    pub program: Program,
    /// An arbitrary value; a different one makes a different specification.
    #[serde(default)]
    pub version: u32,
    /// Whether at most one instance may ever run at a time.
    #[serde(default)]
    pub singleton: bool,
    /// Delay before the replacement of an instance whose node was given up.
    #[serde(default, deserialize_with = "some_span")]
    pub reschedule_delay: Option<Duration>,
    /// Reserved CPU in thousandths of a CPU; nodes have 4,000.
    #[serde(default)]
    pub cpu: Option<u64>,
    /// Reserved memory in MiB; nodes have 8,192.
    #[serde(default)]
    pub memory: Option<u64>,
    /// The spread label.
    #[serde(default)]
    pub spread: String,
    /// The workload to be placed close to.
    #[serde(default)]
    pub near: String,
    /// Whether a node runs at most one instance.
    #[serde(default)]
    pub alone: bool,
    /// A fixed port of each instance.
    #[serde(default)]
    pub port: Option<u16>,
    /// Whether the old instance ends before the new one starts.
    #[serde(default)]
    pub stop_first: bool,
    /// For batches: number of parts that run at once.
    #[serde(default)]
    pub parallelism: u32,
    /// Priority; higher ones are placed first.
    #[serde(default)]
    pub priority: Option<u8>,
    /// Number of instances replaced at once.
    #[serde(default)]
    pub max_parallel: Option<u32>,
    /// Time for which a new instance must be healthy.
    #[serde(default, deserialize_with = "some_span")]
    pub min_healthy: Option<Duration>,
    /// Time within which a new instance must become healthy.
    #[serde(default, deserialize_with = "some_span")]
    pub deadline: Option<Duration>,
    /// Number of instances of a new revision that run before approval.
    #[serde(default)]
    pub canary: u32,
}

impl Declared {
    /// The specification.
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
