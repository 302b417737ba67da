//! Verdicts on nodes: what the coordinator's own session says and what peers see, weighed together.
//!
//! Nothing is `offline` while somebody hears it, nor before everybody who would know has missed it for longer than a process may stand
//! still. Whose word counts is in `evidence.rs`; docs/failure-detection.md has the reasons.

use std::time::Duration;

use super::{Coordinator, climate::CLIMATE};
use crate::{
    autonomy::Evidence,
    mesh::{Sight, Tally},
    node::{Admission, Cause, Liveness, NodeIndex},
    text::Span,
    time::Time,
};

/// How often a verdict that waits for others' is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What is known of a node that nobody hears.
#[derive(Debug)]
struct Silence {
    /// Without the observers that are cut off from it.
    tally: Tally,
    /// The last sign of life.
    last_heard: Time,
    /// How long it may be silent.
    window: Duration,
    /// When it is not waited for any longer, whoever can tell.
    over: Time,
    /// Observers that must agree.
    quorum: usize,
    /// Its host refuses them.
    gone: bool,
    /// They agree that it is gone, or not there.
    agreed: bool,
    /// Who says so.
    missed_by: Vec<NodeIndex>,
}

/// Observers that a decision's evidence names at most.
const NAMED: usize = 10;

impl Coordinator {
    /// Suspects a node that most peers miss and that does not answer. True when it does.
    pub(super) fn doubt(&mut self, index: NodeIndex) -> bool {
        let Some(asked) = self.unanswered(index, self.ctx.config.rules.ping_patience) else {
            return false;
        };
        let tally = self.tally(index);
        if tally.lost() <= tally.heard.len() {
            return false;
        }
        let mut evidence = vec![self.last_heard(index)];
        let fact = format!("asked {} ago, no answer yet", Span(self.ctx.clock.now.since(asked)));
        evidence.push(Evidence::new(self.ctx.wall_now(), "session", fact));
        evidence.extend(self.told(&tally));
        self.transition(index, Liveness::Suspect, Cause::PeersLostIt, evidence);
        true
    }

    /// Looks at a node that is online: is it silent, does it not answer? Sets the next look.
    pub(super) fn look_at_online(&mut self, index: NodeIndex) {
        let (mut limit, heard) = (self.silence_limit(index), self.heard_at(index));
        let silent = self.ctx.clock.now.since(heard);
        if silent >= limit && self.is_vouched_for(index) {
            limit = limit.max(self.usual_gap(index)) + self.ctx.config.rules.window;
            if silent >= limit {
                let tally = self.tally(index);
                self.conclude_unreachable(index, &tally);
                return;
            }
            limit = limit.min(silent + LOOK_AGAIN);
        }
        if silent >= limit {
            let fact = format!("silent for {}; the limit is {}", Span(silent), Span(limit));
            let evidence = vec![
                self.last_heard(index),
                Evidence::new(self.ctx.wall_now(), "session", fact),
            ];
            self.transition(index, Liveness::Suspect, Cause::Silent, evidence);
            return;
        }
        if self.doubt(index) {
            return;
        }
        let answered_by = self.ctx.registry[index]
            .asked
            .map(|asked| asked.max(self.ctx.clock.resumed_at) + self.ctx.config.rules.ping_patience);
        let next = answered_by
            .filter(|by| *by > self.ctx.clock.now)
            .map_or(heard + limit, |by| by.min(heard + limit));
        self.look_later(index, next);
    }

    /// Its peers hear the node, the coordinator does not.
    fn conclude_unreachable(&mut self, index: NodeIndex, tally: &Tally) {
        let mut evidence = vec![self.last_heard(index)];
        evidence.extend(self.told(tally));
        evidence.extend(self.asked_by_way(index));
        self.transition(index, Liveness::Unreachable, Cause::PeersHearIt, evidence);
    }

    /// How long a node's silence is usual that its peers hear: some times its longest one of late.
    fn usual_gap(&self, index: NodeIndex) -> Duration {
        let (longest, at) = self.ctx.registry[index].gap;
        match self.ctx.clock.now.since(at) < self.ctx.config.rules.gaps_for {
            true => (longest * self.ctx.config.rules.usual_gaps).min(self.ctx.config.rules.usual_gap),
            false => Duration::ZERO,
        }
    }

    /// What becomes of a node that the coordinator does not hear.
    pub(super) fn judge(&mut self, index: NodeIndex) {
        let tally = self.tally(index);
        if self.is_steady(index) {
            if self.is_missed(index, &tally) {
                self.ctx.registry[index].steady_since = Some(self.ctx.clock.now);
            }
            self.look_again(index, self.ctx.clock.now);
        } else if !tally.heard.is_empty() || self.is_reached(index) {
            self.judge_heard(index, &tally);
        } else {
            let silence = self.silence(index, tally);
            self.judge_silent(index, &silence);
        }
    }

    /// What becomes of a node that only its peers hear.
    fn judge_heard(&mut self, index: NodeIndex, tally: &Tally) {
        let node = &self.ctx.registry[index];
        let since = node.since.max(self.ctx.clock.resumed_at);
        let by = match node.cause {
            Cause::Flapping => since.max(self.heard_at(index)) + self.ctx.config.rules.damped,
            _ => since + self.ctx.config.rules.window,
        };
        if node.liveness == Liveness::Suspect && self.ctx.clock.now >= by {
            self.conclude_unreachable(index, tally);
        } else {
            self.look_again(index, by);
        }
    }

    /// What is known of a node that nobody hears.
    fn silence(&mut self, index: NodeIndex, mut tally: Tally) -> Silence {
        let rules = self.ctx.config.rules;
        let node = &self.ctx.registry[index];
        let (since, said) = (node.since.max(self.ctx.clock.resumed_at), node.said);
        let relayed = self.relayed(index).map_or(Time(0), |(_, at)| at);
        let last_heard = tally
            .last_heard
            .max(self.heard_at(index))
            .max(relayed)
            .max(self.reckoning.held.unwrap_or_default());
        // Those who left a coordinator that stood still are given the time to come back that they have after a start.
        let returning = self.returning(index);
        let there = said.max(tally.last_heard).max(relayed);
        let from = if rules.grace_from_sign { last_heard } else { since };
        let over = (from + self.patience(index, there, relayed > Time(0))).max(returning.map_or(Time(0), |(_, by)| by));
        // Whom its peers missed before already, they cannot tell of.
        let is_told_of = returning.is_none_or(|(from, _)| tally.last_heard >= from);
        tally.silent.retain(|&observer| !self.is_apart(observer, index, there));
        let quorum = rules.quorum(&tally);
        let gone = tally.refused.len() >= quorum;
        let missed = is_told_of && tally.lost() >= quorum;
        let agreed = gone || (missed && !(rules.missing_word && self.is_a_word_missing(index, last_heard)));
        Silence {
            window: self.window(index, gone),
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

    /// What becomes of a node that nobody hears.
    fn judge_silent(&mut self, index: NodeIndex, silence: &Silence) {
        let rules = self.ctx.config.rules;
        let due = silence.last_heard + silence.window;
        let ask_at = due - silence.window / rules.confirm_part.max(1);
        if silence.agreed && self.ctx.clock.now < due && silence.over > self.ctx.clock.now {
            // Those who miss it are asked in time to have answered by the end of the window.
            let is_early = self.ctx.clock.now < ask_at;
            if !is_early {
                self.confirm(&silence.missed_by, silence.quorum, ask_at);
            }
            // A window that is longer for what others miss may be shorter soon.
            let next = if is_early { ask_at } else { due };
            let soon = self.ctx.clock.now + CLIMATE * 2;
            let at = if silence.window > rules.window {
                next.min(soon)
            } else {
                next
            };
            self.look_again(index, at);
            return;
        }
        let is_confirmed =
            !silence.agreed || !rules.confirm || self.confirm(&silence.missed_by, silence.quorum, ask_at);
        let agreed = silence.agreed && is_confirmed;
        if self.ctx.clock.now < due || !(agreed || silence.over <= self.ctx.clock.now) {
            let answered = self.ctx.clock.now + rules.word_patience;
            self.look_again(index, if is_confirmed { silence.over } else { answered });
            return;
        }
        // Others may have fallen silent a moment ago; and a refusal is no silence.
        if !(silence.gone && agreed) && self.climate_within(rules.reckoning_age).forbids() {
            self.look_again(index, self.ctx.clock.now);
            return;
        }
        self.conclude_offline(index, silence, agreed);
    }

    /// Nobody hears the node for so long that it is gone: its observers agreed, or there are none that can tell.
    fn conclude_offline(&mut self, index: NodeIndex, silence: &Silence, agreed: bool) {
        let (wall, span) = (self.ctx.wall_now(), Span(self.ctx.clock.now.since(silence.last_heard)));
        let node = &self.ctx.registry[index];
        let others = !self.mesh.observers_of(index).is_empty();
        let cause = match (agreed && silence.gone, agreed || others) {
            (true, _) => Cause::AgentGone,
            (false, true) => Cause::HostSilent,
            (false, false) => node.cause,
        };
        let mut evidence = vec![self.last_heard(index)];
        if agreed {
            let fact = format!("nobody heard it for {span}; the window is {}", Span(silence.window));
            evidence.push(Evidence::new(wall, "mesh", fact));
        } else {
            let fact = format!("{} without a sign of life for {span}", node.liveness.name());
            let over = self.over_before(index, &fact);
            evidence.push(Evidence::new(wall, "session", fact));
            evidence.extend(over);
        }
        evidence.extend(self.told(&silence.tally));
        self.transition(index, Liveness::Offline, cause, evidence);
    }

    /// How long nobody hears a node that is there, at the most that is likely.
    fn window(&mut self, index: NodeIndex, gone: bool) -> Duration {
        let rules = self.ctx.config.rules;
        let is_damped = self.ctx.registry[index].cause == Cause::Flapping;
        if gone {
            return if is_damped { rules.damped } else { rules.gone_window };
        }
        let usual = if is_damped {
            rules.damped
        } else if self.is_erratic(index) {
            rules.erratic_window
        } else if self.is_strained(index) {
            rules.strained_window
        } else {
            rules.window
        };
        let lulls = (self.lull(index) * rules.lulls).min(rules.window.mul_f64(rules.longest));
        usual.max(rules.window.mul_f64(self.stretch())).max(lulls)
    }

    /// True when somebody heard it lately though it was in doubt: nobody may hear it for a while, and it is there.
    fn is_erratic(&self, index: NodeIndex) -> bool {
        let heard = self.ctx.registry[index].erratic;
        heard.is_some_and(|at| self.ctx.clock.now.since(at) < self.ctx.config.rules.erratic_for)
    }

    /// True when a node that is not online is heard by the coordinator itself.
    fn is_steady(&mut self, index: NodeIndex) -> bool {
        let silent = self.ctx.clock.now.since(self.heard_at(index)) >= self.silence_limit(index);
        let node = &mut self.ctx.registry[index];
        if silent && node.steady_since.take().is_some() {
            self.ctx.show_instances(index);
        }
        self.ctx.registry[index].steady_since.is_some()
    }

    /// How long a node's silence is waited for where nobody can tell: as the grace period says, and longer where it was silent for nearly so long
    /// before, or where most probes are missed. It was `there` last at that time, and may have been `relayed` by peers.
    fn patience(&mut self, index: NodeIndex, there: Time, relayed: bool) -> Duration {
        let rules = self.ctx.config.rules;
        // Where others could tell, it is waited for what they say, also while none of them can be counted on. Who is cut off from it could not.
        let mut observers = self.mesh.observers_of(index).iter();
        let others = relayed || observers.any(|&observer| !self.is_apart(observer, index, there));
        let mut grace = self.ctx.config.suspect_grace * if others { rules.wait_for_others } else { 1 };
        if self.ctx.registry[index].record.admission != Admission::Admitted {
            // Nobody probes it, and nothing waits for a verdict on it.
            grace = grace.max(self.ctx.config.restart_grace);
        }
        let (longest, at) = self.ctx.registry[index].gap;
        let was_silent = match self.ctx.clock.now.since(at) < rules.gaps_for {
            true => (longest * rules.gaps).min(rules.longest_gap),
            false => Duration::ZERO,
        };
        let longer = self.stretch().clamp(1.0, rules.longest_grace);
        grace.mul_f64(longer).max(was_silent)
    }

    /// Looks again at `at`, or soon: what others are may change the verdict.
    fn look_again(&mut self, index: NodeIndex, at: Time) {
        let soon = self.ctx.clock.now + LOOK_AGAIN;
        let at = if at > self.ctx.clock.now { at.min(soon) } else { soon };
        self.look_later(index, at);
    }

    /// That the node asked for its standing by way of a peer, as evidence.
    fn asked_by_way(&self, index: NodeIndex) -> Option<Evidence> {
        let (via, at) = self.relayed(index)?;
        let fact = format!("passed on its question {} ago", Span(self.ctx.clock.now.since(at)));
        Some(Evidence::new(
            self.ctx.clock.wall.at(at),
            self.ctx.registry[via].name(),
            fact,
        ))
    }

    /// What observers see, as evidence.
    fn told(&self, tally: &Tally) -> Vec<Evidence> {
        let wall = self.ctx.wall_now();
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
            .map(|(observer, sight)| Evidence::new(wall, self.ctx.registry[observer].name(), sight.meaning()))
            .collect()
    }
}
