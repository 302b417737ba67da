//! Conduct of observers: the rate of their observations, and reports that no honest observer makes.

use std::time::Duration;

use super::Guardian;
use crate::{
    ctx::Ctx,
    mesh::{FindingKind, LinkReport, LinkState},
    node::NodeIndex,
};

/// Sustained rate of observations per agent: each of its links may change every second.
const ALLOWANCE_A_SECOND: u32 = 64;

/// Burst of observations per agent: the observations of one minute arrive together after its stream was blocked for
/// that long.
const ALLOWANCE: u32 = 60 * ALLOWANCE_A_SECOND;

/// Number of observations of unplanned nodes, per window, that are tolerated: a new plan takes a moment to arrive.
const UNASKED: u32 = 64;
const UNASKED_WINDOW: Duration = Duration::from_secs(60);

/// Time after a start of the coordinator in which observations of unplanned nodes are not counted.
const RESTARTED: Duration = Duration::from_secs(30);

/// Time for which the reports of an observer are not counted after an offence.
pub(super) const DISTRUST: Duration = Duration::from_secs(60);

/// Timeout of a probe, and so the maximum round-trip time; microseconds.
const RTT_MAX: u32 = 3_500_000;

impl Guardian {
    /// Returns whether the node's reports on its peers are not counted.
    pub(crate) fn is_distrusted(&self, ctx: &Ctx, index: NodeIndex) -> bool {
        let offended = ctx.registry[index].conduct.distrusted;
        offended.is_some_and(|(at, _)| ctx.clock.now.since(at) < DISTRUST)
            || self.findings.is(FindingKind::Untrusted, index)
    }

    /// Charges observations to an observer's allowance. Returns false, and distrusts the observer, if there are too
    /// many.
    pub(crate) fn may_say(&mut self, ctx: &mut Ctx, observer: NodeIndex, observations: usize) -> bool {
        let may = self.takes(ctx, observer, observations);
        if !may {
            let offence = "sends more observations than its links can change";
            ctx.registry[observer].conduct.distrusted = Some((ctx.clock.now, offence));
        }
        may
    }

    /// Charges a relayed question to an agent's allowance. Half of the allowance is reserved for its own observations:
    /// excessive questions of a peer must not make the agent look unreliable.
    pub(crate) fn may_pass_on(&mut self, ctx: &mut Ctx, via: NodeIndex) -> bool {
        self.takes(ctx, via, 0);
        ctx.registry[via].conduct.allowance > ALLOWANCE / 2 && self.takes(ctx, via, 1)
    }

    /// Charges observations to an agent's allowance; false if it does not suffice.
    fn takes(&mut self, ctx: &mut Ctx, observer: NodeIndex, observations: usize) -> bool {
        let now = ctx.clock.now;
        let conduct = &mut ctx.registry.heard(observer).conduct;
        let more = (now.since(conduct.reckoned).as_secs_f64() * f64::from(ALLOWANCE_A_SECOND)) as u32;
        if more > 0 {
            conduct.allowance = conduct.allowance.saturating_add(more).min(ALLOWANCE);
            conduct.reckoned = now;
        }
        let wanted = u32::try_from(observations).unwrap_or(u32::MAX);
        let left = conduct.allowance.checked_sub(wanted);
        conduct.allowance = left.unwrap_or(conduct.allowance);
        left.is_some()
    }

    /// Counts a message that reports on nodes the observer was not asked to probe.
    pub(crate) fn unasked(&mut self, ctx: &mut Ctx, observer: NodeIndex) {
        let now = ctx.clock.now;
        if now.since(ctx.clock.resumed_at) < RESTARTED {
            // Agents still use the previous plan, and plans change as nodes return.
            return;
        }
        let conduct = &mut ctx.registry[observer].conduct;
        if now.since(conduct.unasked.1) >= UNASKED_WINDOW {
            conduct.unasked = (0, now);
        }
        conduct.unasked.0 += 1;
        if conduct.unasked.0 > UNASKED {
            conduct.distrusted = Some((now, "reports on nodes that it was not asked to probe"));
        }
    }

    /// Checks whether a link report is plausible.
    pub(crate) fn check_report(&mut self, ctx: &mut Ctx, observer: NodeIndex, report: &LinkReport) {
        let answered = matches!(report.state, LinkState::Up | LinkState::Lossy | LinkState::Slow);
        let never = answered && report.rtt_micros == 0;
        if never || report.rtt_micros > RTT_MAX || report.rtt_p95_micros > RTT_MAX {
            let conduct = &mut ctx.registry[observer].conduct;
            conduct.distrusted = Some((ctx.clock.now, "reports impossible round-trip times"));
        }
    }
}
