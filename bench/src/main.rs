//! Load generators and benchmarks of WyneOS. `docs/performance.md` has the goals and the results.

mod agent;
mod ambiguity;
mod cycle;
mod death;
mod detection;
mod fanout;
mod heal;
mod histogram;
mod hours;
mod ingest;
mod join;
mod load;
mod made;
mod null;
mod null_watch;
mod output;
mod place;
mod process;
mod proxied;
mod reconnect;
mod recover;
mod seeds;
mod stalled;
mod stats;
mod subscribers;
#[cfg(test)]
mod tests;
mod tls;
mod why;
mod wire;
mod work;

use std::{fmt, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use output::Output;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Counts allocations, for code paths that must not allocate.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// Benchmarks WyneOS against its performance goals.
///
/// Use the release build: the measured servers are the binaries in the directory of this program.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Clone, Copy)]
struct Common {
    /// Output format.
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    output: Output,
    /// Duration of each measurement after its warm-up, in seconds; 1 to 3600.
    #[arg(long, global = true, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
}

impl Common {
    fn limit(self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

#[derive(Args)]
struct Ingest {
    /// Loads, as AGENTSxHZ.
    #[arg(long, value_delimiter = ',', default_value = "200x200,2000x5,10000x1")]
    rates: Vec<ingest::Rate>,
    /// Number of measurements of each load, alternating between the two servers; the median is reported.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    repeat: u32,
    /// Use mutual TLS on both servers.
    #[arg(long)]
    tls: bool,
}

#[derive(Args)]
struct Place {
    /// Cluster sizes in nodes, with five instances per node.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000", value_parser = clap::value_parser!(u64).range(20..=100_000))]
    nodes: Vec<u64>,
}

#[derive(Args)]
struct Heal {
    /// Number of agents, and of instances.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(3..=50))]
    agents: u64,
    /// Number of failures of each kind; healing has a budget of 10 in 5 minutes.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10))]
    deaths: u64,
}

#[derive(Args)]
struct Proxied {
    /// Number of agents.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(5..=50))]
    agents: u64,
    /// Values of `stop.delay`, in milliseconds.
    #[arg(long, value_delimiter = ',', default_value = "0,100,1000", value_parser = clap::value_parser!(u64).range(0..=60_000))]
    delays: Vec<u64>,
    /// Minimum number of requests for each value.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    requests: u64,
    /// Number of machines that lose power, one after another; healing has a budget of 10 in 5 minutes.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=10))]
    deaths: u64,
}

#[derive(Args)]
struct Reconnect {
    /// Number of agents, each with its own connection and certificate.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=19_000))]
    agents: u64,
}

#[derive(Args)]
struct Join {
    /// Number of agents that join, one after another.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    agents: u64,
}

#[derive(Args)]
struct Fanout {
    /// Number of agents.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=17_000))]
    agents: u64,
    /// Heartbeats per second of each agent.
    #[arg(long, default_value_t = 1.0, value_parser = hertz)]
    hz: f64,
    /// Numbers of subscribers.
    #[arg(long, value_delimiter = ',', default_value = "0,1,100,1000", value_parser = clap::value_parser!(u64).range(0..=10_000))]
    subscribers: Vec<u64>,
    /// Percentage of subscribers that stop reading.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=99))]
    stalled: u64,
}

#[derive(Args)]
struct Stalled {
    /// Number of agents.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=17_000))]
    agents: u64,
    /// Number of subscribers, none of which reads.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    subscribers: u64,
    /// Number of subscribers that start in the same cycle, and so hold the same state.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    together: u64,
}

/// Parses a heartbeat rate per second, 0.1 to 1000.
fn hertz(text: &str) -> Result<f64, String> {
    let hz = text.parse::<f64>().ok().filter(|hz| (0.1..=1_000.0).contains(hz));
    hz.ok_or_else(|| format!("{text:?} is not 0.1 to 1000"))
}

#[derive(Args)]
struct Cycle {
    /// Cluster sizes in nodes.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000,100000", value_parser = clap::value_parser!(u64).range(1..=200_000))]
    nodes: Vec<u64>,
}

#[derive(Args)]
struct Agent {
    /// Number of agents; each probes all others, or 10 of them in a larger cluster.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    agents: u64,
}

#[derive(Args)]
struct Why {
    /// Number of events in the history.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    events: u64,
}

#[derive(Args)]
struct Recover {
    /// Number of nodes, each with one instance.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(20..=10_000))]
    nodes: u64,
    /// Number of nodes that fail at once.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    deaths: u64,
    /// Number of repetitions, each with another seed.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    seeds: u64,
}

#[derive(Args)]
struct Simulate {
    /// Cluster sizes in nodes.
    #[arg(long, value_delimiter = ',', default_value = "20,100,1000,10000", value_parser = clap::value_parser!(u64).range(3..=20_000))]
    nodes: Vec<u64>,
    /// Number of failed nodes for each cluster size; one hundredth of a cluster fails at once.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    deaths: u64,
    /// The injected fault.
    #[arg(long, value_enum, default_value = "crash")]
    death: detection::Death,
}

#[derive(Args)]
struct Ambiguity {
    /// Number of seeds for each of the four cases.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seeds: u64,
}

#[derive(Args)]
struct RealDeath {
    /// Number of agents, each in its own network namespace.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(3..=60))]
    agents: u64,
    /// Number of failures, one after another.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    deaths: u64,
    /// The injected fault; `crash` disconnects the network cable.
    #[arg(long, value_enum, default_value = "crash")]
    death: detection::Death,
}

#[derive(Args)]
struct FalseVerdicts {
    /// Number of node-hours to simulate.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    node_hours: u64,
    /// The first seed; results of runs with different seeds can be added.
    #[arg(long, default_value_t = 1)]
    first_seed: u64,
}

#[derive(Subcommand)]
enum Command {
    /// Measure the cost of a heartbeat and of a connected agent, relative to a null gRPC server.
    Ingest(Ingest),
    /// Measure the cost of subscribers, relative to a null gRPC server, and their effect on agents.
    Fanout(Fanout),
    /// Measure the memory of subscribers of the full state that do not read.
    Stalled(Stalled),
    /// Measure the cost of a cycle, in process and without a network.
    Cycle(Cycle),
    /// Measure the resource use of an agent with default settings.
    Agent(Agent),
    /// Measure failure detection time and false verdicts in the simulator, and the simulator's speed; one core.
    Simulate(Simulate),
    /// Count nodes declared offline by mistake while a third of the nodes stalls repeatedly for up to a second and 1%
    /// of packets is lost; all CPUs.
    FalseVerdicts(FalseVerdicts),
    /// Measure the detection time of failures of real agents in network namespaces; requires root, iproute2 and
    /// nftables.
    Death(RealDeath),
    /// Measure how reliably failed zones are distinguished from a coordinator that is partitioned from them; all CPUs.
    Ambiguity(Ambiguity),
    /// Measure the duration of `wynectl why` with a long history.
    Why(Why),
    /// Measure how soon the work of many nodes that fail at once runs elsewhere, in the simulator.
    Recover(Recover),
    /// Measure the placement of instances on empty nodes, in process.
    Place(Place),
    /// Measure the engine's cost of declaring work, changing it and evaluating `whatif`, in process.
    Work(Place),
    /// Measure how soon the work of a failed machine, and a process that ended, runs again, with real agents in network
    /// namespaces; requires root, iproute2 and nftables.
    Heal(Heal),
    /// Count failed requests behind a proxy without retries while the service is changed and while machines lose power;
    /// requires root, iproute2, nftables, haproxy and gunicorn.
    Proxied(Proxied),
    /// Measure how soon all agents are connected again, with mutual TLS, after the coordinator was killed and
    /// restarted.
    Reconnect(Reconnect),
    /// Measure how long it takes to join a node until it is online, and to create a cluster of three nodes.
    Join(Join),
    /// Run `cycle`, `ingest`, `fanout`, `agent` and `simulate` with their defaults.
    All,
    /// Accept sessions of agents and discard their messages.
    #[command(hide = true)]
    NullServer {
        /// Directory of the CA; without it, TLS is disabled.
        #[arg(long)]
        ca: Option<PathBuf>,
    },
    /// Stream the answers recorded in a file, one every `every` seconds.
    #[command(hide = true)]
    NullSubscriptions { file: PathBuf, every: f64 },
}

/// The reason why a benchmark ended without a result.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    /// Returns a failure described by `text`.
    pub(crate) fn new(text: impl Into<String>) -> Failure {
        Failure(text.into())
    }

    /// Returns a failure of `what`, caused by the given error.
    pub(crate) fn of<E: fmt::Display>(what: impl fmt::Display) -> impl FnOnce(E) -> Failure {
        move |cause| Failure(format!("{what}: {cause}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let common = cli.common;
    let rows = match cli.command {
        Command::Ingest(args) => ingest::run(&args.rates, args.repeat, common.limit(), args.tls)?,
        Command::Fanout(args) => fanout::run(&plan(args, common))?,
        Command::Stalled(args) => stalled::run(stalled::Plan {
            agents: args.agents,
            subscribers: args.subscribers,
            together: args.together,
            window: common.limit(),
        })?,
        Command::Cycle(args) => cycle::run(&args.nodes, common.limit())?,
        Command::Agent(args) => agent::run(args.agents, common.limit())?,
        Command::Simulate(args) => detection::run(&args.nodes, args.deaths, args.death)?,
        Command::FalseVerdicts(args) => hours::run(args.node_hours, args.first_seed)?,
        Command::Recover(args) => recover::run(args.nodes, args.deaths, args.seeds)?,
        Command::Why(args) => why::run(args.events)?,
        Command::Death(args) => death::run(args.agents as usize, args.deaths as usize, args.death)?,
        Command::Ambiguity(args) => ambiguity::run(args.seeds)?,
        Command::All => all(common)?,
        Command::NullServer { ca } => return null::sessions(ca.as_deref()),
        Command::Place(args) => place::run(&args.nodes)?,
        Command::Work(args) => work::run(&args.nodes)?,
        Command::Heal(args) => heal::run(args.agents as usize, args.deaths as usize)?,
        Command::Proxied(args) => {
            let delays: Vec<Duration> = args.delays.into_iter().map(Duration::from_millis).collect();
            proxied::run(args.agents as usize, &delays, args.requests, args.deaths as usize)?
        }
        Command::Reconnect(args) => reconnect::run(args.agents)?,
        Command::Join(args) => join::run(args.agents)?,
        Command::NullSubscriptions { file, every } => {
            let cycle = Duration::try_from_secs_f64(every).map_err(Failure::of("every"))?;
            return null_watch::subscriptions(&file, cycle);
        }
    };
    output::print(&rows, common.output).map_err(Failure::of("standard output"))
}

fn plan(args: Fanout, common: Common) -> fanout::Plan {
    fanout::Plan {
        agents: args.agents,
        hz: args.hz,
        subscribers: args.subscribers,
        stalled: args.stalled,
        window: common.limit(),
    }
}

/// Runs each benchmark with the defaults of its own command.
fn all(common: Common) -> Result<Vec<output::Row>, Failure> {
    #[derive(Parser)]
    struct Defaults {
        #[command(flatten)]
        ingest: Ingest,
        #[command(flatten)]
        fanout: Fanout,
        #[command(flatten)]
        cycle: Cycle,
    }
    #[derive(Parser)]
    struct Simulated {
        #[command(flatten)]
        simulate: Simulate,
    }
    let defaults = Defaults::try_parse_from([""]).map_err(Failure::of("defaults"))?;
    let mut rows = cycle::run(&defaults.cycle.nodes, common.limit())?;
    rows.extend(ingest::run(
        &defaults.ingest.rates,
        defaults.ingest.repeat,
        common.limit(),
        defaults.ingest.tls,
    )?);
    rows.extend(fanout::run(&plan(defaults.fanout, common))?);
    for agents in [3, 12] {
        rows.extend(agent::run(agents, common.limit())?);
    }
    let Simulate { nodes, deaths, death } = Simulated::try_parse_from([""])
        .map_err(Failure::of("defaults"))?
        .simulate;
    rows.extend(detection::run(&nodes, deaths, death)?);
    Ok(rows)
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("wyneos-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}
