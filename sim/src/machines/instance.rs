//! An instance on a machine.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use wyneos_core::{
    supervisor::{DEADLINE, Input, Supervisor},
    time::Time,
    workload::{Assigned, AssignmentId, Phase, Resources, Status},
};

use crate::event::Step;

/// What a machine has.
pub(crate) const CAPACITY: Resources = Resources {
    cpu_millis: 4_000,
    memory_bytes: 8 << 30,
};

/// How long the kernel takes to end what is left of a program, and up to as long again.
pub(crate) const CLEAR: Duration = Duration::from_millis(5);

/// An instance on a machine.
pub(crate) struct Instance {
    pub(super) core: Supervisor,
    pub(crate) assigned: Arc<Assigned>,
    pub(crate) wake: u64,
    pub(super) wake_at: Option<Time>,
    /// Counts its programs.
    pub(crate) life: u64,
    pub(crate) runs: bool,
    /// The status that its agent was told, or would have been.
    pub(crate) told: Status,
    /// The supervisor is gone, though it did not end by itself.
    pub(crate) gone: bool,
    /// Faults that have its supervisor stand still, and what waits for it meanwhile.
    pub(crate) still: Vec<usize>,
    pub(crate) waiting: Vec<Step>,
    /// Its directory was removed or renamed while this agent of its machine was the newest.
    pub(crate) misplaced: Option<u32>,
    /// The lease that its supervisor knows, and how often that was renewed.
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

    /// Takes note of a lease; returns when the kernel is to end a supervisor that is still there, by its clock.
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

/// How an instance ended of which nothing was found, as its agent says.
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
