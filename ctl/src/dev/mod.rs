//! `wynectl dev`: a cluster of the production binaries on this machine, for the duration of the command.

mod args;
mod child;
mod cluster;
mod control;
mod groups;
mod hints;
mod left;
mod secure;
mod show;
#[cfg(test)]
mod tests;

use std::{
    env, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};
use wyneos_shell::{files, removal::remove_dir};

pub(crate) use args::DevCommand;
use args::{DevArgs, LISTEN, Target, loopback};
use cluster::{Cluster, Progress};
use control::{Action, Control, Request};

use crate::{args::Global, exit::Exit, failure::Failure, text};

/// The reason for which the cluster does not run, or no longer runs.
#[derive(Debug, thiserror::Error)]
pub(super) enum DevError {
    /// A binary is missing.
    #[error("{} does not exist; `cargo build --release` builds it", .0.display())]
    NoBinary(PathBuf),
    /// Another cluster runs at the same address.
    #[error("a `wynectl dev` runs at {0} already; --listen selects another address")]
    Runs(SocketAddr),
    /// An operation of the operating system failed.
    #[error("cannot {what}: {source}")]
    System {
        /// The operation.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// A process ended unexpectedly.
    #[error("{name} ended ({status}); the end of its log:\n{log}")]
    Died {
        /// Name of the process.
        name: String,
        /// Exit status.
        status: String,
        /// Last lines of its log.
        log: String,
    },
    /// The agents were not online in time.
    #[error("only {online} of {agents} agents were online after {limit:?}; see the logs below {}", .directory.display())]
    Late {
        /// Number of agents online.
        online: usize,
        /// Number of agents started.
        agents: usize,
        /// Time limit.
        limit: Duration,
        /// Directory of the logs.
        directory: PathBuf,
    },
}

impl DevError {
    fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> DevError {
        let what = what.into();
        move |source| DevError::System { what, source }
    }
}

/// Directory of the cluster's files, permanent or temporary.
enum Directory {
    Kept(PathBuf),
    Temporary(TempDir),
}

impl Directory {
    fn new(kept: Option<&Path>) -> Result<Directory, DevError> {
        match kept {
            Some(path) => {
                let failed = || format!("create {}", path.display());
                files::make_dir(path, 0o711).map_err(DevError::system(failed()))?;
                path.canonicalize()
                    .map(Directory::Kept)
                    .map_err(DevError::system(failed()))
            }
            None => {
                // Without links: supervisors of instances have it so in their command lines, by which they are found.
                let above = env::temp_dir().canonicalize();
                let made = above.and_then(|above| tempfile::Builder::new().prefix("wyneos-dev-").tempdir_in(above));
                let made = made.and_then(|made| {
                    // Programs of workloads, which have their own users if this is root, must pass through it.
                    files::set_mode(made.path(), 0o711)?;
                    Ok(made)
                });
                made.map(Directory::Temporary)
                    .map_err(DevError::system("create a temporary directory"))
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
            // Programs of workloads may have made it too deep for a recursion.
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

    /// Waits for the next signal.
    pub(super) async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Runs the cluster until it is asked to stop or fails, or acts on a process of a running one.
pub(crate) async fn run(command: DevCommand, global: &Global) -> ExitCode {
    if let Some(verb) = &command.verb {
        let (action, target) = verb.parts();
        return match act(action, target, global).await {
            Ok(told) => {
                text::stdout(&told);
                ExitCode::SUCCESS
            }
            Err(failure) => failure.tell(),
        };
    }
    match cluster_life(&command.run, &binaries()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            text::stderr(&format!("wynectl dev: {error}"));
            Exit::Failed.into()
        }
    }
}

/// Makes the running `wynectl dev` act on one of its processes; returns its answer.
async fn act(action: Action, target: &Target, global: &Global) -> Result<String, Failure> {
    let address = match (target.listen, &global.address) {
        (Some(listen), _) => listen,
        (None, Some(address)) => loopback(address).map_err(|why| {
            let message =
                format!("no `wynectl dev` runs at {address}, which --address or WYNEOS_ADDRESS selects: {why}");
            Failure::new(Exit::Usage, message).hint("--listen selects the address of one")
        })?,
        (None, None) => LISTEN,
    };
    let name = target.node.clone();
    control::ask(address, &Request { action, name }, global.timeout).await
}

/// The directory of the servers' binaries: that of this one.
fn binaries() -> PathBuf {
    let own = env::current_exe().ok();
    own.and_then(|own| own.parent().map(Path::to_owned)).unwrap_or_default()
}

async fn cluster_life(args: &DevArgs, binaries: &Path) -> Result<(), DevError> {
    // Before anything is started, so that a signal at any time leaves nothing behind.
    let mut stop = Stop::new()?;
    let mut control = Control::listen(args.listen)?;
    groups::sweep();
    let directory = Directory::new(args.data_dir.as_deref())?;
    let mut cluster = Cluster::new(binaries, directory.path())?;
    let result = tokio::select! {
        biased;
        () = stop.requested() => Ok(()),
        result = live(args, &mut cluster, &mut control) => result,
    };
    if result.is_ok() {
        text::stderr("draining …");
    }
    control.close();
    let drained = cluster.drain(&mut stop).await;
    directory.remove()?;
    result.and(drained)
}

/// Starts everything, and reports events. Ends only with an error.
async fn live(args: &DevArgs, cluster: &mut Cluster, control: &mut Control) -> Result<(), DevError> {
    let progress = Progress::default();
    text::stdout(&show::starting(args, cluster.directory()));
    cluster.start_coordinator(args)?;
    if args.tls {
        let (binaries, directory) = cluster.places();
        let credentials = secure::set_up(args, &binaries, &directory);
        attended(args, cluster, control, &progress, credentials).await?;
    }
    for number in 1..=args.agents {
        cluster.start_agent(args, number)?;
    }
    let view = show::View {
        args,
        directory: cluster.directory().to_owned(),
        pids: cluster.pids(),
        is_root: rustix::process::geteuid().is_root(),
        example: hints::write_example(cluster.directory())?,
    };
    progress.agents.set(cluster.agents());
    attended(args, cluster, control, &progress, show::follow(&view, &progress)).await
}

/// Polls `work`, reports deaths meanwhile, and carries out requests from other terminals.
async fn attended<T>(
    args: &DevArgs,
    cluster: &mut Cluster,
    control: &mut Control,
    progress: &Progress,
    work: impl Future<Output = Result<T, DevError>>,
) -> Result<T, DevError> {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            // A death is reported before the process is started again.
            biased;
            death = cluster.death() => cluster.mourn(&death, args, progress.up.get())?,
            asked = control.next() => {
                // The client may be gone.
                drop(asked.reply.send(cluster.obey(&asked.request)));
            }
            done = &mut work => return done,
        }
        progress.agents.set(cluster.agents());
    }
}
