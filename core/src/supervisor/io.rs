//! What goes into a supervisor's logic, and what comes out of it.

use crate::{
    time::{Time, WallTime},
    timer::Kinds,
    workload::Exit,
};

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// What the wall clock reads.
    WallClock(WallTime),
    /// The process runs.
    Started {
        /// Its id.
        pid: u32,
    },
    /// It could not be started.
    NotStarted {
        /// Why, for people.
        reason: String,
    },
    /// The kernel killed processes of it because it had used up its memory; [`Input::Exited`] follows where its first one was among them.
    OutOfMemory {
        /// How many.
        kills: u32,
    },
    /// The process ended.
    Exited(Exit),
    /// What the process that ended wrote last to its standard error, as [`LastLine`](crate::workload::LastLine) has it; comes before [`Input::Cleared`].
    Wrote(String),
    /// Nothing that it started is left.
    Cleared,
    /// Something that it started was killed, and is there all the same; [`Input::Cleared`] follows once it is gone.
    Stuck {
        /// What, for people.
        what: String,
    },
    /// A health check came to its end.
    Checked {
        /// Which.
        check: usize,
        /// Why it failed; `None` when it passed.
        failure: Option<String>,
    },
    /// It is to end for good.
    Stop {
        /// Why, for people.
        reason: String,
    },
    /// It is to end because its host does, or its agent for good.
    Quit {
        /// Why, for people.
        reason: String,
    },
    /// Its supervisor has lost the instance's directory: whoever looks for the instance there does not find it. A singleton is killed at once,
    /// since its node may take it for gone; another one is told to end.
    Lost {
        /// Why, for people.
        reason: String,
    },
    /// A singleton may run until then.
    Lease(Time),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Start the process; answer [`Input::Started`] or [`Input::NotStarted`], and [`Input::Exited`] later.
    Spawn,
    /// Send a signal to the process and its group.
    Signal(i32),
    /// Kill whatever it has started; answer [`Input::Cleared`].
    Clear,
    /// Ask for its health; answer [`Input::Checked`].
    Check(usize),
    /// The status changed.
    Changed,
    /// The status is final, and the supervisor may go.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The next start is due.
    Start(u64),
    /// The process has gone on for long enough after it was told to end.
    Signal(u64),
    /// The process was told to end and is killed.
    Kill(u64),
    /// A health check is due.
    Check(usize, u64),
    /// The lease will be over soon.
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
