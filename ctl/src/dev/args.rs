//! The command line of `wynectl dev`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use super::control::{Action, NAME_MOST};

/// Default listen address of the coordinator.
pub(super) const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7400);

/// `wynectl dev`: runs a cluster, or acts on a process of a running one.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DevCommand {
    #[command(subcommand)]
    pub(super) verb: Option<Verb>,
    #[command(flatten)]
    pub(super) run: DevArgs,
}

/// The cluster to run.
#[derive(Args, Clone, Debug)]
pub(crate) struct DevArgs {
    /// Number of agents to start; 1 to 50.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub(super) agents: u32,
    /// Time between two cycles, as 6s or 500ms; 100ms to 1h.
    #[arg(long, default_value = "6s", value_parser = humantime::parse_duration)]
    pub(super) cycle: Duration,
    /// Loopback address of the coordinator.
    #[arg(long, default_value_t = LISTEN, value_parser = loopback)]
    pub(super) listen: SocketAddr,
    /// Keep the cluster's files in this directory, and resume from its contents.
    #[arg(long)]
    pub(super) data_dir: Option<PathBuf>,
    /// Use mutual TLS, with agents that join by a token and an admin's credentials for this program, as in production.
    #[arg(long)]
    pub(super) tls: bool,
}

/// An action on a process of a running cluster.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Verb {
    /// Kill a node's agent, or the coordinator, with SIGKILL, as `kill -9` does.
    ///
    /// The process cannot say goodbye: for the cluster this is the loss of a machine. `wynectl dev start` starts it
    /// again.
    Kill(Target),
    /// Stop a node's agent, or the coordinator, with SIGSTOP, as `kill -STOP` does; it hangs until `wynectl dev cont`.
    Stop(Target),
    /// Continue a stopped process with SIGCONT, as `kill -CONT` does.
    Cont(Target),
    /// Start a node's agent, or the coordinator, again after it ended.
    ///
    /// It keeps its directory and thus its identity. The running `wynectl dev` starts it, and stops it together with
    /// the other processes.
    Start(Target),
}

impl Verb {
    /// The action, and the process that it is applied to.
    pub(super) fn parts(&self) -> (Action, &Target) {
        match self {
            Verb::Kill(target) => (Action::Kill, target),
            Verb::Stop(target) => (Action::Stop, target),
            Verb::Cont(target) => (Action::Cont, target),
            Verb::Start(target) => (Action::Start, target),
        }
    }
}

/// A process of a running cluster.
#[derive(Args, Clone, Debug)]
pub(crate) struct Target {
    /// Node whose agent is meant, as node-2 or agent-2, or `coordinator`.
    #[arg(value_name = "NODE", value_parser = name)]
    pub(super) node: String,
    /// Address at which the cluster's coordinator listens, as given to `wynectl dev --listen`; otherwise --address, or
    /// else 127.0.0.1:7400.
    #[arg(long, value_name = "ADDRESS", value_parser = loopback)]
    pub(super) listen: Option<SocketAddr>,
}

/// Reads a loopback address with a port.
pub(super) fn loopback(text: &str) -> Result<SocketAddr, &'static str> {
    let address: SocketAddr = text.parse().map_err(|_| "not an address such as 127.0.0.1:7400")?;
    if !address.ip().is_loopback() {
        return Err("not a loopback address: this cluster is for this machine only");
    }
    if address.port() == 0 {
        return Err("a port is required, because the printed commands contain it");
    }
    Ok(address)
}

/// Parses a name that fits into a request.
fn name(text: &str) -> Result<String, &'static str> {
    match !text.is_empty() && text.len() <= NAME_MOST && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err("not a name such as node-2"),
    }
}
