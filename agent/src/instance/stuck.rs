//! Processes that cannot be killed: frozen ones, and those that wait within the kernel. They are named, and tried again, less and less often.

use std::{fs, time::Duration};

use tokio::time::{Instant, sleep};

/// The first wait between two attempts; it doubles.
const FIRST: Duration = Duration::from_millis(10);

/// The longest: a look at all processes of a host is not for nothing.
const LONGEST: Duration = Duration::from_secs(2);

/// Time after a kill before a process that is still there is reported.
const PATIENCE: Duration = Duration::from_secs(1);

/// Processes that are named at most.
const NAMED: usize = 3;

/// The waits of one who kills until nothing is left.
pub(super) struct Waits {
    began: Instant,
    wait: Duration,
    told: Vec<i32>,
    /// Processes that were left at the previous attempt.
    before: Vec<i32>,
}

impl Waits {
    pub(super) fn new() -> Waits {
        Waits {
            began: Instant::now(),
            wait: FIRST,
            told: Vec::new(),
            before: Vec::new(),
        }
    }

    /// The message about processes that are still there, once they have been for long enough and differ from those reported before.
    pub(super) fn news(&mut self, left: &[i32]) -> Option<String> {
        if left.is_empty() || self.began.elapsed() < PATIENCE || self.told == left {
            return None;
        }
        left.clone_into(&mut self.told);
        Some(describe(left))
    }

    /// Waits until the next attempt: briefly while processes change, longer and longer while they stay the same.
    pub(super) async fn wait(&mut self, left: &[i32]) {
        self.wait = match self.before == left {
            true => (self.wait * 2).min(LONGEST),
            false => FIRST,
        };
        left.clone_into(&mut self.before);
        sleep(self.wait).await;
    }
}

/// `pid 4711 (sleep, state D) cannot be killed`.
pub(super) fn describe(pids: &[i32]) -> String {
    let named: Vec<String> = pids.iter().take(NAMED).map(|pid| one(*pid)).collect();
    let more = match pids.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more} cannot be killed", named.join(", "))
}

fn one(pid: i32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let parts = || {
        let (name, rest) = stat.rsplit_once(") ")?;
        let (_, name) = name.split_once('(')?;
        Some((name, rest.split(' ').next()?))
    };
    match parts() {
        Some((name, state)) => format!("pid {pid} ({}, state {state})", name.escape_debug()),
        None => format!("pid {pid}"),
    }
}
