//! Durable records of workloads and instances.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::Score;
use super::{Exit, Held, Spec};
use crate::{
    id::{Because, DecisionId, Epoch, NodeId, Revision},
    time::WallTime,
};

/// Id of an instance, unique and increasing over the cluster's lifetime: epoch × 2³² + a counter. It is also the
/// fencing token of a singleton: of two instances the later one has the higher id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AssignmentId(pub u64);

impl AssignmentId {
    /// The epoch that assigned the id.
    pub const fn epoch(self) -> Epoch {
        Epoch(self.0 >> 32)
    }

    /// Number of the id within its epoch, from 1.
    pub const fn count(self) -> u64 {
        self.0 & 0xffff_ffff
    }
}

impl fmt::Display for AssignmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for AssignmentId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<AssignmentId, Self::Err> {
        u64::from_str_radix(text, 16).map(AssignmentId)
    }
}

/// A declared workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Specifications by revision: those that instances run, and the stable one.
    pub revisions: BTreeMap<Revision, Arc<Spec>>,
    /// The current revision.
    pub revision: Revision,
    /// The revision to roll back to when an update fails: the last one with which all instances were healthy.
    pub stable: Revision,
    /// Time of the last change.
    pub time: WallTime,
    /// Author of the last change.
    pub by: String,
    /// Whether the workload is being deleted; it is removed once its instances have ended.
    pub deleted: bool,
    /// Requested restart: the time, and the id below which instances are replaced, a few at a time.
    #[serde(default)]
    pub restarted: Option<(WallTime, AssignmentId)>,
    /// The revision whose canaries an operator approved.
    #[serde(default)]
    pub promoted: Revision,
    /// Reason for the last rollback, human-readable; empty if there was none.
    #[serde(default)]
    pub rolled_back: String,
    /// Number of the current run of a batch, from 1; a restart begins the next.
    #[serde(default = "first_run")]
    pub run: u64,
    /// The newest revision that failed as an update, and the reason.
    #[serde(default)]
    pub failed: Option<(Revision, String)>,
    /// Id below which completed parts of a batch are to run again.
    #[serde(default)]
    pub run_from: Option<AssignmentId>,
}

fn first_run() -> u64 {
    1
}

impl Workload {
    /// The current specification.
    pub fn spec(&self) -> Option<&Arc<Spec>> {
        self.revisions.get(&self.revision)
    }

    /// Whether an instance of the current run of a batch has completed its part.
    pub fn is_done(&self, held: &Held) -> bool {
        self.is_of_run(held.record.id) && held.record.goal == Goal::Run && held.status.complete
    }

    /// Whether instances of `revision` run another specification than the current one, in a way that requires a new
    /// start.
    pub fn is_outdated(&self, revision: Revision) -> bool {
        if revision == self.revision {
            return false;
        }
        let (old, now) = (self.revisions.get(&revision), self.spec());
        !old.zip(now).is_some_and(|(old, now)| old.runs_like(now))
    }

    /// Whether an instance belongs to the current run of a batch; completed parts stay completed when only the others
    /// are run again.
    pub fn is_of_run(&self, id: AssignmentId) -> bool {
        self.run_from.is_none_or(|from| id >= from)
    }
}

/// Desired state of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Running.
    Run,
    /// Ended; the instance is retained until its node reports its end.
    Stop,
}

/// Result of an ended instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Time of the end.
    pub time: WallTime,
    /// Exit of its last process; `None` if it had none.
    pub exit: Option<Exit>,
    /// Whether the instance completed its work.
    pub complete: bool,
    /// Whether the result is unknown because the node lost its record.
    #[serde(default)]
    pub unknown: bool,
    /// Whether the host ended the instance.
    #[serde(default)]
    pub interrupted: bool,
    /// Human-readable description.
    pub detail: String,
    /// Last line of standard error, as in [`Status`](super::Status).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_stderr: String,
}

/// Reference to an instance of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The workload's name.
    pub workload: Arc<str>,
    /// The slot, from 0.
    pub slot: u32,
    /// The id; `None` for an instance that is about to be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<AssignmentId>,
}

impl Instance {
    /// Creates a reference to an instance that is about to be started.
    pub fn new(workload: &Arc<str>, slot: u32) -> Instance {
        Instance {
            workload: Arc::clone(workload),
            slot,
            id: None,
        }
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.workload, self.slot)
    }
}

/// An instance of a workload, placed on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The instance's id.
    pub id: AssignmentId,
    /// The instance's workload.
    pub workload: Arc<str>,
    /// The slot within the workload, from 0.
    pub slot: u32,
    /// The revision that it runs.
    pub revision: Revision,
    /// The instance's node.
    pub node: NodeId,
    /// The desired state.
    pub goal: Goal,
    /// Time of the placement.
    pub placed: WallTime,
    /// Reason for the placement, human-readable.
    pub reason: String,
    /// Score of the node at the placement.
    pub score: Score,
    /// The decision that placed it.
    pub decision: DecisionId,
    /// The instance that it replaces.
    pub replaces: Option<AssignmentId>,
    /// Number of consecutive failures of earlier instances of this slot.
    pub attempt: u32,
    /// Reason for the stop, human-readable; empty while it is to run.
    pub stop_reason: String,
    /// Reason why it is to leave its node, human-readable; empty if it may stay.
    #[serde(default)]
    pub leaving: String,
    /// Cause of leaving; `None` if it may stay or the cause is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving_because: Option<Because>,
    /// Result; `None` until the instance has ended.
    pub end: Option<End>,
    /// The specification it runs if no workload has it: its node reports it, and it is unknown here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orphan: Option<Arc<Spec>>,
}
