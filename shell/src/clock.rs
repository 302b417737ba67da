//! The core's clock, and the plausibility of the wall clock.

use std::{
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use wyneos_core::time::{Time, WallTime};

/// The clocks of the machine. Copies return the same time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Default for Clock {
    fn default() -> Clock {
        // Starts at one second, so that no event occurs at time zero.
        Clock {
            start: Instant::now() - Duration::from_secs(1),
        }
    }
}

impl Clock {
    /// Returns the monotonic time.
    pub fn now(&self) -> Time {
        Time::default() + self.start.elapsed()
    }

    /// Returns the instant at which the monotonic time is `time`.
    pub fn instant(&self, time: Time) -> Instant {
        self.start + time.since(Time::default())
    }

    /// Returns the wall-clock time.
    pub fn wall(&self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Seconds from 1970 to a day before this release; updated with each release.
const RELEASED: i64 = 1_767_225_600;

/// Earliest plausible wall-clock time: before it this program did not exist. It is the later of `SOURCE_DATE_EPOCH` at
/// build time, which makes the build reproducible, and the date of the release.
pub const BUILT: WallTime = WallTime(1_000 * built());

const fn built() -> i64 {
    let given = match option_env!("SOURCE_DATE_EPOCH") {
        Some(text) => seconds(text.as_bytes()),
        None => 0,
    };
    if given > RELEASED { given } else { RELEASED }
}

/// Parses a decimal number; returns 0 if the text is not a number or longer than twelve digits.
const fn seconds(text: &[u8]) -> i64 {
    if text.is_empty() || text.len() > 12 {
        return 0;
    }
    let (mut number, mut at) = (0, 0);
    while at < text.len() {
        if !text[at].is_ascii_digit() {
            return 0;
        }
        number = number * 10 + (text[at] - b'0') as i64;
        at += 1;
    }
    number
}

/// Returns whether a wall-clock time is plausible.
pub fn is_plausible(wall: WallTime) -> bool {
    wall >= BUILT
}

/// Formats a wall-clock time in RFC 3339, in UTC.
pub fn shown(wall: WallTime) -> String {
    wyneos::convert::timestamp(wall).to_string()
}

/// The wall clock is behind a time that has certainly passed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this host's clock says {}, which is before {what} ({}): set it, or let time synchronisation do so", shown(*.now), shown(*.least))]
pub struct Behind {
    /// The clock's time.
    pub now: WallTime,
    /// The time that must have passed.
    pub least: WallTime,
    /// The event that occurred at that time.
    pub what: &'static str,
}

/// Intervals at which a clock that is behind is polled, and reported.
const LOOK: Duration = Duration::from_millis(100);
const TOLD: Duration = Duration::from_secs(10);

/// Waits, for at most `bound`, until the wall clock has passed `least`, the time of the event `what`. Blocks the
/// thread.
///
/// # Errors
/// The wall clock is still behind after `bound`.
pub fn wait_until_past(least: WallTime, what: &'static str, bound: Duration) -> Result<(), Behind> {
    let (clock, began) = (Clock::default(), Instant::now());
    let mut told: Option<Instant> = None;
    loop {
        let now = clock.wall();
        if now >= least {
            return Ok(());
        }
        let behind = Behind { now, least, what };
        if began.elapsed() >= bound {
            return Err(behind);
        }
        if told.is_none_or(|told| told.elapsed() >= TOLD) {
            told = Some(Instant::now());
            tracing::warn!(waiting = ?bound.saturating_sub(began.elapsed()), "waiting for the clock: {behind}");
        }
        thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_of_1970_is_waited_for_and_told() {
        assert!(is_plausible(Clock::default().wall()) && !is_plausible(WallTime(0)));
        wait_until_past(BUILT, "this program was built", Duration::ZERO).unwrap();
        let far = WallTime(i64::MAX / 2);
        let behind = wait_until_past(far, "the end of time", Duration::from_millis(150)).unwrap_err();
        assert_eq!(behind.least, far);
        let early = Behind {
            now: WallTime(0),
            least: BUILT,
            what: "this program was built",
        };
        assert!(early.to_string().contains("1970-01-01T00:00:00Z"), "{early}");
    }

    #[test]
    fn the_builds_date_is_read_from_a_number_alone() {
        assert_eq!(seconds(b"1800000000"), 1_800_000_000);
        for none in ["", "12a", "-5", "9999999999999"] {
            assert_eq!(seconds(none.as_bytes()), 0, "{none}");
        }
    }
}
