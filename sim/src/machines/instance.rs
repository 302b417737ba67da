//! An instance on a machine.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use wyneos_core::{
    supervisor::{DEADLINE, Input, Supervisor},
    time::Time,
    workload::{Assigned, AssignmentId, Phase, Resources, Status},
};

use crate::event::Step;

/// Resources of a machine.
pub(crate) const CAPACITY: Resources = Resources {
    cpu_millis: 4_000,
    memory_bytes: 8 << 30,
};

/// Minimum time that the kernel takes to end an instance's remaining processes; at most twice as long.
pub(crate) const CLEAR: Duration = Duration::from_millis(5);

/// An instance on a machine.
pub(crate) struct Instance {
    pub(super) core: Supervisor,
    pub(crate) assigned: Arc<Assigned>,
    pub(crate) wake: u64,
    pub(super) wake_at: Option<Time>,
    /// Number of programs started.
    pub(crate) life: u64,
    pub(crate) runs: bool,
    /// Status last reported to its agent, or that would have been.
    pub(crate) told: Status,
    /// Whether the supervisor was killed.
    pub(crate) gone: bool,
    /// Faults that stop its supervisor, and the events queued meanwhile.
    pub(crate) still: Vec<usize>,
    pub(crate) waiting: Vec<Step>,
    /// Generation of the agent when the directory was removed or renamed.
    pub(crate) misplaced: Option<u32>,
    /// Lease known to the supervisor, and number of renewals.
    pub(super) lease: Option<Time>,
    pub(super) leases: u64,
}

impl Instance {
    pub(crate) fn stands_still(&self) -> bool {
        !self.still.is_empty()
    }

    pub(super) fn acts(&self) -> bool {
        !self.gone && !self.stands_still()
    }

    /// Records a lease; returns the time by the local clock at which the kernel ends the supervisor if it is still
    /// running.
    pub(super) fn expires(&mut self, input: &Input) -> Option<Time> {
        let Input::Lease(until) = input else { return None };
        if !self.assigned.spec.singleton || self.lease.is_some_and(|before| before >= *until) {
            return None;
        }
        self.lease = Some(*until);
        self.leases += 1;
        Some(*until - DEADLINE)
    }
}

/// The instances of a machine.
pub(crate) type Instances = BTreeMap<AssignmentId, Instance>;

/// Status that an agent reports for an instance of which nothing was found.
pub(crate) fn lost(before: &Status) -> Status {
    Status {
        phase: Phase::Ended,
        healthy: false,
        pid: 0,
        complete: false,
        unknown: true,
        detail: "it was begun, and its directory is not there any more".to_owned(),
        ..before.clone()
    }
}
