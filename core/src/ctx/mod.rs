//! Shared context of the coordinator's systems: configuration, time, node registry, timers and the outbox of changes
//! and effects.
//!
//! No decision is made here.

pub(crate) mod alarm;
pub(crate) mod config;
pub(crate) mod outbox;
pub(crate) mod repeats;
pub(crate) mod rules;

use std::time::Duration;

use alarm::Timer;
use config::Config;
use outbox::Outbox;

use crate::{
    id::{ClusterId, Cycle, Epoch, EventNo},
    node::NodeIndex,
    registry::Registry,
    standing::{self, SINGLETON},
    store::Durable,
    time::{Time, WallClock, WallTime},
    timer::Timers,
};

/// Divisor of the tolerated clock drift: an agent's clock may be slower than the coordinator's by one sixteenth.
pub(crate) const DRIFT: u32 = 16;

/// Identity of this coordinator process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    pub(crate) cluster: ClusterId,
    /// Number of coordinator starts in this cluster, this one included.
    pub(crate) epoch: Epoch,
}

/// The current time and derived counters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) now: Time,
    pub(crate) wall: WallClock,
    /// Number of the newest cycle.
    pub(crate) cycle: Cycle,
    /// Time at which the process last resumed after a stall; a node's silence is counted from this time at the
    /// earliest.
    pub(crate) resumed_at: Time,
    pub(crate) started_at: Time,
    /// Accumulated running time of the cluster's coordinators before this one started.
    pub(crate) lived_before: Duration,
}

/// State shared by all systems.
#[derive(Debug)]
pub(crate) struct Ctx {
    pub(crate) config: Config,
    pub(crate) term: Term,
    pub(crate) clock: Clock,
    /// Whether the coordinator is shutting down; no session is admitted any more.
    pub(crate) stopping: bool,
    pub(crate) registry: Registry,
    pub(crate) timers: Timers<Timer>,
    pub(crate) outbox: Outbox,
}

impl Ctx {
    /// Creates the context at startup from durable state.
    pub(crate) fn new(now: Time, time: WallTime, config: Config, durable: &Durable) -> Ctx {
        let mut wall = WallClock::default();
        wall.set(now, time);
        Ctx {
            config,
            term: Term {
                cluster: durable.cluster,
                epoch: durable.epoch,
            },
            clock: Clock {
                now,
                wall,
                cycle: durable.last_snapshot.1,
                resumed_at: now,
                started_at: now,
                lived_before: durable.lived,
            },
            stopping: false,
            registry: Registry::default(),
            timers: Timers::default(),
            outbox: Outbox::new(durable.last_event),
        }
    }

    /// Copies the context for planning, without timers, pending writes and effects.
    pub(crate) fn to_plan_with(&self) -> Ctx {
        Ctx {
            config: self.config.clone(),
            term: self.term,
            clock: self.clock,
            stopping: self.stopping,
            registry: self.registry.clone(),
            timers: Timers::default(),
            outbox: Outbox::new(EventNo(0)),
        }
    }

    /// Accumulated running time of this cluster's coordinators. It is independent of wall-clock changes and excludes
    /// downtime.
    pub(crate) fn lived(&self) -> Duration {
        let run = self.clock.now.since(self.clock.started_at);
        self.clock.lived_before.saturating_add(run)
    }

    /// Current wall-clock time.
    pub(crate) fn wall_now(&self) -> WallTime {
        self.clock.wall.at(self.clock.now)
    }

    /// Records a sign of life of a node.
    pub(crate) fn hear(&mut self, index: NodeIndex) {
        let now = self.clock.now;
        let node = self.registry.heard(index);
        (node.last_seen, node.asked) = (Some(now), None);
    }

    /// Time at which a node was last heard, excluding stalls of this process.
    pub(crate) fn heard_at(&self, index: NodeIndex) -> Time {
        self.registry[index]
            .last_seen
            .unwrap_or_default()
            .max(self.clock.resumed_at)
    }

    /// Heartbeat interval configured for a node.
    pub(crate) fn heartbeat_interval(&self, index: NodeIndex) -> Duration {
        self.registry[index].record.heartbeat.unwrap_or(self.config.heartbeat)
    }

    /// Time for which a node may consider itself a member after it was last heard.
    pub(crate) fn lease(&self, index: NodeIndex) -> Duration {
        standing::lease(self.config.cycle, self.heartbeat_interval(index))
    }

    /// Estimates when the message being received was sent; also advances the node's `said` time.
    pub(crate) fn sent_at(&mut self, index: NodeIndex, sent_millis: u64) -> Time {
        let now = self.clock.now;
        let node = self.registry.heard(index);
        let session = node.session.as_mut();
        let at = session.map_or(now, |session| session.transit.sent_at(now, sent_millis));
        node.said = node.said.max(at);
        at
    }

    /// Maximum regular silence of a node: 1.5 heartbeat intervals.
    pub(crate) fn silence_limit(&self, index: NodeIndex) -> Duration {
        let session = self.registry[index].session.as_ref().map(|session| session.interval);
        session.unwrap_or_else(|| self.heartbeat_interval(index)) * 3 / 2
    }

    /// Time after which no lease granted to a node can still be valid. A lease runs by the node's own clock, from the
    /// time at which it sent the message that was received here or forwarded by a peer.
    pub(crate) fn lease_ends(&self, index: NodeIndex) -> Time {
        let node = &self.registry[index];
        // A lease granted by an earlier coordinator was granted before this one started.
        let given = [node.last_seen, node.lent]
            .into_iter()
            .flatten()
            .fold(self.clock.started_at, Time::max);
        // The longest lease ever granted counts: an agent keeps to the lease of its welcome.
        let lease = self.lease(index).max(node.record.lease) * SINGLETON;
        given + lease + lease / DRIFT
    }
}
