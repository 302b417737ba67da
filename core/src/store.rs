//! What is durable, and how it is handed to the store.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    autonomy::Policy,
    event::Event,
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
    pub nodes: Vec<Arc<NodeRecord>>,
    /// Tokens and operators.
    pub access: Arc<Access>,
    /// Workloads, those included that are to be gone.
    pub workloads: Vec<Arc<Workload>>,
    /// Their instances.
    pub assignments: Vec<Arc<Assignment>>,
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
            nodes: Vec::new(),
            access: Arc::default(),
            workloads: Vec::new(),
            assignments: Vec::new(),
            policy: Policy::default(),
            last_event: 0,
            decisions: 0,
            last_snapshot: (0, 0, ZERO_DIGEST),
            restored: None,
            lived: Duration::ZERO,
        }
    }
}

/// Changes that become durable together, or not at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Nodes that are forgotten. One that is among `nodes`, too, came back afterwards.
    pub forgotten: Vec<NodeId>,
    /// Nodes as they are now.
    pub nodes: Vec<Arc<NodeRecord>>,
    /// Events, in order, without a gap to those before.
    pub events: Vec<Arc<Event>>,
    /// Tokens and operators, when they changed.
    pub access: Option<Arc<Access>>,
    /// Workloads as they are now; `None` for one that is gone.
    pub workloads: Vec<(Arc<str>, Option<Arc<Workload>>)>,
    /// Instances as they are now; `None` for one that need not be kept.
    pub assignments: Vec<(AssignmentId, Option<Arc<Assignment>>)>,
    /// What Autonomy may do, when that changed.
    pub policy: Option<Policy>,
    /// Number of decisions in the cluster's life; 0 when it did not change.
    pub decisions: u64,
    /// That the state was restored, when that changed.
    pub restored: Option<Restored>,
    /// Numbers of the audit's intents that are carried out once this is durable, with all that they change: after a crash they tell what
    /// was done. One that changed nothing is kept as well: the newest one tells how far the state has come.
    pub intents: Vec<u64>,
}

impl Batch {
    /// True when there is nothing to make durable.
    pub fn is_empty(&self) -> bool {
        let work = self.workloads.is_empty() && self.assignments.is_empty();
        let rare = self.policy.is_none() && self.restored.is_none();
        work && rare
            && self.nodes.is_empty()
            && self.forgotten.is_empty()
            && self.events.is_empty()
            && self.access.is_none()
            && self.intents.is_empty()
    }
}
