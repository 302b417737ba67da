//! The agent's own health: an observer that stands still again and again says so, and so does one whose disk takes no writes.
//!
//! The idea is Lifeguard's local health multiplier (Dadgar, Phillips, Currey, 2018, section III): who misses its own deadlines
//! is no good judge of others.

use std::time::Duration;

use super::{
    ctx::Ctx,
    io::Effect,
    timer::{LATE, Timer},
};
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
    health: Health,
    /// Number of the write under way.
    writing: Option<u64>,
    writes: u64,
}

impl SelfHealth {
    /// How the agent is now.
    pub(super) fn health(&self) -> Health {
        self.health
    }

    /// True unless the agent is as a new coordinator takes it to be.
    pub(super) fn is_unwell(&self) -> bool {
        self.health != Health::default()
    }

    /// A timer that was due at `due` is looked at now. True when that changes how the agent is.
    #[must_use]
    pub(super) fn notice_lateness(&mut self, ctx: &Ctx, due: Option<Time>) -> bool {
        let late = due.map_or(Duration::ZERO, |due| ctx.now.since(due));
        let before = self.health;
        self.timer(ctx.now, late);
        self.health != before
    }

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
            self.health.strained = true;
        } else if self.strain <= EASED {
            self.health.strained = false;
        }
    }

    /// Has something written, unless a write is under way.
    pub(super) fn check_disk(&mut self, ctx: &mut Ctx) {
        ctx.timers.set(ctx.now + DISK_INTERVAL, Timer::Disk);
        if self.writing.is_none() {
            self.writes += 1;
            let number = self.writes;
            self.writing = Some(number);
            disk_due(ctx, number);
            ctx.effects.push_back(Effect::TouchDisk);
        }
    }

    /// A write should be done by now. True when that changes how the agent is.
    #[must_use]
    pub(super) fn disk_late(&mut self, ctx: &mut Ctx, number: u64, due: Time) -> bool {
        if self.writing != Some(number) {
            return false;
        }
        if ctx.now.since(due) > LATE {
            disk_due(ctx, number);
            return false;
        }
        self.set_stalled(true)
    }

    /// The write is done, or failed. True when that changes how the agent is.
    #[must_use]
    pub(super) fn disk_touched(&mut self, done: bool) -> bool {
        self.writing = None;
        self.set_stalled(!done)
    }

    fn set_stalled(&mut self, stalled: bool) -> bool {
        std::mem::replace(&mut self.health.disk_stalled, stalled) != stalled
    }
}

fn disk_due(ctx: &mut Ctx, number: u64) {
    ctx.timers.set(ctx.now + DISK_PATIENCE, Timer::DiskLate(number));
}
