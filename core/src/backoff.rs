//! Waits that grow with each failure.

use std::time::Duration;

/// Doublings at most. More: a wait of a millisecond may grow beyond a minute, which nothing wants; fewer: no wait of milliseconds grows to a minute.
const DOUBLINGS: u32 = 16;

/// `least` after no failure before, doubled with each, and never more than `most`.
pub(crate) fn doubled(least: Duration, failures: u32, most: Duration) -> Duration {
    most.min(least.saturating_mul(2u32.pow(failures.min(DOUBLINGS))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_doubles_up_to_its_bound() {
        let [least, most] = [Duration::from_millis(250), Duration::from_secs(15)];
        let waits = [0, 1, 5, 6, 7, u32::MAX].map(|failures| doubled(least, failures, most).as_millis());
        assert_eq!(waits, [250, 500, 8_000, 15_000, 15_000, 15_000]);
        assert_eq!(doubled(Duration::MAX, 3, most), most);
    }
}
