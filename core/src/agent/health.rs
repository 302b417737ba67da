//! The agent's own health: an observer that stands still again and again says so, and so does one whose disk takes no writes.
//!
//! The idea is Lifeguard's local health multiplier (Dadgar, Phillips, Currey, 2018, section III): who misses its own deadlines
//! is no good judge of others.

use std::time::Duration;

use super::{Agent, Effect, Phase, Timer, probes::LATE};
use crate::{node::Health, time::Time};

/// Strain that a timer which is late adds.
const STRAIN: u8 = 3;

/// The most; a second without a late timer takes one away.
const STRAIN_MAX: u8 = 8;

/// From here on the agent is strained: one pause makes it so for two seconds.
const STRAINED: u8 = 3;

/// Down to here it remains so.
const EASED: u8 = 1;

/// Time between two looks at the disk.
const DISK_INTERVAL: Duration = Duration::from_secs(3);

/// A write that takes longer has stalled.
const DISK_PATIENCE: Duration = Duration::from_secs(2);

/// What the agent knows of itself.
#[derive(Debug, Default)]
pub(super) struct SelfHealth {
    strain: u8,
    /// Until when strain was taken away.
    eased: Time,
    pub(super) now: Health,
    /// Number of the write under way.
    writing: Option<u64>,
    writes: u64,
}

impl SelfHealth {
    /// A timer came so much late, or on time.
    fn timer(&mut self, now: Time, late: Duration) {
        let calm = now.since(self.eased).as_secs();
        if calm > 0 {
            let less = u8::try_from(calm).unwrap_or(u8::MAX);
            self.strain = self.strain.saturating_sub(less);
            self.eased = self.eased + Duration::from_secs(calm);
        }
        if late > LATE {
            self.strain = (self.strain + STRAIN).min(STRAIN_MAX);
            self.eased = now;
        }
        if self.strain >= STRAINED {
            self.now.strained = true;
        } else if self.strain <= EASED {
            self.now.strained = false;
        }
    }
}

impl Agent {
    /// A timer that was due at `due` is looked at now.
    pub(super) fn notice_lateness(&mut self, due: Option<Time>) {
        let late = due.map_or(Duration::ZERO, |due| self.ctx.now.since(due));
        self.update_health(|health, now| health.timer(now, late));
    }

    fn update_health(&mut self, change: impl FnOnce(&mut SelfHealth, Time)) {
        let before = self.health.now;
        change(&mut self.health, self.ctx.now);
        if self.health.now != before {
            self.tell_health();
        }
    }

    /// A new coordinator takes the agent for healthy unless it is told.
    pub(super) fn tell_if_unwell(&mut self) {
        if self.health.now != Health::default() {
            self.tell_health();
        }
    }

    /// Has something written, unless a write is under way.
    pub(super) fn check_disk(&mut self) {
        if matches!(self.phase, Phase::Stopped) {
            return;
        }
        self.ctx.timers.set(self.ctx.now + DISK_INTERVAL, Timer::Disk);
        if self.health.writing.is_none() {
            self.health.writes += 1;
            let number = self.health.writes;
            self.health.writing = Some(number);
            self.disk_due(number);
            self.ctx.effects.push_back(Effect::TouchDisk);
        }
    }

    fn disk_due(&mut self, number: u64) {
        self.ctx
            .timers
            .set(self.ctx.now + DISK_PATIENCE, Timer::DiskLate(number));
    }

    /// A write should be done by now.
    pub(super) fn disk_late(&mut self, number: u64, due: Time) {
        if self.health.writing != Some(number) {
            return;
        }
        if self.ctx.now.since(due) > LATE {
            self.disk_due(number);
            return;
        }
        self.update_health(|health, _| health.now.disk_stalled = true);
    }

    /// The write is done, or failed.
    pub(super) fn disk_touched(&mut self, done: bool) {
        self.update_health(|health, _| {
            health.writing = None;
            health.now.disk_stalled = !done;
        });
    }
}
