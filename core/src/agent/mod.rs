//! The agent's logic, as a state machine without I/O: its session, heartbeats, probes and directives.

mod beacons;
mod config;
mod ctx;
mod directives;
mod evidence;
mod health;
mod heartbeats;
mod io;
#[cfg(test)]
mod lease_tests;
mod membership;
#[cfg(test)]
mod membership_tests;
mod probes;
mod session;
mod table;
#[cfg(test)]
mod tests;
mod timer;
mod work;
#[cfg(test)]
mod work_tests;

use beacons::{Beacon, Beacons};
pub use config::{Begun, Config, Found};
use ctx::Ctx;
use directives::{Asked, Directives};
use evidence::{Evidence, Seen};
use health::SelfHealth;
use heartbeats::Heartbeats;
pub use io::{Effect, Input, Notice, ProbeOutcome, Recipient, Report};
use membership::{Line, Membership};
use probes::Probes;
use session::{Loss, Session};
use timer::Timer;
use work::Work;

use crate::{
    behaviour::Directive,
    coordinator::{Message, ProbePlan, Refused, Welcome},
    id::NodeId,
    integrity::Seal,
    mesh::Coordinate,
    node::ConnId,
    standing::Standing,
    telemetry::Reading,
    time::{Time, WallTime},
    timer::Kinds,
    workload::{Assigned, Status},
};

/// The agent's logic. Four verbs: [`handle`](Self::handle), [`handle_timeout`](Self::handle_timeout),
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
    /// An agent that tries its first session at once.
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

    /// Takes one fact from outside.
    pub fn handle(&mut self, now: Time, input: Input) {
        self.ctx.now = self.ctx.now.max(now);
        match input {
            Input::WallClock(wall) => self.ctx.wall.set(now, wall),
            Input::Connected { conn } => {
                if self.session.connected(&mut self.ctx, conn) {
                    self.membership.greeted(self.ctx.now);
                }
            }
            Input::Closed { conn, reason } => {
                let loss = self.session.closed(conn, reason);
                self.lose(loss);
            }
            Input::Unreadable { conn, detail } => {
                let loss = self.session.unreadable(&mut self.ctx, conn, &detail);
                self.lose(loss);
            }
            Input::Message { conn, message } => self.message(conn, message),
            Input::Measured(reading) => self.measured(&reading),
            Input::Probed {
                target,
                sequence,
                outcome,
            } => {
                let ended = self.probes.probed(&mut self.ctx, target, sequence, outcome);
                self.probed(target, ended);
            }
            Input::Beacon {
                cluster,
                sender,
                address,
                observes,
            } => self.beacon(Beacon {
                cluster,
                sender,
                address,
                observes,
            }),
            Input::Question { id, cluster, question } => {
                let is_observer = self.beacons.is_observer(question.peer());
                self.membership
                    .question(&mut self.ctx, &self.probes, is_observer, id, cluster, question);
            }
            Input::Answered { number, via, standing } => self.answered(number, via, standing),
            Input::DiskTouched { done } => {
                if self.health.disk_touched(done) {
                    self.tell_health();
                }
            }
            Input::Slept => {
                let line = self.line();
                self.membership.slept(&mut self.ctx, line);
            }
            Input::Instance { id, status } => self.work.instance(&mut self.ctx, id, status),
            Input::LogRead(chunk) => work::log_read(&mut self.ctx, chunk),
            Input::Shutdown { reason } => self.session.stop(&mut self.ctx, reason),
        }
    }

    /// Does what every timer that is due asks for.
    pub fn handle_timeout(&mut self, now: Time) {
        self.ctx.now = self.ctx.now.max(now);
        if self.health.notice_lateness(&self.ctx, self.ctx.timers.next()) {
            self.tell_health();
        }
        while let Some((due, timer)) = self.ctx.timers.take_due(now) {
            match timer {
                Timer::Reconnect(token) => self.session.connect(&mut self.ctx, token),
                Timer::Opening(conn) => {
                    let loss = self.session.give_up_opening(&mut self.ctx, conn);
                    self.lose(loss);
                }
                Timer::Heartbeat(token) if self.heartbeats.is_newest(token) => self.beat(due),
                Timer::Quiet(token) => {
                    let loss = self.session.give_up_quiet(&mut self.ctx, token);
                    self.lose(loss);
                }
                Timer::Probe(target, token) => self.probes.probe(&mut self.ctx, target, token, due),
                Timer::Missed(target, number) => {
                    if self.probes.missed(&mut self.ctx, target, number, due) {
                        self.tell_sight(target);
                    }
                }
                Timer::Beacons => self.send_beacons(),
                Timer::Membership(token) => self.check_membership(token),
                Timer::PassOn(number) => self.membership.pass_on(&mut self.ctx, &self.probes, number),
                Timer::Disk if !self.session.has_stopped() => self.health.check_disk(&mut self.ctx),
                Timer::DiskLate(number) => {
                    if self.health.disk_late(&mut self.ctx, number, due) {
                        self.tell_health();
                    }
                }
                Timer::Work(token) => self.work.tell(&mut self.ctx, token),
                Timer::Heartbeat(_) | Timer::Disk => {}
            }
        }
        self.probes.prune(&mut self.ctx);
    }

    /// Names of every kind of timer.
    pub const TIMERS: &'static [&'static str] = Timer::NAMES;

    /// Names of the kinds of timers that were ever due.
    pub fn timers_fired(&self) -> impl Iterator<Item = &'static str> {
        self.ctx.timers.fired()
    }

    /// The next thing to be done outside.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        let effect = self.ctx.effects.pop_front();
        if effect.is_none() {
            // The next ones begin at the front again, in memory that is still in the caches.
            self.ctx.effects.clear();
        }
        effect
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.ctx.timers.next()
    }

    /// Where this node is in the network, for those who probe it.
    pub fn coordinate(&self) -> Coordinate {
        self.probes.coordinate()
    }

    /// True while a session stands.
    pub fn is_live(&self) -> bool {
        self.ctx.live.is_some()
    }

    /// The coordinator said something.
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
                self.evidence.noted();
                self.tell_next();
            }
            Message::Work(work) => self.work.told(&mut self.ctx, *work, self.membership.lent()),
            Message::ReadLog(request) => self.ctx.effects.push_back(Effect::ReadLog(request)),
            Message::Standing { number, standing } => {
                self.membership.give_back(&mut self.ctx, number, Some(standing));
            }
            Message::Seal { seal, heard } => self.sealed(&seal, heard),
        }
    }

    /// The session stands: every part begins with it.
    fn welcome(&mut self, conn: ConnId, welcome: Welcome) {
        if !self.session.is_opening() {
            return;
        }
        let ctx = &mut self.ctx;
        self.heartbeats.new_session(welcome.heartbeat_interval);
        self.directives.new_session();
        if self.session.welcomed(ctx, conn, &welcome) {
            self.work.end_what_is_of_another(ctx);
        }
        self.work.reckon_begun(ctx, welcome.cluster, welcome.next_assignment);
        self.probes.new_session(welcome.cluster);
        self.plan(welcome.probe_plan);
        self.evidence.set_arrivals(self.beacons.peers());
        self.beacons.start(&mut self.ctx);
        let line = self.line();
        self.membership
            .new_session(&mut self.ctx, line, welcome.lease, welcome.cycle_interval);
        self.lend_all();
        self.session.hears(&mut self.ctx, self.heartbeats.interval());
        self.beat(self.ctx.now);
        self.evidence.new_session(&self.probes, welcome.notes_sightings);
        self.tell();
        self.work.new_session(&mut self.ctx);
        if self.health.is_unwell() {
            self.tell_health();
        }
    }

    fn sealed(&mut self, seal: &Seal, heard: u64) {
        if !self.is_live() {
            return;
        }
        self.heartbeats.sealed(seal.epoch, seal.cycle);
        self.session.hears(&mut self.ctx, self.heartbeats.interval());
        let line = self.line();
        if self.membership.confirmed(&mut self.ctx, line, heard) {
            self.lend_all();
        }
    }

    fn refused(&mut self, conn: ConnId, refused: Refused) {
        if session::expels(refused.reason) {
            let line = self.line();
            self.membership.expelled(&mut self.ctx, line);
        }
        let loss = self.session.refused(&mut self.ctx, conn, refused);
        self.lose(Some(loss));
    }

    /// Ends the session, or the attempt at one, when it is lost.
    fn lose(&mut self, loss: Option<Loss>) {
        let Some(loss) = loss else { return };
        if self.session.end(&mut self.ctx) {
            let line = self.line();
            self.membership.heard(&mut self.ctx, line);
        }
        self.session.try_again(&mut self.ctx, loss);
    }

    /// Has the host read, and the next heartbeat come in time.
    fn beat(&mut self, turn: Time) {
        if self.is_live() {
            self.heartbeats.set_next(&mut self.ctx, turn);
            self.tell_next();
            self.heartbeats.measure(&mut self.ctx);
        }
    }

    /// The coordinator wants to know what this agent sees by now.
    fn pinged(&mut self, number: u64) {
        if self.is_live() {
            self.heartbeats.pinged(number);
            self.retell_sights();
            self.tell_next();
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
        let Some(session) = self.session.number() else {
            return;
        };
        let epoch = self.session.epoch();
        match self.directives.take(&mut self.ctx, directive, epoch, session) {
            Some(Asked::Refresh) => self.heartbeats.measure(&mut self.ctx),
            Some(Asked::SetHeartbeat(interval)) => {
                self.heartbeats.set_interval(interval);
                self.beat(self.ctx.now);
            }
            None => {}
        }
    }

    /// A probe ended: `seen` says whether its target is seen otherwise than before, unless the probe was not under way.
    fn probed(&mut self, target: NodeId, seen: Option<bool>) {
        let Some(otherwise) = seen else { return };
        if otherwise {
            self.tell_sight(target);
        }
        self.probes.prune(&mut self.ctx);
    }

    fn plan(&mut self, plan: ProbePlan) {
        if self.probes.plan(&mut self.ctx, plan) {
            self.beacons.targets_changed();
        }
    }

    fn beacon(&mut self, beacon: Beacon) {
        let (now, sender) = (self.ctx.now, beacon.sender);
        let Some(arrival) = self.beacons.came(now, &self.probes, beacon) else {
            return;
        };
        if let Some(after_gap) = arrival.after_gap {
            self.probes.beacon(sender, now, after_gap);
        }
        if arrival.is_news {
            self.evidence.add_arrivals([sender]);
        }
        if arrival.at_once {
            self.tell_arrivals();
        }
    }

    fn send_beacons(&mut self) {
        let lost = self.beacons.send(&mut self.ctx, &self.probes);
        self.evidence.add_arrivals(lost);
        self.tell_arrivals();
    }

    /// Has the coordinator told what is seen of all targets, whether that was told before or not.
    fn retell_sights(&mut self) {
        let targets = self.probes.targets().map(|(id, _)| id);
        self.evidence.add_sights(targets);
    }

    /// Tells at once that a peer is seen otherwise than before.
    fn tell_sight(&mut self, id: NodeId) {
        self.evidence.add_sights([id]);
        self.tell();
    }

    /// Tells at once how this agent is.
    fn tell_health(&mut self) {
        self.evidence.set_health_due();
        self.tell();
    }

    /// Tells at once whose beacons come and whose do not.
    fn tell_arrivals(&mut self) {
        self.evidence.set_arrivals_due();
        self.tell();
    }

    /// A heartbeat follows, or the coordinator noted what went before: the next evidence goes.
    fn tell_next(&mut self) {
        self.evidence.release();
        self.tell();
    }

    fn tell(&mut self) {
        let seen = Seen {
            probes: &self.probes,
            beacons: &self.beacons,
            health: &self.health,
        };
        if self.evidence.tell(&mut self.ctx, seen) {
            let line = self.line();
            self.membership.look(&mut self.ctx, line);
        }
    }

    fn line(&self) -> Line {
        Line {
            epoch: self.session.epoch(),
            interval: self.heartbeats.interval(),
            stuck_at: self.evidence.stuck_at(),
        }
    }

    /// Asks a peer when the coordinator is not heard, and notices that the lease ran out.
    fn check_membership(&mut self, token: u64) {
        if !self.membership.is_newest(token) || self.session.has_stopped() {
            return;
        }
        let line = self.line();
        if self.membership.check(&mut self.ctx, line, &self.probes) {
            self.retell_sights();
        }
    }

    /// What came of a question to a peer.
    fn answered(&mut self, number: u64, via: NodeId, standing: Option<Standing>) {
        let line = self.line();
        let Some(answered) = self.membership.answered(&mut self.ctx, line, number, via, standing) else {
            return;
        };
        if answered.is_extended {
            self.lend_all();
        }
        if let Some(standing) = answered.news {
            self.ctx.tell(Notice::Told { via, standing });
        }
        self.membership.look(&mut self.ctx, line);
    }

    /// The lease was extended: singletons may run on.
    fn lend_all(&mut self) {
        self.work.lend_all(&mut self.ctx, self.membership.lent());
    }

    /// The instances that this node has, and how they are.
    pub fn instances(&self) -> impl Iterator<Item = (&Assigned, &Status)> {
        self.work.instances()
    }

    /// True while this node may take itself for a member: its lease has not run out.
    pub fn is_member(&self, now: Time) -> bool {
        self.membership.is_member(now)
    }
}
