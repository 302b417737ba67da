//! Evidence: reports of nodes about themselves and their peers, the coordinator's own pings, and whose reports count.
//!
//! The session is one observer among others. A peer that misses a node reports it at once; the coordinator then pings
//! the node itself ([`Message::Ping`]). Verdicts are derived from the evidence in `verdict.rs`.

use std::time::Duration;

use super::{Guardian, Transition, verdict::Quiet};
use crate::{
    ctx::Ctx,
    id::NodeId,
    mesh::{FindingKind, LinkReport, Observation, Sight, Tally},
    node::{Liveness, NodeIndex},
    protocol::Message,
    standing,
    time::Time,
};

/// Duration for which an observer must miss a live node to be considered isolated from it.
const APART: Duration = Duration::from_secs(5);

impl Guardian {
    /// Records an observation that an observer reported `at` that time, which may repeat an earlier one. Returns
    /// whether the probe plan assigns the subject to the observer, and the resulting transition.
    #[must_use]
    pub(crate) fn sees(
        &mut self,
        ctx: &mut Ctx,
        observer: NodeIndex,
        subject: NodeId,
        observation: Observation,
        at: Time,
    ) -> (bool, Option<Transition>) {
        let Some(subject) = ctx.registry.find(subject) else {
            return (false, None);
        };
        let missed_it = self.mesh.misses(observer, subject);
        let heard_before = self.last_sign(ctx, subject);
        if !self.mesh.observe(observer, subject, observation, at) {
            return (false, None);
        }
        let is_heard = observation.sight == Sight::Heard;
        let concluded = match ctx.registry[subject].liveness() {
            // A repeated observation triggers no new ping.
            Liveness::Online if !is_heard && !missed_it => {
                self.ask(ctx, subject);
                self.doubt(ctx, subject)
            }
            Liveness::Suspect | Liveness::Unreachable => {
                if is_heard && missed_it {
                    self.note_lull(ctx, subject, at.since(heard_before), at);
                }
                self.judge(ctx, subject)
            }
            _ => None,
        };
        (true, concluded)
    }

    /// Records whether beacons of a sender reach a receiver.
    pub(crate) fn arrives(&mut self, ctx: &mut Ctx, receiver: NodeIndex, sender: NodeId, arrives: bool) {
        // Senders that are not in the current plan are ignored.
        let Some(sender) = ctx.registry.find(sender) else {
            return;
        };
        let paired = self.mesh.arrive(receiver, sender, arrives, ctx.clock.now);
        if paired && arrives && ctx.registry[sender].liveness().is_in_doubt() && self.counts(ctx, receiver) {
            ctx.registry[sender].erratic = Some(ctx.clock.now);
        }
    }

    /// Records a link report from an agent's heartbeat.
    pub(crate) fn reports(&mut self, ctx: &mut Ctx, observer: NodeIndex, subject: NodeId, report: &LinkReport) {
        let Some(subject) = ctx.registry.find(subject) else {
            return;
        };
        let (now, wall) = (ctx.clock.now, ctx.wall_now());
        if !self.mesh.report(observer, subject, report, now, wall) {
            self.unasked(ctx, observer);
        }
        self.check_report(ctx, observer, report);
    }

    /// Time at which a node was last heard by any observer or by the coordinator.
    pub(crate) fn last_sign(&self, ctx: &Ctx, index: NodeIndex) -> Time {
        let observers = self.mesh.observers_of(index).iter();
        let heard = observers
            .filter_map(|&observer| self.mesh.last_heard(observer, index))
            .max();
        heard.unwrap_or_default().max(ctx.heard_at(index))
    }

    /// Records that a node in doubt was heard `at` that time after a silence of `lull`; most of its packets may be
    /// lost.
    pub(crate) fn note_lull(&mut self, ctx: &mut Ctx, index: NodeIndex, lull: Duration, at: Time) {
        let longest = self.lull(ctx, index);
        let node = &mut ctx.registry[index];
        node.erratic = Some(at);
        if lull >= longest {
            node.lull = (lull, at);
        }
    }

    /// Longest recent silence of a node while it was alive.
    pub(crate) fn lull(&self, ctx: &Ctx, index: NodeIndex) -> Duration {
        let (lull, at) = ctx.registry[index].lull;
        let lately = ctx.clock.now.since(at) < ctx.config.rules.lulls_for;
        if lately { lull } else { Duration::ZERO }
    }

    /// Pings a node unless a ping is already outstanding.
    pub(crate) fn ask(&mut self, ctx: &mut Ctx, index: NodeIndex) {
        let now = ctx.clock.now;
        let node = &mut ctx.registry[index];
        let Some(conn) = node.live_session().map(|session| session.conn) else {
            return;
        };
        if node.pinged.is_none() {
            self.pings += 1;
            let number = self.pings;
            node.pinged = Some((number, now));
            ctx.send(conn, Message::Ping { number });
        }
        let node = &mut ctx.registry[index];
        if node.asked.is_none() {
            node.asked = Some(now);
            if node.liveness() == Liveness::Online {
                let answered_by = now + ctx.config.rules.ping_patience;
                let by = match self.weigh_silence(ctx, index) {
                    Quiet::Until(by) => by.min(answered_by),
                    Quiet::Unreachable(_) | Quiet::Suspect(..) => now,
                };
                self.look_later(ctx, index, by);
            }
        }
    }

    /// Handles a heartbeat that answers this ping and follows all of the agent's observations up to then. Returns the
    /// silent nodes whose verdict may change.
    #[must_use]
    pub(crate) fn answered(&mut self, ctx: &mut Ctx, observer: NodeIndex, answers: Option<u64>) -> Vec<NodeIndex> {
        let now = ctx.clock.now;
        let node = ctx.registry.heard(observer);
        let Some((number, at)) = node.pinged else {
            return Vec::new();
        };
        if answers.is_some_and(|answers| answers < number) {
            return Vec::new();
        }
        node.confirmed = if answers.is_some() { at } else { now };
        node.pinged = None;
        let doubtful = |subject: &NodeIndex| self.is_silent(ctx, *subject);
        self.mesh.subjects(observer).iter().copied().filter(doubtful).collect()
    }

    /// Pings those observers of a missing node that have not confirmed their observation since the given time. Returns
    /// whether a quorum has confirmed it.
    pub(crate) fn confirm(&mut self, ctx: &mut Ctx, missed_by: &[NodeIndex], quorum: usize, since: Time) -> bool {
        let is_late = |observer: &&NodeIndex| ctx.registry[**observer].confirmed < since;
        let late: Vec<NodeIndex> = missed_by.iter().filter(is_late).copied().collect();
        let confirmed = missed_by.len() - late.len();
        for observer in late {
            self.ask(ctx, observer);
        }
        confirmed >= quorum
    }

    /// Time at which a node was pinged, if it has not answered within `patience`.
    pub(crate) fn unanswered(&self, ctx: &Ctx, index: NodeIndex, patience: Duration) -> Option<Time> {
        let asked = ctx.registry[index].asked?.max(ctx.clock.resumed_at);
        (ctx.clock.now.since(asked) >= patience).then_some(asked)
    }

    /// Whether a node's observations of others are reliable: it is heard, is not in doubt itself, and is not a bad
    /// observer.
    pub(crate) fn counts(&self, ctx: &Ctx, observer: NodeIndex) -> bool {
        self.is_heard_well(ctx, observer) && !self.is_strained(ctx, observer)
    }

    /// Whether a node's claim to hear others is credible. A node that stalls repeatedly may miss live nodes but hears
    /// no dead ones; a node that only its peers reach reports whom it hears with its questions.
    pub(crate) fn vouches(&self, ctx: &Ctx, observer: NodeIndex) -> bool {
        let word = ctx
            .clock
            .now
            .since(ctx.registry[observer].said.max(ctx.clock.resumed_at))
            < self.word_wait(ctx, observer);
        (self.is_heard_well(ctx, observer) && word)
            || (self.is_reached(ctx, observer) && !self.is_distrusted(ctx, observer))
    }

    /// Time for which the newest report of an observer is valid and a missing one is awaited: an observer that lost the
    /// coordinator has asked via its peers by then.
    pub(crate) fn word_wait(&self, ctx: &Ctx, observer: NodeIndex) -> Duration {
        standing::quiet(ctx.config.cycle, ctx.heartbeat_interval(observer)) + ctx.config.rules.word_margin
    }

    /// Whether the coordinator hears the node itself and trusts it.
    pub(crate) fn is_heard_well(&self, ctx: &Ctx, index: NodeIndex) -> bool {
        self.is_heard(ctx, index)
            && self.unanswered(ctx, index, ctx.config.rules.word_patience).is_none()
            && !self.is_distrusted(ctx, index)
    }

    /// Whether the report of an observer is missing that is alive according to its own observers and heard the node
    /// when it could last report: the node may be reachable via that observer.
    pub(crate) fn is_a_word_missing(&self, ctx: &Ctx, index: NodeIndex, last_heard: Time) -> bool {
        let observers = self.mesh.observers_of(index).iter().copied();
        observers
            .filter(|&observer| self.mesh.hears(observer, index))
            .filter(|&observer| !self.vouches(ctx, observer) && !self.is_distrusted(ctx, observer))
            .filter(|&observer| ctx.clock.now.since(last_heard) < self.word_wait(ctx, observer))
            .any(|observer| !self.tally(ctx, observer).heard.is_empty())
    }

    /// Whether the coordinator hears the node, even if the node is not online again yet.
    pub(crate) fn is_heard(&self, ctx: &Ctx, index: NodeIndex) -> bool {
        let node = &ctx.registry[index];
        let may_be = node.liveness() == Liveness::Online || node.steady_since.is_some();
        may_be && ctx.clock.now.since(ctx.heard_at(index)) < ctx.silence_limit(index)
    }

    /// Whether most observers that can report on a node hear it, counting only those that reported since it fell silent
    /// towards the coordinator.
    pub(crate) fn is_vouched_for(&self, ctx: &Ctx, index: NodeIndex) -> bool {
        let tally = self.tally(ctx, index);
        let since = ctx.heard_at(index) + ctx.config.rules.window;
        let spoke = |observer: &&NodeIndex| ctx.registry[**observer].said >= since;
        tally.heard.iter().filter(spoke).count() > tally.lost()
    }

    /// Whether the coordinator does not hear a node that it should hear.
    pub(crate) fn is_silent(&self, ctx: &Ctx, index: NodeIndex) -> bool {
        ctx.registry[index].liveness().is_in_doubt() && !self.is_heard(ctx, index)
    }

    /// Reliable observations of a node.
    pub(crate) fn tally(&self, ctx: &Ctx, index: NodeIndex) -> Tally {
        let is_deaf = |observer| ctx.config.rules.skip_deaf && self.mesh.is_deaf(observer, index);
        let counts = |observer| self.counts(ctx, observer) && !is_deaf(observer);
        let mut tally = self.mesh.tally(index, counts, |observer| self.vouches(ctx, observer));
        // Observers that hear nobody have no vote, but the times at which they last heard the node count.
        let deaf = self.mesh.observers_of(index).iter().copied();
        let deaf = deaf.filter(|&observer| is_deaf(observer) && self.counts(ctx, observer));
        let heard = deaf.filter_map(|observer| self.mesh.last_heard(observer, index)).max();
        tally.last_heard = tally.last_heard.max(heard.unwrap_or_default());
        tally
    }

    /// Whether an observer had missed a node for long at the time it was `there`: it is isolated from the node and
    /// cannot report on it.
    pub(crate) fn is_apart(&self, ctx: &Ctx, observer: NodeIndex, index: NodeIndex, there: Time) -> bool {
        let missed_for = there.since(self.mesh.last_heard(observer, index).unwrap_or_default());
        missed_for >= APART.max(self.lull(ctx, index) * ctx.config.rules.lulls)
    }

    /// Whether most observers that can report miss a node that the coordinator hears.
    pub(crate) fn is_missed(&self, ctx: &Ctx, index: NodeIndex, tally: &Tally) -> bool {
        let there = ctx.heard_at(index);
        let silent = tally
            .silent
            .iter()
            .filter(|observer| !self.is_apart(ctx, **observer, index, there));
        silent.count() + tally.refused.len() > tally.heard.len()
    }

    /// Whether the node's agent reports that it stalls repeatedly.
    pub(crate) fn is_strained(&self, ctx: &Ctx, index: NodeIndex) -> bool {
        ctx.registry[index].health.strained || self.findings.is(FindingKind::Starved, index)
    }

    /// Records a period of silence of a node that has ended. Stalls of this process are excluded.
    pub(crate) fn note_gap(&mut self, ctx: &mut Ctx, index: NodeIndex, since: Time) {
        let now = ctx.clock.now;
        let gap = now.since(since.max(ctx.clock.resumed_at));
        let (longest, at) = &mut ctx.registry.heard(index).gap;
        if gap >= *longest || now.since(*at) >= ctx.config.rules.gaps_for {
            (*longest, *at) = (gap, now);
        }
    }
}
