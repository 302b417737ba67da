//! Load generators and benchmarks of WyneOS. docs/performance.md has the goals and what was measured.

mod cycle;
mod ingest;
mod load;
mod made;
mod null;
mod output;
mod process;
mod stats;
mod wire;

use std::{fmt, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use output::Output;

/// Measures WyneOS against its goals.
///
/// Use the release build: the servers that are measured are the ones beside this program.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Clone, Copy)]
struct Common {
    /// How results are printed.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    /// Seconds that one measurement takes, after its warm-up; 1 to 3600.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
}

impl Common {
    fn limit(self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

#[derive(Subcommand)]
enum Command {
    /// The cost of a cycle, in process and without a network.
    Cycle {
        /// Sizes of the cluster.
        #[arg(long, value_delimiter = ',', default_value = "100,1000,10000,100000")]
        nodes: Vec<u64>,
        #[command(flatten)]
        common: Common,
    },
    /// The cost of a heartbeat and of a connected agent, against a null gRPC server.
    Ingest {
        /// Loads, as AGENTSxHZ.
        #[arg(long, value_delimiter = ',', default_value = "200x200,2000x5,10000x1")]
        rates: Vec<ingest::Rate>,
        /// Measurements of each load, the two servers in turn; the row has the median.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
        repeat: u32,
        #[command(flatten)]
        common: Common,
    },
    /// Serves agents and drops what they say.
    #[command(hide = true)]
    NullServer,
}

/// Why a benchmark ended without a result.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    /// A failure that `text` describes.
    pub(crate) fn new(text: impl Into<String>) -> Failure {
        Failure(text.into())
    }

    /// `what` failed because of `cause`.
    pub(crate) fn of<E: fmt::Display>(what: impl fmt::Display) -> impl FnOnce(E) -> Failure {
        move |cause| Failure(format!("{what}: {cause}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn run(command: Command) -> Result<(), Failure> {
    let (rows, output) = match command {
        Command::Cycle { nodes, common } => (cycle::run(&nodes, common.limit())?, common.output),
        Command::Ingest { rates, repeat, common } => (ingest::run(&rates, repeat, common.limit())?, common.output),
        Command::NullServer => return null::sessions(),
    };
    output::print(&rows, output).map_err(Failure::of("standard output"))
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("wyneos-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}
