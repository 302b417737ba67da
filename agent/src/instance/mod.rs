//! Instances of workloads on this host: each has a directory, and a supervisor that continues when the agent does not.

mod attend;
mod begin;
mod begun;
mod bury;
mod cgroup;
mod checks;
mod conceal;
mod conversation;
mod deadline;
mod disk;
mod exec;
mod found;
mod guard;
mod held;
mod init;
mod logs;
mod lost;
mod manager;
mod namespace;
mod operations;
mod patience;
mod places;
mod ports;
mod premises;
mod processes;
mod program;
mod record;
mod removal;
mod runner;
mod stock;
mod strays;
mod stuck;
mod supervise;
mod tag;
#[cfg(test)]
mod tests;
mod trace;
mod user;

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

pub(crate) use begun::Begun;
pub(crate) use cgroup::{Groups, Prefix};
pub(crate) use exec::{Exec, exec};
use held::{Held, Place};
pub(crate) use init::{Init, init};
pub(crate) use manager::{Instances, Means, Own};
pub(crate) use namespace::probe;
pub(crate) use ports::Ports;
pub(crate) use runner::{Check, check};
use rustix::{
    fs::{FlockOperation, flock},
    time::{ClockId, clock_gettime},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
pub(crate) use supervise::{Supervise, supervise};
pub(crate) use user::{Policy, mode_of_instances, prepare};
use wyneos_core::{
    id::NodeId,
    time::Time,
    workload::{Assigned, AssignmentId, Status},
};
use wyneos_shell::files;

/// The default `PATH` of programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The order of a supervisor; written by the agent, once.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Order {
    assigned: Assigned,
    /// The allocated ports.
    ports: Vec<u16>,
    /// Whether it ends when its agent does: for clusters on one machine that leave nothing behind.
    ephemeral: bool,
    node: String,
    /// The node that it was assigned to; `None` in orders of earlier versions.
    #[serde(default)]
    of: Option<NodeId>,
    /// The control group that limits it; `None` if the host has no control groups.
    group: Option<cgroup::Group>,
    /// Address at which others reach it; in orders of earlier versions, the address of their checks.
    #[serde(default = "loopback")]
    address: String,
    /// Whether it has its own namespaces, by which the kernel ends all of it.
    #[serde(default)]
    contained: bool,
}

impl Order {
    /// Time after its agent's start at which it is started again without a coordinator, if its host ended it; `None`
    /// for never.
    fn starts_alone(&self) -> Option<Duration> {
        let spec = &self.assigned.spec;
        spec.offline_start.filter(|_| !spec.singleton && !self.ephemeral)
    }
}

fn loopback() -> String {
    "127.0.0.1".to_owned()
}

/// Messages from an agent to a supervisor; one per line, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    /// End permanently.
    Stop {
        /// The reason, for people.
        reason: String,
    },
    /// Extend a singleton's lease to this time, on the clock that counts from the host's boot.
    Lease {
        /// End of the lease.
        until: u64,
    },
}

/// Maximum size of a state file, bytes: several times that of the largest order.
const STATE: u64 = 4 * 1024 * 1024;

/// Maximum size of the file with the identity of the first process, bytes.
const FIRST: usize = 256;

/// The contents of the file that proves that nothing was begun in a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Unbegun {
    place: Place,
    /// Creation time of the directory, if its file system reports it; in nanoseconds since 1970.
    made: Option<u64>,
    /// Identity of the host's boot.
    boot: String,
}

impl Unbegun {
    fn of(held: &Held) -> io::Result<Unbegun> {
        let since = held.made().and_then(|made| made.duration_since(UNIX_EPOCH).ok());
        Ok(Unbegun {
            place: held.place(),
            made: since.map(|since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)),
            boot: namespace::boot()?,
        })
    }

    /// Records that nothing was begun in this directory yet.
    fn write(held: &Held) -> io::Result<()> {
        let text = serde_json::to_vec(&Unbegun::of(held)?)?;
        // A partial file would count as a copy, of an instance that may have been begun since.
        files::write_whole(&held.home().unbegun(), &text, 0o600).map(drop)
    }
}

/// The record in a directory on whether a program was begun in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begins {
    /// No program was begun.
    NotYet,
    /// There is no record.
    Unsaid,
    /// No program was begun when it was copied.
    Copied,
}

/// The paths of the files of one instance.
#[derive(Clone, Debug)]
struct Home(PathBuf);

impl Home {
    fn of(instances: &Path, id: AssignmentId) -> Home {
        Home(instances.join(id.to_string()))
    }

    /// Creates the directories; the instance's user passes through the first and can access only [`Home::work`]. Their
    /// parents must exist: nothing is created in the place of a `data_dir` that has been moved. An existing directory
    /// is used only if it is empty: otherwise its contents do not belong to this instance.
    fn make(&self) -> io::Result<Held> {
        let cannot =
            |error: io::Error| io::Error::new(error.kind(), format!("cannot make {}: {error}", self.0.display()));
        match fs::symlink_metadata(&self.0) {
            Ok(there) if !there.is_dir() => {
                let what = "something is there that is no directory; move it away";
                return Err(cannot(io::Error::new(io::ErrorKind::AlreadyExists, what)));
            }
            _ => files::make_dir_in(&self.0, 0o711).map_err(cannot)?,
        }
        let held = Held::open(&self.0, None).map_err(cannot)?;
        let home = held.home();
        if fs::read_dir(&home.0).map_err(cannot)?.next().is_some() {
            let what = "it is there, and is not empty; move it away";
            return Err(cannot(io::Error::new(io::ErrorKind::AlreadyExists, what)));
        }
        home.make_logs().map_err(cannot)?;
        Ok(held)
    }

    /// Creates the directory for the output of its programs.
    fn make_logs(&self) -> io::Result<()> {
        files::make_dir_in(&self.logs(), 0o700)
    }

    fn order(&self) -> PathBuf {
        self.0.join("order.json")
    }

    fn status(&self) -> PathBuf {
        self.0.join("status.json")
    }

    /// File with the identity of the first process in its namespaces.
    fn first(&self) -> PathBuf {
        self.0.join("first.json")
    }

    /// File with the end of its program, by its first observer.
    fn trace(&self) -> PathBuf {
        self.0.join("exit")
    }

    fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    fn supervisor_log(&self) -> PathBuf {
        self.0.join("supervisor.log")
    }

    fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    fn read_order(&self) -> io::Result<Order> {
        serde_json::from_slice(&files::read(&self.order(), STATE)?).map_err(io::Error::other)
    }

    fn kept_order(&self) -> Kept<Order> {
        Kept::read(&self.order())
    }

    fn kept_status(&self) -> Kept<Status> {
        Kept::read(&self.status())
    }

    fn write_status(&self, status: &Status) -> io::Result<()> {
        replace(&self.status(), &serde_json::to_vec(status)?)
    }

    /// The first process in the namespaces of this very directory's instance; missing if nothing was ever contained.
    fn kept_first(&self) -> Kept<namespace::First> {
        // Allocated space, and nothing in it yet.
        if files::read(&self.first(), STATE).is_ok_and(|bytes| bytes.trim_ascii().is_empty()) {
            return Kept::Missing;
        }
        match Kept::<namespace::First>::read(&self.first()) {
            Kept::Read(first) if !first.is_of(&self.0) => Kept::Missing,
            kept => kept,
        }
    }

    /// Exists until its supervisor begins: while it does, no program was ever started.
    fn unbegun(&self) -> PathBuf {
        self.0.join("unbegun")
    }

    /// The record on whether a program was begun here. It is valid only in the directory and the boot of the host in
    /// which it was written: its copy lies in a directory whose original may have been begun since.
    fn unbegun_of(&self, held: &Held) -> Begins {
        match Kept::<Unbegun>::read(&self.unbegun()) {
            Kept::Missing => Begins::Unsaid,
            Kept::Read(said) if Unbegun::of(held).is_ok_and(|own| own == said) => Begins::NotYet,
            Kept::Read(_) | Kept::Unreadable(..) => Begins::Copied,
        }
    }

    /// Removes that record, durably, before anything is begun. An agent of an earlier version never wrote it.
    fn begin(&self) -> io::Result<()> {
        match fs::remove_file(self.unbegun()) {
            Ok(()) => File::open(&self.0)?.sync_all(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Returns whether the directory is a copy of the one in which an instance was begun, and contains its state at the
    /// time of the copy.
    fn is_copy(&self) -> bool {
        match Kept::<namespace::First>::read(&self.first()) {
            Kept::Read(first) => first.is_of_another(&self.0),
            _ => false,
        }
    }

    /// `None` allocates space for it, so that a disk that becomes full later does not matter.
    fn write_first(&self, first: Option<&namespace::First>) -> io::Result<()> {
        let mut bytes = first.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        bytes.resize(bytes.len().max(FIRST), b' ');
        if fs::symlink_metadata(self.first()).is_ok_and(|there| there.is_symlink()) {
            // The target may be another instance's.
            fs::remove_file(self.first())?;
        }
        files::open(&self.first(), 0o600)?.write_all_at(&bytes, 0)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }
}

/// The content of a state file. An unreadable file is never treated as one that was not written.
#[derive(Debug)]
enum Kept<T> {
    /// The file does not exist.
    Missing,
    /// The file exists, and cannot be read; the error, and whether it may be temporary: the file itself was not
    /// examined.
    Unreadable(io::Error, bool),
    /// The content.
    Read(T),
}

impl<T: DeserializeOwned> Kept<T> {
    fn read(path: &Path) -> Kept<T> {
        let bytes = match files::read(path, STATE) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Kept::Missing,
            Err(error) => return Kept::Unreadable(error, true),
        };
        match serde_json::from_slice(&bytes) {
            Ok(read) => Kept::Read(read),
            Err(error) => Kept::Unreadable(io::Error::new(io::ErrorKind::InvalidData, error), false),
        }
    }
}

/// Replaces a file as a whole, durably: a reader sees the old one or the new one, also after a power loss.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    files::write_durably(path, bytes, 0o600)
}

/// Takes a lock if it is free.
fn flock_now(lock: &File) -> io::Result<bool> {
    match flock(lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The clock that advances during suspend: leases are measured by it, and all processes of a host read the same.
pub(crate) fn boot_time() -> Time {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = Duration::from_secs(u64::try_from(now.tv_sec).unwrap_or(0));
    Time::default() + seconds + Duration::from_nanos(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// Replaces `${PORT_name}` by ports.
fn with_ports(text: &str, names: &[String], ports: &[u16]) -> String {
    let mut text = text.to_owned();
    for (name, port) in names.iter().zip(ports) {
        text = text.replace(&format!("${{PORT_{name}}}"), &port.to_string());
    }
    text
}

/// Writes to a supervisor's own log, its standard error. Macros that print panic when the disk is full, which must not
/// end the supervisor.
fn note(text: &str) {
    drop(io::stderr().write_all(format!("{text}\n").as_bytes()));
}

/// Like [`note`], by another thread: the log is on the disk, which may stall.
fn note_soon(text: &str) {
    let text = text.to_owned();
    drop(tokio::task::spawn_blocking(move || note(&text)));
}

/// This program's own file, even if it was replaced by a newer one while it runs.
fn own_binary() -> PathBuf {
    let named = std::env::current_exe().ok().filter(|path| path.exists());
    named.unwrap_or_else(|| PathBuf::from("/proc/self/exe"))
}
