//! What is durable of workloads and their instances.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::Score;
use super::{Exit, Held, Spec};
use crate::{
    id::{Because, NodeId},
    time::WallTime,
};

/// An instance's id, unique in the cluster's life and only growing: epoch × 2³² + a count. It is also the fencing number of a
/// singleton: of two instances the later one has the higher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AssignmentId(pub u64);

impl AssignmentId {
    /// The epoch that gave it out.
    pub const fn epoch(self) -> u64 {
        self.0 >> 32
    }

    /// Which of that epoch it is, from 1.
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

/// A workload that was declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Its declarations that instances run by, and the one before the present, by their numbers.
    pub revisions: BTreeMap<u64, Arc<Spec>>,
    /// The number of the present one.
    pub revision: u64,
    /// The one to go back to when an update fails: the last by which all instances were well.
    pub stable: u64,
    /// When it was declared so.
    pub time: WallTime,
    /// By whom.
    pub by: String,
    /// It is to be gone once its instances are.
    pub deleted: bool,
    /// Instances from before this time are replaced, one after another.
    #[serde(default)]
    pub restarted: Option<(WallTime, AssignmentId)>,
    /// The revision whose canaries an operator approved.
    #[serde(default)]
    pub promoted: u64,
    /// Why the last update was taken back, for people; empty when it was not.
    #[serde(default)]
    pub rolled_back: String,
    /// Of a batch: which run of it this is, from 1; a restart begins the next.
    #[serde(default = "first_run")]
    pub run: u64,
    /// The newest of its declarations that failed as an update, and why.
    #[serde(default)]
    pub failed: Option<(u64, String)>,
    /// Parts that were done by instances before this one are to be done again.
    #[serde(default)]
    pub run_from: Option<AssignmentId>,
}

fn first_run() -> u64 {
    1
}

impl Workload {
    /// The present declaration.
    pub fn spec(&self) -> Option<&Arc<Spec>> {
        self.revisions.get(&self.revision)
    }

    /// True for an instance of this run of a batch that has done its part.
    pub fn is_done(&self, held: &Held) -> bool {
        self.is_of_run(held.record.id) && held.record.goal == Goal::Run && held.status.complete
    }

    /// True for what runs by another declaration than the present one, in a way that it would have to start anew for.
    pub fn is_outdated(&self, revision: u64) -> bool {
        if revision == self.revision {
            return false;
        }
        let (old, now) = (self.revisions.get(&revision), self.spec());
        !old.zip(now).is_some_and(|(old, now)| old.runs_like(now))
    }

    /// True for an instance of this run of a batch; parts that are done stay done where only the others are run again.
    pub fn is_of_run(&self, id: AssignmentId) -> bool {
        self.run_from.is_none_or(|from| id >= from)
    }
}

/// What an instance is meant to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// To run.
    Run,
    /// To end; it is kept until its node says that it has.
    Stop,
}

/// How an instance ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// When.
    pub time: WallTime,
    /// How its last process ended; `None` when it had none.
    pub exit: Option<Exit>,
    /// It had done what it should.
    pub complete: bool,
    /// Whether it had is not known: its node has lost what it wrote of it.
    #[serde(default)]
    pub unknown: bool,
    /// Its host ended it.
    #[serde(default)]
    pub interrupted: bool,
    /// For people.
    pub detail: String,
    /// As in [`Status`](super::Status).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_stderr: String,
}

/// An instance of a workload, as what is told of it names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The workload's name.
    pub workload: Arc<str>,
    /// Its slot, from 0.
    pub slot: u32,
    /// Its id; `None` for an instance that is about to be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<AssignmentId>,
}

impl Instance {
    /// The instance of that slot which is about to be started.
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
    /// Its id.
    pub id: AssignmentId,
    /// Its workload.
    pub workload: Arc<str>,
    /// Which of the workload's instances it is, from 0.
    pub slot: u32,
    /// The number of the declaration that it runs by.
    pub revision: u64,
    /// Its node.
    pub node: NodeId,
    /// What it is meant to do.
    pub goal: Goal,
    /// When it was placed.
    pub placed: WallTime,
    /// Why, for people.
    pub reason: String,
    /// By what the node won.
    pub score: Score,
    /// The decision that placed it.
    pub decision: u64,
    /// The instance that it takes the place of.
    pub replaces: Option<AssignmentId>,
    /// Instances of this slot that failed before it, in a row.
    pub attempt: u32,
    /// Why it is to stop, for people; empty while it is to run.
    pub stop_reason: String,
    /// Why it is to leave its node, for people; empty when it may stay.
    #[serde(default)]
    pub leaving: String,
    /// What led to that; `None` when it may stay, or that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving_because: Option<Because>,
    /// How it ended.
    pub end: Option<End>,
    /// What it runs by, when no workload has it: its node says that it runs, and nobody here knows why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orphan: Option<Arc<Spec>>,
}
