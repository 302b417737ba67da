//! Links: what an observer says of a subject.

use std::time::Duration;

use crate::time::{Time, WallTime};

/// The condition of a link, seen from its observer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    /// Not probed yet.
    #[default]
    Unknown,
    /// The newest probes were answered.
    Up,
    /// At least [`LOSSY_FROM`] of all probes are lost or have to be sent again, as the newest ones show beyond doubt.
    Lossy,
    /// The newest [`DOWN_AFTER`] or more failed.
    Down,
    /// Answers take more than [`SLOW_TIMES`] as long as they used to, and [`SLOW_MICROS`] on top.
    Slow,
}

/// Probes that loss and percentiles are taken over.
pub const WINDOW: usize = 32;

/// Failed probes in a row that make a link `down`.
pub const DOWN_AFTER: u32 = 3;

/// See [`LinkState::Slow`].
pub const SLOW_TIMES: f32 = 4.0;

/// See [`LinkState::Slow`]; microseconds.
pub const SLOW_MICROS: f32 = 20_000.0;

/// An answer that took more than [`SLOW_TIMES`] as long as usual and this on top counts as lost: something was sent again. The
/// shortest wait of TCP before it does is 200 ms on Linux.
pub const RESENT_MICROS: f32 = 150_000.0;

/// A link is lossy when it loses such a share of its probes, at the least that is likely. Lower: links are named whose losses are chance; higher: a
/// link that loses a fifth of its packets is named late.
pub const LOSSY_FROM: f32 = 0.15;

/// Standard deviations that make sure of it: 0.5% of links that lose exactly [`LOSSY_FROM`] are taken to lose more.
const SURE: f32 = 2.576;

/// Fewer of the newest probes say nothing of loss.
const FEWEST: u32 = 4;

/// Without a loss among so many probes, nor in so long, a link is no longer lossy.
const CALM: u32 = 5;
const CALM_FOR: Duration = Duration::from_secs(5);

/// Probes that are lost together for so long are an outage, and say nothing of loss before and after, unless the link had another one within
/// [`OUTAGE_AGAIN`], or lets datagrams through here and there.
const OUTAGE: Duration = Duration::from_millis(3_500);
const OUTAGE_AGAIN: Duration = Duration::from_secs(60);

/// Fewer lost probes than this may have been chance.
const FEW: u32 = 2;

/// Datagrams that come this long before the first answer belong to the end of an outage.
const RETURNING: Duration = Duration::from_secs(2);

/// Datagrams that were missing tell of loss for this long.
const GAPPED: Duration = Duration::from_secs(30);

/// A datagram this long after the last answer came where the answers did not.
const AMID: Duration = Duration::from_millis(1_500);

/// The newest answers whose shortest is what a link takes now.
const NEWEST: usize = 5;

/// Answers of a link that became slow take at most this many times as long as one another.
const EVEN: f32 = 2.0;

/// Answers before anything is usual; and after which what is usual changes slowly.
const USUAL_AFTER: usize = 8;
const SETTLED_AFTER: usize = 64;

/// Links that one heartbeat reports at most.
pub const REPORTS: usize = 64;

/// What came of a probe that was not answered, by whoever sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkFailure {
    /// Nothing came in time.
    Late,
    /// The host answered that nobody listens there.
    Refused,
    /// Something on the way answered that there is no way there.
    Unreachable,
    /// Who answered is not the node, or does not take this one for a member: its certificate, or its answer, is another one.
    Mistaken,
    /// Anything else.
    Other,
}

/// What an observer reports of one link.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LinkReport {
    /// The condition.
    pub state: LinkState,
    /// Smoothed round-trip time, microseconds; 0 before the first answer.
    pub rtt_micros: u32,
    /// 95th percentile over the window, microseconds.
    pub rtt_p95_micros: u32,
    /// Share of the window without an answer, 0 to 1.
    pub loss: f32,
    /// Milliseconds since the last answer; `None` when there was none.
    pub last_success_age_millis: Option<u64>,
    /// What came of the newest probe that ended without an answer, since the last that had one.
    pub failure: Option<LinkFailure>,
}

/// A link as the coordinator keeps it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// The condition.
    pub state: LinkState,
    /// Smoothed round-trip time, microseconds.
    pub rtt_micros: u32,
    /// 95th percentile, microseconds.
    pub rtt_p95_micros: u32,
    /// Loss in hundredths.
    pub loss_percent: u32,
    /// When the last answer came; `None` while the link is up, and when there was none.
    pub last_success: Option<WallTime>,
    /// What came of the newest probe; `None` while the link is up.
    pub failure: Option<LinkFailure>,
}

impl Link {
    /// What a report that was received at `wall` says.
    pub fn new(report: &LinkReport, wall: WallTime) -> Link {
        let ago = |millis: u64| WallTime(wall.0.saturating_sub(i64::try_from(millis).unwrap_or(i64::MAX)));
        Link {
            state: report.state,
            rtt_micros: report.rtt_micros,
            rtt_p95_micros: report.rtt_p95_micros,
            loss_percent: (report.loss.clamp(0.0, 1.0) * 100.0).round() as u32,
            last_success: match report.state {
                LinkState::Up => None,
                _ => report.last_success_age_millis.map(ago),
            },
            failure: report.failure.filter(|_| report.state != LinkState::Up),
        }
    }

    /// True when probes get through.
    pub fn is_live(&self) -> bool {
        matches!(self.state, LinkState::Up | LinkState::Lossy | LinkState::Slow)
    }
}

/// An observer's own measurements of one link.
#[derive(Clone, Debug, Default)]
pub struct LinkMeter {
    /// One bit a probe, the newest lowest; 1 for an answer.
    answered: u32,
    probes: u32,
    failed_in_a_row: u32,
    smoothed: Option<f32>,
    /// The mean of what the link usually takes, microseconds; follows slowly, and hardly while it is slow.
    usual: f32,
    /// All answers take longer than usual.
    is_slow: bool,
    rtts: [u32; WINDOW],
    answers: usize,
    last_success: Option<Time>,
    /// What came of the newest probe, if that was no answer.
    failure: Option<LinkFailure>,
    /// When a probe, or a datagram of the other side, was lost last.
    last_loss: Option<Time>,
    /// When the newest outage was over, and whether its probes were taken off.
    last_outage: Option<(Time, bool)>,
    /// When the first datagram came after the last answer: a link that lets some through is not out.
    amid: Option<Time>,
    /// When datagrams were missing, the newest time and the one before. One gap may be an outage, or what follows takes longer.
    gapped: [Option<Time>; 2],
    /// When a datagram came last over a link that lets some through, and no answers.
    partial: Option<Time>,
    /// Answers in a row that looked as if they had been sent again, with none lost between them.
    late_in_a_row: u32,
    reported: Option<LinkReport>,
}

/// The lowest share that is likely where so many of so many were lost: the lower bound of Wilson's score interval (E. B. Wilson, "Probable
/// inference, the law of succession, and statistical inference", 1927).
fn at_least(lost: u32, of: u32) -> f32 {
    let (of, square) = (of as f32, SURE * SURE);
    let share = lost as f32 / of;
    let spread = SURE * (share * (1.0 - share) / of + square / (4.0 * of * of)).sqrt();
    (share + square / (2.0 * of) - spread) / (1.0 + square / of)
}

impl LinkMeter {
    /// A probe was answered after `rtt`.
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
            // What looked as if it had been sent again was slow from the first.
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

    /// Takes probes that an outage lost off those that tell of loss. True when an outage is over.
    fn end_outage(&mut self, now: Time) -> bool {
        let amid = self.amid.take();
        let is_out = amid.is_none_or(|first| self.gapped[0] < Some(first) || now.since(first) < RETURNING);
        let is_long = self.last_success.is_some_and(|last| now.since(last) >= OUTAGE);
        if !is_out || !is_long || self.failed_in_a_row == 0 {
            return false;
        }
        let again = self.last_outage.is_some_and(|(last, _)| now.since(last) < OUTAGE_AGAIN);
        let lost = self.failed_in_a_row.min(self.probes);
        // Where probes were lost before, those that were lost now are more of the same.
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

    /// True for a probe that left before the newest outage was over: what became of it says nothing of the link as it is now.
    fn is_of_outage(&self, sent: Time) -> bool {
        self.last_outage
            .is_some_and(|(over, is_taken_off)| is_taken_off && sent < over)
    }

    /// A datagram came that the other side sent unasked; `after_gap` when others should have come before it.
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

    /// True when datagrams were missing more than once of late.
    fn has_gaps(&self, now: Time) -> bool {
        self.gapped[1].is_some_and(|before| now.since(before) < GAPPED)
    }

    /// The shortest of the newest answers, microseconds.
    fn shortest(&self) -> f32 {
        let count = self.answers.min(NEWEST);
        let newest = (1..=count).map(|back| self.rtts[(self.answers - back) % WINDOW]);
        newest.min().unwrap_or_default() as f32
    }

    /// Of the last `few` probes, those that were lost or had to be sent again.
    fn lost_of(&self, few: u32) -> u32 {
        let few = self.probes.min(few);
        let mask = 1_u32.checked_shl(few).map_or(u32::MAX, |end| end - 1);
        few - (self.answered & mask).count_ones()
    }

    fn is_usual(&self) -> bool {
        self.answers > USUAL_AFTER
    }

    /// Looks whether everything is slow, not only what had to be sent again. Where datagrams are missing, answers are late because packets are lost; and
    /// what is sent again takes now this long and now that.
    fn look_if_slow(&mut self, now: Time) {
        let is_late = self.is_usual() && self.shortest() > self.usual * SLOW_TIMES + SLOW_MICROS;
        self.is_slow = is_late && !self.has_gaps(now) && (self.is_slow || self.are_even(NEWEST));
    }

    /// True when so many of the newest answers took about as long as one another.
    fn are_even(&self, few: usize) -> bool {
        let newest = || (1..=few.min(self.answers)).map(|back| self.rtts[(self.answers - back) % WINDOW]);
        let (shortest, longest) = (newest().min().unwrap_or_default(), newest().max().unwrap_or_default());
        longest as f32 <= EVEN * shortest as f32
    }

    /// Of the newest probes, those of which it cannot be told yet whether they were sent again or the link became slow: fewer than [`NEWEST`], all of
    /// them late and about as long.
    fn in_doubt(&self) -> u32 {
        let late = self.late_in_a_row;
        // Where probes were lost before, these are more of the same.
        let before = self.lost_of(self.probes).saturating_sub(late);
        let is_doubtful = (late as usize) < NEWEST && before < FEW && self.are_even(late as usize);
        if is_doubtful { late } else { 0 }
    }

    /// An answer that took so long had to be sent again, or its probe had.
    fn is_resent(&self, micros: u32) -> bool {
        self.is_usual() && !self.is_slow && micros as f32 > self.usual * SLOW_TIMES + RESENT_MICROS
    }

    /// How long an answer took of late, at the most that is likely: the smoothed round-trip time, or the newest.
    pub fn recent_micros(&self) -> u32 {
        let newest = self.answers.checked_sub(1).map_or(0, |last| self.rtts[last % WINDOW]);
        self.smoothed_micros().max(newest / 2)
    }

    /// Smoothed round-trip time, microseconds; 0 before the first answer.
    pub fn smoothed_micros(&self) -> u32 {
        self.smoothed.unwrap_or(0.0) as u32
    }

    /// A probe that left at `sent` failed or was not answered in time.
    pub fn miss(&mut self, now: Time, sent: Time) {
        if self.is_of_outage(sent) {
            return;
        }
        self.push(now, false);
        self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
        self.late_in_a_row = 0;
    }

    /// What came of the newest probe, which was missed.
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

    /// What there is to report at `now`.
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

    /// Milliseconds since the last answer; `None` when there was none.
    pub fn last_success_age_millis(&self, now: Time) -> Option<u64> {
        self.last_success.map(|at| now.since(at).as_millis() as u64)
    }

    /// The link's condition, and the share of the newest probes that was lost.
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

    /// True when nothing was lost lately.
    fn is_calm(&self, now: Time) -> bool {
        let lately = self.last_loss.is_some_and(|at| now.since(at) < CALM_FOR);
        !lately && self.lost_of(CALM) == 0
    }

    /// True when some number of the newest probes shows beyond doubt that the link loses [`LOSSY_FROM`] of them or more.
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

    /// What to report if it differs enough from what was reported last; the caller sends it.
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

    /// Everything is to be reported anew: the session is a new one.
    pub fn forget_reports(&mut self) {
        self.reported = None;
    }
}
