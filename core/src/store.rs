//! Durable state and its representation for the store.

mod batch;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

pub use batch::{Batch, Entry};

use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    autonomy::Policy,
    id::{ClusterId, Cycle, Epoch, EventNo, NodeId},
    integrity::{Digest, ZERO_DIGEST},
    node::NodeRecord,
    time::WallTime,
    workload::{Assignment, AssignmentId, Workload},
};

/// Durable state from which a coordinator starts.
#[derive(Clone, Debug)]
pub struct Durable {
    /// The cluster's id.
    pub cluster: ClusterId,
    /// Epoch of this start: one more than the previous.
    pub epoch: Epoch,
    /// The nodes.
    pub nodes: BTreeMap<NodeId, Arc<NodeRecord>>,
    /// Join tokens and operators.
    pub access: Arc<Access>,
    /// Workloads by name, including those being deleted.
    pub workloads: BTreeMap<Arc<str>, Arc<Workload>>,
    /// Instances.
    pub assignments: BTreeMap<AssignmentId, Arc<Assignment>>,
    /// Number of the newest event; 0 if there is none.
    pub last_event: EventNo,
    /// Policy of Autonomy.
    pub policy: Policy,
    /// Number of decisions in the cluster's lifetime.
    pub decisions: u64,
    /// Epoch, cycle and chain of the newest snapshot.
    pub last_snapshot: (Epoch, Cycle, Digest),
    /// Restoration from a backup; `None` if the state was never restored.
    pub restored: Option<Restored>,
    /// Accumulated running time of the cluster's coordinators as of the newest snapshot. Retention periods are measured
    /// in it, so that wall-clock changes do not affect them.
    pub lived: Duration,
}

/// Marks state restored from a backup: changes after the backup are known only to agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Time of the backup.
    pub taken: WallTime,
    /// Time of the restoration.
    pub time: WallTime,
    /// Highest epoch that must not be used again, nor any number of an instance, decision or directive of such an
    /// epoch.
    pub epoch: Epoch,
    /// Highest event number that must not be used again.
    pub event: EventNo,
    /// Whether agents have had the time to report their instances.
    pub settled: bool,
}

impl Restored {
    /// Describes the restoration, at `now`, of a backup taken at `taken` with the given `epoch` and newest `event`.
    ///
    /// The lost coordinator may have begun further epochs, and so may a coordinator restored earlier from the same
    /// backup. All of these began before now, at less than one per second on average, with fewer than a thousand events
    /// per second: from now on epochs count from the seconds, and events from the milliseconds, since 1970.
    /// docs/operations.md gives the argument.
    ///
    /// Returns `None` if the clock is behind the backup, because the argument does not hold then.
    pub fn new(epoch: Epoch, event: EventNo, taken: WallTime, now: WallTime) -> Option<Restored> {
        let millis = u64::try_from(now.0).ok().filter(|_| now >= taken)?;
        Some(Restored {
            taken,
            time: now,
            epoch: epoch.max(Epoch(millis / 1_000)),
            event: event.max(EventNo(millis)),
            settled: false,
        })
    }
}

impl Durable {
    /// State of a cluster's first start.
    pub fn new(cluster: ClusterId) -> Durable {
        Durable {
            cluster,
            epoch: Epoch(1),
            nodes: BTreeMap::new(),
            access: Arc::default(),
            workloads: BTreeMap::new(),
            assignments: BTreeMap::new(),
            policy: Policy::default(),
            last_event: EventNo(0),
            decisions: 0,
            last_snapshot: (Epoch(0), Cycle(0), ZERO_DIGEST),
            restored: None,
            lived: Duration::ZERO,
        }
    }

    /// Applies a batch of changes.
    pub fn apply(&mut self, batch: &Batch) {
        for change in batch.changes() {
            self.take(change);
        }
    }

    /// Applies one change.
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
            // The audit tracks its own position.
            Entry::Intent(_) => {}
        }
    }
}
