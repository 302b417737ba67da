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

/// Measures WyneOS against its goals.
///
/// Use the release build: the servers that are measured are the ones beside this program.
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
    /// How results are printed.
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    output: Output,
    /// Seconds that one measurement takes, after its warm-up; 1 to 3600.
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
    /// Measurements of each load, the two servers in turn; the row has the median.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    repeat: u32,
    /// With mutual TLS, on both servers.
    #[arg(long)]
    tls: bool,
}

#[derive(Args)]
struct Place {
    /// Sizes of the cluster; five instances a node.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000", value_parser = clap::value_parser!(u64).range(20..=100_000))]
    nodes: Vec<u64>,
}

#[derive(Args)]
struct Heal {
    /// Agents, and instances.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(3..=50))]
    agents: u64,
    /// Deaths of each kind; healing has a budget of 10 in 5 minutes.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10))]
    deaths: u64,
}

#[derive(Args)]
struct Proxied {
    /// Agents.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(5..=50))]
    agents: u64,
    /// Values of `stop.delay`, in milliseconds.
    #[arg(long, value_delimiter = ',', default_value = "0,100,1000", value_parser = clap::value_parser!(u64).range(0..=60_000))]
    delays: Vec<u64>,
    /// Requests with each value, at least.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    requests: u64,
    /// Machines that lose their power, one after the other; healing has a budget of 10 in 5 minutes.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=10))]
    deaths: u64,
}

#[derive(Args)]
struct Reconnect {
    /// Agents, each with a connection and a certificate of its own.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=19_000))]
    agents: u64,
}

#[derive(Args)]
struct Join {
    /// Agents that join, one after the other.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    agents: u64,
}

#[derive(Args)]
struct Fanout {
    /// Agents.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=17_000))]
    agents: u64,
    /// Heartbeats a second of each agent.
    #[arg(long, default_value_t = 1.0, value_parser = hertz)]
    hz: f64,
    /// Numbers of subscribers.
    #[arg(long, value_delimiter = ',', default_value = "0,1,100,1000", value_parser = clap::value_parser!(u64).range(0..=10_000))]
    subscribers: Vec<u64>,
    /// Hundredths of the subscribers that stop reading.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=99))]
    stalled: u64,
}

#[derive(Args)]
struct Stalled {
    /// Agents.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=17_000))]
    agents: u64,
    /// Subscribers, none of which reads.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    subscribers: u64,
    /// Subscribers that begin in the same cycle, and so hold the same state.
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
    /// Sizes of the cluster.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000,100000", value_parser = clap::value_parser!(u64).range(1..=200_000))]
    nodes: Vec<u64>,
}

#[derive(Args)]
struct Agent {
    /// Agents; each probes all others, or 10 of them in a larger cluster.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    agents: u64,
}

#[derive(Args)]
struct Why {
    /// Events that there are before it is asked.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    events: u64,
}

#[derive(Args)]
struct Recover {
    /// Nodes, with an instance each.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(20..=10_000))]
    nodes: u64,
    /// How many of them die.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    deaths: u64,
    /// How often.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    seeds: u64,
}

#[derive(Args)]
struct Simulate {
    /// Sizes of the cluster.
    #[arg(long, value_delimiter = ',', default_value = "20,100,1000,10000", value_parser = clap::value_parser!(u64).range(3..=20_000))]
    nodes: Vec<u64>,
    /// Nodes that die in each size, a hundredth of a cluster at once.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    deaths: u64,
    /// What they die of.
    #[arg(long, value_enum, default_value = "crash")]
    death: detection::Death,
}

#[derive(Args)]
struct Ambiguity {
    /// Seeds of each of the four cases.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seeds: u64,
}

#[derive(Args)]
struct RealDeath {
    /// Agents, each in a network namespace of its own.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(3..=60))]
    agents: u64,
    /// Deaths, one after the other.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    deaths: u64,
    /// What they die of: `crash` pulls the cable.
    #[arg(long, value_enum, default_value = "crash")]
    death: detection::Death,
}

#[derive(Args)]
struct FalseVerdicts {
    /// Node-hours to simulate.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    node_hours: u64,
    /// The first seed; runs with other seeds add up.
    #[arg(long, default_value_t = 1)]
    first_seed: u64,
}

#[derive(Subcommand)]
enum Command {
    /// The cost of a heartbeat and of a connected agent, against a null gRPC server.
    Ingest(Ingest),
    /// The cost of subscribers, against a null gRPC server, and what agents notice of them.
    Fanout(Fanout),
    /// The memory of subscribers of the full state that do not read.
    Stalled(Stalled),
    /// The cost of a cycle, in process and without a network.
    Cycle(Cycle),
    /// What an agent takes of its host at default settings.
    Agent(Agent),
    /// How soon deaths are found in the simulator, beside false verdicts, and how fast it is; one core.
    Simulate(Simulate),
    /// Nodes declared offline that were there, while a third of them stands still for up to a second again and again and one
    /// packet of a hundred is lost; all CPUs.
    FalseVerdicts(FalseVerdicts),
    /// How soon real deaths are found among real agents in network namespaces; wants root, iproute2 and nftables.
    Death(RealDeath),
    /// Whether zones that died are told from a coordinator that is cut off from them; all CPUs.
    Ambiguity(Ambiguity),
    /// How long `wynectl why` takes behind a long history.
    Why(Why),
    /// How soon the work of many machines that die at once runs elsewhere, in the simulator.
    Recover(Recover),
    /// How long it takes to place instances on empty nodes, in process.
    Place(Place),
    /// What the engine takes to declare work, to change it and to ask what if, in process.
    Work(Place),
    /// How soon work of a machine that died, and a process that ended, runs again among real agents in network namespaces; wants root,
    /// iproute2 and nftables.
    Heal(Heal),
    /// Requests that fail behind a proxy with its retries off, while its service is changed and while machines lose their power; wants root,
    /// iproute2, nftables, haproxy and gunicorn.
    Proxied(Proxied),
    /// How soon all agents are back, with mutual TLS, after the coordinator was killed and started again.
    Reconnect(Reconnect),
    /// How long joining takes, from the command until the node is online; and from nothing to three nodes.
    Join(Join),
    /// All of these but the last nine and `stalled`, with their defaults.
    All,
    /// Serves agents and drops what they say.
    #[command(hide = true)]
    NullServer {
        /// The folder of the CA; without it there is no TLS.
        #[arg(long)]
        ca: Option<PathBuf>,
    },
    /// Streams what was recorded in a file, an answer every so many seconds.
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
