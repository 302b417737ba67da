//! Time as an input of the core.

use std::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// A point on a monotonic, replayable clock, in nanoseconds since an arbitrary start. All deadlines use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    /// The first moment after `now` that is a multiple of `interval` after this one. Periodic actions keep their phase
    /// this way, however late one of them ran; otherwise many that stalled together would continue in step.
    pub fn next_turn(self, interval: Duration, now: Time) -> Time {
        let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1);
        let missed = now.0.saturating_sub(self.0) / interval;
        Time(self.0.saturating_add(interval.saturating_mul(missed.saturating_add(1))))
    }

    /// Milliseconds since the clock's start, at least 1.
    pub fn millis(self) -> u64 {
        (self.0 / 1_000_000).max(1)
    }

    /// Time since `earlier`; zero if that is later.
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

/// A wall-clock time in milliseconds since 1970-01-01T00:00:00Z. Used for display and for measuring skew; no decision
/// depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WallTime(pub i64);

impl fmt::Display for WallTime {
    /// Formats as RFC 3339 in UTC, without fractions of a second: `2026-11-28T17:56:56Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.div_euclid(1_000);
        let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Conversion from days to a Gregorian date: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms",
        // civil_from_days.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

impl WallTime {
    /// Adds a duration, saturating.
    pub fn plus(self, span: Duration) -> WallTime {
        WallTime(
            self.0
                .saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// Remaining time from `now`; zero if it has passed.
    pub fn after(self, now: WallTime) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(now.0)).unwrap_or(0))
    }
}

/// Converts monotonic times to wall-clock times by the newest reading of the wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClock {
    read_at: Time,
    read: WallTime,
}

impl WallClock {
    /// Records a reading.
    pub fn set(&mut self, now: Time, wall: WallTime) {
        *self = WallClock {
            read_at: now,
            read: wall,
        };
    }

    /// Wall-clock time at `at`, derived from the newest reading.
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

#[cfg(test)]
mod tests {
    use super::WallTime;

    #[test]
    fn wall_times_are_written_as_dates() {
        for (millis, written) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_795_888_616_999, "2026-11-28T17:56:56Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(WallTime(millis).to_string(), written);
        }
        // No value is out of range.
        assert!(!WallTime(i64::MIN).to_string().is_empty() && !WallTime(i64::MAX).to_string().is_empty());
    }
}
