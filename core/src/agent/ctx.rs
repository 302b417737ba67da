//! What every part of the agent works with: its configuration, the time, randomness, the live session, timers, and what is to be done.
//!
//! Nothing is decided here.

use std::collections::VecDeque;

use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

use super::{
    config::Config,
    io::{Effect, Notice, Report},
    timer::Timer,
};
use crate::{
    node::ConnId,
    time::{Time, WallClock, WallTime},
    timer::Timers,
};

/// The state common to all parts.
#[derive(Debug)]
pub(super) struct Ctx {
    pub(super) config: Config,
    pub(super) now: Time,
    pub(super) wall: WallClock,
    pub(super) rng: Pcg64Mcg,
    /// The transport of the session that stands; written by `Session` alone.
    pub(super) live: Option<ConnId>,
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
            live: None,
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

    /// Tells the operator.
    pub(super) fn tell(&mut self, notice: Notice) {
        self.effects.push_back(Effect::Tell(notice));
    }
}
