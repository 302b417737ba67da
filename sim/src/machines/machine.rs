//! A machine with an agent.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use wyneos_core::{
    agent::{Agent, Begun, Effect, Input},
    id::ClusterId,
    node::ConnId,
    time::Time,
    workload::{Assigned, AssignmentId},
};

use super::instance::{Instance, Instances};
use crate::{
    clock::Clock,
    event::{Ask, StreamId},
};

/// Input queued for a stopped process.
#[derive(Debug)]
pub(super) enum Waiting {
    Fact(Input),
    /// A probe: its observer and number.
    Probe(usize, u64),
}

/// A machine with an agent.
pub(crate) struct Machine {
    pub(super) core: Option<Agent>,
    pub(crate) powered: bool,
    /// Number of starts of the agent.
    pub(crate) generation: u32,
    pub(super) incarnation: u64,
    /// Number of faults that currently stop it.
    pub(super) frozen: u32,
    pub(super) frozen_since: Time,
    /// Time at which it last resumed.
    pub(crate) thawed: Option<Time>,
    /// Probe targets of the agent.
    pub(crate) targets: BTreeSet<usize>,
    pub(crate) starving: Option<usize>,
    pub(crate) standing: bool,
    pub(super) inbox: Vec<Waiting>,
    pub(super) wake: u64,
    pub(super) wake_at: Option<Time>,
    /// The same by the local clock.
    pub(super) due: Option<Time>,
    pub(crate) clock: Clock,
    pub(super) load: f32,
    /// Load set by a fault.
    pub(crate) loaded: Option<f32>,
    pub(crate) streams: BTreeMap<ConnId, StreamId>,
    /// Probes in flight, few at a time: subject, number, and time of sending.
    pub(super) probes: Vec<(usize, u64, Time)>,
    /// Peers with an idle connection.
    pub(super) connections: BTreeSet<usize>,
    /// Questions of peers handed to the agent.
    pub(super) questions: BTreeMap<u64, Ask>,
    /// Whether the disk fails all requests.
    pub(crate) disk_fails: bool,
    /// Time until which the disk accepts nothing.
    pub(crate) disk_stalled_until: Time,
    /// Effects queued meanwhile.
    pub(super) held_up: Vec<Effect>,
    /// The fault because of which it claims not to hear its peers.
    pub(crate) lies: Option<usize>,
    /// Whether it is started again once it has ended.
    pub(crate) restarts: bool,
    /// Instances, which outlive the agent.
    pub(crate) instances: Instances,
    /// Whether the kernel ends an instance's processes when its supervisor ends, and whether the agent reports that.
    pub(crate) contained: bool,
    pub(crate) told_contained: bool,
    /// Programs that outlived their supervisors.
    pub(crate) strays: Vec<Arc<Assigned>>,
    /// Whether the list of started instances is lost; and the bound that the agent recorded for an earlier list that
    /// was lost.
    pub(crate) listless: bool,
    pub(crate) presumed: Option<(ClusterId, AssignmentId)>,
}

impl Machine {
    pub(crate) fn new(clock: Clock) -> Machine {
        Machine {
            core: None,
            powered: true,
            generation: 0,
            incarnation: 0,
            frozen: 0,
            frozen_since: Time(0),
            thawed: None,
            targets: BTreeSet::new(),
            starving: None,
            standing: false,
            inbox: Vec::new(),
            wake: 0,
            wake_at: None,
            due: None,
            clock,
            load: 0.3,
            loaded: None,
            streams: BTreeMap::new(),
            probes: Vec::new(),
            connections: BTreeSet::new(),
            questions: BTreeMap::new(),
            disk_fails: false,
            disk_stalled_until: Time(0),
            held_up: Vec::new(),
            lies: None,
            restarts: false,
            instances: Instances::new(),
            contained: true,
            told_contained: true,
            strays: Vec::new(),
            listless: false,
            presumed: None,
        }
    }

    /// Whether the agent's process exists, stopped or not.
    pub(crate) fn runs(&self) -> bool {
        self.core.is_some()
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen > 0
    }

    /// Kinds of timers that fired in the agent's process.
    pub(crate) fn timers(&self) -> impl Iterator<Item = &'static str> {
        self.core.iter().flat_map(Agent::timers_fired)
    }

    /// Whether the agent considers its node a member.
    pub(crate) fn is_member(&self, now: Time) -> bool {
        let local = self.clock.local(now);
        self.core.as_ref().is_some_and(|core| core.is_member(local))
    }

    /// Time since which it is stopped.
    pub(crate) fn still_since(&self) -> Option<Time> {
        self.is_frozen().then_some(self.frozen_since)
    }

    /// Whether an agent looking for the instance does not find it.
    pub(crate) fn misses(&self, instance: &Instance) -> bool {
        instance.misplaced.is_some_and(|by| self.generation > by)
    }

    /// Knowledge of a new agent about instances that may have been started besides those it finds.
    pub(crate) fn begun(&self) -> Begun {
        match self.presumed {
            _ if self.listless => Begun::Any,
            Some((cluster, below)) => Begun::Below(cluster, below),
            None => Begun::None,
        }
    }
}
