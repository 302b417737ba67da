//! The WyneOS coordinator: hosts the node registry and the orchestration engine.

mod board;
mod bootstrap;
mod config;
mod engine;
mod metrics;
mod publisher;
mod services;
mod session;
mod status;
mod store;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use wyneos_shell::{config::Layered, exit, log};

use crate::config::{Config, Overrides};

/// The WyneOS coordinator.
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
    /// Runs the coordinator until SIGTERM or SIGINT.
    Run(Box<Run>),
}

#[derive(Args)]
struct Run {
    /// Configuration file (TOML). The environment wins over it, and flags over both.
    #[arg(long, env = "WYNEOS_COORDINATOR_CONFIG")]
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
            eprintln!("wyneos-coordinator: {error}");
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
