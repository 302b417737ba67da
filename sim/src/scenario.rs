//! Scenarios: the simulated cluster, its faults, and expectations on the engine.

mod checks;
mod expected;
mod machines;
mod orders;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

use serde::Deserialize;
use toml::Spanned;

use checks::{check_cluster, check_declared, check_expect, check_fault, check_order, check_share};
pub use expected::Expect;
pub(crate) use machines::resolve;
pub use orders::{Order, Verb};

use crate::{
    declared::Declared,
    span::{MAX_DURATION, some_span, span},
};

/// Maximum number of nodes of a scenario.
pub const MAX_NODES: usize = 20_000;

/// An invalid scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct BadScenario {
    /// Line number, from 1.
    pub line: usize,
    /// The error.
    pub reason: String,
}

/// The machines and the engine's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// Number of nodes, named `node-1` and so on.
    pub nodes: usize,
    /// Number of zones, named `zone-1` and so on; node `i` is in zone `(i - 1) mod zones + 1`, which is also its label
    /// `zone`.
    pub zones: usize,
    /// Interval between cycles.
    #[serde(deserialize_with = "span")]
    pub cycle: Duration,
    /// Interval between heartbeats.
    #[serde(deserialize_with = "span")]
    pub heartbeat: Duration,
    /// Interval between probes of one target.
    #[serde(deserialize_with = "span")]
    pub probe_interval: Duration,
    /// Time from suspect to offline if no observer can report.
    #[serde(deserialize_with = "span")]
    pub suspect_grace: Duration,
    /// Time after a coordinator's start for which nodes may return.
    #[serde(deserialize_with = "span")]
    pub restart_grace: Duration,
    /// Labels of nodes with their number of values: with `rack = 4`, node `i` has the label `rack=rack-n`, where n is
    /// `(i - 1) mod 4 + 1`.
    pub labels: BTreeMap<String, usize>,
    /// Maximum deviation of each process's monotonic clock rate, 0 to 0.1.
    pub clock_drift: f64,
    /// Machines whose kernel does not end an instance's processes when its supervisor ends (`node.containment` is
    /// `none`).
    pub uncontained: Vec<String>,
    /// The same, but their agents claim `pid-namespace`, to show that placement depends on it.
    pub overstated: Vec<String>,
    /// Nodes that have joined and are pending admission; they take no part.
    pub pending: Vec<String>,
}

impl Default for Cluster {
    fn default() -> Cluster {
        let defaults = wyneos_core::coordinator::Config::new("", wyneos_core::integrity::PublicKey([0; 32]));
        Cluster {
            nodes: 20,
            zones: 1,
            cycle: defaults.cycle,
            heartbeat: defaults.heartbeat,
            probe_interval: defaults.probe_interval,
            suspect_grace: defaults.suspect_grace,
            restart_grace: defaults.restart_grace,
            labels: BTreeMap::new(),
            clock_drift: 0.0,
            uncontained: Vec::new(),
            overstated: Vec::new(),
            pending: Vec::new(),
        }
    }
}

/// Properties of the network.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Minimum latency between two machines.
    #[serde(deserialize_with = "span")]
    pub latency: Duration,
    /// Mean additional latency, exponentially distributed, so that packets of different connections may be reordered.
    #[serde(deserialize_with = "span")]
    pub jitter: Duration,
    /// Additional latency between two zones.
    #[serde(deserialize_with = "span")]
    pub zone_latency: Duration,
    /// Fraction of lost packets, 0 to 1; transports retransmit them as TCP does.
    pub loss: f64,
}

impl Default for Network {
    fn default() -> Network {
        Network {
            latency: Duration::from_micros(200),
            jitter: Duration::from_micros(100),
            zone_latency: Duration::from_millis(1),
            loss: 0.0,
        }
    }
}

/// Kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The machine loses power; with `for`, it boots again after that time.
    Crash,
    /// The agent is killed while its machine is up; with `for`, it is started again after that time.
    Kill,
    /// The agent and all supervisors of its machine are killed together; with `for`, the agent is started again after
    /// that time.
    KillAll,
    /// The agent is stopped (SIGSTOP) for `for`.
    Pause,
    /// All supervisors of the machine are killed.
    SupervisorKill,
    /// The directories of all instances on the machine are removed, and in half of all cases the list of started
    /// instances.
    Misplace,
    /// The current supervisors of the machine are stopped (SIGSTOP) for `for`.
    SupervisorPause,
    /// The agent runs only for a fraction (`speed`) of the time and stalls for up to `pause` at a time.
    Starve,
    /// The agent is asked to stop, says goodbye, and is started again immediately.
    Restart,
    /// Packets from `targets` to `peers` (all other machines if empty) are dropped, and in the other direction unless
    /// `one_way`.
    Cut,
    /// A fraction (`loss`) of the packets between `targets` and `peers` is lost.
    Loss,
    /// Packets of full size between `targets` and `peers` are dropped; small ones arrive.
    LargeLoss,
    /// Packets between `targets` and `peers` are delayed by `delay`.
    Delay,
    /// Like `cut`, alternately on and off for `period`.
    Flap,
    /// The wall clock jumps forward by `jump`, or backward if `back` is set.
    ClockJump,
    /// The machine's load is set to `load`.
    Load,
    /// The agent claims not to hear `peers` (all peers if empty), whatever it hears.
    Lie,
    /// Writes to the disks of `targets` (of the coordinator if empty) stall until the end of the fault, including
    /// starts of instances.
    DiskStall,
    /// Writes to the disks of `targets` fail; with no targets, the coordinator's: its process ends at the next write
    /// and is started again after `for`.
    DiskFail,
    /// The coordinator is killed and started again after `for`.
    CoordinatorCrash,
    /// The coordinator is killed and, after `for`, started from a backup made at `taken`.
    CoordinatorRestore,
    /// The coordinator is stopped for `for`.
    CoordinatorPause,
    /// Like `cut`, between the coordinator and `targets`.
    CoordinatorCut,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 23] = [
        Kind::Load,
        Kind::Crash,
        Kind::Kill,
        Kind::KillAll,
        Kind::Pause,
        Kind::SupervisorKill,
        Kind::Misplace,
        Kind::SupervisorPause,
        Kind::Starve,
        Kind::Restart,
        Kind::Cut,
        Kind::Loss,
        Kind::LargeLoss,
        Kind::Delay,
        Kind::Flap,
        Kind::ClockJump,
        Kind::Lie,
        Kind::DiskStall,
        Kind::DiskFail,
        Kind::CoordinatorCrash,
        Kind::CoordinatorRestore,
        Kind::CoordinatorPause,
        Kind::CoordinatorCut,
    ];
}

/// A fault.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Start of the fault, since the start of the scenario.
    #[serde(deserialize_with = "span")]
    pub at: Duration,
    /// Duration; until the end if absent.
    #[serde(rename = "for", default, deserialize_with = "some_span")]
    pub lasts: Option<Duration>,
    /// Kind of the fault.
    pub kind: Kind,
    /// Affected machines: `node-3`, `zone-2`, `all`, `coordinator`, or `30%` (random nodes, by the seed).
    #[serde(default)]
    pub targets: Vec<String>,
    /// The other side of a cut, loss or delay; all other machines if empty.
    #[serde(default)]
    pub peers: Vec<String>,
    /// Whether only packets from `targets` to `peers` are affected.
    #[serde(default)]
    pub one_way: bool,
    /// For `loss`: fraction of packets, 0 to 1.
    #[serde(default)]
    pub loss: Option<f64>,
    /// For `load`: the load, 0 to 1.
    #[serde(default)]
    pub load: Option<f64>,
    /// For `delay`: the additional latency.
    #[serde(default, deserialize_with = "some_span")]
    pub delay: Option<Duration>,
    /// For `flap`: duration of each phase.
    #[serde(default, deserialize_with = "some_span")]
    pub period: Option<Duration>,
    /// For `starve`: fraction of the time that the process runs, 0 to 1.
    #[serde(default)]
    pub speed: Option<f64>,
    /// For `starve`: the longest single stall.
    #[serde(default, deserialize_with = "some_span")]
    pub pause: Option<Duration>,
    /// For `coordinator-restore`: time of the backup since the start of the scenario; before `at`.
    #[serde(default, deserialize_with = "some_span")]
    pub taken: Option<Duration>,
    /// For `clock-jump`: size of the jump.
    #[serde(default, deserialize_with = "some_span")]
    pub jump: Option<Duration>,
    /// For `clock-jump`: whether it is backward.
    #[serde(default)]
    pub back: bool,
}

fn spanned<T: Default>() -> Spanned<T> {
    Spanned::new(0..0, T::default())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    #[serde(deserialize_with = "span")]
    duration: Duration,
    #[serde(default = "spanned")]
    cluster: Spanned<Cluster>,
    #[serde(default = "spanned")]
    network: Spanned<Network>,
    #[serde(default)]
    fault: Vec<Spanned<Fault>>,
    #[serde(default)]
    command: Vec<Spanned<Order>>,
    #[serde(default)]
    workload: Vec<Spanned<Declared>>,
    #[serde(default)]
    expect: Vec<Spanned<Expect>>,
}

/// A scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Name of the scenario.
    pub name: String,
    /// Simulated duration.
    pub duration: Duration,
    /// The machines.
    pub cluster: Cluster,
    /// Properties of the network.
    pub network: Network,
    /// The faults.
    pub faults: Vec<Fault>,
    /// Operator commands.
    pub commands: Vec<Order>,
    /// Declared workloads.
    pub workloads: Vec<Declared>,
    /// Expectations.
    pub expects: Vec<Expect>,
}

impl std::str::FromStr for Scenario {
    type Err = BadScenario;

    fn from_str(text: &str) -> Result<Scenario, BadScenario> {
        let line = |span: Range<usize>| 1 + text.bytes().take(span.start).filter(|&byte| byte == b'\n').count();
        let file: File = toml::from_str(text).map_err(|error| BadScenario {
            line: line(error.span().unwrap_or_default()),
            reason: error.message().to_owned(),
        })?;
        let bad = |span: Range<usize>| {
            move |reason: String| BadScenario {
                line: line(span.clone()),
                reason,
            }
        };
        let whole = bad(0..0);
        if file.duration.is_zero() || file.duration > MAX_DURATION {
            return Err(whole(format!("duration: not between 0 and {MAX_DURATION:?}")));
        }
        let (cluster, network) = (file.cluster.get_ref(), file.network.get_ref());
        check_cluster(cluster).map_err(bad(file.cluster.span()))?;
        check_share("loss", network.loss).map_err(bad(file.network.span()))?;
        for fault in &file.fault {
            check_fault(fault.get_ref(), cluster, file.duration).map_err(bad(fault.span()))?;
        }
        for declared in &file.workload {
            check_declared(declared.get_ref(), file.duration).map_err(bad(declared.span()))?;
        }
        let workloads: Vec<&Declared> = file.workload.iter().map(Spanned::get_ref).collect();
        for command in &file.command {
            let checked = check_order(command.get_ref(), cluster, &workloads, file.duration);
            checked.map_err(bad(command.span()))?;
        }
        for expect in &file.expect {
            let checked = check_expect(expect.get_ref(), cluster, &workloads, file.duration);
            checked.map_err(bad(expect.span()))?;
        }
        Ok(Scenario {
            name: file.name,
            duration: file.duration,
            cluster: file.cluster.into_inner(),
            network: file.network.into_inner(),
            faults: file.fault.into_iter().map(Spanned::into_inner).collect(),
            commands: file.command.into_iter().map(Spanned::into_inner).collect(),
            workloads: file.workload.into_iter().map(Spanned::into_inner).collect(),
            expects: file.expect.into_iter().map(Spanned::into_inner).collect(),
        })
    }
}

impl Scenario {
    /// Nodes (from 0) that the names denote, and whether they include the coordinator's machine; `None` if that depends
    /// on the seed.
    pub fn machines(&self, names: &[String]) -> Option<(BTreeSet<usize>, bool)> {
        let mut drawn = false;
        let machines = resolve(names, &self.cluster, &mut |_| {
            drawn = true;
            BTreeSet::new()
        });
        (!drawn).then_some(machines)
    }
}
