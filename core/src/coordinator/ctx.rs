//! What every system of the coordinator works with: its configuration, the time, the nodes, timers, and what is to be written and sent.
//!
//! Nothing is decided here.

use std::time::Duration;

use super::{Config, Timer, outbox::Outbox};
use crate::{
    id::ClusterId,
    registry::Registry,
    store::Durable,
    time::{Time, WallClock, WallTime},
    timer::Timers,
};

/// Which coordinator this is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    pub(super) cluster: ClusterId,
    /// One more with every start.
    pub(super) epoch: u64,
}

/// The time, and what is counted by it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) now: Time,
    pub(super) wall: WallClock,
    /// The newest cycle.
    pub(super) cycle: u64,
    /// Until when the process stood still: whoever was silent before is heard as of now.
    pub(super) resumed_at: Time,
    pub(super) started_at: Time,
    /// The cluster's running time when this coordinator started.
    pub(super) lived_before: Duration,
}

/// What is common to all systems.
#[derive(Debug)]
pub(super) struct Ctx {
    pub(super) config: Config,
    pub(super) term: Term,
    pub(super) clock: Clock,
    /// It ends: nobody is admitted any more.
    pub(super) stopping: bool,
    pub(super) registry: Registry,
    pub(super) timers: Timers<Timer>,
    pub(super) outbox: Outbox,
}

impl Ctx {
    /// As it is at a start from what is `durable`.
    pub(super) fn new(now: Time, time: WallTime, config: Config, durable: &Durable) -> Ctx {
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
    pub(super) fn to_plan_with(&self) -> Ctx {
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
    pub(super) fn lived(&self) -> Duration {
        let run = self.clock.now.since(self.clock.started_at);
        self.clock.lived_before.saturating_add(run)
    }

    /// The wall clock's time.
    pub(super) fn wall_now(&self) -> WallTime {
        self.clock.wall.at(self.clock.now)
    }
}
