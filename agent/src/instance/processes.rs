//! Finding and ending the processes of an instance.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, kill_process};
use wyneos_core::workload::AssignmentId;

use super::{Home, held::Place};

#[cfg(test)]
mod tests;

/// The processes of this host, with their parents.
pub(super) fn all() -> Vec<(i32, i32)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<i32>().ok();
    entries
        .flatten()
        .filter_map(pid)
        .filter_map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The name may contain spaces and parentheses; the fields after the last of those do not.
            let rest = stat.rsplit_once(") ")?.1;
            let mut fields = rest.split(' ');
            let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
            (state != "Z" || has_threads(pid)).then_some((pid, parent))
        })
        .collect()
}

/// Returns whether other threads of a process are alive though its first one has ended: it appears as a zombie, and is
/// not one.
fn has_threads(pid: i32) -> bool {
    threads(pid).count() > 1
}

/// A process's threads from `/proc`, which also lists those of a process whose first thread has ended.
pub(super) fn threads(pid: i32) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
}

/// All descendants of a process.
pub(super) fn descendants(of: i32) -> Vec<i32> {
    let all = all();
    let mut found = BTreeSet::from([of]);
    loop {
        let before = found.len();
        for (pid, parent) in &all {
            if found.contains(parent) {
                found.insert(*pid);
            }
        }
        if found.len() == before {
            found.remove(&of);
            return found.into_iter().collect();
        }
    }
}

/// Environment variable with the directory that the instance may write to.
pub(super) const DIRECTORY: &str = "WYNEOS_DIRECTORY";

/// Environment variable with the identity of that directory. It identifies an instance's processes, whatever they do:
/// ids of instances are unique in a cluster only, of which a host may have several, and names change.
pub(super) const PLACE: &str = "WYNEOS_PLACE";

/// The mark that processes of one instance carry in their environment.
pub(super) struct Mark {
    place: Option<String>,
    /// Values of the variable with the directory's name: for a directory that is gone, and for processes that an
    /// earlier version started, for which it was the parent directory.
    names: Vec<String>,
}

impl Mark {
    /// The mark of an instance among those in `directory`: of its known directory, and of the name with which it was
    /// begun.
    pub(super) fn of(directory: &Path, id: AssignmentId, place: Option<Place>) -> Mark {
        let above = fs::canonicalize(directory).ok();
        Mark::new(place, above.map(|above| above.join(id.to_string())))
    }

    /// The mark of a directory and, if it is its own, its name.
    pub(super) fn new(place: Option<Place>, name: Option<PathBuf>) -> Mark {
        Mark {
            place: place.map(|place| format!("{PLACE}={place}")),
            names: name
                .into_iter()
                .flat_map(|name| [Home(name.clone()).work(), name])
                .map(|name| format!("{DIRECTORY}={}", name.display()))
                .collect(),
        }
    }

    /// Returns whether an environment, as in `/proc`, contains the mark.
    fn is_in(&self, environment: &[u8]) -> bool {
        let entries = || environment.split(|byte| *byte == 0);
        let has = |mark: &String| entries().any(|entry| entry == mark.as_bytes());
        let says_place =
            entries().any(|entry| entry.starts_with(PLACE.as_bytes()) && entry.get(PLACE.len()) == Some(&b'='));
        match self.place.as_ref().filter(|_| says_place) {
            Some(place) => has(place),
            None => self.names.iter().any(has),
        }
    }
}

/// Processes that carry an instance's mark: those that it started, including those that left its session.
pub(super) fn marked(mark: &Mark) -> Vec<i32> {
    let is_in = |path: &Path| mark.is_in(&fs::read(path).unwrap_or_default());
    let carries = |(pid, _): &(i32, i32)| threads(*pid).any(|thread| is_in(&thread.path().join("environ")));
    all().into_iter().filter(carries).map(|(pid, _)| pid).collect()
}

/// Kills processes; true if there were any.
pub(super) fn kill(pids: &[i32]) -> bool {
    for pid in pids.iter().copied().filter_map(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::KILL);
    }
    !pids.is_empty()
}
