//! Links: an observer's measurements and reports of a subject.

use crate::time::WallTime;

/// State of a link, as its observer measures it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    /// Not probed yet.
    #[default]
    Unknown,
    /// The newest probes were answered.
    Up,
    /// At least [`LOSSY_FROM`](super::LOSSY_FROM) of all probes are lost or have to be sent again, as the newest ones show with
    /// statistical significance.
    Lossy,
    /// The newest [`DOWN_AFTER`](super::DOWN_AFTER) or more probes failed.
    Down,
    /// Answers take more than [`SLOW_TIMES`](super::SLOW_TIMES) times as long as usual, plus [`SLOW_MICROS`](super::SLOW_MICROS).
    Slow,
}

/// Maximum number of links in one heartbeat.
pub const REPORTS: usize = 64;

/// Result of a probe without an answer, whichever side sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkFailure {
    /// No answer arrived in time.
    Late,
    /// The host answered that nothing listens on the port.
    Refused,
    /// A router answered that the host is unreachable.
    Unreachable,
    /// The peer that answered is not the node, or does not accept this node as a member: its certificate or its answer
    /// does not match.
    Mistaken,
    /// Any other failure.
    Other,
}

/// An observer's report of one link.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LinkReport {
    /// State of the link.
    pub state: LinkState,
    /// Smoothed round-trip time, microseconds; 0 before the first answer.
    pub rtt_micros: u32,
    /// 95th percentile over the window, microseconds.
    pub rtt_p95_micros: u32,
    /// Share of the window without an answer, 0 to 1.
    pub loss: f32,
    /// Milliseconds since the last answer; `None` if there was none.
    pub last_success_age_millis: Option<u64>,
    /// Result of the newest failed probe since the last answer.
    pub failure: Option<LinkFailure>,
}

/// A link as the coordinator stores it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// State of the link.
    pub state: LinkState,
    /// Smoothed round-trip time, microseconds.
    pub rtt_micros: u32,
    /// 95th percentile, microseconds.
    pub rtt_p95_micros: u32,
    /// Loss in hundredths.
    pub loss_percent: u32,
    /// Time of the last answer; `None` while the link is up, and if there was none.
    pub last_success: Option<WallTime>,
    /// Result of the newest probe; `None` while the link is up.
    pub failure: Option<LinkFailure>,
}

impl Link {
    /// Converts a report received at `wall`.
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

    /// Returns whether probes get through.
    pub fn is_live(&self) -> bool {
        matches!(self.state, LinkState::Up | LinkState::Lossy | LinkState::Slow)
    }
}
