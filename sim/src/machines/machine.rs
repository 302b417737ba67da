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

/// What waits for a process that stands still.
#[derive(Debug)]
pub(super) enum Waiting {
    Fact(Input),
    /// A probe by this observer, with its number.
    Probe(usize, u64),
}

/// A machine with an agent.
pub(crate) struct Machine {
    pub(super) core: Option<Agent>,
    pub(crate) powered: bool,
    /// Counts the starts of its agent, as the world sees them.
    pub(crate) generation: u32,
    pub(super) incarnation: u64,
    /// Faults that make it stand still now.
    pub(super) frozen: u32,
    pub(super) frozen_since: Time,
    /// When it last went on.
    pub(crate) thawed: Option<Time>,
    /// Whom its agent was asked to probe.
    pub(crate) targets: BTreeSet<usize>,
    pub(crate) starving: Option<usize>,
    pub(crate) standing: bool,
    pub(super) inbox: Vec<Waiting>,
    pub(super) wake: u64,
    pub(super) wake_at: Option<Time>,
    /// The same by its own clock.
    pub(super) due: Option<Time>,
    pub(crate) clock: Clock,
    pub(super) load: f32,
    /// What a fault makes of its load.
    pub(crate) loaded: Option<f32>,
    pub(crate) streams: BTreeMap<ConnId, StreamId>,
    /// Probes under way, few at a time: subject, number, and when each left.
    pub(super) probes: Vec<(usize, u64, Time)>,
    /// Peers that its agent has a connection to which no probe uses.
    pub(super) connections: BTreeSet<usize>,
    /// Peers' questions that its agent was given.
    pub(super) questions: BTreeMap<u64, Ask>,
    /// Its disk fails whatever it is asked.
    pub(crate) disk_fails: bool,
    /// Until when its disk takes nothing.
    pub(crate) disk_stalled_until: Time,
    /// What waits for that.
    pub(super) held_up: Vec<Effect>,
    /// Claims not to hear its peers, by this fault.
    pub(crate) lies: Option<usize>,
    /// Started again once it has ended.
    pub(crate) restarts: bool,
    /// What runs on it; it outlives its agent.
    pub(crate) instances: Instances,
    /// Whether the kernel ends everything that an instance started when its supervisor ends, and whether the agent reports that.
    pub(crate) contained: bool,
    pub(crate) told_contained: bool,
    /// Programs that outlived their supervisors.
    pub(crate) strays: Vec<Arc<Assigned>>,
    /// The list of what was begun is gone; and what its agent has written down of an earlier one that was.
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

    /// True when its agent's process is there, standing still or not.
    pub(crate) fn runs(&self) -> bool {
        self.core.is_some()
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen > 0
    }

    /// Kinds of timers that fired in its agent's process.
    pub(crate) fn timers(&self) -> impl Iterator<Item = &'static str> {
        self.core.iter().flat_map(Agent::timers_fired)
    }

    /// True while its agent takes the node for a member.
    pub(crate) fn is_member(&self, now: Time) -> bool {
        let local = self.clock.local(now);
        self.core.as_ref().is_some_and(|core| core.is_member(local))
    }

    /// Since when it stands still.
    pub(crate) fn still_since(&self) -> Option<Time> {
        self.is_frozen().then_some(self.frozen_since)
    }

    /// Nobody who looks for the instance on this machine finds it.
    pub(crate) fn misses(&self, instance: &Instance) -> bool {
        instance.misplaced.is_some_and(|by| self.generation > by)
    }

    /// What a new agent knows of instances that may have been begun beside those that it finds.
    pub(crate) fn begun(&self) -> Begun {
        match self.presumed {
            _ if self.listless => Begun::Any,
            Some((cluster, below)) => Begun::Below(cluster, below),
            None => Begun::None,
        }
    }
}
