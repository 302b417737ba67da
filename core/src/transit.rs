//! Transit: estimation of how long the messages of a session were in transit.
//!
//! The agent states the time of sending by its monotonic clock. The two clocks have no common origin, but the fastest
//! recent message bounds their offset to within its own transit time: additional time of a later message is delay,
//! caused by a transport that had to retransmit.

use std::time::Duration;

use crate::time::Time;

/// Window in which the fastest message is searched, together with the previous window. A jump caused by a stalled clock
/// is forgotten after both.
const SPAN: Duration = Duration::from_secs(20);

/// Assumed maximum clock drift since the fastest message: one second in this many seconds, far more than that of real
/// clocks.
const DRIFT: u32 = 8;

/// Transit state of one session.
#[derive(Clone, Debug, Default)]
pub struct Transit {
    began: Time,
    /// Fastest message of the current and of the previous window: its arrival, and the offset of its arrival from the
    /// sender's clock in nanoseconds.
    least: [Option<(Time, i128)>; 2],
}

impl Transit {
    /// Estimates when a message that arrives `now`, and was sent at `sent_millis` by its sender's clock, was sent by
    /// this clock; `now` if unknown or not stated (0). The estimate is never later than `now`, and rather too late than
    /// too early.
    pub fn sent_at(&mut self, now: Time, sent_millis: u64) -> Time {
        if sent_millis == 0 {
            return now;
        }
        let ahead = i128::from(now.0) - i128::from(sent_millis) * 1_000_000;
        match now.since(self.began) {
            span if span >= SPAN * 2 => (self.began, self.least) = (now, [None, None]),
            span if span >= SPAN => (self.began, self.least) = (now, [None, self.least[0]]),
            _ => {}
        }
        let least = self.least.into_iter().flatten();
        let transit = least.map(|(at, least)| ahead - least - i128::from((now.since(at) / DRIFT).as_nanos() as u64));
        let transit = transit.max().unwrap_or(0).clamp(0, i128::from(now.0));
        if self.least[0].is_none_or(|(_, least)| ahead <= least) {
            self.least[0] = Some((now, ahead));
        }
        now - Duration::from_nanos(transit as u64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(seconds: f64) -> Time {
        Time(0) + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn what_waited_on_its_way_is_told_from_what_did_not() {
        let mut transit = Transit::default();
        assert_eq!(transit.sent_at(seconds(100.0), 5_000), seconds(100.0));
        assert_eq!(transit.sent_at(seconds(102.0), 7_000), seconds(102.0));
        // Delayed for 4 s, minus the assumed clock drift.
        assert_eq!(transit.sent_at(seconds(106.0), 7_000), seconds(102.5));
        assert_eq!(transit.sent_at(seconds(106.0), 0), seconds(106.0));
    }

    proptest! {
        #[test]
        fn nothing_is_dated_before_it_was_sent(
            drift in -0.1f64..0.1,
            start in 0.0f64..1e6,
            messages in prop::collection::vec((0.0f64..5.0, prop_oneof![Just(0.0), 0.0f64..20.0]), 1..60),
        ) {
            let (mut transit, mut sent, mut arrived) = (Transit::default(), 0.0, 0.0f64);
            for (gap, delay) in messages {
                sent += gap;
                // Messages of a session do not overtake one another.
                arrived = arrived.max(sent + delay);
                let clock = ((start + sent * (1.0 + drift)) * 1e3) as u64;
                let at = transit.sent_at(seconds(arrived), clock);
                prop_assert!(at <= seconds(arrived));
                prop_assert!(at + Duration::from_millis(2) >= seconds(sent), "{at:?} before {sent}");
            }
        }
    }
}
