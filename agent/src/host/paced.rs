//! Values whose cost increases with the host.

use std::time::{Duration, Instant};

/// Interval to the next lookup, as a multiple of the cost of the last one: 0.05% of a core at most.
const COST_MULTIPLE: u32 = 2000;

/// Maximum interval between two lookups, whatever they cost.
const LONGEST: Duration = Duration::from_secs(60);

/// A value that is looked up only as often as a fixed share of a core permits: on a small host every time, on one with
/// tens of thousands of processes or mounts every few seconds.
#[derive(Debug)]
pub(super) struct Paced<T> {
    value: Option<T>,
    due: Option<Instant>,
}

impl<T> Paced<T> {
    pub(super) fn new() -> Paced<T> {
        Paced { value: None, due: None }
    }

    /// The value, from `look` if that is due at `now`. A failed lookup is retried at the next interval.
    pub(super) fn get(&mut self, now: Instant, look: impl FnOnce() -> Option<T>) -> Option<&T> {
        if self.due.is_none_or(|due| now >= due) {
            let started = Instant::now();
            self.value = look();
            let pause = started.elapsed().saturating_mul(COST_MULTIPLE).min(LONGEST);
            self.due = now.checked_add(pause);
        }
        self.value.as_ref()
    }
}
