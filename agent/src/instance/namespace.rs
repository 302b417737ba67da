//! The namespaces of one life of an instance: all processes that are started in them end with their first process, by
//! the kernel.
//!
//! The first process ([`init`](mod@super::init)) is a child of the supervisor and is killed with it. Programs and
//! checks are also children of the supervisor, started inside the namespaces; so their exit statuses are collected like
//! those of any child, and their process ids are those of the host. pid_namespaces(7): when the first process of a PID
//! namespace ends, the kernel kills all others, whatever their user, session, environment or parent, and the first one
//! is gone only after they are.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, pidfd_send_signal, waitpid};
use serde::{Deserialize, Serialize};

use super::{held::Place, own_binary, program::pid_of};

/// Time limit for the preparation of the first process; it takes some milliseconds unless the host is under load.
const PREPARING: Duration = Duration::from_secs(10);

/// The message of the first process when it is ready. Any other message is the reason why it is not.
pub(super) const READY: &[u8] = b"ready";

/// Maximum length of such a reason, bytes.
const REASON: u64 = 1_024;

/// The namespaces of one life.
pub(super) struct Namespace {
    init: Pid,
    pids: File,
    /// The first process ends when this is closed; it is closed with this process, for whatever reason that ends.
    alive: UnixStream,
}

impl Namespace {
    /// Creates namespaces with their first process, which sees only `directory` of all instances; `None` is a trial.
    ///
    /// This process may not create namespaces, or the first process cannot prepare them; the error names the failed
    /// step.
    pub(super) fn make(directory: Option<(&Path, Place)>) -> io::Result<Namespace> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(own_binary());
        command.arg("init");
        match directory {
            Some((name, place)) => command.arg(name).arg("--place").arg(place.to_string()),
            None => command.args(["trial", "--trial"]),
        };
        command.env_clear().stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
        let enter = || unshare(CloneFlags::CLONE_NEWPID).map_err(|error| cannot("make a PID namespace", error.into()));
        let child = spawn_inside(enter, &mut command);
        // It holds the other end of the pair.
        drop(command);
        let init = pid_of(&child?)?;
        let prepared = || {
            ours.set_read_timeout(Some(PREPARING))?;
            let mut said = Vec::new();
            (&ours).take(REASON).read_to_end(&mut said)?;
            match said == READY {
                true => File::open(format!("/proc/{init}/ns/pid")),
                false if said.is_empty() => Err(io::Error::other("its first process ended")),
                false => Err(io::Error::other(String::from_utf8_lossy(&said).into_owned())),
            }
        };
        match prepared() {
            Ok(pids) => Ok(Namespace {
                init,
                pids,
                alive: ours,
            }),
            Err(error) => {
                end_child(init);
                Err(cannot("contain it", error))
            }
        }
    }

    /// The first process, by the host's numbers.
    pub(super) fn init(&self) -> Pid {
        self.init
    }

    /// Starts a process inside the PID namespace; it joins the others itself ([`join_mounts`]).
    pub(super) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let enter = || {
            setns(&self.pids, CloneFlags::CLONE_NEWPID).map_err(|error| cannot("enter its PID namespace", error.into()))
        };
        spawn_inside(enter, command)
    }

    /// Makes the first process watch a program, and record its end.
    pub(super) fn watch(&self, pid: u32) -> io::Result<()> {
        let inside = inner_number(pid)?;
        (&self.alive).write_all(format!("{inside}\n").as_bytes())
    }

    /// Makes the kernel end everything in the namespace. The first process becomes a zombie once nothing else is left,
    /// which its parent observes.
    pub(super) fn kill(&self) {
        // It may have ended by itself.
        let _ = kill_process(self.init, Signal::KILL);
    }
}

/// Tests everything that an instance's containment needs.
///
/// The reason for which this process cannot contain its instances, for people.
pub(crate) fn probe() -> Result<(), String> {
    let made = Namespace::make(None).and_then(|namespace| {
        let tried = namespace.spawn(Command::new(own_binary()).arg("--version").stdout(Stdio::null()));
        let tried = tried.and_then(|mut child| child.wait());
        end_child(namespace.init);
        tried.map(drop)
    });
    made.map_err(|error| error.to_string())
}

/// Joins the mount namespace of a first process, in which /proc shows only the instance's processes. The caller has one
/// thread.
pub(super) fn join_mounts(init: i32) -> io::Result<()> {
    let mounts = File::open(format!("/proc/{init}/ns/mnt"))?;
    Ok(setns(mounts, CloneFlags::CLONE_NEWNS)?)
}

/// Starts a child while the calling thread's children are created in another PID namespace.
fn spawn_inside(enter: impl FnOnce() -> io::Result<()>, command: &mut Command) -> io::Result<Child> {
    let own = File::open("/proc/thread-self/ns/pid")?;
    enter()?;
    let child = command.spawn();
    if let Err(error) = setns(&own, CloneFlags::CLONE_NEWPID) {
        // All later children of this thread would be in the wrong namespace.
        super::note(&format!("cannot leave a PID namespace: {error}"));
        std::process::exit(1);
    }
    child
}

fn end_child(pid: Pid) {
    let _ = kill_process(pid, Signal::KILL);
    let _ = waitpid(Some(pid), WaitOptions::empty());
}

fn cannot(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what}: {error}"))
}

/// Identity of the first process in an instance's namespaces, for those that come after its supervisor; unambiguous,
/// although numbers are reused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct First {
    pid: i32,
    /// Start time, in the kernel's ticks since the host's boot.
    started: u64,
    /// Identity of the host's boot.
    boot: String,
    /// The instance's directory, by its device and number: in a copy of it, the process belongs to another instance.
    #[serde(default)]
    place: Place,
}

impl First {
    /// Describes a live process of the instance in `directory`.
    pub(super) fn of(pid: Pid, directory: &Path) -> io::Result<First> {
        let pid = pid.as_raw_pid();
        let (_, started) = state(pid)?;
        Ok(First {
            pid,
            started,
            boot: boot()?,
            place: Place::at(directory)?,
        })
    }

    /// Returns whether its file was written in this very directory.
    pub(super) fn is_of(&self, directory: &Path) -> bool {
        Place::at(directory).is_ok_and(|place| place == self.place)
    }

    /// Returns whether its file was copied from another directory. Only by the directory's number: devices have others
    /// after the host's next boot.
    pub(super) fn is_of_another(&self, directory: &Path) -> bool {
        let number = self.place.number();
        number != 0 && Place::at(directory).is_ok_and(|own| own.number() != number)
    }

    /// The process id.
    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Returns whether it exists, possibly with others of its namespaces. A zombie counts as gone: everything else
    /// ended before it.
    pub(super) fn is_there(&self) -> bool {
        let same_start = boot().is_ok_and(|boot| boot == self.boot);
        same_start
            && state(self.pid).is_ok_and(|(state, started)| started == self.started && !matches!(state, 'Z' | 'X'))
    }

    /// Makes the kernel end the process and everything in its namespaces; false if it does not exist.
    pub(super) fn kill(&self) -> bool {
        let Some(process) = Pid::from_raw(self.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
            return false;
        };
        // Checked after the opening: from here on the number cannot become another process's.
        if !self.is_there() {
            return false;
        }
        let _ = pidfd_send_signal(process, Signal::KILL);
        true
    }
}

/// A process's number in the innermost PID namespace that it is in: proc_pid_status(5), `NSpid`.
fn inner_number(pid: u32) -> io::Result<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mut lines = status.lines().filter_map(|line| line.strip_prefix("NSpid:"));
    let number = lines
        .next()
        .and_then(|line| line.split_whitespace().last()?.parse().ok());
    number.ok_or_else(|| io::Error::other("this kernel does not tell the number that it has inside"))
}

/// Identity of this boot of the host.
pub(super) fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// State and start time of a process: proc_pid_stat(5), fields 3 and 22.
pub(super) fn state(pid: i32) -> io::Result<(char, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let parsed = || {
        // The name may contain spaces and parentheses; the fields after the last of those do not.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?.chars().next()?;
        Some((state, fields.nth(18)?.parse().ok()?))
    };
    parsed().ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat cannot be read")))
}
