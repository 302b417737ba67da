//! The clocks of processes.

use rand::RngExt;
use rand_pcg::Pcg64Mcg;
use wyneos_core::time::{Time, WallTime};

/// Wall-clock time at the start of a scenario: 2026-01-01T00:00:00Z.
const WALL_START: i64 = 1_767_225_600_000;

/// The clocks of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Local nanoseconds per simulated nanosecond.
    pub(crate) rate: f64,
    /// Offset of the wall clock, in milliseconds.
    pub(crate) jumped: i64,
}

impl Clock {
    /// Creates a clock whose rate deviates by a random fraction of at most `drift`.
    pub(crate) fn new(rng: &mut Pcg64Mcg, drift: f64) -> Clock {
        let rate = if drift > 0.0 {
            1.0 + rng.random_range(-drift..drift)
        } else {
            1.0
        };
        Clock { rate, jumped: 0 }
    }

    pub(crate) fn local(&self, now: Time) -> Time {
        Time((now.0 as f64 * self.rate) as u64)
    }

    /// The earliest moment at which the local clock reads `local` or later.
    pub(crate) fn moment(&self, local: Time) -> Time {
        let mut moment = Time((local.0 as f64 / self.rate) as u64);
        while self.local(moment) < local {
            moment.0 += 1;
        }
        moment
    }

    pub(crate) fn wall(&self, now: Time) -> WallTime {
        WallTime(WALL_START + (now.0 / 1_000_000) as i64 + self.jumped)
    }
}
