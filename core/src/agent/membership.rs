//! Membership: how long this node may take itself for a member, whether by its own session or by way of its peers; and
//! answering peers that ask.
//!
//! A lease counts from when the agent asked, by its own clock: from the sending of the heartbeat that the coordinator says it
//! got, or of the question that a peer took to it. What is late, repeated or replayed therefore extends nothing.

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
    id::{ClusterId, NodeId},
    protocol::Report,
    standing::{self, HOPS, Question, SINGLETON, Standing},
    time::Time,
};

/// After the end of a session peers are asked when no new one stands by then; and then again and again.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How long a peer may take to answer.
const ASK_PATIENCE: Duration = Duration::from_millis(900);

/// Heartbeats whose sending is remembered; a lease counts from older ones no more.
const BEATS: usize = 64;

/// Peers' questions that are under way at most; a further one is not taken.
const QUESTIONS: usize = 64;

/// How long a question may be under way; its asker waits no longer.
const QUESTION_PATIENCE: Duration = Duration::from_secs(3);

/// How long the coordinator may take to answer a peer's question before it is passed on to another peer as well: the session may be lost, and
/// nobody has noticed.
const PASS_ON: Duration = Duration::from_millis(250);

/// Evidence that is not noted for so long may be stuck: peers are asked to bring it, too.
const STUCK: Duration = Duration::from_secs(2);

/// What the agent knows of its membership.
#[derive(Debug, Default)]
pub(super) struct Membership {
    /// From the welcome; zero before the first.
    lease: Duration,
    cycle: Duration,
    /// When the hello of the session under way was sent.
    greeted: Time,
    /// Heartbeats of this session that were not confirmed: number and sending.
    beats: VecDeque<(u64, Time)>,
    /// It is a member until then; `None` before its first welcome.
    until: Option<Time>,
    /// Singletons may run until then.
    lent: Option<Time>,
    /// The lease ran out, and that was told.
    lapsed: bool,
    /// When the session was last heard, or ended.
    heard: Time,
    /// Since when the coordinator has not noted anything, though evidence was sent.
    waiting: Option<Time>,
    /// The question under way, and when it was asked.
    asked: Option<(u64, Time)>,
    /// Numbers of questions, its own and those that it took on.
    numbers: u64,
    /// Whose turn it is to be asked, and who answered last: that one is asked first.
    turn: usize,
    way: Option<NodeId>,
    /// What was last told by way of a peer since the session was lost.
    told: Option<Standing>,
    timer: u64,
    /// Questions of others that are under way, by our number; one of each asker.
    questions: BTreeMap<u64, Taken>,
}

/// A question that was taken on.
#[derive(Debug)]
struct Taken {
    /// The driver's number.
    id: u64,
    at: Time,
    question: Box<Question>,
}

/// What a peer's answer changes.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(super) struct Answered {
    /// The lease was extended.
    pub(super) is_extended: bool,
    /// What the coordinator said when that is not what it said before.
    pub(super) news: Option<Standing>,
}

impl Membership {
    /// Until when singletons may run here; `None` before the first welcome.
    pub(super) fn lent(&self) -> Option<Time> {
        self.lent
    }

    /// True while this node may take itself for a member: its lease has not run out.
    pub(super) fn is_member(&self, now: Time) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    /// A hello was sent.
    pub(super) fn greeted(&mut self, now: Time) {
        self.greeted = now;
        self.beats.clear();
    }

    /// A heartbeat was sent.
    pub(super) fn beaten(&mut self, now: Time, sequence: u64) {
        if self.beats.len() >= BEATS {
            self.beats.pop_front();
        }
        self.beats.push_back((sequence, now));
    }

    /// The coordinator welcomed this node, in answer to the hello: the lease is extended.
    pub(super) fn new_session(&mut self, ctx: &mut Ctx, lease: Duration, cycle: Duration) {
        (self.lease, self.cycle) = (lease, cycle);
        (self.told, self.asked) = (None, None);
        self.heard(ctx);
        self.extend(ctx.now, self.greeted, lease);
    }

    /// The coordinator got this heartbeat, says a seal. True when that extends the lease.
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

    /// The coordinator is heard by the session; or a session that stood is lost: peers are asked unless a new one stands soon.
    pub(super) fn heard(&mut self, ctx: &mut Ctx) {
        self.heard = ctx.now;
        self.look(ctx);
    }

    /// Evidence was sent: the coordinator is to note it.
    pub(super) fn sent(&mut self, ctx: &mut Ctx) {
        if self.waiting.is_none() {
            self.waiting = Some(ctx.now);
            self.look(ctx);
        }
    }

    /// The coordinator has noted what was sent; or a session begins, in which nothing was.
    pub(super) fn noted(&mut self) {
        self.waiting = None;
    }

    /// Time went by unnoticed: what was asked before it extends nothing any more.
    pub(super) fn slept(&mut self, ctx: &mut Ctx) {
        self.beats.clear();
        (self.lent, self.asked) = (None, None);
        // A hello that was sent before is as old.
        if ctx.link.conn.is_none() {
            self.greeted = Time::default();
        }
        self.end(ctx);
    }

    /// This node is no member: another one has its place, or it was given up.
    fn end(&mut self, ctx: &mut Ctx) {
        let until = self.until.unwrap_or(ctx.now);
        self.until = Some(until.min(ctx.now));
        self.look(ctx);
    }

    /// The coordinator said that this node is no member, and why: that the lease is over then needs no further notice.
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

    /// When peers are asked, unless the coordinator says something before: it is silent, or notes nothing of what this agent tells it.
    fn quiet_at(&self, ctx: &Ctx) -> Time {
        let quiet = match ctx.link.conn {
            Some(_) => standing::quiet(self.cycle, ctx.link.interval),
            None => ASK_EVERY,
        };
        let quiet_at = self.heard + quiet;
        self.waiting.map_or(quiet_at, |since| (since + STUCK).min(quiet_at))
    }

    /// Sets the next look.
    pub(super) fn look(&mut self, ctx: &mut Ctx) {
        let (now, quiet_at) = (ctx.now, self.quiet_at(ctx));
        let ask = if quiet_at > now { quiet_at } else { now + ASK_EVERY };
        let lapse = self.until.filter(|_| !self.lapsed);
        self.timer += 1;
        let timer = Timer::Membership(self.timer);
        ctx.timers.set(lapse.map_or(ask, |lapse| lapse.min(ask)), timer);
    }

    /// Asks a peer when the coordinator is not heard, and notices that the lease ran out. True when one was asked.
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

    /// Has a peer take a question on; false when none is heard that has not had it. The one that answered last comes first, then each in turn.
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
        // Until it answers again.
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

    /// Passes on what a peer asked, when the coordinator has not answered it.
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

    /// Gives a peer what the coordinator said.
    pub(super) fn give_back(&mut self, ctx: &mut Ctx, number: u64, standing: Option<Standing>) {
        if let Some(Taken { id, .. }) = self.questions.remove(&number) {
            ctx.effects.push_back(Effect::Answer { id, standing });
        }
    }

    /// What came of a question to a peer; `None` when that was another's, or nothing came of it. A [`look`](Self::look) follows otherwise.
    pub(super) fn answered(
        &mut self,
        ctx: &mut Ctx,
        epoch: u64,
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
        // One of an older coordinator says nothing of now.
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

    /// A peer asks for a standing, its own or another node's; `id` names the question for the driver. The peer `is_observer` when it said that it
    /// probes this node.
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
                let report = Report::Question {
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
