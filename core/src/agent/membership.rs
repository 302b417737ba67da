//! Membership: the lease of this node, renewed by its own session or through peers, and
//! questions of peers.
//!
//! A lease starts when the agent asked, by its own clock: when it sent the heartbeat that the coordinator confirms,
//! or the question that a peer forwarded. Late, repeated or replayed messages therefore extend nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    ctx::Ctx,
    io::{Effect, Notice},
    probes::Probes,
    timer::Timer,
};
use crate::{
    id::{ClusterId, Epoch, NodeId},
    protocol::FromAgent,
    standing::{self, HOPS, Question, SINGLETON, Standing},
    time::Time,
};

/// Delay after the end of a session until peers are asked, and interval of further questions.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Maximum time for a peer to answer.
const ASK_PATIENCE: Duration = Duration::from_millis(900);

/// Maximum number of unconfirmed heartbeats whose sending is remembered.
const BEATS: usize = 64;

/// Maximum number of pending questions of peers; further ones are rejected.
const QUESTIONS: usize = 64;

/// Maximum time for which a peer's question is pending; its asker waits no longer.
const QUESTION_PATIENCE: Duration = Duration::from_secs(3);

/// Time after which a peer's unanswered question is also forwarded to another peer: the session may be lost
/// without notice.
const PASS_ON: Duration = Duration::from_millis(250);

/// Time after which unacknowledged evidence is considered stuck: peers are then asked to deliver it.
const STUCK: Duration = Duration::from_secs(2);

/// State of the membership.
#[derive(Debug, Default)]
pub(super) struct Membership {
    /// Lease of the last welcome; zero before the first.
    lease: Duration,
    cycle: Duration,
    /// Time at which the current session's hello was sent.
    greeted: Time,
    /// Unconfirmed heartbeats of this session: number and time of sending.
    beats: VecDeque<(u64, Time)>,
    /// End of the lease; `None` before the first welcome.
    until: Option<Time>,
    /// End of the singletons' lease.
    lent: Option<Time>,
    /// Whether the end of the lease was reported.
    lapsed: bool,
    /// Time of the coordinator's last message, or of the session's end.
    heard: Time,
    /// Time since which evidence is unacknowledged.
    waiting: Option<Time>,
    /// Pending question and its time.
    asked: Option<(u64, Time)>,
    /// Counter of questions, own and forwarded.
    numbers: u64,
    /// Next peer to be asked, and the peer that answered last, which takes precedence.
    turn: usize,
    way: Option<NodeId>,
    /// Standing last received through a peer since the session was lost.
    told: Option<Standing>,
    timer: u64,
    /// Pending questions of others by number; one per asker.
    questions: BTreeMap<u64, Taken>,
}

/// A pending question of another node.
#[derive(Debug)]
struct Taken {
    /// Identifier given by the driver.
    id: u64,
    at: Time,
    question: Box<Question>,
}

/// Effects of a peer's answer.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(super) struct Answered {
    /// Set when the lease is extended.
    pub(super) is_extended: bool,
    /// The standing when it differs from the previous one.
    pub(super) news: Option<Standing>,
}

impl Membership {
    /// End of the singletons' lease; `None` before the first welcome.
    pub(super) fn lent(&self) -> Option<Time> {
        self.lent
    }

    /// Returns whether this node's lease has not expired.
    pub(super) fn is_member(&self, now: Time) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    /// Records a sent hello.
    pub(super) fn greeted(&mut self, now: Time) {
        self.greeted = now;
        self.beats.clear();
    }

    /// Records a sent heartbeat.
    pub(super) fn beaten(&mut self, now: Time, sequence: u64) {
        if self.beats.len() >= BEATS {
            self.beats.pop_front();
        }
        self.beats.push_back((sequence, now));
    }

    /// Starts a session; extends the lease from the hello.
    pub(super) fn new_session(&mut self, ctx: &mut Ctx, lease: Duration, cycle: Duration) {
        (self.lease, self.cycle) = (lease, cycle);
        (self.told, self.asked) = (None, None);
        self.heard(ctx);
        self.extend(ctx.now, self.greeted, lease);
    }

    /// Handles the confirmation of a heartbeat. Returns true when it extends the lease.
    #[must_use]
    pub(super) fn confirmed(&mut self, ctx: &mut Ctx, sequence: u64) -> bool {
        let mut sent = None;
        while let Some(&(number, at)) = self.beats.front()
            && number <= sequence
        {
            sent = Some(at);
            self.beats.pop_front();
        }
        self.heard(ctx);
        if let Some(sent) = sent {
            self.extend(ctx.now, sent, self.lease);
        }
        sent.is_some()
    }

    /// Restarts the coordinator's silence: it was heard, or a live session was lost.
    pub(super) fn heard(&mut self, ctx: &mut Ctx) {
        self.heard = ctx.now;
        self.look(ctx);
    }

    /// Records sent evidence that awaits acknowledgement.
    pub(super) fn sent(&mut self, ctx: &mut Ctx) {
        if self.waiting.is_none() {
            self.waiting = Some(ctx.now);
            self.look(ctx);
        }
    }

    /// Clears pending evidence: it was acknowledged, or a session starts.
    pub(super) fn noted(&mut self) {
        self.waiting = None;
    }

    /// Handles a suspension of the host: earlier requests extend nothing any more.
    pub(super) fn slept(&mut self, ctx: &mut Ctx) {
        self.beats.clear();
        (self.lent, self.asked) = (None, None);
        // A hello sent before the suspension is equally old.
        if ctx.link.conn.is_none() {
            self.greeted = Time::default();
        }
        self.end(ctx);
    }

    /// Ends the lease: another node has its place, or it was given up.
    fn end(&mut self, ctx: &mut Ctx) {
        let until = self.until.unwrap_or(ctx.now);
        self.until = Some(until.min(ctx.now));
        self.look(ctx);
    }

    /// Ends the lease on a refusal, which needs no further notice.
    pub(super) fn expelled(&mut self, ctx: &mut Ctx) {
        self.lapsed = true;
        self.end(ctx);
    }

    fn extend(&mut self, now: Time, asked: Time, lease: Duration) {
        let until = asked + lease;
        self.until = Some(self.until.map_or(until, |before| before.max(until)));
        self.lent = self.lent.max(Some(asked + lease * SINGLETON));
        if until > now {
            self.lapsed = false;
        }
    }

    /// Time at which peers are asked: the coordinator is silent, or does not acknowledge evidence.
    fn quiet_at(&self, ctx: &Ctx) -> Time {
        let quiet = match ctx.link.conn {
            Some(_) => standing::quiet(self.cycle, ctx.link.interval),
            None => ASK_EVERY,
        };
        let quiet_at = self.heard + quiet;
        self.waiting.map_or(quiet_at, |since| (since + STUCK).min(quiet_at))
    }

    /// Schedules the next check.
    pub(super) fn look(&mut self, ctx: &mut Ctx) {
        let (now, quiet_at) = (ctx.now, self.quiet_at(ctx));
        let ask = if quiet_at > now { quiet_at } else { now + ASK_EVERY };
        let lapse = self.until.filter(|_| !self.lapsed);
        self.timer += 1;
        let timer = Timer::Membership(self.timer);
        ctx.timers.set(lapse.map_or(ask, |lapse| lapse.min(ask)), timer);
    }

    /// Checks the coordinator's silence and the lease. Returns true when a peer was asked.
    #[must_use]
    pub(super) fn check(&mut self, ctx: &mut Ctx, probes: &Probes, token: u64) -> bool {
        if self.timer != token {
            return false;
        }
        let ran_out = self.until.is_some_and(|until| until <= ctx.now);
        if ran_out && !std::mem::replace(&mut self.lapsed, true) {
            ctx.tell(Notice::Lapsed);
        }
        let asked = self.quiet_at(ctx) <= ctx.now && self.ask_a_peer(ctx, probes);
        self.look(ctx);
        asked
    }

    fn ask_a_peer(&mut self, ctx: &mut Ctx, probes: &Probes) -> bool {
        let now = ctx.now;
        if self.asked.is_some_and(|(_, at)| now.since(at) < ASK_PATIENCE) {
            return false;
        }
        self.numbers += 1;
        let number = self.numbers;
        let question = Question {
            asker: ctx.config.facts.id,
            incarnation: ctx.config.incarnation,
            path: Vec::new(),
            observations: probes.observations(now),
        };
        let passed = self.pass(ctx, probes, number, question);
        if passed {
            self.asked = Some((number, now));
        }
        passed
    }

    /// Forwards a question to a peer: the one that answered last, then each in turn. Returns false when no heard peer is left.
    fn pass(&mut self, ctx: &mut Ctx, probes: &Probes, number: u64, question: Question) -> bool {
        let Some(cluster) = probes.cluster() else {
            return false;
        };
        let heard = probes.heard().filter(|(id, _)| !question.passed(*id));
        let heard: Vec<(NodeId, Arc<str>)> = heard.map(|(id, address)| (id, Arc::clone(address))).collect();
        let known = heard.iter().position(|(id, _)| Some(*id) == self.way);
        let turn = known.unwrap_or(self.turn % heard.len().max(1));
        let Some((via, address)) = heard.into_iter().nth(turn) else {
            return false;
        };
        // Unset until the peer answers again.
        self.way = None;
        self.turn = self.turn.wrapping_add(1);
        ctx.effects.push_back(Effect::Ask {
            cluster,
            via,
            address,
            question: Box::new(question),
            number,
            timeout: ASK_PATIENCE,
        });
        true
    }

    /// Forwards a peer's question that the coordinator has not answered.
    pub(super) fn pass_on(&mut self, ctx: &mut Ctx, probes: &Probes, number: u64) {
        let Some(taken) = self.questions.get(&number) else {
            return;
        };
        let mut question = Question::clone(&taken.question);
        question.path.push(ctx.config.facts.id);
        if question.path.len() < HOPS && self.pass(ctx, probes, number, question) {
            return;
        }
        // The coordinator may still answer.
        if ctx.link.conn.is_none() {
            self.give_back(ctx, number, None);
        }
    }

    /// Answers a peer's question.
    pub(super) fn give_back(&mut self, ctx: &mut Ctx, number: u64, standing: Option<Standing>) {
        if let Some(Taken { id, .. }) = self.questions.remove(&number) {
            ctx.effects.push_back(Effect::Answer { id, standing });
        }
    }

    /// Handles the result of a question; `None` when it was another node's or has no effect. Otherwise a [`look`](Self::look) follows.
    pub(super) fn answered(
        &mut self,
        ctx: &mut Ctx,
        epoch: Epoch,
        number: u64,
        via: NodeId,
        standing: Option<Standing>,
    ) -> Option<Answered> {
        if standing.is_some() {
            self.way = Some(via);
        }
        if self.questions.contains_key(&number) {
            if standing.is_some() || ctx.link.conn.is_none() {
                self.give_back(ctx, number, standing);
            }
            return None;
        }
        let (_, asked) = self.asked.take_if(|(asked, _)| *asked == number)?;
        // A standing from an older coordinator is outdated.
        let standing = standing.filter(|standing| standing.epoch >= epoch)?;
        let is_new = self.told.replace(standing) != Some(standing);
        let is_extended = !standing.lease.is_zero();
        if is_extended {
            self.extend(ctx.now, asked, standing.lease);
        } else {
            self.end(ctx);
        }
        Some(Answered {
            is_extended,
            news: is_new.then_some(standing),
        })
    }

    /// Handles a peer's question for its own or another node's standing; `id` identifies it for the driver. The peer `is_observer` when it
    /// states that it probes this node.
    pub(super) fn question(
        &mut self,
        ctx: &mut Ctx,
        probes: &Probes,
        is_observer: bool,
        id: u64,
        cluster: ClusterId,
        question: Box<Question>,
    ) {
        let now = ctx.now;
        let knows = is_observer || probes.sight_of(question.peer()).is_some();
        self.questions
            .retain(|_, taken| now.since(taken.at) < QUESTION_PATIENCE);
        let mut of_others = self.questions.values().map(|taken| taken.question.asker);
        let busy = self.questions.len() >= QUESTIONS || of_others.any(|asker| asker == question.asker);
        let goes_round = question.passed(ctx.config.facts.id) || question.path.len() >= HOPS;
        if !knows || busy || goes_round || probes.cluster() != Some(cluster) {
            ctx.effects.push_back(Effect::Answer { id, standing: None });
            return;
        }
        self.numbers += 1;
        let number = self.numbers;
        let taken = Taken {
            id,
            at: now,
            question: question.clone(),
        };
        self.questions.insert(number, taken);
        match ctx.link.conn {
            Some(conn) => {
                let report = FromAgent::Question {
                    number,
                    question,
                    sent_millis: now.millis(),
                };
                ctx.send(conn, report);
                ctx.timers.set(now + PASS_ON, Timer::PassOn(number));
            }
            None => self.pass_on(ctx, probes, number),
        }
    }
}
