//! The agent's own health: repeated stalls of its process, and a disk that does not accept writes.
//!
//! Follows Lifeguard's local health multiplier (Dadgar, Phillips, Currey, 2018, section III): an observer that misses its own deadlines
//! is a poor judge of others.

use std::time::Duration;

use super::{
    ctx::Ctx,
    io::Effect,
    timer::{LATE, Timer},
};
use crate::{node::Health, time::Time};

/// Strain added by a late timer.
const STRAIN: u8 = 3;

/// Maximum strain; it decreases by one for each second without a late timer.
const STRAIN_MAX: u8 = 8;

/// Strain at which the agent becomes strained: one pause strains it for two seconds.
const STRAINED: u8 = 3;

/// Strain at which the agent recovers.
const EASED: u8 = 1;

/// Interval between disk checks.
const DISK_INTERVAL: Duration = Duration::from_secs(3);

/// Duration after which a write counts as stalled.
const DISK_PATIENCE: Duration = Duration::from_secs(2);

/// The agent's own health, and what it derives from.
#[derive(Debug, Default)]
pub(super) struct SelfHealth {
    strain: u8,
    /// Time up to which strain has been reduced.
    eased: Time,
    health: Health,
    /// Number of the pending write.
    writing: Option<u64>,
    writes: u64,
}

impl SelfHealth {
    /// Current health.
    pub(super) fn health(&self) -> Health {
        self.health
    }

    /// Returns whether the health differs from a new coordinator's assumption.
    pub(super) fn is_unwell(&self) -> bool {
        self.health != Health::default()
    }

    /// Accounts for a timer that was due at `due` and is handled now. Returns true when the health changes.
    #[must_use]
    pub(super) fn notice_lateness(&mut self, ctx: &Ctx, due: Option<Time>) -> bool {
        let late = due.map_or(Duration::ZERO, |due| ctx.now.since(due));
        let before = self.health;
        self.timer(ctx.now, late);
        self.health != before
    }

    /// Updates the strain by a timer's lateness.
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

    /// Starts a disk check unless one is pending.
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

    /// Handles the deadline of a write. Returns true when the health changes.
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

    /// Handles the result of a write. Returns true when the health changes.
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
