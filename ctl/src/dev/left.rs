//! Supervisors of instances that outlive their agent for some seconds.

use std::{fs, os::unix::ffi::OsStrExt as _, path::Path, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{sleep, timeout};

use super::Stop;

/// Time limit for supervisors: they detect the loss of their agent after 5 s, and their programs have 10 s by default
/// to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// Interval between two polls.
const LOOK: Duration = Duration::from_millis(100);

/// Supervisors of instances whose directories are below `directory`.
fn supervisors(directory: &Path) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let is_one = |pid: &Pid| {
        let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0).skip(1);
        let path = match (words.next(), words.next()) {
            (Some(b"supervise"), Some(path)) => Path::new(std::ffi::OsStr::from_bytes(path)),
            _ => return false,
        };
        path.starts_with(directory)
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Pid::from_raw).filter(is_one).collect()
}

/// Waits until no instance is left below `directory`; kills those that take too long, and all if `stop` is requested
/// again.
pub(super) async fn ended(directory: &Path, stop: &mut Stop) {
    let gone = async {
        while !supervisors(directory).is_empty() {
            sleep(LOOK).await;
        }
    };
    tokio::select! {
        _ = timeout(PATIENCE, gone) => {}
        () = stop.requested() => {}
    }
    for pid in supervisors(directory) {
        // The process may end by itself at this moment. The program ends with it.
        let _ = kill_process(pid, Signal::KILL);
    }
}
