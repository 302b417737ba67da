//! Heartbeats: each has the host read first, and tells what was read and what else changed.

use super::{ctx::Ctx, io::Effect, probes::Probes, timer::Timer};
use crate::{
    mesh::REPORTS,
    protocol::{Heartbeat, Report},
    telemetry::{Channel, Reading, load},
    time::Time,
};

/// When the agent sends heartbeats, and what they say of the session.
#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    /// Token of the newest timer.
    timer: u64,
    measuring: bool,
    /// Number of the newest one of this session.
    sequence: u64,
    /// Epoch and cycle of the newest seal that came in this session.
    acknowledged: (u64, u64),
    /// The highest number of a ping that came in this session.
    pinged: u64,
}

impl Heartbeats {
    /// A session begins.
    pub(super) fn new_session(&mut self) {
        (self.sequence, self.acknowledged, self.pinged) = (0, (0, 0), 0);
    }

    /// True for the token of the newest timer.
    pub(super) fn is_newest(&self, token: u64) -> bool {
        self.timer == token
    }

    /// Has the next one come in time, after one whose turn was at `turn`.
    pub(super) fn set_next(&mut self, ctx: &mut Ctx, turn: Time) {
        self.timer += 1;
        let next = turn.next_turn(ctx.link.interval, ctx.now);
        ctx.timers.set(next, Timer::Heartbeat(self.timer));
    }

    /// Has the host read.
    pub(super) fn measure(&mut self, ctx: &mut Ctx) {
        if !std::mem::replace(&mut self.measuring, true) {
            ctx.effects.push_back(Effect::Measure);
        }
    }

    /// A seal came.
    pub(super) fn sealed(&mut self, epoch: u64, cycle: u64) {
        self.acknowledged = self.acknowledged.max((epoch, cycle));
    }

    /// A ping came.
    pub(super) fn pinged(&mut self, number: u64) {
        self.pinged = self.pinged.max(number);
    }

    /// The host was read: sends a heartbeat while a session stands, and returns its number.
    pub(super) fn measured(&mut self, ctx: &mut Ctx, probes: &mut Probes, reading: &Reading) -> Option<u64> {
        self.measuring = false;
        let conn = ctx.link.conn?;
        self.sequence += 1;
        let mut heartbeat = Heartbeat {
            sequence: self.sequence,
            wall: ctx.wall_time(),
            load: load(reading),
            values: Vec::with_capacity(Channel::COUNT),
            absent: Vec::new(),
            links: probes.changed(ctx.now, REPORTS),
            coordinate: probes.moved(),
            acknowledged: self.acknowledged,
            answers: Some(self.pinged),
            sent_millis: ctx.now.millis(),
        };
        for (position, value) in (0..).zip(reading) {
            heartbeat
                .values
                .push(value.filter(|value| value.is_finite()).unwrap_or(0.0));
            if value.is_none_or(|value| !value.is_finite()) {
                heartbeat.absent.push(position);
            }
        }
        ctx.send(conn, Report::Heartbeat(Box::new(heartbeat)));
        Some(self.sequence)
    }
}
