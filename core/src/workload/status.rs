//! State of an instance as reported by its supervisor.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{AssignmentId, Spec};
use crate::{id::Revision, time::WallTime};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// Exited with this status.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

impl Exit {
    /// Whether the process exited with status 0.
    pub fn is_success(self) -> bool {
        self == Exit::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit status {code}"),
            Exit::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Phase in an instance's life cycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Assigned; the node has not reported it yet.
    #[default]
    Assigned,
    /// The process is being started.
    Starting,
    /// The process is running.
    Running,
    /// The process ended; the restart is delayed.
    Backoff,
    /// The process was told to stop.
    Stopping,
    /// No process is left, and none will be started.
    Ended,
}

impl Phase {
    /// Display name.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Assigned => "assigned",
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Backoff => "backoff",
            Phase::Stopping => "stopping",
            Phase::Ended => "ended",
        }
    }
}

/// State of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Phase in the life cycle.
    pub phase: Phase,
    /// Whether it is running and all health checks passed most recently.
    pub healthy: bool,
    /// Time of the last change.
    pub since: WallTime,
    /// Process id; 0 for none.
    pub pid: u32,
    /// Number of starts after the first.
    pub restarts: u32,
    /// How the last process ended.
    pub exit: Option<Exit>,
    /// Whether it ended permanently without a failure: a completed batch, or an instance that was told to stop.
    pub complete: bool,
    /// Whether the result is unknown because the node's record is missing or unreadable. Excludes `complete`.
    #[serde(default)]
    pub unknown: bool,
    /// Whether it ended because its host, agent or supervisor did; its program did not fail.
    #[serde(default)]
    pub interrupted: bool,
    /// Number of starts by the agent after a boot of its host without a coordinator; included in `restarts`.
    #[serde(default)]
    pub started_alone: u32,
    /// Number of its processes killed by the kernel for lack of memory, including those of earlier starts.
    #[serde(default)]
    pub oom_kills: u32,
    /// Human-readable description.
    pub detail: String,
    /// Assigned ports, in the order of the specification's names.
    pub ports: Vec<u16>,
    /// Last line of standard error of its last ended process, at most [`LAST_LINE`](super::log::LAST_LINE) bytes; empty
    /// if there was none. Visible only to callers who may read logs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_stderr: String,
}

/// An instance that a node is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// The instance's id.
    pub id: AssignmentId,
    /// The slot within the workload.
    pub slot: u32,
    /// The revision.
    pub revision: Revision,
    /// The specification.
    pub spec: Arc<Spec>,
}
