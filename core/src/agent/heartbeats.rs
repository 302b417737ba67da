//! Heartbeats: each reports a measurement of the host, changed links, and acknowledgements.

use super::{ctx::Ctx, io::Effect, probes::Probes, timer::Timer};
use crate::{
    id::{Cycle, Epoch},
    mesh::REPORTS,
    protocol::{FromAgent, Heartbeat},
    telemetry::{Channel, Reading, load},
    time::Time,
};

/// Schedule of heartbeats, and the state of the session that they report.
#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    /// Token of the newest timer.
    timer: u64,
    measuring: bool,
    /// Number of the newest heartbeat of this session.
    sequence: u64,
    /// Epoch and cycle of the newest seal received in this session.
    acknowledged: (Epoch, Cycle),
    /// Highest ping number received in this session.
    pinged: u64,
}

impl Heartbeats {
    /// Starts a session.
    pub(super) fn new_session(&mut self) {
        (self.sequence, self.acknowledged, self.pinged) = (0, Default::default(), 0);
    }

    /// Returns whether `token` belongs to the newest timer.
    pub(super) fn is_newest(&self, token: u64) -> bool {
        self.timer == token
    }

    /// Schedules the next heartbeat after the one that was due at `turn`.
    pub(super) fn set_next(&mut self, ctx: &mut Ctx, turn: Time) {
        self.timer += 1;
        let next = turn.next_turn(ctx.link.interval, ctx.now);
        ctx.timers.set(next, Timer::Heartbeat(self.timer));
    }

    /// Requests a measurement of the host unless one is pending.
    pub(super) fn measure(&mut self, ctx: &mut Ctx) {
        if !std::mem::replace(&mut self.measuring, true) {
            ctx.effects.push_back(Effect::Measure);
        }
    }

    /// Records a received seal.
    pub(super) fn sealed(&mut self, epoch: Epoch, cycle: Cycle) {
        self.acknowledged = self.acknowledged.max((epoch, cycle));
    }

    /// Records a received ping.
    pub(super) fn pinged(&mut self, number: u64) {
        self.pinged = self.pinged.max(number);
    }

    /// Sends a heartbeat with a measurement while a session is live; returns its number.
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
        ctx.send(conn, FromAgent::Heartbeat(heartbeat));
        Some(self.sequence)
    }
}
