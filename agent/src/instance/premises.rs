//! A supervisor's hold on its instance's directory: its lock, its socket, and the files by which others find it.
//!
//! A cleaner of old files, or a mistaken `rm`, may remove these, too. A supervisor checks them once a second and
//! recreates missing ones. Everything is accessed by way of the directory that it holds open, so that a later directory
//! with the same name is never mistaken for its own.

use std::{
    fs::{self, File, Metadata},
    io::{self, ErrorKind, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::OFlags,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::{net::UnixListener, time::sleep};
use wyneos_core::workload::AssignmentId;
use wyneos_shell::{files, removal::remove_dir};

use super::{
    Home, Order, flock_now,
    held::{Above, Held, Place, by_descriptor},
    processes,
};

#[cfg(test)]
mod tests;

/// Maximum size of a lock, bytes.
const LOCK: u64 = 4096;

/// Attempts to take the lock: an agent that tests it holds it for a moment.
const TRIES: u32 = 20;
const AGAIN: Duration = Duration::from_millis(50);

/// Consecutive checks at which another process may hold a recreated lock, before the directory is given up to that
/// process.
const DISPUTED: u32 = 3;

/// A process, identified by its number and start time, because numbers are reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Incumbent {
    pid: Pid,
    start: u64,
}

impl Incumbent {
    /// The live process with this number.
    pub(super) fn of(pid: i32) -> Option<Incumbent> {
        let start = start_of(pid).ok()?;
        let pid = Pid::from_raw(pid)?;
        Some(Incumbent { pid, start })
    }

    /// The content of a lock file, written by its holder: `PID START`.
    fn parse(text: &str) -> Option<Incumbent> {
        let (pid, start) = text.trim().split_once(' ')?;
        let pid = Pid::from_raw(pid.parse::<i32>().ok().filter(|pid| *pid > 0)?)?;
        let start = start.parse().ok()?;
        Some(Incumbent { pid, start })
    }

    /// The process id.
    pub(super) fn pid(self) -> i32 {
        self.pid.as_raw_pid()
    }

    /// Returns whether this very process exists and is not a zombie.
    pub(super) fn lives(self) -> bool {
        start_of(self.pid()).is_ok_and(|start| start == self.start)
    }

    /// Kills this very process.
    ///
    /// # Errors
    /// It is gone, or may not be killed.
    pub(super) fn kill(self) -> io::Result<()> {
        let process = pidfd_open(self.pid, PidfdFlags::empty())?;
        // From here on the number remains that of the opened process.
        if !self.lives() {
            return Err(ErrorKind::NotFound.into());
        }
        Ok(pidfd_send_signal(process, Signal::KILL)?)
    }
}

/// Start time of a process, in ticks since the host's boot: the 22nd field of its `stat`. An error if it is gone, or a
/// zombie.
fn start_of(pid: i32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = || {
        // The name may contain spaces and parentheses; the fields after the last of those do not.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?;
        let start = fields.nth(18)?.parse().ok()?;
        (state != "Z" && state != "X").then_some(start)
    };
    fields().ok_or_else(|| ErrorKind::NotFound.into())
}

/// The holder of an instance's directory.
#[derive(Debug)]
pub(super) enum Holder {
    /// A live supervisor; identified if its lock names it.
    Supervisor(Option<Incumbent>),
    /// None: the lock exists, and is free.
    Nobody,
    /// There is no lock: no supervisor was ever started, or the lock was removed.
    Unknown,
}

/// Finds the holder of an instance's directory without creating files.
pub(super) fn holder(home: &Home) -> io::Result<Holder> {
    let lock = match open_lock(home) {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Holder::Unknown),
        Err(error) => return Err(error),
    };
    if !lock.metadata()?.is_file() {
        // It is being replaced; any process can lock a directory in its place.
        return Err(io::Error::other("the lock is no file"));
    }
    if flock_now(&lock)? {
        return Ok(Holder::Nobody);
    }
    let mut text = [0; 64];
    let read = lock.read_at(&mut text, 0)?;
    let text = String::from_utf8_lossy(&text[..read]);
    let holder = Incumbent::parse(&text).filter(|one| one.lives());
    match holder.or_else(|| listed(&lock.metadata().ok()?)) {
        // The process's lock is linked to here, and is not a lock of this directory.
        Some(process) if is_elsewhere(process, home) => Ok(Holder::Nobody),
        holder => Ok(Holder::Supervisor(holder)),
    }
}

/// Returns whether a process lives and does not hold this directory open, as its supervisor would: the lock and the
/// socket of another directory appear in this one if it was made of hard links to that one's files. False if that
/// cannot be determined, and for supervisors of earlier versions, which may hold none.
pub(super) fn is_elsewhere(process: Incumbent, home: &Home) -> bool {
    let pid = process.pid();
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = command.split(|byte| *byte == 0).skip(1);
    let earlier = words.next() == Some(b"supervise") && words.nth(1) != Some(b"--place");
    let (Ok(place), Ok(held), false) = (Place::at(&home.0), fs::read_dir(format!("/proc/{pid}/fd")), earlier) else {
        return false;
    };
    let holds = held
        .flatten()
        .any(|entry| Place::at(&entry.path()).is_ok_and(|held| held == place));
    !holds && process.lives()
}

/// The holder of a lock from the kernel's list, for a lock whose file does not name it, because the disk was full when
/// it was taken.
fn listed(lock: &Metadata) -> Option<Incumbent> {
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let (major, minor) = (rustix::fs::major(lock.dev()), rustix::fs::minor(lock.dev()));
    let file = format!("{major:02x}:{minor:02x}:{}", lock.ino());
    let holder = locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let kind = fields.next()?;
        let (pid, of) = (fields.nth(2)?, fields.next()?);
        (kind == "FLOCK" && of == file).then(|| pid.parse().ok())?
    });
    Incumbent::of(holder?)
}

/// Opens a lock for a test. Read-only file systems and files support locks as well, on files opened for reading; others
/// (NFS) do not.
fn open_lock(home: &Home) -> io::Result<File> {
    // A pipe in its place does not block.
    let flags = OFlags::NONBLOCK.bits() as i32;
    let read = || File::options().read(true).custom_flags(flags).clone();
    let written = read().write(true).open(home.lock());
    written.or_else(|error| match error.kind() {
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => read().open(home.lock()),
        _ => Err(error),
    })
}

/// The holder of the directory of this very instance, from the processes of this host: used if its lock cannot be
/// examined, and before any action that would be wrong if there were a supervisor. A supervisor names itself in its
/// command line, and holds the directory open.
pub(super) fn holder_by_process(id: AssignmentId, place: Place) -> Holder {
    let name = format!("/{id}");
    let mut supervisors = processes::all().into_iter().filter_map(|(pid, _)| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let mut parts = command.split(|byte| *byte == 0).skip(1);
        // The number of a removed directory may be reused by now.
        (parts.next()? == b"supervise" && parts.next()?.ends_with(name.as_bytes())).then_some(pid)
    });
    match supervisors.find(|pid| holds(*pid, place)) {
        Some(pid) => Holder::Supervisor(Incumbent::of(pid)),
        None => Holder::Nobody,
    }
}

/// Returns whether a process holds a directory open.
pub(super) fn holds(pid: i32, place: Place) -> bool {
    let held = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    held.into_iter()
        .any(|entry| Place::at(&entry.path()).is_ok_and(|held| held == place))
}

/// The supervisor of the instance of which this directory is a copy, according to the lock that was copied with it: it
/// lives, and holds another directory. The program may be the one recorded here, and has not ended by anything that is
/// known of this directory.
pub(super) fn original(home: &Home) -> Option<Incumbent> {
    let text = files::read_text(&home.lock(), LOCK).ok()?;
    let holder = Incumbent::parse(&text).filter(|one| one.lives())?;
    let command = fs::read(format!("/proc/{}/cmdline", holder.pid())).ok()?;
    let supervises = command.split(|byte| *byte == 0).nth(1) == Some(b"supervise");
    let place = Place::at(&home.0).ok()?;
    (supervises && !holds(holder.pid(), place)).then_some(holder)
}

fn same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Consecutive checks at which its name may refer elsewhere, before the directory is given up: it may be put back.
const ASTRAY: u32 = 3;

/// The reason for which a supervisor has lost its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// The directory was removed.
    Removed,
    /// Another supervisor holds it.
    Taken,
    /// The directory's name refers to another one, or none, so that the instance cannot be found.
    Renamed,
    /// The name of the directory of all instances refers elsewhere.
    Covered,
}

impl Lost {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Lost::Removed => "its directory was removed",
            Lost::Taken => "its lock was removed, and another supervisor has its directory",
            Lost::Renamed => "its directory was renamed or replaced",
            Lost::Covered => "the directory of all instances was replaced, or something was mounted over it",
        }
    }
}

/// The files that a supervisor holds.
pub(super) struct Premises {
    directory: File,
    place: Place,
    /// The directory of all instances, and this one's name there.
    above: Above,
    lock: File,
    socket: Metadata,
    /// Files that only it writes, as it last wrote them.
    order: (Vec<u8>, Option<Metadata>),
    disputed: u32,
    astray: u32,
}

impl Premises {
    /// Takes over the opened directory, and creates the socket. `None` if another supervisor holds it.
    pub(super) async fn take(held: Held) -> io::Result<Option<(Premises, UnixListener)>> {
        let (above, place) = (held.above()?, held.place());
        let within = held.home();
        let mut tries = TRIES;
        let lock = loop {
            match take_lock(&within)? {
                Some(lock) => break lock,
                None if tries > 0 => tries -= 1,
                None => return Ok(None),
            }
            sleep(AGAIN).await;
        };
        let (listener, socket) = bind(&within)?;
        let premises = Premises {
            directory: held.into_directory(),
            place,
            above,
            lock,
            socket,
            order: (Vec::new(), None),
            disputed: 0,
            astray: 0,
        };
        Ok(Some((premises, listener)))
    }

    /// The directory by way of the held descriptor, whatever has its name.
    pub(super) fn within(&self) -> Home {
        Home(by_descriptor(&self.directory))
    }

    /// Records the supervisor's order, whose file is written again if it changes.
    pub(super) fn remember(&mut self, order: &Order) -> io::Result<()> {
        self.order = (serde_json::to_vec(order)?, fs::metadata(self.within().order()).ok());
        Ok(())
    }

    /// Which directory it is.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// The present name of the directory.
    ///
    /// It has none, or not beside the other instances: nothing may be started in it.
    pub(super) fn name(&self) -> io::Result<PathBuf> {
        self.above.name_of(self.place)
    }

    /// Returns whether no other directory has this one's name among those of all instances: objects that are named
    /// after it (control groups) then belong to this instance.
    pub(super) fn has_its_name(&self) -> bool {
        match self.above.own_place() {
            Ok(place) => place == self.place,
            Err(error) => error.kind() == ErrorKind::NotFound,
        }
    }

    /// Recreates missing files: the lock, the order, the socket. Each is reported to `note`; a listener is returned if
    /// the socket is a new one.
    ///
    /// The directory is no longer this supervisor's.
    pub(super) fn keep(&mut self, note: impl Fn(&str)) -> Result<Option<UnixListener>, Lost> {
        if self.directory.metadata().is_ok_and(|held| held.nlink() == 0) {
            return Err(Lost::Removed);
        }
        match self.is_astray() {
            Some(lost) => {
                self.astray += 1;
                if self.astray >= ASTRAY {
                    return Err(lost);
                }
            }
            None => self.astray = 0,
        }
        let within = self.within();
        self.keep_lock(&within, &note)?;
        let order = fs::metadata(within.order()).ok();
        let as_it_was = match (&order, &self.order.1) {
            (Some(now), Some(then)) => same(now, then) && (now.len(), now.mtime()) == (then.len(), then.mtime()),
            _ => false,
        };
        if !as_it_was && !self.order.0.is_empty() {
            let written = super::replace(&within.order(), &self.order.0);
            // Tried again at the next check.
            if said(&note, "its order was changed or removed", written) {
                self.order.1 = fs::metadata(within.order()).ok();
            }
        }
        if fs::symlink_metadata(within.socket()).is_ok_and(|found| same(&found, &self.socket)) {
            return Ok(None);
        }
        match bind(&within) {
            Ok((listener, socket)) => {
                self.socket = socket;
                note("its socket was removed or replaced: there is a new one");
                Ok(Some(listener))
            }
            Err(error) => {
                note(&format!("its socket was removed, and cannot be made again: {error}"));
                Ok(None)
            }
        }
    }

    /// Returns whether its name, wherever all instances are now, refers to another directory, or none; or the name of
    /// all of them to another directory. A directory that cannot be examined counts as unchanged.
    fn is_astray(&self) -> Option<Lost> {
        let renamed = match self.above.own_place() {
            Ok(place) => place != self.place,
            Err(error) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        };
        if renamed {
            return Some(Lost::Renamed);
        }
        self.above.is_covered().unwrap_or(false).then_some(Lost::Covered)
    }

    fn keep_lock(&mut self, within: &Home, note: &impl Fn(&str)) -> Result<(), Lost> {
        let held = self.lock.metadata();
        let found = fs::symlink_metadata(within.lock());
        if let (Ok(held), Ok(found)) = (&held, &found)
            && same(held, found)
        {
            self.disputed = 0;
            return Ok(());
        }
        match take_lock(within) {
            Ok(Some(lock)) => {
                note("its lock was removed or replaced: there is a new one");
                (self.lock, self.disputed) = (lock, 0);
                Ok(())
            }
            Ok(None) => {
                self.disputed += 1;
                match self.disputed >= DISPUTED {
                    true => Err(Lost::Taken),
                    false => Ok(()),
                }
            }
            Err(error) => {
                note(&format!("its lock was removed, and cannot be made again: {error}"));
                Ok(())
            }
        }
    }

    /// Removes the socket, since no more queries are answered.
    pub(super) fn leave(&self) {
        drop(fs::remove_file(self.within().socket()));
    }
}

fn said(note: &impl Fn(&str), what: &str, made: io::Result<()>) -> bool {
    match &made {
        Ok(()) => note(&format!("{what}: it was written again")),
        Err(error) => note(&format!("{what}, and cannot be written again: {error}")),
    }
    made.is_ok()
}

/// Takes a free lock, and writes its holder into it.
fn take_lock(home: &Home) -> io::Result<Option<File>> {
    clear(&home.lock(), |kind| kind.is_file())?;
    let lock = files::open(&home.lock(), 0o600)?;
    if !flock_now(&lock)? {
        return Ok(None);
    }
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    // On a full disk the lock alone must suffice.
    let said = match Incumbent::of(own) {
        Some(own) => lock
            .set_len(0)
            .and_then(|()| (&lock).write_all(format!("{} {}\n", own.pid(), own.start).as_bytes())),
        None => Ok(()),
    };
    drop(said);
    Ok(Some(lock))
}

/// Creates the socket, in the place of any other object.
fn bind(home: &Home) -> io::Result<(UnixListener, Metadata)> {
    let path = home.socket();
    clear(&path, |_| false)?;
    let listener = UnixListener::bind(&path)?;
    files::set_mode(&path, 0o600)?;
    let metadata = fs::symlink_metadata(&path)?;
    Ok((listener, metadata))
}

/// Removes the object at a path unless it may stay.
fn clear(path: &Path, stays: impl FnOnce(fs::FileType) -> bool) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    match kind {
        kind if stays(kind) => Ok(()),
        kind if kind.is_dir() => remove_dir(path),
        _ => fs::remove_file(path),
    }
}
