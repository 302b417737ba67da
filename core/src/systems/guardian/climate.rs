//! The climate: cluster-wide conditions that may hold back a verdict on any single node.

use std::time::Duration;

use super::Guardian;
use crate::{
    ctx::{Ctx, outbox},
    node::{Admission, Liveness, NodeIndex},
    time::Time,
};

/// Maximum age of a cluster-wide evaluation, for uses other than verdicts.
pub(crate) const CLIMATE: Duration = Duration::from_millis(100);

/// Cluster-wide conditions. Only admitted nodes count.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Climate {
    /// Whether more than half of the members are silent: they may have failed, or the coordinator may be isolated. In
    /// the smallest clusters the coordinator counts as a present member.
    pub(crate) ambiguous: bool,
    /// Whether the circuit breaker is open: too many nodes were recently declared offline, and no further node is.
    pub(crate) breaker: bool,
    /// Whether the coordinator's own store is stalled: no node can be welcomed, so sessions that end are not replaced.
    pub(crate) held: bool,
    /// Whether the coordinator was isolated and agents are given time to reconnect.
    returning: bool,
    /// Number of nodes that are online or in doubt.
    pub(crate) members: usize,
}

impl Climate {
    /// Whether silence must not lead to any node being declared offline.
    pub(crate) fn forbids(self) -> bool {
        self.ambiguous || self.breaker || self.held || self.returning
    }
}

/// Cached cluster-wide evaluations and their times.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reckoning {
    climate: Option<(Time, Climate)>,
    /// Factor by which packet loss extends the window.
    stretch: Option<(Time, f64)>,
    /// Time at which the coordinator's own store was last stalled; silent nodes could not be welcomed then.
    pub(crate) held: Option<Time>,
    /// Start and end of the last stall of this process or its store that was long enough for agents to disconnect.
    deserted: Option<(Time, Time)>,
    /// Start and end of the last ambiguous period, most likely caused by isolation of the coordinator.
    cut_off: Option<(Time, Time)>,
    /// Exponential moving average of the fraction of missed probes of live nodes.
    unrest: f64,
}

/// Duration of a coordinator stall after which agents end their sessions; they reconnect one by one.
const DESERTED: Duration = Duration::from_secs(5);

/// Maximum time within which an agent that lost the coordinator retries: 15 s between attempts and 5 s for one attempt.
const BACK: Duration = Duration::from_secs(20);

/// Maximum gap between two ambiguous evaluations that belong to one ambiguous period; nodes in doubt are evaluated once
/// a second.
const STILL: Duration = Duration::from_secs(3);

/// Time constant of the moving average in [`Reckoning::unrest`], in samples of one second.
const UNREST_SECONDS: u32 = 10;

impl Guardian {
    /// Current cluster-wide conditions; re-evaluated if older than [`CLIMATE`].
    pub(crate) fn climate(&mut self, ctx: &mut Ctx) -> Climate {
        self.climate_within(ctx, CLIMATE)
    }

    /// Current cluster-wide conditions; re-evaluated unless evaluated within `age`.
    pub(crate) fn climate_within(&mut self, ctx: &mut Ctx, age: Duration) -> Climate {
        match self.reckoning.climate {
            Some((at, climate)) if ctx.clock.now.since(at) < age => climate,
            _ => self.reckon(ctx),
        }
    }

    /// Evaluates the cluster-wide conditions now.
    fn reckon(&mut self, ctx: &mut Ctx) -> Climate {
        let rules = ctx.config.rules;
        let now = ctx.clock.now;
        let census = ctx.registry.census();
        let members = census.members(rules.admitted_only);
        let (notable, silenced) = (census.notable(), census.silenced_since(now - rules.breaker_window));
        let counts =
            |index: &NodeIndex| !rules.admitted_only || ctx.registry[*index].record.admission == Admission::Admitted;
        let silent = notable.into_iter().filter(counts);
        let silent = silent.filter(|&index| self.is_silent(ctx, index)).count();
        let fell = silenced.into_iter().filter(counts);
        let fell = fell.filter(|&index| now.since(ctx.registry[index].since()) < rules.breaker_window);
        let fell = fell.count();
        let voices = members + usize::from(members <= rules.smallest);
        let ambiguous = rules.is_ambiguous(silent, voices);
        let climate = Climate {
            ambiguous,
            breaker: rules.is_broken(fell, members + fell),
            held: rules.hold_when_stalled && ctx.outbox.is_overdue(ctx.clock.now),
            returning: rules.wait_for_returns && self.was_cut_off(ctx, ambiguous),
            members,
        };
        self.note_held(ctx);
        self.reckoning.climate = Some((ctx.clock.now, climate));
        climate
    }

    /// Whether agents may still reconnect to a coordinator that was isolated for so long that they disconnected.
    fn was_cut_off(&mut self, ctx: &mut Ctx, ambiguous: bool) -> bool {
        let now = ctx.clock.now;
        if ambiguous {
            let from = match self.reckoning.cut_off {
                Some((from, until)) if now.since(until) < STILL => from,
                _ => now,
            };
            self.reckoning.cut_off = Some((from, now));
        }
        let cut_off = self.reckoning.cut_off;
        cut_off.is_some_and(|(from, until)| until.since(from) >= DESERTED && now < until + BACK)
    }

    /// Factor by which packet loss extends the window; re-evaluated if older than [`CLIMATE`].
    pub(crate) fn stretch(&mut self, ctx: &mut Ctx) -> f64 {
        if let Some((at, stretch)) = self.reckoning.stretch
            && ctx.clock.now.since(at) < CLIMATE
        {
            return stretch;
        }
        let stretch = ctx.config.rules.stretched(self.unrest(ctx), self.reckoning.unrest);
        self.reckoning.stretch = Some((ctx.clock.now, stretch));
        stretch
    }

    /// Current fraction of missed probes of live nodes.
    fn unrest(&self, ctx: &Ctx) -> f64 {
        let is_there = |subject| ctx.registry[subject].liveness() == Liveness::Online;
        self.mesh
            .unrest(is_there, |observer| self.counts(ctx, observer), ctx.clock.now)
    }

    /// Updates the moving average of missed probes, once a second: in a small cluster so few probes are in flight that
    /// one moment is not representative.
    pub(crate) fn remember_unrest(&mut self, ctx: &mut Ctx) {
        let unrest = self.unrest(ctx);
        let before = &mut self.reckoning.unrest;
        *before += (unrest - *before) / f64::from(UNREST_SECONDS);
    }

    /// Records that the store is stalled, or was until now.
    pub(crate) fn note_held(&mut self, ctx: &mut Ctx) {
        if ctx.config.rules.hold_when_stalled && ctx.outbox.is_overdue(ctx.clock.now) {
            self.reckoning.held = Some(ctx.clock.now);
            self.stood(ctx, outbox::OVERDUE);
        }
    }

    /// Records that no node was heard or welcomed for the duration `still`.
    pub(crate) fn stood(&mut self, ctx: &mut Ctx, still: Duration) {
        let began = ctx.clock.now - still;
        let began = match self.reckoning.deserted {
            Some((before, until)) if began <= until => before,
            _ => began,
        };
        self.reckoning.deserted = Some((began, ctx.clock.now));
    }

    /// Start of the last stall during which a node may have disconnected, and the time until which its return is
    /// awaited, if it has not returned yet.
    pub(crate) fn returning(&self, ctx: &Ctx, index: NodeIndex) -> Option<(Time, Time)> {
        let (from, until) = self.reckoning.deserted?;
        let by = until + ctx.config.restart_grace;
        let is_back = ctx.registry[index].last_seen >= Some(until + DESERTED);
        (until.since(from) >= DESERTED && ctx.clock.now < by && !is_back).then_some((from, by))
    }
}
