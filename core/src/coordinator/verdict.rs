//! Verdicts on nodes: what the coordinator's own session says and what peers see, weighed together.
//!
//! The session is one observer among others. A peer that misses a node says so at once; the coordinator then asks the node
//! itself ([`Message::Ping`]). Nothing is `offline` while somebody hears it, nor before everybody who would know has missed it
//! for longer than a process may stand still. docs/failure-detection.md has the reasons.

use std::time::Duration;

use super::{Coordinator, Message, climate::CLIMATE};
use crate::{
    autonomy::Evidence,
    id::NodeId,
    mesh::{FindingKind, Observation, Sight, Tally},
    node::{Admission, Cause, ConnId, Health, Liveness, NodeIndex},
    standing,
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

/// An observer that misses a node for longer while the node is there is cut off from it.
const APART: Duration = Duration::from_secs(5);

/// Observers that a decision's evidence names at most.
const NAMED: usize = 10;

impl Coordinator {
    /// The node that says something of its peers, if it has a session.
    pub(super) fn witness(&mut self, conn: ConnId, what: &str) -> Option<NodeIndex> {
        let Some(observer) = self.registry.of_conn(conn) else {
            self.no_session(conn, what);
            return None;
        };
        if self.registry[observer].live_session().is_none() {
            self.invalid(conn, format!("{what}: sent before the welcome"));
            return None;
        }
        self.hear(observer);
        Some(observer)
    }

    /// Beacons of its peers reach an agent, or no longer do.
    pub(super) fn arrivals(&mut self, conn: ConnId, arrivals: &[(NodeId, bool)]) {
        let Some(receiver) = self.witness(conn, "arrivals") else {
            return;
        };
        self.send(conn, Message::Noted);
        if !self.may_say(receiver, arrivals.len()) {
            return;
        }
        for &(sender, arrives) in arrivals {
            // Of those that are no longer in the plan, or not yet, nothing is said.
            let Some(sender) = self.registry.find(sender) else {
                continue;
            };
            let paired = self.mesh.arrive(receiver, sender, arrives, self.now);
            if paired && arrives && self.registry[sender].liveness.is_in_doubt() && self.counts(receiver) {
                self.registry[sender].erratic = Some(self.now);
            }
        }
    }

    /// An agent sees something else of its peers than before, or is otherwise than before.
    pub(super) fn evidence(
        &mut self,
        conn: ConnId,
        observations: &[(NodeId, Observation)],
        health: Option<Health>,
        sent_millis: u64,
    ) {
        let Some(observer) = self.witness(conn, "sightings") else {
            return;
        };
        self.send(conn, Message::Noted);
        let at = self.sent_at(observer, sent_millis);
        if let Some(health) = health {
            self.registry[observer].health = health;
        }
        if !self.may_say(observer, observations.len()) {
            return;
        }
        let mut all_asked = true;
        for (subject, observation) in observations {
            all_asked &= self.sees(observer, *subject, *observation, at);
        }
        if !all_asked {
            self.unasked(observer);
        }
    }

    /// When a node sent what comes from it now.
    pub(super) fn sent_at(&mut self, index: NodeIndex, sent_millis: u64) -> Time {
        let now = self.now;
        let node = &mut self.registry[index];
        let session = node.session.as_mut();
        let at = session.map_or(now, |session| session.transit.sent_at(now, sent_millis));
        node.said = node.said.max(at);
        at
    }

    /// Notes what an observer said `at` that moment of a subject, which may be what it said before. False when the plan does not have it
    /// probe that node.
    pub(super) fn sees(&mut self, observer: NodeIndex, subject: NodeId, observation: Observation, at: Time) -> bool {
        let Some(subject) = self.registry.find(subject) else {
            return false;
        };
        let missed_it = self.mesh.misses(observer, subject);
        let heard_before = self.last_sign(subject);
        if !self.mesh.observe(observer, subject, observation, at) {
            return false;
        }
        let is_heard = observation.sight == Sight::Heard;
        match self.registry[subject].liveness {
            // What was told before asks for nothing anew.
            Liveness::Online if !is_heard && !missed_it => {
                self.ask(subject);
                self.doubt(subject);
            }
            Liveness::Suspect | Liveness::Unreachable => {
                if is_heard && missed_it {
                    self.note_lull(subject, at.since(heard_before), at);
                }
                self.judge(subject);
            }
            _ => {}
        }
        true
    }

    /// When somebody heard a node last, an observer or the coordinator.
    fn last_sign(&self, index: NodeIndex) -> Time {
        let observers = self.mesh.observers_of(index).iter();
        let heard = observers
            .filter_map(|&observer| self.mesh.last_heard(observer, index))
            .max();
        heard.unwrap_or_default().max(self.heard_at(index))
    }

    /// A node in doubt was heard `at` that moment, after so long: most of its packets may be lost.
    fn note_lull(&mut self, index: NodeIndex, lull: Duration, at: Time) {
        let longest = self.lull(index);
        let node = &mut self.registry[index];
        node.erratic = Some(at);
        if lull >= longest {
            node.lull = (lull, at);
        }
    }

    /// The longest that nobody heard a node of late while it was there.
    fn lull(&self, index: NodeIndex) -> Duration {
        let (lull, at) = self.registry[index].lull;
        let lately = self.now.since(at) < self.config.rules.lulls_for;
        if lately { lull } else { Duration::ZERO }
    }

    /// A node gave a sign of life.
    pub(super) fn hear(&mut self, index: NodeIndex) {
        let now = self.now;
        let node = &mut self.registry[index];
        (node.last_seen, node.asked) = (Some(now), None);
    }

    /// Asks a node itself, unless it was asked and has not answered yet.
    fn ask(&mut self, index: NodeIndex) {
        let now = self.now;
        let node = &mut self.registry[index];
        let Some(conn) = node.live_session().map(|session| session.conn) else {
            return;
        };
        if node.pinged.is_none() {
            self.pings += 1;
            let number = self.pings;
            node.pinged = Some((number, now));
            self.send(conn, Message::Ping { number });
        }
        let node = &mut self.registry[index];
        if node.asked.is_none() {
            node.asked = Some(now);
            if node.liveness == Liveness::Online {
                self.look_at_online(index);
            }
        }
    }

    /// A heartbeat came that answers this ping, and followed all that the agent had to say of its peers by then.
    pub(super) fn answered(&mut self, observer: NodeIndex, answers: Option<u64>) {
        let now = self.now;
        let node = &mut self.registry[observer];
        let Some((number, at)) = node.pinged else { return };
        if answers.is_some_and(|answers| answers < number) {
            return;
        }
        node.confirmed = if answers.is_some() { at } else { now };
        node.pinged = None;
        let doubtful = |subject: &NodeIndex| self.is_silent(*subject);
        let subjects: Vec<NodeIndex> = self.mesh.subjects(observer).iter().copied().filter(doubtful).collect();
        for subject in subjects {
            self.judge(subject);
        }
    }

    /// Asks those who miss a node and have not said so since this time. True when a quorum has said so.
    fn confirm(&mut self, missed_by: &[NodeIndex], quorum: usize, since: Time) -> bool {
        let is_late = |observer: &&NodeIndex| self.registry[**observer].confirmed < since;
        let late: Vec<NodeIndex> = missed_by.iter().filter(is_late).copied().collect();
        let confirmed = missed_by.len() - late.len();
        for observer in late {
            self.ask(observer);
        }
        confirmed >= quorum
    }

    /// When a node was asked, if it has had the time to answer and did not.
    fn unanswered(&self, index: NodeIndex) -> Option<Time> {
        let asked = self.registry[index].asked?.max(self.resumed_at);
        (self.now.since(asked) >= self.config.rules.ping_patience).then_some(asked)
    }

    /// Suspects a node that most peers miss and that does not answer. True when it does.
    fn doubt(&mut self, index: NodeIndex) -> bool {
        let Some(asked) = self.unanswered(index) else {
            return false;
        };
        let tally = self.tally(index);
        if tally.lost() <= tally.heard.len() {
            return false;
        }
        let mut evidence = vec![self.last_heard(index)];
        let fact = format!("asked {} ago, no answer yet", Span(self.now.since(asked)));
        evidence.push(Evidence::new(self.wall_now(), "session", fact));
        evidence.extend(self.told(&tally));
        self.transition(index, Liveness::Suspect, Cause::PeersLostIt, evidence);
        true
    }

    /// Looks at a node that is online: is it silent, does it not answer? Sets the next look.
    pub(super) fn look_at_online(&mut self, index: NodeIndex) {
        let (mut limit, heard) = (self.silence_limit(index), self.heard_at(index));
        let silent = self.now.since(heard);
        if silent >= limit && self.is_vouched_for(index) {
            limit = limit.max(self.usual_gap(index)) + self.config.rules.window;
            if silent >= limit {
                let tally = self.tally(index);
                self.conclude_unreachable(index, &tally);
                return;
            }
            limit = limit.min(silent + LOOK_AGAIN);
        }
        if silent >= limit {
            let fact = format!("silent for {}; the limit is {}", Span(silent), Span(limit));
            let evidence = vec![self.last_heard(index), Evidence::new(self.wall_now(), "session", fact)];
            self.transition(index, Liveness::Suspect, Cause::Silent, evidence);
            return;
        }
        if self.doubt(index) {
            return;
        }
        let answered_by = self.registry[index]
            .asked
            .map(|asked| asked.max(self.resumed_at) + self.config.rules.ping_patience);
        let next = answered_by
            .filter(|by| *by > self.now)
            .map_or(heard + limit, |by| by.min(heard + limit));
        self.look_later(index, next);
    }

    /// True when what the node says of others can be counted on: it is heard, not itself in doubt, and no bad observer.
    pub(super) fn counts(&self, observer: NodeIndex) -> bool {
        self.is_heard_well(observer) && !self.is_strained(observer)
    }

    /// True when the node is believed that it hears others. One that stands still again and again may miss those who live, but hears nobody who
    /// is dead; and one that only its peers reach says with its questions whom it hears.
    pub(super) fn vouches(&self, observer: NodeIndex) -> bool {
        let word = self.now.since(self.registry[observer].said.max(self.resumed_at)) < self.word_wait(observer);
        (self.is_heard_well(observer) && word) || (self.is_reached(observer) && !self.is_distrusted(observer))
    }

    /// How long the newest word of an observer stands, and is waited for: by then it has asked by way of its peers, had it lost the coordinator.
    fn word_wait(&self, observer: NodeIndex) -> Duration {
        standing::quiet(self.config.cycle, self.heartbeat_interval(observer)) + self.config.rules.word_margin
    }

    /// True when the coordinator hears the node itself, and believes it.
    pub(super) fn is_heard_well(&self, index: NodeIndex) -> bool {
        self.is_heard(index) && self.unanswered(index).is_none() && !self.is_distrusted(index)
    }

    /// True when the word of an observer is missing that lives, as its own observers say, and that heard the node when it could last tell: there may
    /// be a way to the node that leads over it.
    fn is_a_word_missing(&self, index: NodeIndex, last_heard: Time) -> bool {
        let observers = self.mesh.observers_of(index).iter().copied();
        observers
            .filter(|&observer| self.mesh.hears(observer, index))
            .filter(|&observer| !self.vouches(observer) && !self.is_distrusted(observer))
            .filter(|&observer| self.now.since(last_heard) < self.word_wait(observer))
            .any(|observer| !self.tally(observer).heard.is_empty())
    }

    /// True when the coordinator hears the node, whether it is online again already or not.
    fn is_heard(&self, index: NodeIndex) -> bool {
        let node = &self.registry[index];
        let may_be = node.liveness == Liveness::Online || node.steady_since.is_some();
        may_be && self.now.since(self.heard_at(index)) < self.silence_limit(index)
    }

    /// True when most of those who can tell of a node hear it, and some have spoken since it fell silent itself.
    pub(super) fn is_vouched_for(&self, index: NodeIndex) -> bool {
        let tally = self.tally(index);
        let since = self.heard_at(index) + self.config.rules.window;
        let spoke = |observer: &&NodeIndex| self.registry[**observer].said >= since;
        tally.heard.iter().filter(spoke).count() > tally.lost()
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
        let (longest, at) = self.registry[index].gap;
        match self.now.since(at) < self.config.rules.gaps_for {
            true => (longest * self.config.rules.usual_gaps).min(self.config.rules.usual_gap),
            false => Duration::ZERO,
        }
    }

    /// True when the coordinator does not hear a node that it should hear.
    pub(super) fn is_silent(&self, index: NodeIndex) -> bool {
        self.registry[index].liveness.is_in_doubt() && !self.is_heard(index)
    }

    /// What the observers see that can be counted on.
    pub(super) fn tally(&self, index: NodeIndex) -> Tally {
        let is_deaf = |observer| self.config.rules.skip_deaf && self.mesh.is_deaf(observer, index);
        let counts = |observer| self.counts(observer) && !is_deaf(observer);
        let mut tally = self.mesh.tally(index, counts, |observer| self.vouches(observer));
        // Who hears nobody now has no voice, but heard it when it says it did.
        let deaf = self.mesh.observers_of(index).iter().copied();
        let deaf = deaf.filter(|&observer| is_deaf(observer) && self.counts(observer));
        let heard = deaf.filter_map(|observer| self.mesh.last_heard(observer, index)).max();
        tally.last_heard = tally.last_heard.max(heard.unwrap_or_default());
        tally
    }

    /// What becomes of a node that the coordinator does not hear.
    pub(super) fn judge(&mut self, index: NodeIndex) {
        let tally = self.tally(index);
        if self.is_steady(index) {
            if self.is_missed(index, &tally) {
                self.registry[index].steady_since = Some(self.now);
            }
            self.look_again(index, self.now);
        } else if !tally.heard.is_empty() || self.is_reached(index) {
            self.judge_heard(index, &tally);
        } else {
            let silence = self.silence(index, tally);
            self.judge_silent(index, &silence);
        }
    }

    /// What becomes of a node that only its peers hear.
    fn judge_heard(&mut self, index: NodeIndex, tally: &Tally) {
        let node = &self.registry[index];
        let since = node.since.max(self.resumed_at);
        let by = match node.cause {
            Cause::Flapping => since.max(self.heard_at(index)) + self.config.rules.damped,
            _ => since + self.config.rules.window,
        };
        if node.liveness == Liveness::Suspect && self.now >= by {
            self.conclude_unreachable(index, tally);
        } else {
            self.look_again(index, by);
        }
    }

    /// True when an observer had missed a node for long while it was `there`: it is cut off from it, and knows nothing of it.
    fn is_apart(&self, observer: NodeIndex, index: NodeIndex, there: Time) -> bool {
        let missed_for = there.since(self.mesh.last_heard(observer, index).unwrap_or_default());
        missed_for >= APART.max(self.lull(index) * self.config.rules.lulls)
    }

    /// True when most of those who can tell miss a node that the coordinator hears.
    pub(super) fn is_missed(&self, index: NodeIndex, tally: &Tally) -> bool {
        let there = self.heard_at(index);
        let silent = tally
            .silent
            .iter()
            .filter(|observer| !self.is_apart(**observer, index, there));
        silent.count() + tally.refused.len() > tally.heard.len()
    }

    /// What is known of a node that nobody hears.
    fn silence(&mut self, index: NodeIndex, mut tally: Tally) -> Silence {
        let rules = self.config.rules;
        let node = &self.registry[index];
        let (since, said) = (node.since.max(self.resumed_at), node.said);
        let relayed = self.relayed(index).map_or(Time(0), |(_, at)| at);
        let last_heard = tally
            .last_heard
            .max(self.heard_at(index))
            .max(relayed)
            .max(self.reckoning.held.unwrap_or_default());
        // Those who left a coordinator that stood still are given the time to come back that they have after a start.
        let returning = self.returning(index);
        let from = if rules.grace_from_sign { last_heard } else { since };
        let over = (from + self.patience(index)).max(returning.map_or(Time(0), |(_, by)| by));
        // Whom its peers missed before already, they cannot tell of.
        let is_told_of = returning.is_none_or(|(from, _)| tally.last_heard >= from);
        let there = said.max(tally.last_heard).max(relayed);
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
        let rules = self.config.rules;
        let due = silence.last_heard + silence.window;
        let ask_at = due - silence.window / rules.confirm_part.max(1);
        if silence.agreed && self.now < due && silence.over > self.now {
            // Those who miss it are asked in time to have answered by the end of the window.
            let is_early = self.now < ask_at;
            if !is_early {
                self.confirm(&silence.missed_by, silence.quorum, ask_at);
            }
            // A window that is longer for what others miss may be shorter soon.
            let next = if is_early { ask_at } else { due };
            let soon = self.now + CLIMATE * 2;
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
        if self.now < due || !(agreed || silence.over <= self.now) {
            let answered = self.now + rules.ping_patience;
            self.look_again(index, if is_confirmed { silence.over } else { answered });
            return;
        }
        // Others may have fallen silent a moment ago; and a refusal is no silence.
        if !(silence.gone && agreed) && self.climate_within(rules.reckoning_age).forbids() {
            self.look_again(index, self.now);
            return;
        }
        self.conclude_offline(index, silence, agreed);
    }

    /// Nobody hears the node for so long that it is gone: its observers agreed, or there are none that can tell.
    fn conclude_offline(&mut self, index: NodeIndex, silence: &Silence, agreed: bool) {
        let (wall, span) = (self.wall_now(), Span(self.now.since(silence.last_heard)));
        let node = &self.registry[index];
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
        let rules = self.config.rules;
        let is_damped = self.registry[index].cause == Cause::Flapping;
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

    /// True when its agent said that it stands still again and again.
    pub(super) fn is_strained(&self, index: NodeIndex) -> bool {
        self.registry[index].health.strained || self.findings.is(FindingKind::Starved, index)
    }

    /// True when somebody heard it lately though it was in doubt: nobody may hear it for a while, and it is there.
    fn is_erratic(&self, index: NodeIndex) -> bool {
        let heard = self.registry[index].erratic;
        heard.is_some_and(|at| self.now.since(at) < self.config.rules.erratic_for)
    }

    /// True when a node that is not online is heard by the coordinator itself.
    fn is_steady(&mut self, index: NodeIndex) -> bool {
        let silent = self.now.since(self.heard_at(index)) >= self.silence_limit(index);
        let node = &mut self.registry[index];
        if silent {
            node.steady_since = None;
        }
        node.steady_since.is_some()
    }

    /// Takes in that a node was silent since then, and is not any more. While this process stood still nobody was.
    pub(super) fn note_gap(&mut self, index: NodeIndex, since: Time) {
        let now = self.now;
        let gap = now.since(since.max(self.resumed_at));
        let (longest, at) = &mut self.registry[index].gap;
        if gap >= *longest || now.since(*at) >= self.config.rules.gaps_for {
            (*longest, *at) = (gap, now);
        }
    }

    /// How long a node's silence is waited for where nobody can tell: as the grace period says, and longer where it was silent for nearly so long
    /// before, or where most probes are missed.
    fn patience(&mut self, index: NodeIndex) -> Duration {
        let rules = self.config.rules;
        // Where others could tell, it is waited for what they say, also while none of them can be counted on.
        let others = !self.mesh.observers_of(index).is_empty();
        let mut grace = self.config.suspect_grace * if others { rules.wait_for_others } else { 1 };
        if self.registry[index].record.admission != Admission::Admitted {
            // Nobody probes it, and nothing waits for a verdict on it.
            grace = grace.max(self.config.restart_grace);
        }
        let (longest, at) = self.registry[index].gap;
        let was_silent = match self.now.since(at) < rules.gaps_for {
            true => (longest * rules.gaps).min(rules.longest_gap),
            false => Duration::ZERO,
        };
        let longer = self.stretch().clamp(1.0, rules.longest_grace);
        grace.mul_f64(longer).max(was_silent)
    }

    /// Looks again at `at`, or soon: what others are may change the verdict.
    fn look_again(&mut self, index: NodeIndex, at: Time) {
        let soon = self.now + LOOK_AGAIN;
        let at = if at > self.now { at.min(soon) } else { soon };
        self.look_later(index, at);
    }

    /// That the node asked for its standing by way of a peer, as evidence.
    fn asked_by_way(&self, index: NodeIndex) -> Option<Evidence> {
        let (via, at) = self.relayed(index)?;
        let fact = format!("passed on its question {} ago", Span(self.now.since(at)));
        Some(Evidence::new(self.wall.at(at), self.registry[via].name(), fact))
    }

    /// What observers see, as evidence.
    fn told(&self, tally: &Tally) -> Vec<Evidence> {
        let wall = self.wall_now();
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
            .map(|(observer, sight)| Evidence::new(wall, self.registry[observer].name(), sight.meaning()))
            .collect()
    }
}
