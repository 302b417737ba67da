//! Exponential back-off.

use std::time::Duration;

/// Maximum number of doublings. With more, a delay of one millisecond could grow beyond a minute, which no caller
/// needs; with fewer, delays of milliseconds could not reach a minute.
const DOUBLINGS: u32 = 16;

/// Delay after `failures` consecutive failures: `least`, doubled with each failure, at most `most`.
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
