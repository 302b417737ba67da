//! How an instance's program ended, written down by whoever sees it first, so that it is known also when its supervisor cannot say so any more.
//!
//! A supervisor that is stopped, and then killed, leaves a program that has ended like one that was cut off; a batch must not be run again for that. So
//! the first process of the namespaces watches the program as well, and the agent looks at it before it ends a supervisor. The file has three
//! records in places of their own, so that no writer undoes what another one has written. It is not synced before the program is started: what
//! is lost with the host's power leaves the outcome unknown, and never makes it known.

use std::{fs, io, os::unix::fs::FileExt};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::unix::pipe::Receiver;
use wyneos_core::workload::Exit;
use wyneos_shell::files;

use super::{Home, held::Located, processes::threads};

#[cfg(test)]
mod tests;

/// Bytes of one record, and what the first two say.
const RECORD: usize = 64;
const STARTED: &str = "started";
const WATCHED: &str = "watched";

/// The place of a record in the file.
#[derive(Clone, Copy)]
enum Record {
    Started = 0,
    Watched = 1,
    Exit = 2,
}

/// What is known of the end of an instance's program after its supervisor has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trace {
    /// It ended so.
    Ended(Exit),
    /// It had not ended: the first process watched it, and saw no end.
    CutOff,
    /// It was never started.
    NotStarted,
    /// It may have ended: nobody watched it, or what was written down is not there.
    Unknown,
}

/// Makes room for the trace of the next program: a disk that is full later does not matter.
pub(super) fn make_room(home: &Home) -> io::Result<()> {
    files::open(&home.trace(), 0o600)?.write_all_at(&[b' '; 3 * RECORD], 0)
}

/// Writes down that the program is started, before it is.
pub(super) fn starts(home: &Home) -> io::Result<()> {
    make_room(home)?;
    write(home, Record::Started, STARTED)
}

/// Writes down how the program ended.
pub(super) fn ended(home: &Home, exit: Exit) -> io::Result<()> {
    write(home, Record::Exit, &serde_json::to_string(&exit)?)
}

fn write(home: &Home, record: Record, text: &str) -> io::Result<()> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(RECORD - 1, b' ');
    bytes.push(b'\n');
    files::open(&home.trace(), 0o600)?.write_all_at(&bytes, (record as usize * RECORD) as u64)
}

/// Reads the trace of an instance whose supervisor has ended.
pub(super) fn read(home: &Home) -> Trace {
    let bytes = files::read(&home.trace(), super::STATE).unwrap_or_default();
    let record = |record: Record| {
        let from = record as usize * RECORD;
        let text = std::str::from_utf8(bytes.get(from..from + RECORD)?).ok()?;
        // Nothing else is padding: other blanks are damage.
        Some(text.strip_suffix('\n').unwrap_or(text).trim_end_matches(' '))
    };
    match (record(Record::Started), record(Record::Watched), record(Record::Exit)) {
        (Some(STARTED), Some(watched), Some("")) if watched == WATCHED => Trace::CutOff,
        (Some(STARTED), _, Some(exit)) => serde_json::from_str(exit).map_or(Trace::Unknown, Trace::Ended),
        (Some(""), Some(""), Some("")) => Trace::NotStarted,
        _ => Trace::Unknown,
    }
}

/// Watches a program that is not this process's child until it has ended, and writes down how. Where its parent has taken note of that already,
/// nothing is left to see: the parent has written it down.
pub(super) async fn watch(home: Home, pid: i32) -> io::Result<()> {
    let process = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    let process = pidfd_open(process, PidfdFlags::empty())?;
    // No pipe, and nothing is read of it: it becomes readable when the process has ended, as pidfd_open(2) says.
    let process = Receiver::from_owned_fd_unchecked(process)?;
    let at = home.clone();
    // A disk that stalls does not keep this process from what it is first for.
    let watched = tokio::task::spawn_blocking(move || write(&at, Record::Watched, WATCHED));
    watched.await.map_err(io::Error::other)??;
    process.readable().await?;
    if let Some((exit, _)) = zombie(pid) {
        let write = move || {
            ended(&home, exit)?;
            // Also when the host's power is gone before anybody has asked.
            fs::File::open(home.trace())?.sync_data()
        };
        tokio::task::spawn_blocking(write).await.map_err(io::Error::other)??;
    }
    Ok(())
}

/// Looks whether the program of a supervisor has ended, of which the supervisor has not taken note: as one that is stopped. It is written down then.
pub(super) fn look(located: &Located, supervisor: i32) {
    // Of one whose directory is not there nothing is written.
    let Ok(held) = located.enter() else {
        return;
    };
    let home = held.home();
    let super::Kept::Read(status) = home.kept_status() else {
        return;
    };
    let pid = i32::try_from(status.pid).unwrap_or(0);
    if let Some((exit, parent)) = zombie(pid).filter(|_| pid > 0)
        && parent == supervisor
        && let Err(error) = ended(&home, exit)
    {
        tracing::warn!(path = %located.name().display(), %error, "cannot write down how a program ended whose supervisor does not answer");
    }
}

/// How a process ended that its parent has not taken note of yet, and its parent: proc_pid_stat(5), fields 3, 4 and 52. `None` for one that runs, for one
/// of which threads run, and where this process may not know: the kernel shows 0 to it then.
fn zombie(pid: i32) -> Option<(Exit, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may have spaces and parentheses; what follows the last of those has none.
    let mut fields = stat.rsplit_once(") ")?.1.split_whitespace();
    let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
    if state != "Z" || threads(pid).count() > 1 {
        return None;
    }
    // Shown to those alone who may know the exit status.
    fs::read_link(format!("/proc/{pid}/ns/user")).ok()?;
    Some((exit_of(fields.nth(47)?.parse().ok()?)?, parent))
}

/// An exit as wait(2) encodes it.
fn exit_of(status: i32) -> Option<Exit> {
    match status & 0x7f {
        0 => Some(Exit::Code((status >> 8) & 0xff)),
        signal => Some(Exit::Signal(signal)),
    }
}
