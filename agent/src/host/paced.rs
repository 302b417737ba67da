//! Values whose cost grows with the host.

use std::time::{Duration, Instant};

/// The interval to the next look, as a multiple of what the last one cost: 0.05% of a core at most.
const COST_MULTIPLE: u32 = 2000;

/// However dear it is, look again after this long.
const LONGEST: Duration = Duration::from_secs(60);

/// A value that is looked up again only as often as a fixed share of a core allows: on a small host that is every time,
/// on one with tens of thousands of processes or mounts every few seconds.
#[derive(Debug)]
pub(super) struct Paced<T> {
    value: Option<T>,
    due: Option<Instant>,
}

impl<T> Paced<T> {
    pub(super) fn new() -> Paced<T> {
        Paced { value: None, due: None }
    }

    /// The value, from `look` when that is due at `now`. What fails is tried again at the next interval.
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
