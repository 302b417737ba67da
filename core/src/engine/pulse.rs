//! The pulse: the schedule of cycles and the timing of recent ones.

use std::time::Duration;

use crate::{systems::coherence::Pace, time::Time};

/// The fixed grid on which cycles start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulse {
    next: Time,
    /// Whether a snapshot is being published; pulses are skipped meanwhile.
    pub(super) publishing: bool,
    pub(super) pace: Pace,
}

impl Pulse {
    /// Creates a schedule with its first cycle at `now`.
    pub(super) fn new(now: Time) -> Pulse {
        Pulse {
            next: now,
            publishing: false,
            pace: Pace::default(),
        }
    }

    /// Handles a due pulse and returns the time of the next one. Pulses stay on the grid, so lateness does not
    /// accumulate; missed pulses are skipped.
    pub(super) fn beat(&mut self, now: Time, interval: Duration) -> Time {
        self.pace.lateness = now.since(self.next);
        while self.next <= now {
            self.next = self.next + interval;
        }
        self.next
    }

    /// Marks the start of a snapshot's publication.
    pub(super) fn publishes(&mut self) {
        self.publishing = true;
        self.pace = Pace {
            subscribers: self.pace.subscribers,
            ..Pace::default()
        };
    }

    /// Marks the end of a snapshot's publication.
    pub(super) fn published(&mut self, subscribers: u32, lagging: u32) {
        self.publishing = false;
        (self.pace.subscribers, self.pace.lagging) = (subscribers, lagging);
    }
}
