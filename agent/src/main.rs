//! The WyneOS agent of one machine: reports it to the coordinator, and probes its peers.

mod beacons;
mod bootstrap;
mod config;
mod driver;
mod host;
mod identity;
mod incarnation;
mod inherited;
mod instance;
mod join;
mod mesh;
mod metrics;
mod modes;
mod session;
mod tls;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use wyneos_shell::{
    files,
    start::{finish, start},
};

use crate::{
    config::Overrides,
    instance::{Check, Exec, Init, Policy, Supervise},
    join::Join,
};

/// The WyneOS agent of one machine.
///
/// Exit codes: 0 ended as requested; 1 failed while running; 2 invalid arguments; 64 the configuration cannot be used.
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
    /// Joins a cluster: obtains a certificate with a join token, and writes the configuration that `run` needs. Joining
    /// again is harmless.
    Join(Box<Join>),
    /// Runs one instance of a workload; started by the agent.
    #[command(hide = true)]
    Supervise(Supervise),
    /// Runs as the first process of an instance's namespaces; started by its supervisor.
    #[command(hide = true)]
    Init(Init),
    /// Runs a health check's program; started by its supervisor.
    #[command(hide = true)]
    Check(Check),
    /// Executes an instance's program; started by its supervisor.
    #[command(hide = true)]
    Exec(Exec),
}

#[derive(Args)]
struct Run {
    /// Configuration file (TOML). The environment takes precedence over it, and flags over both.
    #[arg(long, env = "WYNEOS_AGENT_CONFIG")]
    config: Option<PathBuf>,
    /// Validate the configuration, print the effective one, and exit.
    #[arg(long)]
    check: bool,
    /// Exit at the end of standard input, too.
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
    /// End instances soon after the agent.
    #[arg(long, hide = true)]
    ephemeral: bool,
    #[command(flatten)]
    overrides: Overrides,
}

fn main() -> ExitCode {
    inherited::close();
    files::set_umask(0o077);
    let run = match Cli::parse().command {
        Command::Run(run) => run,
        Command::Supervise(args) => return instance::supervise(&args),
        Command::Init(args) => return instance::init(&args),
        Command::Check(args) => return instance::check(&args),
        Command::Exec(args) => return instance::exec(&args),
        Command::Join(args) => return finish("wyneos-agent", join::run(&args)),
    };
    let Run {
        config,
        check,
        exit_with_stdin,
        ephemeral,
        overrides,
    } = *run;
    let warn = |config: &config::Config| drop(Policy::new(&config.work_user, &config.users.0).told());
    start("wyneos-agent", config.as_deref(), overrides, check, warn, |config| {
        bootstrap::run(config, exit_with_stdin, ephemeral)
    })
}
