//! The agent: a state machine without I/O. Its parts own their state and return requests to one another, which
//! [`Agent`] executes.

mod beacons;
mod config;
mod ctx;
mod directives;
mod evidence;
mod health;
mod heartbeats;
mod io;
mod membership;
mod probes;
mod session;
mod table;
#[cfg(test)]
mod tests;
mod timer;
mod work;

use std::sync::Arc;

pub use crate::protocol::FromAgent;
use beacons::Beacons;
pub use config::{Begun, Config, Found};
use ctx::Ctx;
use directives::{Asked, Directives};
use evidence::{Evidence, News, Seen};
use health::SelfHealth;
use heartbeats::Heartbeats;
pub use io::{Effect, Input, Notice, ProbeOutcome, Recipient};
use membership::Membership;
use probes::Probes;
use session::{Loss, Session};
use timer::Timer;
use work::Work;

use crate::{
    behaviour::Directive,
    id::{ClusterId, Cycle, Epoch, NodeId},
    mesh::Coordinate,
    node::ConnId,
    protocol::{Message, ProbePlan, Refused, Welcome},
    standing::Standing,
    telemetry::Reading,
    time::{Time, WallTime},
    timer::Kinds,
    workload::{Assigned, Status},
};

/// The agent state machine. Four methods drive it: [`handle`](Self::handle), [`handle_timeout`](Self::handle_timeout),
/// [`poll_effect`](Self::poll_effect), [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub struct Agent {
    ctx: Ctx,
    session: Session,
    heartbeats: Heartbeats,
    directives: Directives,
    probes: Probes,
    beacons: Beacons,
    evidence: Evidence,
    membership: Membership,
    health: SelfHealth,
    work: Work,
}

impl Agent {
    /// Creates an agent that attempts its first session immediately.
    pub fn new(now: Time, wall: WallTime, mut config: Config) -> Agent {
        let mut agent = Agent {
            session: Session::default(),
            heartbeats: Heartbeats::default(),
            directives: Directives::default(),
            probes: Probes::default(),
            beacons: Beacons::default(),
            evidence: Evidence::default(),
            membership: Membership::default(),
            health: SelfHealth::default(),
            work: Work::new(std::mem::take(&mut config.instances), config.begun),
            ctx: Ctx::new(now, wall, config),
        };
        agent.session.start(&mut agent.ctx);
        agent.ctx.timers.set(now, Timer::Disk);
        agent
    }

    /// Handles one input.
    pub fn handle(&mut self, now: Time, input: Input) {
        self.ctx.now = self.ctx.now.max(now);
        match input {
            Input::WallClock(wall) => self.ctx.wall.set(now, wall),
            Input::Connected { conn } => {
                if self.session.connected(&mut self.ctx, conn) {
                    self.membership.greeted(self.ctx.now);
                }
            }
            Input::Closed { conn, reason } => self.lose(self.session.closed(conn, reason)),
            Input::Unreadable { conn, detail } => self.lose(self.session.unreadable(conn, &detail)),
            Input::Message { conn, message } => self.message(conn, message),
            Input::Measured(reading) => self.measured(&reading),
            Input::Probed {
                target,
                sequence,
                outcome,
            } => self.probed(target, sequence, outcome),
            Input::Beacon {
                cluster,
                sender,
                address,
                observes,
            } => self.beacon(cluster, sender, address, observes),
            Input::Question { id, cluster, question } => {
                let is_observer = self.beacons.is_observer(question.peer());
                self.membership
                    .question(&mut self.ctx, &self.probes, is_observer, id, cluster, question);
            }
            Input::Answered { number, via, standing } => self.answered(number, via, standing),
            Input::DiskTouched { done } => {
                if self.health.disk_touched(done) {
                    self.tell(News::Health);
                }
            }
            Input::Slept => self.membership.slept(&mut self.ctx),
            Input::Instance { id, status } => self.work.instance(&mut self.ctx, id, status),
            Input::LogRead(chunk) => work::log_read(&mut self.ctx, chunk),
            Input::Shutdown { reason } => self.session.stop(&mut self.ctx, reason),
        }
    }

    /// Handles all due timers.
    pub fn handle_timeout(&mut self, now: Time) {
        self.ctx.now = self.ctx.now.max(now);
        if self.health.notice_lateness(&self.ctx, self.ctx.timers.next()) {
            self.tell(News::Health);
        }
        while let Some((due, timer)) = self.ctx.timers.take_due(now) {
            match timer {
                Timer::Reconnect(token) => self.session.connect(&mut self.ctx, token),
                Timer::Opening(conn) => self.lose(self.session.give_up_opening(conn)),
                Timer::Heartbeat(token) if self.heartbeats.is_newest(token) => self.beat(due),
                Timer::Quiet(token) => self.lose(self.session.give_up_quiet(token)),
                Timer::Probe(target, token) => self.probes.probe(&mut self.ctx, target, token, due),
                Timer::Missed(target, number) => {
                    if self.probes.missed(&mut self.ctx, target, number, due) {
                        self.tell(News::Sight(target));
                    }
                }
                Timer::Beacons => self.send_beacons(),
                Timer::Membership(token) if !self.session.has_stopped() => self.check_membership(token),
                Timer::PassOn(number) => self.membership.pass_on(&mut self.ctx, &self.probes, number),
                Timer::Disk if !self.session.has_stopped() => self.health.check_disk(&mut self.ctx),
                Timer::DiskLate(number) => {
                    if self.health.disk_late(&mut self.ctx, number, due) {
                        self.tell(News::Health);
                    }
                }
                Timer::Work(token) => self.work.tell(&mut self.ctx, token),
                Timer::Heartbeat(_) | Timer::Membership(_) | Timer::Disk => {}
            }
        }
        self.probes.prune(&mut self.ctx);
    }

    /// Names of every kind of timer.
    pub const TIMERS: &'static [&'static str] = Timer::NAMES;

    /// Names of the kinds of timers that have fired.
    pub fn timers_fired(&self) -> impl Iterator<Item = &'static str> {
        self.ctx.timers.fired()
    }

    /// Returns the next effect to be carried out by the driver.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.ctx.next_effect()
    }

    /// Time of the next call of [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Time> {
        self.ctx.timers.next()
    }

    /// Network coordinate of this node, for answers to probes.
    pub fn coordinate(&self) -> Coordinate {
        self.probes.coordinate()
    }

    /// Returns whether a session is live.
    pub fn is_live(&self) -> bool {
        self.ctx.link.conn.is_some()
    }

    /// Handles a message of the coordinator.
    fn message(&mut self, conn: ConnId, message: Message) {
        if self.session.conn() != Some(conn) {
            return;
        }
        match message {
            Message::Welcome(welcome) => self.welcome(conn, *welcome),
            Message::Refused(refused) => self.refused(conn, refused),
            Message::Directive(directive) => self.directive(&directive),
            Message::ProbePlan(plan) => self.plan(plan),
            Message::Ping { number } => self.pinged(number),
            Message::Noted => {
                self.membership.noted();
                self.tell(News::Rest);
            }
            Message::Work(work) => self.work.told(&mut self.ctx, *work, self.membership.lent()),
            Message::ReadLog(request) => self.ctx.effects.push_back(Effect::ReadLog(request)),
            Message::Standing { number, standing } => {
                self.membership.give_back(&mut self.ctx, number, Some(standing));
            }
            Message::Seal { seal, heard } => self.sealed(seal.epoch, seal.cycle, heard),
        }
    }

    /// Makes the session live in every part.
    fn welcome(&mut self, conn: ConnId, welcome: Welcome) {
        if !self.session.is_opening() {
            return;
        }
        self.heartbeats.new_session();
        self.directives.new_session();
        if self.session.welcomed(&mut self.ctx, conn, &welcome) {
            self.work.end_what_is_of_another(&mut self.ctx);
        }
        self.work
            .reckon_begun(&mut self.ctx, welcome.cluster, welcome.next_assignment);
        self.probes.new_session(welcome.cluster);
        self.plan(welcome.probe_plan);
        self.evidence.set_arrivals(self.beacons.peers());
        self.beacons.start(&mut self.ctx);
        self.membership
            .new_session(&mut self.ctx, welcome.lease, welcome.cycle_interval);
        self.lend_all();
        self.session.hears(&mut self.ctx);
        self.beat(self.ctx.now);
        self.evidence.new_session(&self.probes, welcome.notes_sightings);
        self.membership.noted();
        self.tell(News::Rest);
        self.work.new_session(&mut self.ctx);
        if self.health.is_unwell() {
            self.tell(News::Health);
        }
    }

    fn sealed(&mut self, epoch: Epoch, cycle: Cycle, heard: u64) {
        if !self.is_live() {
            return;
        }
        self.heartbeats.sealed(epoch, cycle);
        self.session.hears(&mut self.ctx);
        if self.membership.confirmed(&mut self.ctx, heard) {
            self.lend_all();
        }
    }

    fn refused(&mut self, conn: ConnId, refused: Refused) {
        if session::expels(refused.reason) {
            self.membership.expelled(&mut self.ctx);
        }
        let loss = self.session.refused(&mut self.ctx, conn, refused);
        self.lose(Some(loss));
    }

    /// Ends the session or the attempt, and schedules the next one.
    fn lose(&mut self, loss: Option<Loss>) {
        let Some(loss) = loss else { return };
        if self.session.end(&mut self.ctx, &loss) {
            self.membership.heard(&mut self.ctx);
        }
        self.session.try_again(&mut self.ctx, loss);
    }

    /// Starts a heartbeat and schedules the next one.
    fn beat(&mut self, turn: Time) {
        if self.is_live() {
            self.heartbeats.set_next(&mut self.ctx, turn);
            self.tell(News::Rest);
            self.heartbeats.measure(&mut self.ctx);
        }
    }

    /// Answers a ping with the sight of all targets and a heartbeat.
    fn pinged(&mut self, number: u64) {
        if self.is_live() {
            self.heartbeats.pinged(number);
            self.evidence.retell(&self.probes);
            self.tell(News::Rest);
            self.heartbeats.measure(&mut self.ctx);
        }
    }

    fn measured(&mut self, reading: &Reading) {
        let sent = self.heartbeats.measured(&mut self.ctx, &mut self.probes, reading);
        if let Some(sequence) = sent {
            self.membership.beaten(self.ctx.now, sequence);
            self.directives.refreshed(&mut self.ctx);
        }
    }

    fn directive(&mut self, directive: &Directive) {
        let epoch = self.session.epoch();
        let Some(session) = self.session.number() else { return };
        match self.directives.take(&mut self.ctx, directive, epoch, session) {
            Some(Asked::Refresh) => self.heartbeats.measure(&mut self.ctx),
            Some(Asked::SetHeartbeat(interval)) => {
                self.ctx.link.interval = interval;
                self.beat(self.ctx.now);
            }
            None => {}
        }
    }

    fn probed(&mut self, target: NodeId, sequence: u64, outcome: ProbeOutcome) {
        let Some(seen_otherwise) = self.probes.probed(&mut self.ctx, target, sequence, outcome) else {
            return;
        };
        if seen_otherwise {
            self.tell(News::Sight(target));
        }
        self.probes.prune(&mut self.ctx);
    }

    fn plan(&mut self, plan: ProbePlan) {
        if self.probes.plan(&mut self.ctx, plan) {
            self.beacons.targets_changed();
        }
    }

    fn beacon(&mut self, cluster: ClusterId, sender: NodeId, address: Arc<str>, observes: bool) {
        let (now, probes) = (self.ctx.now, &self.probes);
        let Some(arrival) = self.beacons.came(now, probes, cluster, sender, address, observes) else {
            return;
        };
        if let Some(after_gap) = arrival.after_gap {
            self.probes.beacon(sender, now, after_gap);
        }
        if arrival.is_news {
            self.evidence.add_arrivals([sender]);
        }
        if arrival.at_once {
            self.tell(News::Arrivals);
        }
    }

    fn send_beacons(&mut self) {
        let lost = self.beacons.send(&mut self.ctx, &self.probes);
        self.evidence.add_arrivals(lost);
        self.tell(News::Arrivals);
    }

    /// Sends evidence to the coordinator at once.
    fn tell(&mut self, news: News) {
        let seen = Seen {
            probes: &self.probes,
            beacons: &self.beacons,
            health: &self.health,
        };
        if self.evidence.tell(&mut self.ctx, seen, news) {
            self.membership.sent(&mut self.ctx);
        }
    }

    /// Checks the coordinator's silence and the lease.
    fn check_membership(&mut self, token: u64) {
        if self.membership.check(&mut self.ctx, &self.probes, token) {
            self.evidence.retell(&self.probes);
        }
    }

    /// Handles the result of a question to a peer.
    fn answered(&mut self, number: u64, via: NodeId, standing: Option<Standing>) {
        let Some(answered) = self
            .membership
            .answered(&mut self.ctx, self.session.epoch(), number, via, standing)
        else {
            return;
        };
        if answered.is_extended {
            self.lend_all();
        }
        if let Some(standing) = answered.news {
            self.ctx.tell(Notice::Told { via, standing });
        }
        self.membership.look(&mut self.ctx);
    }

    /// Passes an extended lease on to singletons.
    fn lend_all(&mut self) {
        self.work.lend_all(&mut self.ctx, self.membership.lent());
    }

    /// Instances of this node with their status.
    pub fn instances(&self) -> impl Iterator<Item = (&Assigned, &Status)> {
        self.work.instances()
    }

    /// Returns whether this node's lease has not expired.
    pub fn is_member(&self, now: Time) -> bool {
        self.membership.is_member(now)
    }
}
