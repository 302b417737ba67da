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

/// The processes of this host, and their parents.
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
            // The name may have spaces and parentheses; what follows the last of those has none.
            let rest = stat.rsplit_once(") ")?.1;
            let mut fields = rest.split(' ');
            let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
            (state != "Z" || has_threads(pid)).then_some((pid, parent))
        })
        .collect()
}

/// Whether other threads of a process live on though its first one has ended: it shows as a zombie, and is none.
fn has_threads(pid: i32) -> bool {
    threads(pid).count() > 1
}

/// A process's threads, as `/proc` has them: of one whose first thread has ended the others tell.
pub(super) fn threads(pid: i32) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
}

/// Everything that a process started, and what that started.
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

/// Names the directory that an instance may write to whatever it starts.
pub(super) const DIRECTORY: &str = "WYNEOS_DIRECTORY";

/// Says to whatever an instance starts which directory that is. By this its processes are known, whatever they do: ids of instances are those of a
/// cluster, of which a host may have several, and names change.
pub(super) const PLACE: &str = "WYNEOS_PLACE";

/// What processes of one instance carry in their environment.
pub(super) struct Mark {
    place: Option<String>,
    /// What the directory's name makes of the variable that names it: where the directory is gone; and for those that an earlier version started, for
    /// which that was the directory above.
    names: Vec<String>,
}

impl Mark {
    /// The mark of an instance among those in `directory`: of the directory that is known to be its own, and of the name that it was begun by.
    pub(super) fn of(directory: &Path, id: AssignmentId, place: Option<Place>) -> Mark {
        let above = fs::canonicalize(directory).ok();
        Mark::new(place, above.map(|above| above.join(id.to_string())))
    }

    /// The mark of a directory and, where it is its own, its name.
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

    /// Whether an environment, as `/proc` shows it, has it.
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

/// Processes that carry an instance's mark: what it started, and what left its session.
pub(super) fn marked(mark: &Mark) -> Vec<i32> {
    let is_in = |path: &Path| mark.is_in(&fs::read(path).unwrap_or_default());
    let carries = |(pid, _): &(i32, i32)| threads(*pid).any(|thread| is_in(&thread.path().join("environ")));
    all().into_iter().filter(carries).map(|(pid, _)| pid).collect()
}

/// Ends processes at once; true when there were any.
pub(super) fn kill(pids: &[i32]) -> bool {
    for pid in pids.iter().copied().filter_map(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::KILL);
    }
    !pids.is_empty()
}
