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
    standing::{SINGLETON, Standing},
    time::Time,
};

/// After the end of a session peers are asked when no new one stands by then; and then again and again.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How long a peer may take to answer.
const ASK_PATIENCE: Duration = Duration::from_millis(900);

/// Cycles or heartbeats, whichever are longer, without a seal, after which peers are asked though the session seems to stand.
const QUIET: u32 = 2;

/// Heartbeats whose sending is remembered; a lease counts from older ones no more.
const BEATS: usize = 64;

/// Peers' questions that are under way at most; a further one is not taken.
const QUESTIONS: usize = 64;

/// How long a question may be under way; its asker waits no longer.
const QUESTION_PATIENCE: Duration = Duration::from_secs(3);

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
    /// Whose turn it is to be asked.
    turn: usize,
    /// What was last told by way of a peer since the session was lost.
    told: Option<Standing>,
    timer: u64,
    /// Peers' questions under way: by our number, the driver's, since when, and whose; one a peer.
    questions: BTreeMap<u64, (u64, Time, NodeId)>,
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
        self.membership.greeted = self.now;
        self.membership.beats.clear();
    }

    /// A heartbeat was sent.
    pub(super) fn beaten(&mut self, sequence: u64) {
        let beats = &mut self.membership.beats;
        if beats.len() >= BEATS {
            beats.pop_front();
        }
        beats.push_back((sequence, self.now));
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
        self.membership.heard = self.now;
        self.look_at_membership();
    }

    /// A session that stood is lost: peers are asked unless a new one stands soon.
    pub(super) fn adrift(&mut self) {
        self.membership.heard = self.now;
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
        let until = self.membership.until.unwrap_or(self.now);
        self.membership.until = Some(until.min(self.now));
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
        if until > self.now {
            membership.lapsed = false;
        }
        self.lend_all();
    }

    /// How long a coordinator may be silent before peers are asked.
    fn quiet(&self) -> Duration {
        match self.phase {
            Phase::Live(_) => self.membership.cycle.max(self.interval) * QUIET + self.interval,
            _ => ASK_EVERY,
        }
    }

    /// Sets the next look.
    fn look_at_membership(&mut self) {
        let (now, quiet) = (self.now, self.quiet());
        let membership = &mut self.membership;
        let quiet_at = membership.heard + quiet;
        let ask = if quiet_at > now { quiet_at } else { now + ASK_EVERY };
        let lapse = membership.until.filter(|until| *until > now && !membership.lapsed);
        membership.timer += 1;
        let timer = Timer::Membership(membership.timer);
        self.timers.set(lapse.map_or(ask, |lapse| lapse.min(ask)), timer);
    }

    /// Asks a peer when the coordinator is not heard, and notices that the lease ran out.
    pub(super) fn check_membership(&mut self, token: u64) {
        if self.membership.timer != token || matches!(self.phase, Phase::Stopped) {
            return;
        }
        let ran_out = self.membership.until.is_some_and(|until| until <= self.now);
        if ran_out && !std::mem::replace(&mut self.membership.lapsed, true) {
            self.effects.push_back(Effect::Tell(Notice::Lapsed));
        }
        if self.now.since(self.membership.heard) >= self.quiet() {
            self.ask_a_peer();
        }
        self.look_at_membership();
    }

    fn ask_a_peer(&mut self) {
        let Some(cluster) = self.probes.cluster() else { return };
        let now = self.now;
        let membership = &mut self.membership;
        if membership.asked.is_some_and(|(_, at)| now.since(at) < ASK_PATIENCE) {
            return;
        }
        let heard: Vec<_> = self.probes.heard().collect();
        let Some(&(via, address)) = heard.get(membership.turn % heard.len().max(1)) else {
            return;
        };
        membership.turn = membership.turn.wrapping_add(1);
        membership.numbers += 1;
        let number = membership.numbers;
        membership.asked = Some((number, now));
        let address = Arc::clone(address);
        self.effects.push_back(Effect::Ask {
            cluster,
            via,
            address,
            incarnation: self.config.incarnation,
            number,
            timeout: ASK_PATIENCE,
        });
    }

    /// What came of a question to a peer.
    pub(super) fn answered(&mut self, number: u64, via: NodeId, standing: Option<Standing>) {
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
            self.effects.push_back(Effect::Tell(Notice::Told { via, standing }));
        }
        self.look_at_membership();
    }

    /// A peer asks for its standing; `id` names the question for the driver.
    pub(super) fn question(&mut self, id: u64, cluster: ClusterId, asker: NodeId, incarnation: u64) {
        let now = self.now;
        let knows = self.probes.sight_of(asker).is_some() || self.beacons.is_observer(asker);
        let membership = &mut self.membership;
        membership
            .questions
            .retain(|_, (_, at, _)| now.since(*at) < QUESTION_PATIENCE);
        let busy = membership.questions.len() >= QUESTIONS || membership.questions.values().any(|one| one.2 == asker);
        let takes = knows && !busy && self.probes.cluster() == Some(cluster);
        let (true, Some(conn)) = (takes, self.live_conn()) else {
            self.effects.push_back(Effect::Answer { id, standing: None });
            return;
        };
        let membership = &mut self.membership;
        membership.numbers += 1;
        let number = membership.numbers;
        membership.questions.insert(number, (id, now, asker));
        let report = Report::Question {
            number,
            asker,
            incarnation,
        };
        self.effects.push_back(Effect::Send { conn, report });
    }

    /// The coordinator answers a peer's question.
    pub(super) fn standing(&mut self, number: u64, standing: Standing) {
        if let Some((id, ..)) = self.membership.questions.remove(&number) {
            let standing = Some(standing);
            self.effects.push_back(Effect::Answer { id, standing });
        }
    }

    /// True while this node may take itself for a member: its lease has not run out.
    pub fn is_member(&self, now: Time) -> bool {
        self.membership.until.is_some_and(|until| until > now)
    }
}
