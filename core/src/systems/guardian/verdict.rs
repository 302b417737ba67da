//! Liveness verdicts, derived from the coordinator's own session and the observations of peers.
//!
//! No node is `offline` while any observer hears it, nor before every observer that can report has missed it for longer
//! than a process may stall. `evidence.rs` determines whose reports count; docs/failure-detection.md gives the reasons.

use std::time::Duration;

use super::{Guardian, Transition, climate::CLIMATE};
use crate::{
    autonomy::{Evidence, Fact, Source},
    ctx::Ctx,
    mesh::{Sight, Tally},
    node::{Admission, Cause, Liveness, NodeIndex},
    time::Time,
};

/// Interval at which a pending verdict is re-evaluated.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Evidence about a node that nobody hears.
#[derive(Debug)]
struct Silence {
    /// Observations, excluding observers that are isolated from the node.
    tally: Tally,
    /// Time of the last sign of life.
    last_heard: Time,
    /// Time for which the node may be silent.
    window: Duration,
    /// Time at which waiting ends even without agreement of the observers.
    over: Time,
    /// Number of observers that must agree.
    quorum: usize,
    /// Whether its host refuses the observers' probes.
    gone: bool,
    /// Whether a quorum agrees that the node is gone or missing.
    agreed: bool,
    /// Observers that miss the node.
    missed_by: Vec<NodeIndex>,
}

/// Assessment of the silence of an online node.
#[derive(Debug)]
pub(crate) enum Quiet {
    /// Not significant until this time.
    Until(Time),
    /// Significant: the duration of the silence, and the limit.
    Suspect(Duration, Duration),
    /// The coordinator has not heard the node for long, but its peers hear it.
    Unreachable(Tally),
}

/// Maximum number of observers named in a decision's evidence.
const NAMED: usize = 10;

impl Guardian {
    /// Suspects a node that most peers miss and that does not answer.
    #[must_use]
    pub(crate) fn doubt(&mut self, ctx: &mut Ctx, index: NodeIndex) -> Option<Transition> {
        let asked = self.unanswered(ctx, index, ctx.config.rules.ping_patience)?;
        let tally = self.tally(ctx, index);
        if tally.lost() <= tally.heard.len() {
            return None;
        }
        let mut evidence = vec![self.last_heard(ctx, index)];
        let ago = ctx.clock.now.since(asked);
        evidence.push(Evidence::new(ctx.wall_now(), Source::Session, Fact::Unanswered { ago }));
        evidence.extend(self.told(ctx, &tally));
        self.transition(ctx, index, Liveness::Suspect, Cause::PeersLostIt, evidence)
    }

    /// Evaluates an online node for silence and unanswered pings, and schedules the next evaluation.
    #[must_use]
    pub(crate) fn look_at_online(&mut self, ctx: &mut Ctx, index: NodeIndex) -> Option<Transition> {
        let by = match self.weigh_silence(ctx, index) {
            Quiet::Unreachable(tally) => return self.conclude_unreachable(ctx, index, &tally),
            Quiet::Suspect(span, limit) => {
                let evidence = vec![
                    self.last_heard(ctx, index),
                    Evidence::new(ctx.wall_now(), Source::Session, Fact::Silent { span, limit }),
                ];
                return self.transition(ctx, index, Liveness::Suspect, Cause::Silent, evidence);
            }
            Quiet::Until(by) => by,
        };
        if let Some(doubted) = self.doubt(ctx, index) {
            return Some(doubted);
        }
        let answered_by = ctx.registry[index]
            .asked
            .map(|asked| asked.max(ctx.clock.resumed_at) + ctx.config.rules.ping_patience);
        let next = answered_by.filter(|answered_by| *answered_by > ctx.clock.now);
        self.look_later(ctx, index, next.map_or(by, |answered_by| answered_by.min(by)));
        None
    }

    /// Assesses the silence of an online node.
    pub(crate) fn weigh_silence(&self, ctx: &Ctx, index: NodeIndex) -> Quiet {
        let (mut limit, heard) = (ctx.silence_limit(index), ctx.heard_at(index));
        let silent = ctx.clock.now.since(heard);
        if silent >= limit && self.is_vouched_for(ctx, index) {
            limit = limit.max(self.usual_gap(ctx, index)) + ctx.config.rules.window;
            if silent >= limit {
                return Quiet::Unreachable(self.tally(ctx, index));
            }
            limit = limit.min(silent + LOOK_AGAIN);
        }
        match silent >= limit {
            true => Quiet::Suspect(silent, limit),
            false => Quiet::Until(heard + limit),
        }
    }

    /// Concludes that the peers hear the node and the coordinator does not.
    fn conclude_unreachable(&mut self, ctx: &mut Ctx, index: NodeIndex, tally: &Tally) -> Option<Transition> {
        let mut evidence = vec![self.last_heard(ctx, index)];
        evidence.extend(self.told(ctx, tally));
        evidence.extend(self.asked_by_way(ctx, index));
        self.transition(ctx, index, Liveness::Unreachable, Cause::PeersHearIt, evidence)
    }

    /// Silence that is usual for a node that its peers hear: a multiple of its longest recent silence.
    fn usual_gap(&self, ctx: &Ctx, index: NodeIndex) -> Duration {
        let (longest, at) = ctx.registry[index].gap;
        match ctx.clock.now.since(at) < ctx.config.rules.gaps_for {
            true => (longest * ctx.config.rules.usual_gaps).min(ctx.config.rules.usual_gap),
            false => Duration::ZERO,
        }
    }

    /// Evaluates a node that the coordinator does not hear.
    #[must_use]
    pub(crate) fn judge(&mut self, ctx: &mut Ctx, index: NodeIndex) -> Option<Transition> {
        let tally = self.tally(ctx, index);
        if self.is_steady(ctx, index) {
            if self.is_missed(ctx, index, &tally) {
                ctx.registry[index].steady_since = Some(ctx.clock.now);
            }
            self.look_again(ctx, index, ctx.clock.now);
            None
        } else if !tally.heard.is_empty() || self.is_reached(ctx, index) {
            self.judge_heard(ctx, index, &tally)
        } else {
            let silence = self.silence(ctx, index, tally);
            self.judge_silent(ctx, index, &silence)
        }
    }

    /// Evaluates a node that only its peers hear.
    #[must_use]
    fn judge_heard(&mut self, ctx: &mut Ctx, index: NodeIndex, tally: &Tally) -> Option<Transition> {
        let node = &ctx.registry[index];
        let since = node.since().max(ctx.clock.resumed_at);
        let by = match node.cause() {
            Cause::Flapping => since.max(ctx.heard_at(index)) + ctx.config.rules.damped,
            _ => since + ctx.config.rules.window,
        };
        if node.liveness() == Liveness::Suspect && ctx.clock.now >= by {
            self.conclude_unreachable(ctx, index, tally)
        } else {
            self.look_again(ctx, index, by);
            None
        }
    }

    /// Collects the evidence about a node that nobody hears.
    fn silence(&mut self, ctx: &mut Ctx, index: NodeIndex, mut tally: Tally) -> Silence {
        let rules = ctx.config.rules;
        let node = &ctx.registry[index];
        let (since, said) = (node.since().max(ctx.clock.resumed_at), node.said);
        let relayed = self.relayed(ctx, index).map_or(Time(0), |(_, at)| at);
        let last_heard = tally
            .last_heard
            .max(ctx.heard_at(index))
            .max(relayed)
            .max(self.reckoning.held.unwrap_or_default());
        // Nodes that disconnected from a stalled coordinator get the same time to return as after a start.
        let returning = self.returning(ctx, index);
        let there = said.max(tally.last_heard).max(relayed);
        let from = if rules.grace_from_sign { last_heard } else { since };
        let over =
            (from + self.patience(ctx, index, there, relayed > Time(0))).max(returning.map_or(Time(0), |(_, by)| by));
        // Peers that already missed the node before the stall cannot report on it.
        let is_told_of = returning.is_none_or(|(from, _)| tally.last_heard >= from);
        tally
            .silent
            .retain(|&observer| !self.is_apart(ctx, observer, index, there));
        let quorum = rules.quorum(&tally);
        let gone = tally.refused.len() >= quorum;
        let missed = is_told_of && tally.lost() >= quorum;
        let agreed = gone || (missed && !(rules.missing_word && self.is_a_word_missing(ctx, index, last_heard)));
        Silence {
            window: self.window(ctx, index, gone),
            missed_by: match gone {
                true => tally.refused.clone(),
                false => tally.silent.iter().chain(&tally.refused).copied().collect(),
            },
            tally,
            last_heard,
            over,
            quorum,
            gone,
            agreed,
        }
    }

    /// Evaluates a node that nobody hears.
    #[must_use]
    fn judge_silent(&mut self, ctx: &mut Ctx, index: NodeIndex, silence: &Silence) -> Option<Transition> {
        let rules = ctx.config.rules;
        let due = silence.last_heard + silence.window;
        let ask_at = due - silence.window / rules.confirm_part.max(1);
        if silence.agreed && ctx.clock.now < due && silence.over > ctx.clock.now {
            // Observers that miss it are pinged early enough to answer by the end of the window.
            let is_early = ctx.clock.now < ask_at;
            if !is_early {
                self.confirm(ctx, &silence.missed_by, silence.quorum, ask_at);
            }
            // A window extended by packet loss may shrink soon.
            let next = if is_early { ask_at } else { due };
            let soon = ctx.clock.now + CLIMATE * 2;
            let at = if silence.window > rules.window {
                next.min(soon)
            } else {
                next
            };
            self.look_again(ctx, index, at);
            return None;
        }
        let is_confirmed =
            !silence.agreed || !rules.confirm || self.confirm(ctx, &silence.missed_by, silence.quorum, ask_at);
        let agreed = silence.agreed && is_confirmed;
        if ctx.clock.now < due || !(agreed || silence.over <= ctx.clock.now) {
            let answered = ctx.clock.now + rules.word_patience;
            self.look_again(ctx, index, if is_confirmed { silence.over } else { answered });
            return None;
        }
        // Other nodes may have fallen silent just now; and a refused connection is not silence.
        if !(silence.gone && agreed) && self.climate_within(ctx, rules.reckoning_age).forbids() {
            self.look_again(ctx, index, ctx.clock.now);
            return None;
        }
        self.conclude_offline(ctx, index, silence, agreed)
    }

    /// Declares a node offline after a long enough silence: its observers agreed, or none can report.
    fn conclude_offline(
        &mut self,
        ctx: &mut Ctx,
        index: NodeIndex,
        silence: &Silence,
        agreed: bool,
    ) -> Option<Transition> {
        let (wall, span) = (ctx.wall_now(), ctx.clock.now.since(silence.last_heard));
        let node = &ctx.registry[index];
        let others = !self.mesh.observers_of(index).is_empty();
        let cause = match (agreed && silence.gone, agreed || others) {
            (true, _) => Cause::AgentGone,
            (false, true) => Cause::HostSilent,
            (false, false) => node.cause(),
        };
        let mut evidence = vec![self.last_heard(ctx, index)];
        if agreed {
            let window = silence.window;
            evidence.push(Evidence::new(wall, Source::Mesh, Fact::NobodyHeard { span, window }));
        } else {
            let liveness = node.liveness();
            evidence.push(Evidence::new(wall, Source::Session, Fact::NoSign { liveness, span }));
            evidence.extend(self.over_before(ctx, index, None));
        }
        evidence.extend(self.told(ctx, &silence.tally));
        self.transition(ctx, index, Liveness::Offline, cause, evidence)
    }

    /// Maximum likely time for which nobody hears a live node.
    fn window(&mut self, ctx: &mut Ctx, index: NodeIndex, gone: bool) -> Duration {
        let rules = ctx.config.rules;
        let is_damped = ctx.registry[index].cause() == Cause::Flapping;
        if gone {
            return if is_damped { rules.damped } else { rules.gone_window };
        }
        let usual = if is_damped {
            rules.damped
        } else if self.is_erratic(ctx, index) {
            rules.erratic_window
        } else if self.is_strained(ctx, index) {
            rules.strained_window
        } else {
            rules.window
        };
        let lulls = (self.lull(ctx, index) * rules.lulls).min(rules.window.mul_f64(rules.longest));
        usual.max(rules.window.mul_f64(self.stretch(ctx))).max(lulls)
    }

    /// Whether the node was recently heard while in doubt, so that it may be alive and unheard for a while.
    fn is_erratic(&self, ctx: &Ctx, index: NodeIndex) -> bool {
        let heard = ctx.registry[index].erratic;
        heard.is_some_and(|at| ctx.clock.now.since(at) < ctx.config.rules.erratic_for)
    }

    /// Whether the coordinator itself hears a node that is not online.
    fn is_steady(&mut self, ctx: &mut Ctx, index: NodeIndex) -> bool {
        let silent = ctx.clock.now.since(ctx.heard_at(index)) >= ctx.silence_limit(index);
        let node = &mut ctx.registry[index];
        if silent && node.steady_since.take().is_some() {
            ctx.show_instances(index);
        }
        ctx.registry[index].steady_since.is_some()
    }

    /// Time for which silence is tolerated when no observer can report: the grace period, extended if the node was
    /// recently silent for nearly as long or if most probes are lost. `there` is the time at which the node was last
    /// known to be alive; `relayed` states whether peers forwarded its questions.
    fn patience(&mut self, ctx: &mut Ctx, index: NodeIndex, there: Time, relayed: bool) -> Duration {
        let rules = ctx.config.rules;
        // If observers exist, their reports are awaited even while none of them is reliable. Observers that are
        // isolated from the node do not count.
        let mut observers = self.mesh.observers_of(index).iter();
        let others = relayed || observers.any(|&observer| !self.is_apart(ctx, observer, index, there));
        let mut grace = ctx.config.suspect_grace * if others { rules.wait_for_others } else { 1 };
        if ctx.registry[index].record.admission != Admission::Admitted {
            // Nobody probes an unadmitted node, and nothing depends on a verdict on it.
            grace = grace.max(ctx.config.restart_grace);
        }
        let (longest, at) = ctx.registry[index].gap;
        let was_silent = match ctx.clock.now.since(at) < rules.gaps_for {
            true => (longest * rules.gaps).min(rules.longest_gap),
            false => Duration::ZERO,
        };
        let longer = self.stretch(ctx).clamp(1.0, rules.longest_grace);
        grace.mul_f64(longer).max(was_silent)
    }

    /// Schedules the next evaluation for `at`, but no later than [`LOOK_AGAIN`] from now: changes of other nodes may
    /// change the verdict.
    fn look_again(&mut self, ctx: &mut Ctx, index: NodeIndex, at: Time) {
        let soon = ctx.clock.now + LOOK_AGAIN;
        let at = if at > ctx.clock.now { at.min(soon) } else { soon };
        self.look_later(ctx, index, at);
    }

    /// Evidence that the node asked for its standing via a peer.
    fn asked_by_way(&self, ctx: &Ctx, index: NodeIndex) -> Option<Evidence> {
        let (via, at) = self.relayed(ctx, index)?;
        let ago = ctx.clock.now.since(at);
        let source = Source::Node(ctx.registry[via].named());
        Some(Evidence::new(ctx.clock.wall.at(at), source, Fact::Relayed { ago }))
    }

    /// Evidence from the observers.
    fn told(&self, ctx: &Ctx, tally: &Tally) -> Vec<Evidence> {
        let wall = ctx.wall_now();
        let sights = [
            (&tally.heard, Sight::Heard),
            (&tally.refused, Sight::Refused),
            (&tally.silent, Sight::Silent),
        ];
        let named = sights
            .into_iter()
            .flat_map(|(observers, sight)| observers.iter().map(move |&observer| (observer, sight)));
        named
            .take(NAMED)
            .map(|(observer, sight)| {
                let source = Source::Node(ctx.registry[observer].named());
                Evidence::new(wall, source, Fact::Sees(sight))
            })
            .collect()
    }
}
