//! Rates from counters that only increase, until a device is replaced or a kernel wraps them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// Bytes since boot, by device: `[in, out]`, or `[read, written]`.
pub(super) type Counters = BTreeMap<String, [u64; 2]>;

/// The last counters of one kind of device.
#[derive(Debug, Default)]
pub(super) struct Rates {
    last: Option<(Instant, Counters)>,
}

impl Rates {
    /// Bytes per second since the last call; `None` at the first call, after a gap, and for a direction in which a
    /// counter decreased.
    pub(super) fn update(&mut self, now: Instant, counters: Option<Counters>) -> [Option<f64>; 2] {
        let Some(counters) = counters else {
            self.last = None;
            return [None; 2];
        };
        let rates = match &self.last {
            Some((then, before)) => {
                let elapsed = now.saturating_duration_since(*then);
                [0, 1].map(|direction| per_second(grown(before, &counters, direction)?, elapsed))
            }
            None => [None; 2],
        };
        self.last = Some((now, counters));
        rates
    }
}

/// Total growth of the devices that were present both times. Summing before subtracting would show a device that
/// appears with old counters as a burst, and hide the growth of the others after one disappears.
fn grown(before: &Counters, after: &Counters, direction: usize) -> Option<u64> {
    let mut sum: u64 = 0;
    for (device, values) in after {
        if let Some(old) = before.get(device) {
            sum = sum.saturating_add(values[direction].checked_sub(old[direction])?);
        }
    }
    Some(sum)
}

fn per_second(amount: u64, elapsed: Duration) -> Option<f64> {
    (!elapsed.is_zero()).then(|| amount as f64 / elapsed.as_secs_f64())
}
