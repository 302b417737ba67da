//! What is durable, and how it is handed to the store.

mod batch;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

pub use batch::{Batch, Entry};

use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    autonomy::Policy,
    id::{ClusterId, NodeId},
    integrity::{Digest, ZERO_DIGEST},
    node::NodeRecord,
    time::WallTime,
    workload::{Assignment, AssignmentId, Workload},
};

/// What a coordinator starts from.
#[derive(Clone, Debug)]
pub struct Durable {
    /// The cluster's id.
    pub cluster: ClusterId,
    /// Epoch of this start: one more than the one before.
    pub epoch: u64,
    /// The nodes.
    pub nodes: BTreeMap<NodeId, Arc<NodeRecord>>,
    /// Tokens and operators.
    pub access: Arc<Access>,
    /// Workloads by their names, those included that are to be gone.
    pub workloads: BTreeMap<Arc<str>, Arc<Workload>>,
    /// Their instances.
    pub assignments: BTreeMap<AssignmentId, Arc<Assignment>>,
    /// Number of the newest event; 0 when there is none.
    pub last_event: u64,
    /// What Autonomy may do.
    pub policy: Policy,
    /// Number of decisions in the cluster's life.
    pub decisions: u64,
    /// Epoch, cycle and chain of the newest snapshot.
    pub last_snapshot: (u64, u64, Digest),
    /// That all of this was put back from a backup; `None` when it never was.
    pub restored: Option<Restored>,
    /// How long coordinators of this cluster have run by the newest snapshot, all starts together. What is kept for a time is kept for so
    /// much of this one, which no clock moves.
    pub lived: Duration,
}

/// That what is durable was put back: what came after the backup is known to agents alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// When the backup was made.
    pub taken: WallTime,
    /// When it was put back.
    pub time: WallTime,
    /// No epoch up to this one is begun any more, and no number of an instance, a decision or a directive of one is given out.
    pub epoch: u64,
    /// No number of an event up to this one is given out any more.
    pub event: u64,
    /// Agents had the time to tell what they have.
    pub settled: bool,
}

impl Restored {
    /// A backup of an `epoch` and with a newest `event`, made when the clock said `taken`, is put back when it says `now`.
    ///
    /// The coordinator that was lost may have begun further epochs, and so may one that came from the same backup before. All of them
    /// were begun before now, on average less than one a second and less than a thousand events a second: from now on epochs count
    /// from the seconds and events from the milliseconds since 1970. docs/operations.md has the argument.
    ///
    /// `None` when the clock is behind the backup: it would not do then.
    pub fn new(epoch: u64, event: u64, taken: WallTime, now: WallTime) -> Option<Restored> {
        let millis = u64::try_from(now.0).ok().filter(|_| now >= taken)?;
        Some(Restored {
            taken,
            time: now,
            epoch: epoch.max(millis / 1_000),
            event: event.max(millis),
            settled: false,
        })
    }
}

impl Durable {
    /// A cluster's first start.
    pub fn new(cluster: ClusterId) -> Durable {
        Durable {
            cluster,
            epoch: 1,
            nodes: BTreeMap::new(),
            access: Arc::default(),
            workloads: BTreeMap::new(),
            assignments: BTreeMap::new(),
            policy: Policy::default(),
            last_event: 0,
            decisions: 0,
            last_snapshot: (0, 0, ZERO_DIGEST),
            restored: None,
            lived: Duration::ZERO,
        }
    }

    /// What is durable once these changes are.
    pub fn apply(&mut self, batch: &Batch) {
        for change in batch.changes() {
            self.take(change);
        }
    }

    /// Takes over one change.
    pub fn take(&mut self, change: Entry<'_>) {
        match change {
            Entry::Forgotten(id) => drop(self.nodes.remove(&id)),
            Entry::Node(node) => drop(self.nodes.insert(node.id(), Arc::clone(node))),
            Entry::Event(event) => self.last_event = event.sequence,
            Entry::Access(access) => self.access = Arc::clone(access),
            Entry::Workload(name, Some(record)) => drop(self.workloads.insert(Arc::clone(name), Arc::clone(record))),
            Entry::Workload(name, None) => drop(self.workloads.remove(name)),
            Entry::Assignment(id, Some(record)) => drop(self.assignments.insert(id, Arc::clone(record))),
            Entry::Assignment(id, None) => drop(self.assignments.remove(&id)),
            Entry::Policy(policy) => self.policy = policy,
            Entry::Decisions(decisions) => self.decisions = self.decisions.max(decisions),
            Entry::Restored(restored) => self.restored = Some(restored),
            // How far the audit has come is the audit's to know.
            Entry::Intent(_) => {}
        }
    }
}
