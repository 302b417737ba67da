//! The climate: what holds for the cluster as a whole, and may hold a verdict on any one node back.

use std::time::Duration;

use super::Guardian;
use crate::{
    ctx::{Ctx, outbox},
    node::{Admission, Liveness, NodeIndex},
    time::Time,
};

/// How long a reckoning of the whole cluster holds for what is not a verdict.
pub(crate) const CLIMATE: Duration = Duration::from_millis(100);

/// What holds for the cluster as a whole. Only admitted nodes take part in it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Climate {
    /// More than half of the members are silent: they may have died, or the coordinator may be cut off. In the smallest clusters
    /// the coordinator counts as one that is there.
    pub(crate) ambiguous: bool,
    /// So many nodes were declared offline lately that no further one is.
    pub(crate) breaker: bool,
    /// The coordinator's own store stands still: nobody can be welcomed, so that sessions which end are not followed by others.
    pub(crate) held: bool,
    /// The coordinator was cut off itself: agents that lost it are given the time to come back.
    returning: bool,
    /// Nodes that are online or in doubt.
    pub(crate) members: usize,
}

impl Climate {
    /// No silence is a reason to declare anybody offline.
    pub(crate) fn forbids(self) -> bool {
        self.ambiguous || self.breaker || self.held || self.returning
    }
}

/// What was reckoned of the whole cluster, and when.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reckoning {
    climate: Option<(Time, Climate)>,
    /// How many times as long the window is: so many probes of living nodes are missed.
    stretch: Option<(Time, f64)>,
    /// When the coordinator's own store stood still last: who was silent could not be welcomed.
    pub(crate) held: Option<Time>,
    /// From when until when this process, or its store, stood still for so long that agents may have left it.
    deserted: Option<(Time, Time)>,
    /// From when until when it was ambiguous last, most likely because the coordinator was cut off.
    cut_off: Option<(Time, Time)>,
    /// The share of probes of living nodes that were missed in the last seconds, on an average that forgets.
    unrest: f64,
}

/// Agents end their sessions with a coordinator that stands still for longer, and come back one by one.
const DESERTED: Duration = Duration::from_secs(5);

/// An agent that lost the coordinator tries it again by then at the latest: 15 s between two attempts, and 5 s for one.
const BACK: Duration = Duration::from_secs(20);

/// Nodes in doubt are looked at once a second: what was ambiguous within this time still is.
const STILL: Duration = Duration::from_secs(3);

/// Time constant of the average of [`Reckoning::unrest`].
const UNREST_SECONDS: u32 = 10;

impl Guardian {
    /// What holds for the cluster as a whole; reckoned anew when it is older than [`CLIMATE`].
    pub(crate) fn climate(&mut self, ctx: &mut Ctx) -> Climate {
        self.climate_within(ctx, CLIMATE)
    }

    /// What holds for the cluster as a whole, reckoned anew unless that was done within `age`.
    pub(crate) fn climate_within(&mut self, ctx: &mut Ctx, age: Duration) -> Climate {
        match self.reckoning.climate {
            Some((at, climate)) if ctx.clock.now.since(at) < age => climate,
            _ => self.reckon(ctx),
        }
    }

    /// What holds for the cluster as a whole now.
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
        let fell = fell.filter(|&index| now.since(ctx.registry[index].since) < rules.breaker_window);
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

    /// True while agents may come back to a coordinator that was cut off for so long that they left it.
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

    /// How many times as long the window is; reckoned anew when it is older than [`CLIMATE`].
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

    /// The share of the probes of nodes that are there which are missed now.
    fn unrest(&self, ctx: &Ctx) -> f64 {
        let is_there = |subject| ctx.registry[subject].liveness == Liveness::Online;
        self.mesh
            .unrest(is_there, |observer| self.counts(ctx, observer), ctx.clock.now)
    }

    /// Takes in once a second how many probes are missed: in a small cluster so few are under way that one moment tells little.
    pub(crate) fn remember_unrest(&mut self, ctx: &mut Ctx) {
        let unrest = self.unrest(ctx);
        let before = &mut self.reckoning.unrest;
        *before += (unrest - *before) / f64::from(UNREST_SECONDS);
    }

    /// Takes in that the store stands still now, or did so until now.
    pub(crate) fn note_held(&mut self, ctx: &mut Ctx) {
        if ctx.config.rules.hold_when_stalled && ctx.outbox.is_overdue(ctx.clock.now) {
            self.reckoning.held = Some(ctx.clock.now);
            self.stood(ctx, outbox::OVERDUE);
        }
    }

    /// Takes in that nobody was heard or welcomed for so long.
    pub(crate) fn stood(&mut self, ctx: &mut Ctx, still: Duration) {
        let began = ctx.clock.now - still;
        let began = match self.reckoning.deserted {
            Some((before, until)) if began <= until => before,
            _ => began,
        };
        self.reckoning.deserted = Some((began, ctx.clock.now));
    }

    /// Since when nobody was heard or welcomed, and until when a node that left meanwhile is waited for, if it has not come back.
    pub(crate) fn returning(&self, ctx: &Ctx, index: NodeIndex) -> Option<(Time, Time)> {
        let (from, until) = self.reckoning.deserted?;
        let by = until + ctx.config.restart_grace;
        let is_back = ctx.registry[index].last_seen >= Some(until + DESERTED);
        (until.since(from) >= DESERTED && ctx.clock.now < by && !is_back).then_some((from, by))
    }
}
