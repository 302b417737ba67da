//! The first process of an instance's namespaces: it mounts the instance's own /proc, reaps orphans, watches the
//! program on behalf of a supervisor that may be stopped when that ends, and ends with its supervisor.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::{fd::OwnedFd, unix::net::UnixStream as Pair},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use nix::sched::{CloneFlags, unshare};
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    process::{Signal, WaitOptions, set_parent_process_death_signal, setsid},
};
use tokio::{
    io::AsyncReadExt,
    net::UnixStream,
    signal::unix::{SignalKind, signal},
};

use super::{
    Home,
    conceal::{conceal, conceal_nothing},
    held::{Held, Place},
    namespace::READY,
    note, trace,
};

/// Command line of a first process.
#[derive(Args)]
pub(crate) struct Init {
    /// The instance's directory.
    directory: PathBuf,
    /// Identity of that directory, as DEVICE:NUMBER: a different one with its name is refused.
    #[arg(long)]
    place: Option<Place>,
    /// Run without an instance, to test the capabilities of this host.
    #[arg(long)]
    trial: bool,
}

/// Runs until standard input is closed.
pub(crate) fn init(args: &Init) -> ExitCode {
    let result = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
        .map_err(io::Error::from)
        .and_then(|told| stay(told, args));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn stay(told: OwnedFd, args: &Init) -> io::Result<()> {
    let mut told = Pair::from(told);
    // It never changes its user, so that the kernel keeps this setting.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    match prepare(args) {
        Ok(()) => told.write_all(READY)?,
        Err(reason) => return told.write_all(reason.as_bytes()),
    }
    told.shutdown(std::net::Shutdown::Write)?;
    // Opened after the cover was mounted: its parent leads to nothing that the instance must not see.
    let held = match args.trial {
        true => None,
        false => Held::open(&args.directory, args.place).ok(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(reap(told, held.as_ref().map(Held::home)))
}

fn prepare(args: &Init) -> Result<(), String> {
    let failed = |what: &'static str| move |error: io::Error| format!("cannot {what}: {error}");
    let null = File::open("/dev/null").map_err(failed("open /dev/null"))?;
    rustix::stdio::dup2_stdin(&null).map_err(|error| failed("close standard input")(error.into()))?;
    setsid().map_err(|error| failed("begin a session")(error.into()))?;
    // By the host's numbers: this is still the host's /proc.
    let own = fs::read_link("/proc/self").map_err(failed("read /proc/self"))?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|error| failed("make a mount namespace")(error.into()))?;
    // Later mounts of the host are visible inside; mounts made inside are not visible to the host.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|error| failed("keep its mounts to itself")(error.into()))?;
    let concealed = match args.trial {
        true => conceal_nothing(),
        false => conceal(&args.directory, args.place),
    };
    concealed.map_err(failed("hide the directories of other instances"))?;
    // Covered directories must not remain reachable by way of the initial working directory.
    std::env::set_current_dir("/").map_err(failed("enter /"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None).map_err(|error| failed("mount its own /proc")(error.into()))?;
    // Numbers begin near the host's, and not with 2 in each life: a pid file of an earlier life would often name a live
    // process of this one, and programs refuse to start then. A kernel without this setting is no reason not to run.
    let _ = fs::write("/proc/sys/kernel/ns_last_pid", own.as_os_str().as_encoded_bytes());
    Ok(())
}

/// Length of a program's number, bytes.
const NUMBER: usize = 16;

/// Reaps orphans until the supervisor closes its end. The supervisor sends the number of the program.
async fn reap(told: Pair, home: Option<Home>) -> io::Result<()> {
    let mut children = signal(SignalKind::child())?;
    told.set_nonblocking(true)?;
    let mut told = UnixStream::from_std(told)?;
    let (mut said, mut bytes) = (String::new(), [0; NUMBER]);
    loop {
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
        tokio::select! {
            _ = children.recv() => {}
            read = told.read(&mut bytes) => match read {
                Ok(read @ 1..) if said.len() < NUMBER => {
                    said.push_str(&String::from_utf8_lossy(bytes.get(..read).unwrap_or_default()));
                    if let (Some(home), Some(number)) = (&home, said.strip_suffix('\n').and_then(|said| said.parse().ok())) {
                        tokio::spawn(watch(home.clone(), number));
                    }
                }
                _ => return Ok(()),
            },
        }
    }
}

async fn watch(home: Home, pid: i32) {
    if let Err(error) = trace::watch(home, pid).await {
        note(&format!("the program cannot be watched: {error}"));
    }
}
