//! What every system of the coordinator works with: its configuration, the time, the nodes, timers, and what is to be written and sent.
//!
//! Nothing is decided here.

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
    id::ClusterId,
    node::NodeIndex,
    registry::Registry,
    standing::{self, SINGLETON},
    store::Durable,
    time::{Time, WallClock, WallTime},
    timer::Timers,
};

/// Clocks of agents may be slower than this one by a sixteenth.
pub(crate) const DRIFT: u32 = 16;

/// Which coordinator this is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    pub(crate) cluster: ClusterId,
    /// One more with every start.
    pub(crate) epoch: u64,
}

/// The time, and what is counted by it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) now: Time,
    pub(crate) wall: WallClock,
    /// The newest cycle.
    pub(crate) cycle: u64,
    /// Until when the process stood still: whoever was silent before is heard as of now.
    pub(crate) resumed_at: Time,
    pub(crate) started_at: Time,
    /// The cluster's running time when this coordinator started.
    pub(crate) lived_before: Duration,
}

/// What is common to all systems.
#[derive(Debug)]
pub(crate) struct Ctx {
    pub(crate) config: Config,
    pub(crate) term: Term,
    pub(crate) clock: Clock,
    /// It ends: nobody is admitted any more.
    pub(crate) stopping: bool,
    pub(crate) registry: Registry,
    pub(crate) timers: Timers<Timer>,
    pub(crate) outbox: Outbox,
}

impl Ctx {
    /// As it is at a start from what is `durable`.
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

    /// A copy without timers, and without what is to be written and sent.
    pub(crate) fn to_plan_with(&self) -> Ctx {
        Ctx {
            config: self.config.clone(),
            term: self.term,
            clock: self.clock,
            stopping: self.stopping,
            registry: self.registry.clone(),
            timers: Timers::default(),
            outbox: Outbox::new(0),
        }
    }

    /// How long coordinators of this cluster have run, all starts together. No clock that is set moves it, and nothing is added for the time
    /// between two starts.
    pub(crate) fn lived(&self) -> Duration {
        let run = self.clock.now.since(self.clock.started_at);
        self.clock.lived_before.saturating_add(run)
    }

    /// The wall clock's time.
    pub(crate) fn wall_now(&self) -> WallTime {
        self.clock.wall.at(self.clock.now)
    }

    /// A node gave a sign of life.
    pub(crate) fn hear(&mut self, index: NodeIndex) {
        let now = self.clock.now;
        let node = self.registry.heard(index);
        (node.last_seen, node.asked) = (Some(now), None);
    }

    /// When the node was last heard, counting out the time in which this process stood still.
    pub(crate) fn heard_at(&self, index: NodeIndex) -> Time {
        self.registry[index]
            .last_seen
            .unwrap_or_default()
            .max(self.clock.resumed_at)
    }

    /// How often a node is to send heartbeats.
    pub(crate) fn heartbeat_interval(&self, index: NodeIndex) -> Duration {
        self.registry[index].record.heartbeat.unwrap_or(self.config.heartbeat)
    }

    /// How long a node may take itself for a member after it was heard.
    pub(crate) fn lease(&self, index: NodeIndex) -> Duration {
        standing::lease(self.config.cycle, self.heartbeat_interval(index))
    }

    /// When a node sent what comes from it now.
    pub(crate) fn sent_at(&mut self, index: NodeIndex, sent_millis: u64) -> Time {
        let now = self.clock.now;
        let node = self.registry.heard(index);
        let session = node.session.as_mut();
        let at = session.map_or(now, |session| session.transit.sent_at(now, sent_millis));
        node.said = node.said.max(at);
        at
    }

    /// When a node that is heard now may be silent until.
    pub(crate) fn silence_limit(&self, index: NodeIndex) -> Duration {
        let session = self.registry[index].session.as_ref().map(|session| session.interval);
        session.unwrap_or_else(|| self.heartbeat_interval(index)) * 3 / 2
    }

    /// When no lease that this node was ever given can run any more. It counts from the sending of what was heard of it, or of what
    /// a peer passed on, by its own clock.
    pub(crate) fn lease_ends(&self, index: NodeIndex) -> Time {
        let node = &self.registry[index];
        // What a coordinator before this one promised, it promised before this one started.
        let given = [node.last_seen, node.lent]
            .into_iter()
            .flatten()
            .fold(self.clock.started_at, Time::max);
        // The longest that was ever promised: an agent keeps to what it was told at its welcome.
        let lease = self.lease(index).max(node.record.lease) * SINGLETON;
        given + lease + lease / DRIFT
    }
}
