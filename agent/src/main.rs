//! The WyneOS agent of one machine: reports it to the coordinator, and probes its peers.

mod bootstrap;
mod config;
mod driver;
mod host;
mod identity;
mod mesh;
mod metrics;
mod session;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use wyneos_shell::{config::Layered, exit, log};

use crate::config::{Config, Overrides};

/// The WyneOS agent of one machine.
///
/// Exit codes: 0 ended as asked; 1 failed while running; 2 wrong arguments; 64 the configuration cannot be used.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the agent until SIGTERM or SIGINT.
    Run(Box<Run>),
}

#[derive(Args)]
struct Run {
    /// Configuration file (TOML). The environment wins over it, and flags over both.
    #[arg(long, env = "WYNEOS_AGENT_CONFIG")]
    config: Option<PathBuf>,
    /// Checks the configuration, prints what would be in effect, and ends.
    #[arg(long)]
    check: bool,
    /// Ends at the end of standard input, too.
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
    #[command(flatten)]
    overrides: Overrides,
}

fn main() -> ExitCode {
    let Cli {
        command: Command::Run(run),
    } = Cli::parse();
    let config = match Config::load(run.config.as_deref(), run.overrides) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("wyneos-agent: {error}");
            return ExitCode::from(exit::BAD_CONFIG);
        }
    };
    if run.check {
        print!("{}", config.to_toml());
        return ExitCode::from(exit::OK);
    }
    log::start(&config.log, config.log_format);
    match bootstrap::run(config, run.exit_with_stdin) {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(source, "{error}");
            ExitCode::from(error.exit_code())
        }
    }
}
