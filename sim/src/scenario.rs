//! Scenarios: what is simulated, which faults happen to it, and what is expected of the engine.

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

/// Nodes of one scenario at most.
pub const MAX_NODES: usize = 20_000;

/// A scenario that cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct BadScenario {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

/// The machines and how the engine is configured.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// Nodes, named `node-1` and so on.
    pub nodes: usize,
    /// Zones, named `zone-1` and so on; node `i` is in zone `(i - 1) mod zones + 1`, and has that as its label `zone`.
    pub zones: usize,
    /// Time between two cycles.
    #[serde(deserialize_with = "span")]
    pub cycle: Duration,
    /// Time between two heartbeats.
    #[serde(deserialize_with = "span")]
    pub heartbeat: Duration,
    /// Time between two probes of one target.
    #[serde(deserialize_with = "span")]
    pub probe_interval: Duration,
    /// From suspect to offline where nobody else can tell.
    #[serde(deserialize_with = "span")]
    pub suspect_grace: Duration,
    /// After a coordinator's start: how long nodes that do not come back are waited for.
    #[serde(deserialize_with = "span")]
    pub restart_grace: Duration,
    /// Labels of the nodes and how many values each has: with `rack = 4`, node `i` has the label `rack=rack-n`, where n is
    /// `(i - 1) mod 4 + 1`.
    pub labels: BTreeMap<String, usize>,
    /// Each process's monotonic clock runs faster or slower by a share up to this, 0 to 0.1.
    pub clock_drift: f64,
    /// Machines whose kernel does not end what an instance started when its supervisor ends (`node.containment` is `none`).
    pub uncontained: Vec<String>,
    /// The same, but their agents claim `pid-namespace`: what placement rests on can be seen to matter.
    pub overstated: Vec<String>,
    /// Nodes that have joined and wait to be admitted: they take no part.
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

/// What every packet meets.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Shortest way from one machine to another.
    #[serde(deserialize_with = "span")]
    pub latency: Duration,
    /// Mean of what comes on top, exponentially distributed; so packets of different connections overtake one another.
    #[serde(deserialize_with = "span")]
    pub jitter: Duration,
    /// Comes on top between two zones.
    #[serde(deserialize_with = "span")]
    pub zone_latency: Duration,
    /// Share of packets that are lost, 0 to 1; transports send them again, as TCP does.
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

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The machine loses power; with `for`, it boots again after that.
    Crash,
    /// The agent is killed while its machine lives; with `for`, it is started again after that.
    Kill,
    /// The agent and every supervisor of its machine are killed together; with `for`, the agent is started again after that.
    KillAll,
    /// The agent stands still (SIGSTOP) for `for`.
    Pause,
    /// Every supervisor of the machine is killed.
    SupervisorKill,
    /// The directories of all instances that the machine has are removed, and in half of all cases the list of what was begun.
    Misplace,
    /// The supervisors that the machine has now stand still (SIGSTOP) for `for`.
    SupervisorPause,
    /// The agent runs only a share (`speed`) of the time, standing still for up to `pause` at a time.
    Starve,
    /// The agent is asked to stop, says goodbye, and is started again at once.
    Restart,
    /// Packets from `targets` to `peers` are dropped (all others, when there are none), and back unless `one_way`.
    Cut,
    /// A share (`loss`) of the packets between `targets` and `peers` is lost.
    Loss,
    /// Packets of full size between `targets` and `peers` are dropped; small ones arrive.
    LargeLoss,
    /// Packets between `targets` and `peers` take longer by `delay`.
    Delay,
    /// As `cut`, on for `period`, then off for `period`, in turn.
    Flap,
    /// The wall clock jumps by `jump` (and by minus that, when `back` is set).
    ClockJump,
    /// The machine's load is `load`.
    Load,
    /// The agent claims not to hear `peers` (everybody, when there are none), whatever it hears.
    Lie,
    /// What the disks of `targets` are asked to keep waits until the end, instances that are to be begun among it; the coordinator's, when there are none.
    DiskStall,
    /// What the disks of `targets` are asked to keep fails; the coordinator's, when there are none: its process ends at the next
    /// write, and is started again after `for`.
    DiskFail,
    /// The coordinator is killed; it is started again after `for`.
    CoordinatorCrash,
    /// The coordinator is killed; after `for` it is started again from a backup that was `taken` before.
    CoordinatorRestore,
    /// The coordinator stands still for `for`.
    CoordinatorPause,
    /// As `cut`, between the coordinator and `targets`.
    CoordinatorCut,
}

impl Kind {
    /// Every kind.
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
    /// When it begins, since the start.
    #[serde(deserialize_with = "span")]
    pub at: Duration,
    /// How long it lasts; to the end when absent.
    #[serde(rename = "for", default, deserialize_with = "some_span")]
    pub lasts: Option<Duration>,
    /// What it does.
    pub kind: Kind,
    /// Whom it meets: `node-3`, `zone-2`, `all`, `coordinator`, or `30%` (of the nodes, drawn by the seed).
    #[serde(default)]
    pub targets: Vec<String>,
    /// The other side of a cut, loss or delay; all other machines when empty.
    #[serde(default)]
    pub peers: Vec<String>,
    /// Only from `targets` to `peers`.
    #[serde(default)]
    pub one_way: bool,
    /// For `loss`: the share, 0 to 1.
    #[serde(default)]
    pub loss: Option<f64>,
    /// For `load`: 0 to 1.
    #[serde(default)]
    pub load: Option<f64>,
    /// For `delay`.
    #[serde(default, deserialize_with = "some_span")]
    pub delay: Option<Duration>,
    /// For `flap`.
    #[serde(default, deserialize_with = "some_span")]
    pub period: Option<Duration>,
    /// For `starve`: share of the time that the process runs, 0 to 1.
    #[serde(default)]
    pub speed: Option<f64>,
    /// For `starve`: the longest time that it stands still at once.
    #[serde(default, deserialize_with = "some_span")]
    pub pause: Option<Duration>,
    /// For `coordinator-restore`: when the backup was made, since the start; before `at`.
    #[serde(default, deserialize_with = "some_span")]
    pub taken: Option<Duration>,
    /// For `clock-jump`.
    #[serde(default, deserialize_with = "some_span")]
    pub jump: Option<Duration>,
    /// For `clock-jump`: into the past.
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
    /// Its name.
    pub name: String,
    /// How long it is simulated.
    pub duration: Duration,
    /// The machines.
    pub cluster: Cluster,
    /// What every packet meets.
    pub network: Network,
    /// The faults.
    pub faults: Vec<Fault>,
    /// What operators ask for.
    pub commands: Vec<Order>,
    /// What should run.
    pub workloads: Vec<Declared>,
    /// What is expected.
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
    /// The nodes (from 0) that names stand for, and whether they name the coordinator's machine; `None` when that depends on the
    /// seed.
    pub fn machines(&self, names: &[String]) -> Option<(BTreeSet<usize>, bool)> {
        let mut drawn = false;
        let machines = resolve(names, &self.cluster, &mut |_| {
            drawn = true;
            BTreeSet::new()
        });
        (!drawn).then_some(machines)
    }
}
