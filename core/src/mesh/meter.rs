//! The meter of a link: an observer's measurements, from which it reports.

use std::time::Duration;

use super::link::{LinkFailure, LinkReport, LinkState};
use crate::time::Time;

/// Number of probes in the window for loss and percentiles.
pub const WINDOW: usize = 32;

/// Number of consecutive failed probes after which a link is `down`.
pub const DOWN_AFTER: u32 = 3;

/// See [`LinkState::Slow`].
pub const SLOW_TIMES: f32 = 4.0;

/// See [`LinkState::Slow`]; microseconds.
pub const SLOW_MICROS: f32 = 20_000.0;

/// An answer that took more than [`SLOW_TIMES`] times as long as usual, plus this, counts as lost: a packet was
/// retransmitted. The minimum retransmission timeout of TCP on Linux is 200 ms.
pub const RESENT_MICROS: f32 = 150_000.0;

/// Share of lost probes from which a link is lossy; the lower confidence bound has to reach it. A lower value reports
/// links with chance losses; a higher one delays the report of a link that loses a fifth of its packets.
pub const LOSSY_FROM: f32 = 0.15;

/// Standard deviations of the confidence bound: 0.5% of links that lose exactly [`LOSSY_FROM`] are taken to lose more.
const SURE: f32 = 2.576;

/// Minimum number of probes from which loss is judged.
const FEWEST: u32 = 4;

/// Number of probes without a loss, and minimum time without one, after which a link is no longer lossy.
const CALM: u32 = 5;

const CALM_FOR: Duration = Duration::from_secs(5);

/// Minimum duration of consecutive losses that count as an outage. An outage does not count as loss, unless the link
/// had another one within [`OUTAGE_AGAIN`] or lets some datagrams through.
const OUTAGE: Duration = Duration::from_millis(3_500);

const OUTAGE_AGAIN: Duration = Duration::from_secs(60);

/// Minimum number of lost probes that are not attributed to chance.
const FEW: u32 = 2;

/// Datagrams that arrive this long before the first answer belong to the end of an outage.
const RETURNING: Duration = Duration::from_secs(2);

/// Time for which missing datagrams indicate loss.
const GAPPED: Duration = Duration::from_secs(30);

/// Time since the last answer after which a datagram shows that the link passes some packets although probes fail.
const AMID: Duration = Duration::from_millis(1_500);

/// Number of newest answers whose minimum is the current latency of the link.
const NEWEST: usize = 5;

/// Maximum ratio between the newest answers for a link to count as slow.
const EVEN: f32 = 2.0;

/// Number of answers after which the usual latency is known, and after which it adapts slowly.
const USUAL_AFTER: usize = 8;

const SETTLED_AFTER: usize = 64;

/// An observer's measurements of one link.
#[derive(Clone, Debug, Default)]
pub struct LinkMeter {
    /// One bit per probe, the newest in the lowest position; 1 for an answer.
    answered: u32,
    probes: u32,
    failed_in_a_row: u32,
    smoothed: Option<f32>,
    /// Usual round-trip time as a slow mean, microseconds; it hardly adapts while the link is slow.
    usual: f32,
    /// Whether all answers take longer than usual.
    is_slow: bool,
    rtts: [u32; WINDOW],
    answers: usize,
    last_success: Option<Time>,
    /// Result of the newest probe, if it failed.
    failure: Option<LinkFailure>,
    /// Time at which a probe, or a datagram from the other side, was last lost.
    last_loss: Option<Time>,
    /// Time at which the newest outage ended, and whether its probes were excluded from the loss.
    last_outage: Option<(Time, bool)>,
    /// Time of the first datagram after the last answer: a link that passes some packets has no outage.
    amid: Option<Time>,
    /// Times of the newest two gaps in the datagrams. A single gap may be an outage, or the start of higher latency.
    gapped: [Option<Time>; 2],
    /// Time of the last datagram over a link that passes some datagrams but no answers.
    partial: Option<Time>,
    /// Number of consecutive answers that appear to be retransmitted, with none lost between them.
    late_in_a_row: u32,
    reported: Option<LinkReport>,
}

/// Returns the lowest share of losses that is likely, given that `lost` of `of` probes were lost: the lower bound of
/// Wilson's score interval (E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
/// 1927).
fn at_least(lost: u32, of: u32) -> f32 {
    let (of, square) = (of as f32, SURE * SURE);
    let share = lost as f32 / of;
    let spread = SURE * (share * (1.0 - share) / of + square / (4.0 * of * of)).sqrt();
    (share + square / (2.0 * of) - spread) / (1.0 + square / of)
}

impl LinkMeter {
    /// Records that a probe was answered after `rtt`.
    pub fn answer(&mut self, now: Time, rtt: Duration) {
        let micros = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX).max(1);
        let is_over = self.end_outage(now) || self.is_of_outage(now - rtt);
        (self.failed_in_a_row, self.failure) = (0, None);
        // RFC 6298, section 2: SRTT with gain 1/8.
        let smoothed = self
            .smoothed
            .map_or(micros as f32, |old| old + (micros as f32 - old) / 8.0);
        self.smoothed = Some(smoothed);
        self.rtts[self.answers % WINDOW] = micros;
        self.answers += 1;
        self.last_success = Some(now);
        self.look_if_slow(now);
        let is_resent = self.is_resent(micros);
        self.late_in_a_row = if is_resent { self.late_in_a_row + 1 } else { 0 };
        self.push(now, !is_resent || is_over);
        if self.is_slow {
            // Answers that appeared to be retransmitted were slow from the start.
            self.answered |= (1 << NEWEST) - 1;
        }
        let gain = match self.answers {
            few if few <= USUAL_AFTER => 1.0 / few as f32,
            _ if self.is_slow || is_resent => 1.0 / 1024.0,
            few if few <= SETTLED_AFTER => 1.0 / 16.0,
            _ => 1.0 / 64.0,
        };
        self.usual += (micros as f32 - self.usual) * gain;
    }

    /// Excludes the probes of an outage from the loss. Returns whether an outage ended.
    fn end_outage(&mut self, now: Time) -> bool {
        let amid = self.amid.take();
        let is_out = amid.is_none_or(|first| self.gapped[0] < Some(first) || now.since(first) < RETURNING);
        let is_long = self.last_success.is_some_and(|last| now.since(last) >= OUTAGE);
        if !is_out || !is_long || self.failed_in_a_row == 0 {
            return false;
        }
        let again = self.last_outage.is_some_and(|(last, _)| now.since(last) < OUTAGE_AGAIN);
        let lost = self.failed_in_a_row.min(self.probes);
        // If probes were lost before, these losses are part of the same condition.
        let is_clean = self.lost_of(self.probes).saturating_sub(lost) < FEW;
        let is_taken_off = is_clean && !again;
        self.last_outage = Some((now, is_taken_off));
        if is_taken_off {
            self.answered = self.answered.checked_shr(lost).unwrap_or_default();
            self.probes -= lost;
            self.last_loss = None;
        }
        is_taken_off
    }

    /// Returns whether a probe was sent before the end of the newest outage; its result does not describe the link as
    /// it is now.
    fn is_of_outage(&self, sent: Time) -> bool {
        self.last_outage
            .is_some_and(|(over, is_taken_off)| is_taken_off && sent < over)
    }

    /// Records an unsolicited datagram from the other side; `after_gap` if earlier ones are missing.
    pub fn datagram(&mut self, now: Time, after_gap: bool) {
        if after_gap {
            self.last_loss = Some(now);
            self.gapped = [Some(now), self.gapped[0]];
        }
        if self.last_success.is_some_and(|last| now.since(last) >= AMID) {
            let first = *self.amid.get_or_insert(now);
            if self.has_gaps(now) && self.gapped[1] >= Some(first) && now.since(first) >= RETURNING {
                self.partial = Some(now);
            }
        }
    }

    /// Returns whether datagrams were missing more than once recently.
    fn has_gaps(&self, now: Time) -> bool {
        self.gapped[1].is_some_and(|before| now.since(before) < GAPPED)
    }

    /// Returns the minimum of the newest answers, microseconds.
    fn shortest(&self) -> f32 {
        let count = self.answers.min(NEWEST);
        let newest = (1..=count).map(|back| self.rtts[(self.answers - back) % WINDOW]);
        newest.min().unwrap_or_default() as f32
    }

    /// Returns how many of the last `few` probes were lost or had to be sent again.
    fn lost_of(&self, few: u32) -> u32 {
        let few = self.probes.min(few);
        let mask = 1_u32.checked_shl(few).map_or(u32::MAX, |end| end - 1);
        few - (self.answered & mask).count_ones()
    }

    fn is_usual(&self) -> bool {
        self.answers > USUAL_AFTER
    }

    /// Determines whether all answers are slow, not only retransmitted ones. With missing datagrams, answers are late
    /// because packets are lost; and the delays of retransmissions vary.
    fn look_if_slow(&mut self, now: Time) {
        let is_late = self.is_usual() && self.shortest() > self.usual * SLOW_TIMES + SLOW_MICROS;
        self.is_slow = is_late && !self.has_gaps(now) && (self.is_slow || self.are_even(NEWEST));
    }

    /// Returns whether the newest `few` answers took about equally long.
    fn are_even(&self, few: usize) -> bool {
        let newest = || (1..=few.min(self.answers)).map(|back| self.rtts[(self.answers - back) % WINDOW]);
        let (shortest, longest) = (newest().min().unwrap_or_default(), newest().max().unwrap_or_default());
        longest as f32 <= EVEN * shortest as f32
    }

    /// Returns the number of newest probes that may be either retransmitted or the start of higher latency: fewer than
    /// [`NEWEST`], all of them late and about equally long.
    fn in_doubt(&self) -> u32 {
        let late = self.late_in_a_row;
        // If probes were lost before, these are part of the same condition.
        let before = self.lost_of(self.probes).saturating_sub(late);
        let is_doubtful = (late as usize) < NEWEST && before < FEW && self.are_even(late as usize);
        if is_doubtful { late } else { 0 }
    }

    /// Returns whether an answer took so long that it, or its probe, was retransmitted.
    fn is_resent(&self, micros: u32) -> bool {
        self.is_usual() && !self.is_slow && micros as f32 > self.usual * SLOW_TIMES + RESENT_MICROS
    }

    /// Returns the upper estimate of the recent round-trip time, microseconds: the smoothed one, or half of the newest.
    pub fn recent_micros(&self) -> u32 {
        let newest = self.answers.checked_sub(1).map_or(0, |last| self.rtts[last % WINDOW]);
        self.smoothed_micros().max(newest / 2)
    }

    /// Smoothed round-trip time, microseconds; 0 before the first answer.
    pub fn smoothed_micros(&self) -> u32 {
        self.smoothed.unwrap_or(0.0) as u32
    }

    /// Records that a probe sent at `sent` failed or was not answered in time.
    pub fn miss(&mut self, now: Time, sent: Time) {
        if self.is_of_outage(sent) {
            return;
        }
        self.push(now, false);
        self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
        self.late_in_a_row = 0;
    }

    /// Records the result of the newest probe, which failed.
    pub fn failed(&mut self, failure: LinkFailure) {
        self.failure = Some(failure);
    }

    fn push(&mut self, now: Time, answered: bool) {
        if !answered {
            self.last_loss = Some(now);
        }
        self.answered = self.answered << 1 | u32::from(answered);
        self.probes = (self.probes + 1).min(WINDOW as u32);
    }

    /// Returns the report at `now`.
    pub fn report(&self, now: Time) -> LinkReport {
        let (state, loss) = self.state(now);
        LinkReport {
            state,
            rtt_micros: self.smoothed_micros(),
            rtt_p95_micros: self.p95(),
            loss,
            last_success_age_millis: self.last_success_age_millis(now),
            failure: self.failure,
        }
    }

    /// Milliseconds since the last answer; `None` if there was none.
    pub fn last_success_age_millis(&self, now: Time) -> Option<u64> {
        self.last_success.map(|at| now.since(at).as_millis() as u64)
    }

    /// Returns the state of the link, and the share of lost probes in the window.
    fn state(&self, now: Time) -> (LinkState, f32) {
        let mask = if self.probes == WINDOW as u32 {
            u32::MAX
        } else {
            (1 << self.probes) - 1
        };
        let answered = (self.answered & mask).count_ones();
        let loss = if self.probes == 0 {
            0.0
        } else {
            1.0 - answered as f32 / self.probes as f32
        };
        let state = match (self.probes, self.failed_in_a_row) {
            (0, _) => LinkState::Unknown,
            _ if self.partial.is_some_and(|at| now.since(at) < CALM_FOR) => LinkState::Lossy,
            (_, failed) if failed >= DOWN_AFTER => LinkState::Down,
            _ if !self.is_calm(now) && self.is_lossy() => LinkState::Lossy,
            _ if self.answers == 0 => LinkState::Unknown,
            _ if self.is_slow => LinkState::Slow,
            _ => LinkState::Up,
        };
        (state, loss)
    }

    /// Returns whether nothing was lost recently.
    fn is_calm(&self, now: Time) -> bool {
        let lately = self.last_loss.is_some_and(|at| now.since(at) < CALM_FOR);
        !lately && self.lost_of(CALM) == 0
    }

    /// Returns whether some number of the newest probes shows with statistical significance that the link loses
    /// [`LOSSY_FROM`] of them or more.
    fn is_lossy(&self) -> bool {
        let in_doubt = self.in_doubt();
        (FEWEST..=self.probes.saturating_sub(in_doubt)).any(|few| {
            let lost = self.lost_of(few + in_doubt).saturating_sub(in_doubt);
            lost > 1 && at_least(lost, few) >= LOSSY_FROM
        })
    }

    fn p95(&self) -> u32 {
        let count = self.answers.min(WINDOW);
        if count == 0 {
            return 0;
        }
        let mut rtts = self.rtts;
        let rtts = &mut rtts[..count];
        rtts.sort_unstable();
        rtts[(count * 95).div_ceil(100) - 1]
    }

    /// Returns a report if it differs sufficiently from the last one; the caller sends it.
    pub fn changed(&mut self, now: Time) -> Option<LinkReport> {
        let (state, loss) = self.state(now);
        let worth_it = match &self.reported {
            None => state != LinkState::Unknown,
            Some(old) => {
                let moved = old.rtt_micros.abs_diff(self.smoothed_micros());
                old.state != state || (old.loss - loss).abs() >= 0.03 || (moved > 100 && moved > old.rtt_micros / 4)
            }
        };
        if worth_it {
            self.reported = Some(self.report(now));
        }
        self.reported.filter(|_| worth_it)
    }

    /// Forgets the last report, so that the state is reported again in a new session.
    pub fn forget_reports(&mut self) {
        self.reported = None;
    }
}
