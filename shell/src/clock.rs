//! Where the core's time comes from.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wyneos_core::time::{Time, WallTime};

/// The machine's clocks. Copies tell the same time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Default for Clock {
    fn default() -> Clock {
        // One second in, so that nothing that happens is at time zero.
        Clock {
            start: Instant::now() - Duration::from_secs(1),
        }
    }
}

impl Clock {
    /// The monotonic time.
    pub fn now(&self) -> Time {
        Time::default() + self.start.elapsed()
    }

    /// When it will be `time`.
    pub fn instant(&self, time: Time) -> Instant {
        self.start + time.since(Time::default())
    }

    /// The wall-clock time.
    pub fn wall(&self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}
