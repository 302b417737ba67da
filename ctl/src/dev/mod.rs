//! `wynectl dev`: a cluster of the production binaries on this machine, for as long as it runs.

mod child;
mod cluster;
mod left;
mod secure;
mod show;
#[cfg(test)]
mod tests;

use std::{
    cell::Cell,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};
use wyneos_shell::{files, removal::remove_dir};

use cluster::Cluster;

use crate::{exit::Exit, text};

/// Where the coordinator listens when nothing else is said.
const LISTEN: &str = "127.0.0.1:7400";

/// Runs a cluster on this machine: a coordinator and some agents, separate processes of the production binaries.
///
/// It is on loopback only, and plaintext unless --tls is given. It prints the process id of each. When an agent ends, for instance
/// because you kill it, the cluster goes on, and the command that starts it again is printed; the end of the coordinator ends all.
/// Ctrl-C or SIGTERM drains the cluster and leaves no process and no file; a second one does not wait.
#[derive(Args, Clone, Debug)]
pub(crate) struct DevArgs {
    /// Agents to start; 1 to 50.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub(crate) agents: u32,
    /// Time between two cycles, as 6s or 500ms; 100ms to 1h.
    #[arg(long, default_value = "6s", value_parser = humantime::parse_duration)]
    pub(crate) cycle: Duration,
    /// Loopback address of the coordinator.
    #[arg(long, default_value = LISTEN, value_parser = loopback)]
    pub(crate) listen: SocketAddr,
    /// Keeps the cluster's files in this directory, and goes on from what is there.
    #[arg(long)]
    pub(crate) data_dir: Option<PathBuf>,
    /// The real thing: mutual TLS, agents that join by a token, and an admin's credentials for this program.
    #[arg(long)]
    pub(crate) tls: bool,
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| "not an address such as 127.0.0.1:7400".to_owned())?;
    if !address.ip().is_loopback() {
        return Err("not a loopback address: this cluster is for this machine alone".to_owned());
    }
    if address.port() == 0 {
        return Err("give a port: what is printed names it".to_owned());
    }
    Ok(address)
}

/// Why the cluster does not run, or no longer.
#[derive(Debug, thiserror::Error)]
pub(super) enum DevError {
    /// A binary is not there.
    #[error("{} is not there; `cargo build --release` builds it", .0.display())]
    NoBinary(PathBuf),
    /// Something of the operating system.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What came of it.
        source: io::Error,
    },
    /// A process ended that should not have.
    #[error("{name} ended ({status}); the end of its log:\n{log}")]
    Died {
        /// Which.
        name: String,
        /// How.
        status: String,
        /// Its last lines.
        log: String,
    },
    /// The agents are not online in time.
    #[error("only {online} of {agents} agents were online after {limit:?}; see the logs below {}", .directory.display())]
    Late {
        /// Agents online.
        online: usize,
        /// Agents started.
        agents: u32,
        /// How long they were waited for.
        limit: Duration,
        /// Where the logs are.
        directory: PathBuf,
    },
}

impl DevError {
    fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> DevError {
        let what = what.into();
        move |source| DevError::System { what, source }
    }
}

/// Where the cluster's files are: for good, or until it ends.
enum Directory {
    Kept(PathBuf),
    Temporary(TempDir),
}

impl Directory {
    fn new(kept: Option<&Path>) -> Result<Directory, DevError> {
        match kept {
            Some(path) => {
                let failed = || format!("make {}", path.display());
                files::make_dir(path, 0o711).map_err(DevError::system(failed()))?;
                path.canonicalize()
                    .map(Directory::Kept)
                    .map_err(DevError::system(failed()))
            }
            None => {
                let made = tempfile::Builder::new().prefix("wyneos-dev-").tempdir();
                let made = made.and_then(|made| {
                    // Programs of work, which have users of their own where this is root, pass through it.
                    files::set_mode(made.path(), 0o711)?;
                    Ok(made)
                });
                made.map(Directory::Temporary)
                    .map_err(DevError::system("make a temporary directory"))
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Directory::Kept(path) => path,
            Directory::Temporary(directory) => directory.path(),
        }
    }

    fn remove(self) -> Result<(), DevError> {
        match self {
            Directory::Kept(_) => Ok(()),
            // Programs of work may have made it too deep for a recursion.
            Directory::Temporary(directory) => {
                remove_dir(&directory.keep()).map_err(DevError::system("remove the temporary directory"))
            }
        }
    }
}

/// Ctrl-C and SIGTERM.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> Result<Stop, DevError> {
        let listen = |kind| signal(kind).map_err(DevError::system("listen to signals"));
        Ok(Stop {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Waits for the next of them.
    pub(super) async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Runs the cluster until it is asked to stop, or until it cannot go on.
pub(crate) async fn run(args: DevArgs) -> ExitCode {
    match cluster_life(&args, &binaries()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            text::stderr(&format!("wynectl dev: {error}"));
            Exit::Failed.into()
        }
    }
}

/// Where the servers' binaries are: beside this one.
fn binaries() -> PathBuf {
    let own = std::env::current_exe().ok();
    own.and_then(|own| own.parent().map(Path::to_owned)).unwrap_or_default()
}

async fn cluster_life(args: &DevArgs, binaries: &Path) -> Result<(), DevError> {
    // Before anything is started, so that nothing is left behind whenever a signal comes.
    let mut stop = Stop::new()?;
    let directory = Directory::new(args.data_dir.as_deref())?;
    let mut cluster = Cluster::new(binaries, directory.path())?;
    let result = tokio::select! {
        biased;
        () = stop.requested() => Ok(()),
        result = live(args, &mut cluster) => result,
    };
    if result.is_ok() {
        text::stderr("draining …");
    }
    cluster.drain(&mut stop).await;
    directory.remove()?;
    result
}

/// Starts everything, and tells what happens. Ends only with an error.
async fn live(args: &DevArgs, cluster: &mut Cluster) -> Result<(), DevError> {
    let up = Cell::new(false);
    cluster.start_coordinator(args)?;
    if args.tls {
        let (binaries, directory) = cluster.places();
        tokio::select! {
            biased;
            error = cluster.death(&up) => return Err(error),
            done = secure::set_up(args, &binaries, &directory) => done?,
        }
    }
    for number in 1..=args.agents {
        cluster.start_agent(args, number)?;
    }
    let view = show::View {
        args,
        directory: cluster.directory().to_owned(),
        pids: cluster.pids(),
        is_root: rustix::process::geteuid().is_root(),
    };
    tokio::select! {
        biased;
        error = cluster.death(&up) => Err(error),
        result = show::follow(&view, &up) => result,
    }
}
