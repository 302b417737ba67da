//! The end of an instance's program, recorded by its first observer, so that it is known even if its supervisor cannot
//! report it any more.
//!
//! A supervisor that is stopped, and then killed, leaves a program that has ended indistinguishable from an interrupted
//! one; a batch must not be run again because of that. Therefore the first process of the namespaces watches the
//! program as well, and the agent examines it before it ends a supervisor. The file has three records at separate
//! positions, so that no writer overwrites another's. It is not synced before the program is started: data that is lost
//! with the host's power leaves the outcome unknown, and never makes it known.

use std::{fs, io, os::unix::fs::FileExt};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::unix::pipe::Receiver;
use wyneos_core::workload::Exit;
use wyneos_shell::files;

use super::{Home, held::Located, processes::threads};

#[cfg(test)]
mod tests;

/// Length of one record, bytes, and the contents of the first two.
const RECORD: usize = 64;
const STARTED: &str = "started";
const WATCHED: &str = "watched";

/// Position of a record in the file.
#[derive(Clone, Copy)]
enum Record {
    Started = 0,
    Watched = 1,
    Exit = 2,
}

/// The known end of an instance's program after its supervisor has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trace {
    /// It ended with this exit.
    Ended(Exit),
    /// It had not ended: the first process watched it, and observed no end.
    CutOff,
    /// It was never started.
    NotStarted,
    /// It may have ended: it was not watched, or the record is missing.
    Unknown,
}

/// Allocates space for the trace of the next program, so that a disk that becomes full later does not matter.
pub(super) fn make_room(home: &Home) -> io::Result<()> {
    files::open(&home.trace(), 0o600)?.write_all_at(&[b' '; 3 * RECORD], 0)
}

/// Records the start of the program, before it is started.
pub(super) fn starts(home: &Home) -> io::Result<()> {
    make_room(home)?;
    write(home, Record::Started, STARTED)
}

/// Records the exit of the program.
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

/// Watches a program that is not this process's child until it has ended, and records its exit. If its parent has
/// collected it already, the parent has recorded the exit.
pub(super) async fn watch(home: Home, pid: i32) -> io::Result<()> {
    let process = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    let process = pidfd_open(process, PidfdFlags::empty())?;
    // Not a pipe, and nothing is read from it: it becomes readable when the process has ended, as pidfd_open(2)
    // documents.
    let process = Receiver::from_owned_fd_unchecked(process)?;
    let at = home.clone();
    // A stalled disk must not keep this process from its primary work.
    let watched = tokio::task::spawn_blocking(move || write(&at, Record::Watched, WATCHED));
    watched.await.map_err(io::Error::other)??;
    process.readable().await?;
    if let Some((exit, _)) = zombie(pid) {
        let write = move || {
            ended(&home, exit)?;
            // So that it survives a power loss before it is read.
            fs::File::open(home.trace())?.sync_data()
        };
        tokio::task::spawn_blocking(write).await.map_err(io::Error::other)??;
    }
    Ok(())
}

/// Checks whether the program of a supervisor has ended without the supervisor's having collected it, for example
/// because it is stopped. The exit is then recorded.
pub(super) fn look(located: &Located, supervisor: i32) {
    // Nothing is written for one whose directory is missing.
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
        tracing::warn!(path = %located.name().display(), %error, "cannot record how a program ended whose supervisor does not answer");
    }
}

/// The exit of a process that its parent has not collected yet, and its parent: proc_pid_stat(5), fields 3, 4 and 52.
/// `None` for a running process, for one with running threads, and if this process may not know: the kernel then shows
/// 0.
fn zombie(pid: i32) -> Option<(Exit, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may contain spaces and parentheses; the fields after the last of those do not.
    let mut fields = stat.rsplit_once(") ")?.1.split_whitespace();
    let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
    if state != "Z" || threads(pid).count() > 1 {
        return None;
    }
    // Readable only by processes that may know the exit status.
    fs::read_link(format!("/proc/{pid}/ns/user")).ok()?;
    Some((exit_of(fields.nth(47)?.parse().ok()?)?, parent))
}

/// Decodes an exit status of wait(2).
fn exit_of(status: i32) -> Option<Exit> {
    match status & 0x7f {
        0 => Some(Exit::Code((status >> 8) & 0xff)),
        signal => Some(Exit::Signal(signal)),
    }
}
