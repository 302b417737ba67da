//! Finding and ending the processes of an instance.

use std::{collections::BTreeSet, fs, path::Path};

use rustix::process::{Pid, Signal, kill_process};

use super::Home;

/// The processes of this host, and their parents.
fn all() -> Vec<(i32, i32)> {
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
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    threads.count() > 1
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

/// Names the instance's directory to whatever it starts: by that its processes are known, whatever they do. Ids of instances are those
/// of a cluster, and a host may have several.
pub(super) const MARK: &str = "WYNEOS_DIRECTORY";

/// Processes that carry an instance's mark: what it started, and what left its session.
pub(super) fn marked(home: &Home) -> Vec<i32> {
    let mark = format!("{MARK}={}", home.0.display());
    let is_in = |path: &Path| {
        let environment = fs::read(path).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|entry| entry == mark.as_bytes())
    };
    // Of a process whose first thread has ended the others tell.
    let carries = |(pid, _): &(i32, i32)| {
        let threads = fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten();
        threads.into_iter().any(|thread| is_in(&thread.path().join("environ")))
    };
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
