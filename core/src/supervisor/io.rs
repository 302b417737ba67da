//! Inputs, effects and timers of a supervisor.

use crate::{
    time::{Time, WallTime},
    timer::Kinds,
    workload::Exit,
};

/// One input.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A reading of the wall clock.
    WallClock(WallTime),
    /// The process was started.
    Started {
        /// The process id.
        pid: u32,
    },
    /// The process could not be started.
    NotStarted {
        /// The reason, human-readable.
        reason: String,
    },
    /// The kernel killed processes of the instance for exceeding its memory limit; [`Input::Exited`] follows if the
    /// main process was among them.
    OutOfMemory {
        /// Number of killed processes.
        kills: u32,
    },
    /// The main process ended.
    Exited(Exit),
    /// Last line of standard error of the ended process, as given by [`LastLine`](crate::workload::LastLine); precedes
    /// [`Input::Cleared`].
    Wrote(String),
    /// No process of the instance is left.
    Cleared,
    /// A killed process still exists; [`Input::Cleared`] follows once it is gone.
    Stuck {
        /// Description of the process.
        what: String,
    },
    /// A health check completed.
    Checked {
        /// Index of the check.
        check: usize,
        /// Reason for the failure; `None` if it passed.
        failure: Option<String>,
    },
    /// The instance is to stop permanently.
    Stop {
        /// The reason, human-readable.
        reason: String,
    },
    /// The instance is to stop because its host shuts down or its agent ends permanently.
    Quit {
        /// The reason, human-readable.
        reason: String,
    },
    /// The instance's directory is lost, so the instance cannot be found there. A singleton is killed at once, since
    /// its node may consider it gone; any other instance is stopped gracefully.
    Lost {
        /// The reason, human-readable.
        reason: String,
    },
    /// The lease of a singleton was extended to this time.
    Lease(Time),
}

/// An action to be executed by the driver.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Start the process; answered by [`Input::Started`] or [`Input::NotStarted`], and later by [`Input::Exited`].
    Spawn,
    /// Send a signal to the process and its group.
    Signal(i32),
    /// Kill all processes of the instance; answered by [`Input::Cleared`].
    Clear,
    /// Run a health check; answered by [`Input::Checked`].
    Check(usize),
    /// The status changed.
    Changed,
    /// The status is final, and the supervisor may exit.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// Next start of the process.
    Start(u64),
    /// End of the stop delay.
    Signal(u64),
    /// End of the stop grace period.
    Kill(u64),
    /// Next run of a health check.
    Check(usize, u64),
    /// Time to stop because the lease is about to end.
    Lease(u64),
}

impl Kinds for Timer {
    const NAMES: &'static [&'static str] = &[
        "supervisor.start",
        "supervisor.signal",
        "supervisor.kill",
        "supervisor.check",
        "supervisor.lease",
    ];

    fn kind(&self) -> usize {
        match self {
            Timer::Start(_) => 0,
            Timer::Signal(_) => 1,
            Timer::Kill(_) => 2,
            Timer::Check(..) => 3,
            Timer::Lease(_) => 4,
        }
    }
}
