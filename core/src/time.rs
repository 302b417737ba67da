//! Time as the core sees it: an argument.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// A point on a monotonic, replayable clock; nanoseconds since an arbitrary start. Every deadline is measured on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    /// Time since `earlier`; zero when it is later.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, span: Duration) -> Time {
        Time(
            self.0
                .saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

impl Sub<Duration> for Time {
    type Output = Time;

    fn sub(self, span: Duration) -> Time {
        Time(
            self.0
                .saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

/// A wall-clock time, milliseconds since 1970-01-01T00:00:00Z. For display and for measuring skew; decides nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WallTime(pub i64);

impl WallTime {
    /// So much later.
    pub fn plus(self, span: Duration) -> WallTime {
        WallTime(
            self.0
                .saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// Time until then from `now`; zero when it is over.
    pub fn after(self, now: WallTime) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(now.0)).unwrap_or(0))
    }
}

/// Tells wall-clock times from monotonic ones by the newest reading of the wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClock {
    read_at: Time,
    read: WallTime,
}

impl WallClock {
    /// Notes a reading.
    pub fn set(&mut self, now: Time, wall: WallTime) {
        *self = WallClock {
            read_at: now,
            read: wall,
        };
    }

    /// The wall-clock time at `at`, as the newest reading has it.
    pub fn at(&self, at: Time) -> WallTime {
        let millis = |time: Time| i64::try_from(time.0 / 1_000_000).unwrap_or(i64::MAX);
        WallTime(
            self.read
                .0
                .saturating_add(millis(at))
                .saturating_sub(millis(self.read_at)),
        )
    }
}
