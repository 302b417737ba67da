//! How an instance is, as its supervisor says.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{AssignmentId, Spec};
use crate::time::WallTime;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// True for status 0.
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

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its node has not said anything of it.
    #[default]
    Assigned,
    /// Its process is being started.
    Starting,
    /// Its process runs.
    Running,
    /// Its process ended; the next one waits for its turn.
    Backoff,
    /// Its process was told to end.
    Stopping,
    /// No process of it is left, and none will be started.
    Ended,
}

impl Phase {
    /// Its name, as people read it.
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

/// How an instance is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Where it is in its life.
    pub phase: Phase,
    /// It runs, and every health check passed the last time.
    pub healthy: bool,
    /// Since when it is so.
    pub since: WallTime,
    /// The process; 0 for none.
    pub pid: u32,
    /// Starts of its process beyond the first.
    pub restarts: u32,
    /// How its last process ended.
    pub exit: Option<Exit>,
    /// Ended for good without having failed: a batch that is done, or what was told to stop.
    pub complete: bool,
    /// How it ended is not known: what its node wrote of it is missing, or cannot be read. Never together with `complete`.
    #[serde(default)]
    pub unknown: bool,
    /// It ended because its host, its agent or its supervisor did: its program has not failed.
    #[serde(default)]
    pub interrupted: bool,
    /// How often its agent started it again by itself after its host's start, as no coordinator was there; among `restarts`.
    #[serde(default)]
    pub started_alone: u32,
    /// Processes of it that the kernel killed for want of memory, its first ones included.
    #[serde(default)]
    pub oom_kills: u32,
    /// Why it is so, for people.
    pub detail: String,
    /// The ports that it was given, in the order of its declaration's names.
    pub ports: Vec<u16>,
    /// The last line that its last process that ended wrote to its standard error, at most [`LAST_LINE`](super::log::LAST_LINE) bytes; empty for none.
    /// Shown only to those who may read logs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_stderr: String,
}

/// What a node is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// The instance.
    pub id: AssignmentId,
    /// Which of the workload's it is.
    pub slot: u32,
    /// The declaration's number.
    pub revision: u64,
    /// The declaration.
    pub spec: Arc<Spec>,
}
