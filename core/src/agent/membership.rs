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

use super::{Agent, Effect, Notice, Phase, Report, Timer};
use crate::{
    id::{ClusterId, NodeId},
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

impl Membership {
    /// Until when singletons may run here; `None` before the first welcome.
    pub(super) fn lent(&self) -> Option<Time> {
        self.lent
    }
}

impl Agent {
    /// A hello was sent.
    pub(super) fn greeted(&mut self) {
        self.membership.greeted = self.ctx.now;
        self.membership.beats.clear();
    }

    /// A heartbeat was sent.
    pub(super) fn beaten(&mut self, sequence: u64) {
        let beats = &mut self.membership.beats;
        if beats.len() >= BEATS {
            beats.pop_front();
        }
        beats.push_back((sequence, self.ctx.now));
    }

    /// The coordinator welcomed this node, in answer to the hello.
    pub(super) fn begin_membership(&mut self, lease: Duration, cycle: Duration) {
        let membership = &mut self.membership;
        (membership.lease, membership.cycle) = (lease, cycle);
        (membership.told, membership.asked) = (None, None);
        let asked = membership.greeted;
        self.heard_by_session();
        self.extend(asked, lease);
    }

    /// The coordinator got this heartbeat, says a seal.
    pub(super) fn confirmed(&mut self, sequence: u64) {
        let membership = &mut self.membership;
        let mut sent = None;
        while let Some(&(number, at)) = membership.beats.front()
            && number <= sequence
        {
            sent = Some(at);
            membership.beats.pop_front();
        }
        let lease = membership.lease;
        self.heard_by_session();
        if let Some(sent) = sent {
            self.extend(sent, lease);
        }
    }

    fn heard_by_session(&mut self) {
        self.membership.heard = self.ctx.now;
        self.look_at_membership();
    }

    /// A session that stood is lost: peers are asked unless a new one stands soon.
    pub(super) fn adrift(&mut self) {
        self.membership.heard = self.ctx.now;
        self.look_at_membership();
    }

    /// Time went by unnoticed: what was asked before it extends nothing any more.
    pub(super) fn slept(&mut self) {
        let membership = &mut self.membership;
        membership.beats.clear();
        (membership.lent, membership.asked) = (None, None);
        // A hello that was sent before is as old.
        if !matches!(self.phase, Phase::Live(_)) {
            membership.greeted = Time::default();
        }
        self.end_membership();
    }

    /// This node is no member: another one has its place, or it was given up.
    pub(super) fn end_membership(&mut self) {
        let until = self.membership.until.unwrap_or(self.ctx.now);
        self.membership.until = Some(until.min(self.ctx.now));
        self.look_at_membership();
    }

    /// The coordinator said that this node is no member, and why: that the lease is over then needs no further notice.
    pub(super) fn expelled(&mut self) {
        self.membership.lapsed = true;
        self.end_membership();
    }

    fn extend(&mut self, asked: Time, lease: Duration) {
        let membership = &mut self.membership;
        let until = asked + lease;
        membership.until = Some(membership.until.map_or(until, |before| before.max(until)));
        membership.lent = membership.lent.max(Some(asked + lease * SINGLETON));
        if until > self.ctx.now {
            membership.lapsed = false;
        }
        self.lend_all();
    }

    /// How long a coordinator may be silent before peers are asked.
    fn quiet(&self) -> Duration {
        match self.phase {
            Phase::Live(_) => standing::quiet(self.membership.cycle, self.heartbeats.interval()),
            _ => ASK_EVERY,
        }
    }

    /// When peers are asked, unless the coordinator says something before: it is silent, or notes nothing of what this agent tells it.
    fn quiet_at(&self) -> Time {
        let quiet_at = self.membership.heard + self.quiet();
        self.evidence
            .stuck_at()
            .map_or(quiet_at, |stuck_at| stuck_at.min(quiet_at))
    }

    /// Sets the next look.
    pub(super) fn look_at_membership(&mut self) {
        let (now, quiet_at) = (self.ctx.now, self.quiet_at());
        let membership = &mut self.membership;
        let ask = if quiet_at > now { quiet_at } else { now + ASK_EVERY };
        let lapse = membership.until.filter(|_| !membership.lapsed);
        membership.timer += 1;
        let timer = Timer::Membership(membership.timer);
        self.ctx.timers.set(lapse.map_or(ask, |lapse| lapse.min(ask)), timer);
    }

    /// Asks a peer when the coordinator is not heard, and notices that the lease ran out.
    pub(super) fn check_membership(&mut self, token: u64) {
        if self.membership.timer != token || matches!(self.phase, Phase::Stopped) {
            return;
        }
        let ran_out = self.membership.until.is_some_and(|until| until <= self.ctx.now);
        if ran_out && !std::mem::replace(&mut self.membership.lapsed, true) {
            self.ctx.tell(Notice::Lapsed);
        }
        if self.quiet_at() <= self.ctx.now {
            self.ask_a_peer();
        }
        self.look_at_membership();
    }

    fn ask_a_peer(&mut self) {
        let now = self.ctx.now;
        let membership = &mut self.membership;
        if membership.asked.is_some_and(|(_, at)| now.since(at) < ASK_PATIENCE) {
            return;
        }
        membership.numbers += 1;
        let number = membership.numbers;
        let question = Question {
            asker: self.ctx.config.facts.id,
            incarnation: self.ctx.config.incarnation,
            path: Vec::new(),
            observations: self.probes.observations(now),
        };
        if self.pass(number, question) {
            self.membership.asked = Some((number, now));
            self.retell_sights();
        }
    }

    /// Has a peer take a question on; false when none is heard that has not had it. The one that answered last comes first, then each in turn.
    fn pass(&mut self, number: u64, question: Question) -> bool {
        let Some(cluster) = self.probes.cluster() else {
            return false;
        };
        let heard = self.probes.heard().filter(|(id, _)| !question.passed(*id));
        let heard: Vec<(NodeId, Arc<str>)> = heard.map(|(id, address)| (id, Arc::clone(address))).collect();
        let membership = &mut self.membership;
        let known = heard.iter().position(|(id, _)| Some(*id) == membership.way);
        let turn = known.unwrap_or(membership.turn % heard.len().max(1));
        let Some((via, address)) = heard.into_iter().nth(turn) else {
            return false;
        };
        // Until it answers again.
        membership.way = None;
        membership.turn = membership.turn.wrapping_add(1);
        self.ctx.effects.push_back(Effect::Ask {
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
    pub(super) fn pass_on(&mut self, number: u64) {
        let Some(taken) = self.membership.questions.get(&number) else {
            return;
        };
        let mut question = Question::clone(&taken.question);
        question.path.push(self.ctx.config.facts.id);
        if question.path.len() < HOPS && self.pass(number, question) {
            return;
        }
        // The coordinator may still answer.
        if self.ctx.live.is_none() {
            self.give_back(number, None);
        }
    }

    fn give_back(&mut self, number: u64, standing: Option<Standing>) {
        if let Some(Taken { id, .. }) = self.membership.questions.remove(&number) {
            self.ctx.effects.push_back(Effect::Answer { id, standing });
        }
    }

    /// What came of a question to a peer.
    pub(super) fn answered(&mut self, number: u64, via: NodeId, standing: Option<Standing>) {
        if standing.is_some() {
            self.membership.way = Some(via);
        }
        if self.membership.questions.contains_key(&number) {
            if standing.is_some() || self.ctx.live.is_none() {
                self.give_back(number, standing);
            }
            return;
        }
        let membership = &mut self.membership;
        let Some((_, asked)) = membership.asked.take_if(|(asked, _)| *asked == number) else {
            return;
        };
        // One of an older coordinator says nothing of now.
        let Some(standing) = standing.filter(|standing| standing.epoch >= self.epoch) else {
            return;
        };
        let news = membership.told.replace(standing) != Some(standing);
        if standing.lease.is_zero() {
            self.end_membership();
        } else {
            self.extend(asked, standing.lease);
        }
        if news {
            self.ctx.tell(Notice::Told { via, standing });
        }
        self.look_at_membership();
    }

    /// A peer asks for a standing, its own or another node's; `id` names the question for the driver.
    pub(super) fn question(&mut self, id: u64, cluster: ClusterId, question: Box<Question>) {
        let (now, peer) = (self.ctx.now, question.peer());
        let knows = self.probes.sight_of(peer).is_some() || self.beacons.is_observer(peer);
        let questions = &mut self.membership.questions;
        questions.retain(|_, taken| now.since(taken.at) < QUESTION_PATIENCE);
        let mut of_others = questions.values().map(|taken| taken.question.asker);
        let busy = questions.len() >= QUESTIONS || of_others.any(|asker| asker == question.asker);
        let goes_round = question.passed(self.ctx.config.facts.id) || question.path.len() >= HOPS;
        if !knows || busy || goes_round || self.probes.cluster() != Some(cluster) {
            self.ctx.effects.push_back(Effect::Answer { id, standing: None });
            return;
        }
        let membership = &mut self.membership;
        membership.numbers += 1;
        let number = membership.numbers;
        let taken = Taken {
            id,
            at: now,
            question: question.clone(),
        };
        membership.questions.insert(number, taken);
        match self.ctx.live {
            Some(conn) => {
                let report = Report::Question {
                    number,
                    question,
                    sent_millis: now.millis(),
                };
                self.ctx.send(conn, report);
                self.ctx.timers.set(now + PASS_ON, Timer::PassOn(number));
            }
            None => self.pass_on(number),
        }
    }

    /// The coordinator answers a peer's question.
    pub(super) fn standing(&mut self, number: u64, standing: Standing) {
        self.give_back(number, Some(standing));
    }

    /// True while this node may take itself for a member: its lease has not run out.
    pub fn is_member(&self, now: Time) -> bool {
        self.membership.until.is_some_and(|until| until > now)
    }
}
