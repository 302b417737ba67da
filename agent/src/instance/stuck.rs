//! Processes that cannot be killed: frozen ones, and those that wait within the kernel. They are reported, and tried
//! again at increasing intervals.

use std::{fs, time::Duration};

use tokio::time::{Instant, sleep};

/// The first delay between two attempts; it doubles.
const FIRST: Duration = Duration::from_millis(10);

/// The longest delay: a scan of all processes of a host has a cost.
const LONGEST: Duration = Duration::from_secs(2);

/// Time after a kill before a process that is still there is reported.
const PATIENCE: Duration = Duration::from_secs(3);

/// Consecutive attempts that must have left the same processes before they are reported. A supervisor whose PID
/// namespace is being torn down exists for a moment after it was killed.
const ATTEMPTS: u32 = 4;

/// Number of attempts with different processes each time, after which that is reported, and the longest delay between
/// further ones.
const CHANGES: u32 = 20;
const BUSY: Duration = Duration::from_millis(40);

/// Maximum number of processes that are named.
const NAMED: usize = 3;

/// The delays of a loop that kills until nothing is left.
pub(super) struct Waits {
    began: Instant,
    wait: Duration,
    told: Vec<i32>,
    /// Processes that the previous attempt left.
    before: Vec<i32>,
    /// Consecutive attempts that left the same ones.
    same: u32,
    /// Attempts that each left different ones.
    changes: u32,
    told_changes: bool,
}

impl Waits {
    pub(super) fn new() -> Waits {
        Waits {
            began: Instant::now(),
            wait: FIRST,
            told: Vec::new(),
            before: Vec::new(),
            same: 0,
            changes: 0,
            told_changes: false,
        }
    }

    /// The message about remaining processes, once they have remained for long enough and differ from those reported
    /// before.
    pub(super) fn news(&mut self, left: &[i32]) -> Option<String> {
        if left.is_empty() || self.began.elapsed() < PATIENCE {
            return None;
        }
        if self.changes >= CHANGES && !self.told_changes {
            self.told_changes = true;
            return Some(format!(
                "{}: others are started as fast as these are killed",
                one_of(left)
            ));
        }
        if self.same < ATTEMPTS || self.before != left || self.told == left {
            return None;
        }
        left.clone_into(&mut self.told);
        Some(describe(left))
    }

    /// Waits until the next attempt: briefly while processes change, increasingly while they stay the same.
    pub(super) async fn wait(&mut self, left: &[i32]) {
        (self.wait, self.same, self.changes) = match self.before == left {
            true => ((self.wait * 2).min(LONGEST), self.same + 1, self.changes),
            // Scans of all processes must not occupy a processor, however fast others are started.
            false if self.changes >= CHANGES => ((self.wait * 2).min(BUSY), 1, self.changes + 1),
            false => (FIRST, 1, self.changes + 1),
        };
        left.clone_into(&mut self.before);
        sleep(self.wait).await;
    }
}

/// `pid 4711 (sleep, state D) cannot be killed`.
pub(super) fn describe(pids: &[i32]) -> String {
    format!("{} cannot be killed", one_of(pids))
}

fn one_of(pids: &[i32]) -> String {
    let named: Vec<String> = pids.iter().take(NAMED).map(|pid| one(*pid)).collect();
    let more = match pids.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", named.join(", "))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn processes_are_reported_only_after_several_attempts_left_the_same_ones() {
        let mut waits = Waits::new();
        // Long ago: time alone does not suffice.
        waits.began = Instant::now().checked_sub(PATIENCE).unwrap();
        assert_eq!(waits.news(&[7]), None);
        for _ in 0..ATTEMPTS {
            assert_eq!(waits.news(&[7]), None);
            waits.wait(&[7]).await;
        }
        assert!(waits.news(&[7]).is_some_and(|news| news.contains("pid 7")));
        assert_eq!(waits.news(&[7]), None, "once");
        assert_eq!(waits.news(&[8]), None, "another one may end yet");
        // Many attempts within a moment do not suffice, either.
        let mut waits = Waits::new();
        for _ in 0..ATTEMPTS {
            waits.wait(&[7]).await;
        }
        assert_eq!(waits.news(&[7]), None);
    }

    #[tokio::test]
    async fn processes_that_are_others_at_every_attempt_are_reported_once() {
        let mut waits = Waits::new();
        waits.began = Instant::now().checked_sub(PATIENCE).unwrap();
        let mut told = Vec::new();
        for pid in 0..2 * CHANGES as i32 {
            told.extend(waits.news(&[1_000_000_000 + pid]));
            waits.wait(&[1_000_000_000 + pid]).await;
        }
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("as fast as these are killed"), "{told:?}");
        assert_eq!(waits.news(&[]), None);
    }
}
