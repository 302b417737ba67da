//! Evidence: what nodes say of themselves and of their peers, whom the coordinator asks, and whose word counts.
//!
//! The session is one observer among others. A peer that misses a node says so at once; the coordinator then asks the node
//! itself ([`Message::Ping`]). What follows from all of it is concluded in `verdict.rs`.

use std::time::Duration;

use super::{Coordinator, Message};
use crate::{
    id::NodeId,
    mesh::{FindingKind, Observation, Sight, Tally},
    node::{ConnId, Health, Liveness, NodeIndex},
    standing,
    time::Time,
};

/// An observer that misses a node for longer while the node is there is cut off from it.
const APART: Duration = Duration::from_secs(5);

impl Coordinator {
    /// The node that says something of its peers, if it has a session.
    pub(super) fn witness(&mut self, conn: ConnId, what: &str) -> Option<NodeIndex> {
        let Some(observer) = self.ctx.registry.of_conn(conn) else {
            self.no_session(conn, what);
            return None;
        };
        if self.ctx.registry[observer].live_session().is_none() {
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
        self.ctx.send(conn, Message::Noted);
        if !self.may_say(receiver, arrivals.len()) {
            return;
        }
        for &(sender, arrives) in arrivals {
            // Of those that are no longer in the plan, or not yet, nothing is said.
            let Some(sender) = self.ctx.registry.find(sender) else {
                continue;
            };
            let paired = self.mesh.arrive(receiver, sender, arrives, self.ctx.clock.now);
            if paired && arrives && self.ctx.registry[sender].liveness.is_in_doubt() && self.counts(receiver) {
                self.ctx.registry[sender].erratic = Some(self.ctx.clock.now);
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
        self.ctx.send(conn, Message::Noted);
        let at = self.sent_at(observer, sent_millis);
        if let Some(health) = health {
            self.ctx.registry[observer].health = health;
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
        let now = self.ctx.clock.now;
        let node = &mut self.ctx.registry[index];
        let session = node.session.as_mut();
        let at = session.map_or(now, |session| session.transit.sent_at(now, sent_millis));
        node.said = node.said.max(at);
        at
    }

    /// Notes what an observer said `at` that moment of a subject, which may be what it said before. False when the plan does not have it
    /// probe that node.
    pub(super) fn sees(&mut self, observer: NodeIndex, subject: NodeId, observation: Observation, at: Time) -> bool {
        let Some(subject) = self.ctx.registry.find(subject) else {
            return false;
        };
        let missed_it = self.mesh.misses(observer, subject);
        let heard_before = self.last_sign(subject);
        if !self.mesh.observe(observer, subject, observation, at) {
            return false;
        }
        let is_heard = observation.sight == Sight::Heard;
        match self.ctx.registry[subject].liveness {
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
    pub(super) fn last_sign(&self, index: NodeIndex) -> Time {
        let observers = self.mesh.observers_of(index).iter();
        let heard = observers
            .filter_map(|&observer| self.mesh.last_heard(observer, index))
            .max();
        heard.unwrap_or_default().max(self.heard_at(index))
    }

    /// A node in doubt was heard `at` that moment, after so long: most of its packets may be lost.
    pub(super) fn note_lull(&mut self, index: NodeIndex, lull: Duration, at: Time) {
        let longest = self.lull(index);
        let node = &mut self.ctx.registry[index];
        node.erratic = Some(at);
        if lull >= longest {
            node.lull = (lull, at);
        }
    }

    /// The longest that nobody heard a node of late while it was there.
    pub(super) fn lull(&self, index: NodeIndex) -> Duration {
        let (lull, at) = self.ctx.registry[index].lull;
        let lately = self.ctx.clock.now.since(at) < self.ctx.config.rules.lulls_for;
        if lately { lull } else { Duration::ZERO }
    }

    /// A node gave a sign of life.
    pub(super) fn hear(&mut self, index: NodeIndex) {
        let now = self.ctx.clock.now;
        let node = &mut self.ctx.registry[index];
        (node.last_seen, node.asked) = (Some(now), None);
    }

    /// Asks a node itself, unless it was asked and has not answered yet.
    pub(super) fn ask(&mut self, index: NodeIndex) {
        let now = self.ctx.clock.now;
        let node = &mut self.ctx.registry[index];
        let Some(conn) = node.live_session().map(|session| session.conn) else {
            return;
        };
        if node.pinged.is_none() {
            self.pings += 1;
            let number = self.pings;
            node.pinged = Some((number, now));
            self.ctx.send(conn, Message::Ping { number });
        }
        let node = &mut self.ctx.registry[index];
        if node.asked.is_none() {
            node.asked = Some(now);
            if node.liveness == Liveness::Online {
                self.look_at_online(index);
            }
        }
    }

    /// A heartbeat came that answers this ping, and followed all that the agent had to say of its peers by then.
    pub(super) fn answered(&mut self, observer: NodeIndex, answers: Option<u64>) {
        let now = self.ctx.clock.now;
        let node = &mut self.ctx.registry[observer];
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
    pub(super) fn confirm(&mut self, missed_by: &[NodeIndex], quorum: usize, since: Time) -> bool {
        let is_late = |observer: &&NodeIndex| self.ctx.registry[**observer].confirmed < since;
        let late: Vec<NodeIndex> = missed_by.iter().filter(is_late).copied().collect();
        let confirmed = missed_by.len() - late.len();
        for observer in late {
            self.ask(observer);
        }
        confirmed >= quorum
    }

    /// When a node was asked, if it has had so much time to answer and did not.
    pub(super) fn unanswered(&self, index: NodeIndex, patience: Duration) -> Option<Time> {
        let asked = self.ctx.registry[index].asked?.max(self.ctx.clock.resumed_at);
        (self.ctx.clock.now.since(asked) >= patience).then_some(asked)
    }

    /// True when what the node says of others can be counted on: it is heard, not itself in doubt, and no bad observer.
    pub(super) fn counts(&self, observer: NodeIndex) -> bool {
        self.is_heard_well(observer) && !self.is_strained(observer)
    }

    /// True when the node is believed that it hears others. One that stands still again and again may miss those who live, but hears nobody who
    /// is dead; and one that only its peers reach says with its questions whom it hears.
    pub(super) fn vouches(&self, observer: NodeIndex) -> bool {
        let word = self
            .ctx
            .clock
            .now
            .since(self.ctx.registry[observer].said.max(self.ctx.clock.resumed_at))
            < self.word_wait(observer);
        (self.is_heard_well(observer) && word) || (self.is_reached(observer) && !self.is_distrusted(observer))
    }

    /// How long the newest word of an observer stands, and is waited for: by then it has asked by way of its peers, had it lost the coordinator.
    pub(super) fn word_wait(&self, observer: NodeIndex) -> Duration {
        standing::quiet(self.ctx.config.cycle, self.heartbeat_interval(observer)) + self.ctx.config.rules.word_margin
    }

    /// True when the coordinator hears the node itself, and believes it.
    pub(super) fn is_heard_well(&self, index: NodeIndex) -> bool {
        self.is_heard(index)
            && self.unanswered(index, self.ctx.config.rules.word_patience).is_none()
            && !self.is_distrusted(index)
    }

    /// True when the word of an observer is missing that lives, as its own observers say, and that heard the node when it could last tell: there may
    /// be a way to the node that leads over it.
    pub(super) fn is_a_word_missing(&self, index: NodeIndex, last_heard: Time) -> bool {
        let observers = self.mesh.observers_of(index).iter().copied();
        observers
            .filter(|&observer| self.mesh.hears(observer, index))
            .filter(|&observer| !self.vouches(observer) && !self.is_distrusted(observer))
            .filter(|&observer| self.ctx.clock.now.since(last_heard) < self.word_wait(observer))
            .any(|observer| !self.tally(observer).heard.is_empty())
    }

    /// True when the coordinator hears the node, whether it is online again already or not.
    pub(super) fn is_heard(&self, index: NodeIndex) -> bool {
        let node = &self.ctx.registry[index];
        let may_be = node.liveness == Liveness::Online || node.steady_since.is_some();
        may_be && self.ctx.clock.now.since(self.heard_at(index)) < self.silence_limit(index)
    }

    /// True when most of those who can tell of a node hear it, and some have spoken since it fell silent itself.
    pub(super) fn is_vouched_for(&self, index: NodeIndex) -> bool {
        let tally = self.tally(index);
        let since = self.heard_at(index) + self.ctx.config.rules.window;
        let spoke = |observer: &&NodeIndex| self.ctx.registry[**observer].said >= since;
        tally.heard.iter().filter(spoke).count() > tally.lost()
    }

    /// True when the coordinator does not hear a node that it should hear.
    pub(super) fn is_silent(&self, index: NodeIndex) -> bool {
        self.ctx.registry[index].liveness.is_in_doubt() && !self.is_heard(index)
    }

    /// What the observers see that can be counted on.
    pub(super) fn tally(&self, index: NodeIndex) -> Tally {
        let is_deaf = |observer| self.ctx.config.rules.skip_deaf && self.mesh.is_deaf(observer, index);
        let counts = |observer| self.counts(observer) && !is_deaf(observer);
        let mut tally = self.mesh.tally(index, counts, |observer| self.vouches(observer));
        // Who hears nobody now has no voice, but heard it when it says it did.
        let deaf = self.mesh.observers_of(index).iter().copied();
        let deaf = deaf.filter(|&observer| is_deaf(observer) && self.counts(observer));
        let heard = deaf.filter_map(|observer| self.mesh.last_heard(observer, index)).max();
        tally.last_heard = tally.last_heard.max(heard.unwrap_or_default());
        tally
    }

    /// True when an observer had missed a node for long while it was `there`: it is cut off from it, and knows nothing of it.
    pub(super) fn is_apart(&self, observer: NodeIndex, index: NodeIndex, there: Time) -> bool {
        let missed_for = there.since(self.mesh.last_heard(observer, index).unwrap_or_default());
        missed_for >= APART.max(self.lull(index) * self.ctx.config.rules.lulls)
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

    /// True when its agent said that it stands still again and again.
    pub(super) fn is_strained(&self, index: NodeIndex) -> bool {
        self.ctx.registry[index].health.strained || self.findings.is(FindingKind::Starved, index)
    }

    /// Takes in that a node was silent since then, and is not any more. While this process stood still nobody was.
    pub(super) fn note_gap(&mut self, index: NodeIndex, since: Time) {
        let now = self.ctx.clock.now;
        let gap = now.since(since.max(self.ctx.clock.resumed_at));
        let (longest, at) = &mut self.ctx.registry[index].gap;
        if gap >= *longest || now.since(*at) >= self.ctx.config.rules.gaps_for {
            (*longest, *at) = (gap, now);
        }
    }
}
