//! The pulse: when cycles begin, and how the last ones went.

use std::time::Duration;

use crate::{systems::coherence::Pace, time::Time};

/// The grid that cycles begin on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulse {
    next: Time,
    /// A snapshot is being published: a pulse meanwhile is skipped.
    pub(super) publishing: bool,
    pub(super) pace: Pace,
}

impl Pulse {
    /// The first cycle begins at `now`.
    pub(super) fn new(now: Time) -> Pulse {
        Pulse {
            next: now,
            publishing: false,
            pace: Pace::default(),
        }
    }

    /// A pulse is due; when the next one is. On the grid, so that lateness does not add up; what was missed is not made up for.
    pub(super) fn beat(&mut self, now: Time, interval: Duration) -> Time {
        self.pace.lateness = now.since(self.next);
        while self.next <= now {
            self.next = self.next + interval;
        }
        self.next
    }

    /// A snapshot is on its way to subscribers.
    pub(super) fn publishes(&mut self) {
        self.publishing = true;
        self.pace = Pace {
            subscribers: self.pace.subscribers,
            ..Pace::default()
        };
    }

    /// The snapshot was published.
    pub(super) fn published(&mut self, subscribers: u32, lagging: u32) {
        self.publishing = false;
        (self.pace.subscribers, self.pace.lagging) = (subscribers, lagging);
    }
}
