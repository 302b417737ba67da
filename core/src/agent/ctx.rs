//! What every part of the agent works with: its configuration, the time, randomness, the link to the coordinator, timers, and what is to be done.
//!
//! Nothing is decided here.

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
    protocol::Report,
    time::{Time, WallClock, WallTime},
    timer::Timers,
};

/// What all parts need of the session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// The transport of the session that stands; written by `Session` alone.
    pub(super) conn: Option<ConnId>,
    /// Time between two heartbeats, as the coordinator last said.
    pub(super) interval: Duration,
}

/// The state common to all parts.
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

    /// The wall clock's time now.
    pub(super) fn wall_time(&self) -> WallTime {
        self.wall.at(self.now)
    }

    /// Sends a report by a transport.
    pub(super) fn send(&mut self, conn: ConnId, report: Report) {
        self.effects.push_back(Effect::Send { conn, report });
    }

    /// The next thing to be done outside.
    pub(super) fn next_effect(&mut self) -> Option<Effect> {
        let effect = self.effects.pop_front();
        if effect.is_none() {
            // The next ones begin at the front again, in memory that is still in the caches.
            self.effects.clear();
        }
        effect
    }

    /// Tells the operator.
    pub(super) fn tell(&mut self, notice: Notice) {
        self.effects.push_back(Effect::Tell(notice));
    }
}
