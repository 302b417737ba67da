//! Transit: how long messages of a session were on their way.
//!
//! The agent says by its monotonic clock when it sent a message. Two clocks have no common start, but the message that took the least time of late
//! shows how far they are apart, to within that time: what a later one took longer, it waited on its way, in a transport that had to send again.

use std::time::Duration;

use crate::time::Time;

/// The message that took the least is looked for in this span and the one before it. What a clock that stood still adds is forgotten after both.
const SPAN: Duration = Duration::from_secs(20);

/// For each so many seconds since the message that took the least, clocks may have come apart by one second: far more than real ones do.
const DRIFT: u32 = 8;

/// Messages of one session, as far as their transit tells of the next one's.
#[derive(Clone, Debug, Default)]
pub struct Transit {
    began: Time,
    /// Of this span and the one before it: when the message came that took the least, and how much its time of arrival is ahead of its
    /// sender's clock, nanoseconds.
    least: [Option<(Time, i128)>; 2],
}

impl Transit {
    /// When a message that comes `now`, and was sent at `sent_millis` by its sender's clock, was sent by ours; `now` when that is not known,
    /// or not said (0). Never later than `now`, and rather too late than too early.
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
        // Stuck for 4 s, less what clocks may have come apart meanwhile.
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
