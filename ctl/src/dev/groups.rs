//! The control groups of the cluster's instances: all are below one whose name contains this process's id.
//!
//! Supervisors remove the groups of their instances. Groups that remain when all have ended, and the group above them,
//! which agents create, are removed here.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use super::DevError;

#[cfg(test)]
mod tests;

/// Prefix of the names of such groups; the id of a process follows.
const PREFIX: &str = "wyneos-dev-";

/// Number of attempts to empty and remove a group, and the delay between them: killed processes may be about to end.
const TRIES: u32 = 50;
const AGAIN: Duration = Duration::from_millis(20);

/// Maximum depth of nested groups that are examined: a group of the cluster, of an instance, and groups that programs
/// of root create.
const DEPTH: u32 = 8;

/// The group of this process's cluster, from the root of the hierarchies.
pub(super) fn own() -> String {
    format!("{PREFIX}{}", std::process::id())
}

/// Mount points of the control group hierarchies, from the text of `/proc/self/mountinfo`.
fn hierarchies(mounts: &str) -> Vec<PathBuf> {
    let place = |line: &str| {
        let (mount, system) = line.split_once(" - ")?;
        let is_one = matches!(system.split(' ').next(), Some("cgroup" | "cgroup2"));
        mount.split(' ').nth(4).filter(|_| is_one).map(PathBuf::from)
    };
    mounts.lines().filter_map(place).collect()
}

fn mounted() -> Vec<PathBuf> {
    hierarchies(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// Removes the groups of clusters whose process was killed, if nothing runs in them.
pub(super) fn sweep() {
    for entry in mounted().iter().flat_map(fs::read_dir).flatten().flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Another process may sweep at the same time, or processes may still run there.
            drop(removed(&entry.path(), DEPTH));
        }
    }
}

/// Ends remaining processes in the groups of this process's cluster, and removes the groups.
pub(super) async fn remove() -> Result<(), DevError> {
    for group in mounted().iter().map(|hierarchy| hierarchy.join(own())) {
        let mut tries = TRIES;
        while let Err(error) = removed(&group, DEPTH) {
            if tries == 0 {
                return Err(DevError::system(format!(
                    "remove the control group {}",
                    group.display()
                ))(error));
            }
            tries -= 1;
            kill(&group, DEPTH);
            sleep(AGAIN).await;
        }
    }
    Ok(())
}

/// Groups below `group`.
fn below(group: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    let groups = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    groups.map(|entry| entry.path())
}

/// Removes a group with those below it, if nothing runs there. A missing group counts as removed.
fn removed(group: &Path, depth: u32) -> io::Result<()> {
    if depth > 0 {
        below(group).try_for_each(|group| removed(&group, depth - 1))?;
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn kill(group: &Path, depth: u32) {
    if depth > 0 {
        below(group).for_each(|group| kill(&group, depth - 1));
    }
    let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    // A process of another namespace appears as 0.
    let pids = processes
        .lines()
        .filter_map(|pid| pid.parse().ok())
        .filter(|pid| *pid > 0);
    for pid in pids.filter_map(Pid::from_raw) {
        // The process may end by itself at this moment.
        let _ = kill_process(pid, Signal::KILL);
    }
}
