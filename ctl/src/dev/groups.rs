//! The control groups of the cluster's instances: all are below one that has this process's id in its name.
//!
//! Supervisors remove the groups of their instances. What is left when all have ended, and the group above them, which agents make, is removed here.

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

/// What the names of such groups begin with; the id of a process follows.
const PREFIX: &str = "wyneos-dev-";

/// How often a group is tried to be emptied and removed, and the wait in between: what was killed may be about to end.
const TRIES: u32 = 50;
const AGAIN: Duration = Duration::from_millis(20);

/// Groups below groups that are looked into: a group of the cluster, of an instance, and what programs of root make.
const DEPTH: u32 = 8;

/// The group of this process's cluster, from the root of the hierarchies.
pub(super) fn own() -> String {
    format!("{PREFIX}{}", std::process::id())
}

/// Where hierarchies of control groups are mounted, by the text of `/proc/self/mountinfo`.
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

/// Removes what clusters left whose process was killed: groups in which nothing runs.
pub(super) fn sweep() {
    for entry in mounted().iter().flat_map(fs::read_dir).flatten().flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Another may sweep at the same time, or something run there yet.
            drop(removed(&entry.path(), DEPTH));
        }
    }
}

/// Ends what is left in the groups of this process's cluster, and removes them.
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

/// Removes a group with those below it, when nothing runs there. One that is not there is removed already.
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
    // One of another namespace stands as 0.
    let pids = processes
        .lines()
        .filter_map(|pid| pid.parse().ok())
        .filter(|pid| *pid > 0);
    for pid in pids.filter_map(Pid::from_raw) {
        // It may end by itself at this moment.
        let _ = kill_process(pid, Signal::KILL);
    }
}
