//! State shared by all parts of the agent: configuration, time, randomness, link to the coordinator, timers and pending effects.
//!
//! No decision is made here.

use std::{collections::VecDeque, time::Duration};

use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

use super::{
    config::Config,
    io::{Effect, Notice},
    timer::Timer,
};
use crate::{
    node::ConnId,
    protocol::FromAgent,
    time::{Time, WallClock, WallTime},
    timer::Timers,
};

/// The part of the session's state that all parts read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// Transport of the live session; written by `Session` only.
    pub(super) conn: Option<ConnId>,
    /// Heartbeat interval, as last set by the coordinator.
    pub(super) interval: Duration,
}

/// State shared by all parts.
#[derive(Debug)]
pub(super) struct Ctx {
    pub(super) config: Config,
    pub(super) now: Time,
    pub(super) wall: WallClock,
    pub(super) rng: Pcg64Mcg,
    pub(super) link: Link,
    pub(super) timers: Timers<Timer>,
    pub(super) effects: VecDeque<Effect>,
}

impl Ctx {
    pub(super) fn new(now: Time, time: WallTime, config: Config) -> Ctx {
        let mut wall = WallClock::default();
        wall.set(now, time);
        Ctx {
            now,
            wall,
            rng: Pcg64Mcg::seed_from_u64(config.seed),
            link: Link {
                conn: None,
                interval: Duration::from_secs(2),
            },
            timers: Timers::default(),
            effects: VecDeque::new(),
            config,
        }
    }

    /// Current wall-clock time.
    pub(super) fn wall_time(&self) -> WallTime {
        self.wall.at(self.now)
    }

    /// Queues a report for a transport.
    pub(super) fn send(&mut self, conn: ConnId, report: FromAgent) {
        self.effects.push_back(Effect::Send { conn, report });
    }

    /// Removes the next pending effect.
    pub(super) fn next_effect(&mut self) -> Option<Effect> {
        let effect = self.effects.pop_front();
        if effect.is_none() {
            // Restarts the buffer at the front, in memory that is still cached.
            self.effects.clear();
        }
        effect
    }

    /// Queues a notice for the operator.
    pub(super) fn tell(&mut self, notice: Notice) {
        self.effects.push_back(Effect::Tell(notice));
    }
}
