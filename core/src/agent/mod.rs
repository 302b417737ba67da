//! The agent's logic, as a state machine without I/O: its session, heartbeats, probes and directives.

mod beacons;
mod directives;
mod health;
mod io;
mod membership;
#[cfg(test)]
mod membership_tests;
mod probes;
mod table;
#[cfg(test)]
mod tests;
mod work;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use beacons::Beacons;
use health::SelfHealth;
pub use io::{Effect, Input, Notice, ProbeOutcome, Recipient, Report};
use membership::Membership;
use probes::Probes;
use work::Work;

use crate::{
    behaviour::State,
    coordinator::{Heartbeat, Message, RefusalReason, Refused, Welcome},
    id::NodeId,
    integrity::Digest,
    mesh::{Coordinate, REPORTS},
    node::{ConnId, Facts, Hello},
    telemetry::{Channel, Reading, load},
    text::{SENTENCE, Span, shortened},
    time::{Time, WallClock, WallTime},
    timer::{Kinds, Timers},
    workload::{Assigned, AssignmentId, Status},
};

/// The first wait after a failed attempt at a session; it doubles with every further one.
const BACKOFF_MIN: Duration = Duration::from_millis(250);

/// The longest wait between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(15);

/// The waits after sessions that ended over what was said in them: the same would be said again.
const UNREADABLE_MIN: Duration = Duration::from_secs(1);
const UNREADABLE_MAX: Duration = Duration::from_secs(60);

/// A session that stood for so long was no failure, however it ended.
const LASTED: Duration = Duration::from_secs(60);

/// How long the coordinator may take to answer a hello.
const OPENING: Duration = Duration::from_secs(10);

/// Cycles without a seal after which the coordinator is taken for dead though its transport stands.
const QUIET_CYCLES: u32 = 5;

/// Heartbeats without a seal after which it is, when those are farther apart than cycles.
const QUIET_HEARTBEATS: u32 = 5;

/// The shortest time after which a coordinator is taken for dead.
const QUIET_MIN: Duration = Duration::from_secs(30);

/// Directives that are remembered, so that a repeated one is done once.
const REMEMBERED: usize = 64;

/// What the agent's logic is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it states of its node.
    pub facts: Facts,
    /// Starts of this agent, this one included.
    pub incarnation: u64,
    /// The coordinators, as host:port; tried in turn.
    pub coordinators: Vec<String>,
    /// Seeds the jitter.
    pub seed: u64,
    /// Drawn when the process started.
    pub instance: [u8; 16],
    /// Of the machine that it is on; zero when that does not tell.
    pub machine: Digest,
    /// Instances that were found on the host, and how they are.
    pub instances: Vec<Found>,
}

/// An instance that an earlier agent left.
#[derive(Clone, Debug)]
pub struct Found {
    /// The instance.
    pub id: AssignmentId,
    /// The order of the instance; `None` when its file cannot be read.
    pub assigned: Option<Arc<Assigned>>,
    /// The status.
    pub status: Status,
}

/// Every timer of the agent's logic. Each carries a token; one that is not the newest of its kind is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    /// The next attempt at a session.
    Reconnect(u64),
    /// The hello was not answered.
    Opening(ConnId),
    /// The next heartbeat.
    Heartbeat(u64),
    /// No seal for too long.
    Quiet(u64),
    /// The next probe of a node.
    Probe(NodeId, u64),
    /// A probe should have been answered by now: the node, and the probe's number.
    Missed(NodeId, u64),
    /// The next beacons.
    Beacons,
    /// Is the coordinator heard, and does the lease still run?
    Membership(u64),
    /// The disk is looked at.
    Disk,
    /// A write should be done by now: its number.
    DiskLate(u64),
    /// Changes of instances are told.
    Work(u64),
}

impl Kinds for Timer {
    const NAMES: &'static [&'static str] = &[
        "agent.reconnect",
        "agent.opening",
        "agent.heartbeat",
        "agent.quiet",
        "agent.probe",
        "agent.missed",
        "agent.beacons",
        "agent.membership",
        "agent.disk",
        "agent.disk-late",
        "agent.work",
    ];

    fn kind(&self) -> usize {
        match self {
            Timer::Reconnect(_) => 0,
            Timer::Opening(_) => 1,
            Timer::Heartbeat(_) => 2,
            Timer::Quiet(_) => 3,
            Timer::Probe(..) => 4,
            Timer::Missed(..) => 5,
            Timer::Beacons => 6,
            Timer::Membership(_) => 7,
            Timer::Disk => 8,
            Timer::DiskLate(..) => 9,
            Timer::Work(_) => 10,
        }
    }
}

#[derive(Debug)]
enum Phase {
    /// Until the timer for the next attempt.
    Waiting,
    /// The transport is being made.
    Connecting(ConnId),
    /// The hello is sent.
    Opening(ConnId),
    /// The session stands.
    Live(Live),
    /// Goodbye was said.
    Stopped,
}

#[derive(Debug)]
struct Live {
    conn: ConnId,
    since: Time,
    session: u64,
    sequence: u64,
    acknowledged: (u64, u64),
    quiet: Duration,
    /// Refresh directives that the next heartbeat completes.
    refreshing: Vec<u64>,
}

/// The agent's logic. Four verbs: [`handle`](Self::handle), [`handle_timeout`](Self::handle_timeout),
/// [`poll_effect`](Self::poll_effect), [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub struct Agent {
    config: Config,
    now: Time,
    wall: WallClock,
    rng: Pcg64Mcg,
    phase: Phase,
    /// Attempts at a session, this process's whole life.
    attempts: u64,
    /// Attempts since the last session that stood.
    failures: u32,
    /// Sessions in a row that ended over what was said in them, and what this agent could not read in the last one.
    unreadable: u32,
    last_failure: String,
    address: usize,
    epoch: u64,
    interval: Duration,
    /// Tokens of the newest timers.
    reconnect: u64,
    beat: u64,
    quiet: u64,
    measuring: bool,
    /// [`Effect::TakeOver`] was said.
    taken_over: bool,
    probes: Probes,
    beacons: Beacons,
    membership: Membership,
    health: SelfHealth,
    work: Work,
    remembered: VecDeque<(u64, State)>,
    timers: Timers<Timer>,
    effects: VecDeque<Effect>,
}

impl Agent {
    /// An agent that tries its first session at once.
    pub fn new(now: Time, wall: WallTime, mut config: Config) -> Agent {
        let mut clock = WallClock::default();
        clock.set(now, wall);
        let mut agent = Agent {
            now,
            wall: clock,
            rng: Pcg64Mcg::seed_from_u64(config.seed),
            phase: Phase::Waiting,
            attempts: 0,
            failures: 0,
            unreadable: 0,
            last_failure: String::new(),
            address: 0,
            epoch: 0,
            interval: Duration::from_secs(2),
            reconnect: 1,
            beat: 0,
            quiet: 0,
            measuring: false,
            taken_over: false,
            probes: Probes::default(),
            beacons: Beacons::default(),
            membership: Membership::default(),
            health: SelfHealth::default(),
            work: Work::new(std::mem::take(&mut config.instances)),
            remembered: VecDeque::new(),
            timers: Timers::default(),
            effects: VecDeque::new(),
            config,
        };
        agent.timers.set(now, Timer::Reconnect(1));
        agent.timers.set(now, Timer::Disk);
        agent
    }

    /// Takes one fact from outside.
    pub fn handle(&mut self, now: Time, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::WallClock(wall) => self.wall.set(now, wall),
            Input::Connected { conn } => self.connected(conn),
            Input::Closed { conn, reason } => self.closed(conn, reason),
            Input::Unreadable { conn, detail } => self.unreadable(conn, &detail),
            Input::Message { conn, message } => self.message(conn, message),
            Input::Measured(reading) => self.measured(&reading),
            Input::Probed { target, outcome } => self.probed(target, outcome),
            Input::Beacon {
                cluster,
                sender,
                address,
                observes,
            } => self.beacon(cluster, sender, address, observes),
            Input::Question {
                id,
                cluster,
                asker,
                incarnation,
            } => self.question(id, cluster, asker, incarnation),
            Input::Answered { number, via, standing } => self.answered(number, via, standing),
            Input::DiskTouched { done } => self.disk_touched(done),
            Input::Slept => self.slept(),
            Input::Instance { id, status } => self.instance(id, status),
            Input::LogRead(chunk) => self.log_read(chunk),
            Input::Shutdown { reason } => self.shutdown(reason),
        }
    }

    /// Does what every timer that is due asks for.
    pub fn handle_timeout(&mut self, now: Time) {
        self.now = self.now.max(now);
        self.notice_lateness(self.timers.next());
        while let Some((due, timer)) = self.timers.take_due(now) {
            match timer {
                Timer::Reconnect(token) if token == self.reconnect => self.connect(),
                Timer::Opening(conn) => self.give_up_opening(conn),
                Timer::Heartbeat(token) if token == self.beat => self.beat(),
                Timer::Quiet(token) if token == self.quiet => self.give_up_quiet(),
                Timer::Probe(target, token) => self.probe(target, token),
                Timer::Missed(target, number) => self.missed(target, number, due),
                Timer::Beacons => self.send_beacons(),
                Timer::Membership(token) => self.check_membership(token),
                Timer::Disk => self.check_disk(),
                Timer::DiskLate(number) => self.disk_late(number, due),
                Timer::Work(token) => self.tell_work(token),
                Timer::Reconnect(_) | Timer::Heartbeat(_) | Timer::Quiet(_) => {}
            }
        }
        self.prune();
    }

    /// Most probes are answered, and an agent should not wake up once more for each. To be called when one is no longer under way.
    fn prune(&mut self) {
        let probes = &self.probes;
        self.timers
            .prune(|timer| matches!(timer, Timer::Missed(id, number) if !probes.is_under_way(*id, *number)));
    }

    /// Names of every kind of timer.
    pub const TIMERS: &'static [&'static str] = Timer::NAMES;

    /// Names of the kinds of timers that were ever due.
    pub fn timers_fired(&self) -> impl Iterator<Item = &'static str> {
        self.timers.fired()
    }

    /// The next thing to be done outside.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        let effect = self.effects.pop_front();
        if effect.is_none() {
            // The next ones begin at the front again, in memory that is still in the caches.
            self.effects.clear();
        }
        effect
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Where this node is in the network, for those who probe it.
    pub fn coordinate(&self) -> Coordinate {
        self.probes.coordinate()
    }

    /// True while a session stands.
    pub fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live(_))
    }

    fn address(&self) -> String {
        let coordinators = &self.config.coordinators;
        coordinators
            .get(self.address % coordinators.len().max(1))
            .cloned()
            .unwrap_or_default()
    }

    fn connect(&mut self) {
        if !matches!(self.phase, Phase::Waiting) {
            return;
        }
        self.attempts += 1;
        let conn = ConnId(self.attempts);
        self.phase = Phase::Connecting(conn);
        self.timers.set(self.now + OPENING, Timer::Opening(conn));
        let address = self.address();
        self.effects.push_back(Effect::Connect { conn, address });
    }

    fn connected(&mut self, conn: ConnId) {
        if !matches!(self.phase, Phase::Connecting(current) if current == conn) {
            return;
        }
        self.phase = Phase::Opening(conn);
        let hello = Hello {
            facts: self.config.facts.clone(),
            incarnation: self.config.incarnation,
            attempt: self.attempts - 1,
            channels: Channel::ALL.into_iter().map(Some).collect(),
            instance: self.config.instance,
            machine: self.config.machine,
            last_failure: self.last_failure.clone(),
        };
        self.effects.push_back(Effect::Send {
            conn,
            report: Report::Hello(Box::new(hello)),
        });
        self.greeted();
    }

    /// The session that stands.
    fn live_conn(&self) -> Option<ConnId> {
        match &self.phase {
            Phase::Live(live) => Some(live.conn),
            _ => None,
        }
    }

    /// The transport that the agent counts on.
    fn conn(&self) -> Option<ConnId> {
        match &self.phase {
            Phase::Connecting(conn) | Phase::Opening(conn) => Some(*conn),
            Phase::Live(live) => Some(live.conn),
            Phase::Waiting | Phase::Stopped => None,
        }
    }

    fn closed(&mut self, conn: ConnId, reason: String) {
        if self.conn() == Some(conn) {
            self.lose(reason, None);
        }
    }

    /// The session, or the attempt at one, is over: the next one follows after a jittered wait.
    fn lose(&mut self, reason: String, retry_after: Option<Duration>) {
        self.end_session();
        let limit = BACKOFF_MAX.min(BACKOFF_MIN * 2u32.saturating_pow(self.failures.min(16)));
        self.failures = self.failures.saturating_add(1);
        // Full jitter, as agents that lost one coordinator must not come back in step; what the coordinator asks for is
        // a lower bound.
        let jitter = limit.mul_f64(self.rng.random_range(0.0..1.0));
        self.try_again(reason, retry_after.unwrap_or_default() + jitter);
    }

    /// Something came that cannot be read. It would come again at once.
    fn unreadable(&mut self, conn: ConnId, detail: &str) {
        if self.conn() != Some(conn) {
            return;
        }
        self.effects.push_back(Effect::Close { conn });
        let reason = shortened(
            &format!("the coordinator sent what cannot be read here: {detail}"),
            SENTENCE,
        );
        self.lose_over_content(reason.clone(), None);
        self.last_failure = reason;
    }

    /// The session ended over what was said in it, by one side or the other: the waits are long, and grow until a session lasts.
    fn lose_over_content(&mut self, reason: String, retry_after: Option<Duration>) {
        self.end_session();
        let limit = UNREADABLE_MAX.min(UNREADABLE_MIN * 2u32.saturating_pow(self.unreadable.min(16)));
        self.unreadable = self.unreadable.saturating_add(1);
        let jittered = limit.mul_f64(self.rng.random_range(0.5..1.0));
        self.try_again(reason, retry_after.unwrap_or_default() + jittered);
    }

    fn end_session(&mut self) {
        let Phase::Live(live) = std::mem::replace(&mut self.phase, Phase::Waiting) else {
            return;
        };
        if self.now.since(live.since) >= LASTED {
            (self.unreadable, self.last_failure) = (0, String::new());
        }
        self.adrift();
    }

    fn try_again(&mut self, reason: String, retry_in: Duration) {
        let address = self.address();
        self.address = self.address.wrapping_add(1);
        self.reconnect += 1;
        self.timers.set(self.now + retry_in, Timer::Reconnect(self.reconnect));
        self.effects.push_back(Effect::Tell(Notice::Lost {
            address,
            reason,
            retry_in,
        }));
    }

    fn give_up_opening(&mut self, conn: ConnId) {
        let waits = matches!(self.phase, Phase::Connecting(current) | Phase::Opening(current) if current == conn);
        if waits {
            self.effects.push_back(Effect::Close { conn });
            self.lose(format!("no answer within {}", Span(OPENING)), None);
        }
    }

    fn give_up_quiet(&mut self) {
        if let Phase::Live(live) = &self.phase {
            let (conn, quiet) = (live.conn, live.quiet);
            self.effects.push_back(Effect::Close { conn });
            self.lose(format!("no snapshot was sealed for {}", Span(quiet)), None);
        }
    }

    fn message(&mut self, conn: ConnId, message: Message) {
        if self.conn() != Some(conn) {
            return;
        }
        match message {
            Message::Welcome(welcome) => self.welcome(conn, *welcome),
            Message::Refused(refused) => self.refused(conn, refused),
            Message::Directive(directive) => self.directive(directive),
            Message::ProbePlan(plan) => self.plan(plan),
            Message::Ping => self.measure(),
            Message::Work(work) => self.told_work(*work),
            Message::ReadLog(request) => self.effects.push_back(Effect::ReadLog(request)),
            Message::Standing { number, standing } => self.standing(number, standing),
            Message::Seal { seal, heard } => {
                if let Phase::Live(live) = &mut self.phase {
                    live.acknowledged = live.acknowledged.max((seal.epoch, seal.cycle));
                    let quiet = live.quiet;
                    self.hears(quiet);
                    self.confirmed(heard);
                }
            }
        }
    }

    fn welcome(&mut self, conn: ConnId, welcome: Welcome) {
        if !matches!(self.phase, Phase::Opening(_)) {
            return;
        }
        self.failures = 0;
        self.epoch = self.epoch.max(welcome.epoch);
        self.interval = welcome.heartbeat_interval;
        let (cycle, lease) = (welcome.cycle_interval, welcome.lease);
        let quiet = QUIET_MIN.max(cycle * QUIET_CYCLES);
        let Welcome {
            cluster,
            epoch,
            session,
            ..
        } = welcome;
        let live = Live {
            conn,
            since: self.now,
            session,
            sequence: 0,
            acknowledged: (0, 0),
            quiet,
            refreshing: Vec::new(),
        };
        self.phase = Phase::Live(live);
        self.effects.push_back(Effect::Tell(Notice::Joined {
            cluster,
            epoch,
            session,
            address: self.address(),
        }));
        if !std::mem::replace(&mut self.taken_over, true) {
            self.effects.push_back(Effect::TakeOver);
        }
        self.probes.new_session(cluster);
        self.plan(welcome.probe_plan);
        self.start_beacons();
        self.begin_membership(lease, cycle);
        self.hears(quiet);
        self.beat();
        self.tell_all_sights();
        self.tell_all_work();
        self.tell_if_unwell();
    }

    /// The coordinator gave a sign of life; the next is due within `quiet`.
    fn hears(&mut self, quiet: Duration) {
        self.quiet += 1;
        // Seals come with heartbeats.
        let quiet = quiet.max(self.interval * QUIET_HEARTBEATS);
        self.timers.set(self.now + quiet, Timer::Quiet(self.quiet));
    }

    fn refused(&mut self, conn: ConnId, refused: Refused) {
        let (reason, retry_after) = (refused.detail.clone(), refused.retry_after);
        if matches!(
            refused.reason,
            RefusalReason::Stale | RefusalReason::Revoked | RefusalReason::Replaced
        ) {
            self.end_membership();
        }
        let over_content = matches!(refused.reason, RefusalReason::Invalid | RefusalReason::Unreadable);
        self.effects.push_back(Effect::Tell(Notice::Refused(refused)));
        self.effects.push_back(Effect::Close { conn });
        let reason = format!("refused: {reason}");
        match over_content {
            true => self.lose_over_content(reason, retry_after),
            false => self.lose(reason, retry_after),
        }
    }

    /// Has the host read, and the next heartbeat come in time.
    fn beat(&mut self) {
        if !self.is_live() {
            return;
        }
        self.beat += 1;
        self.timers.set(self.now + self.interval, Timer::Heartbeat(self.beat));
        self.measure();
    }

    fn measure(&mut self) {
        if !std::mem::replace(&mut self.measuring, true) {
            self.effects.push_back(Effect::Measure);
        }
    }

    fn measured(&mut self, reading: &Reading) {
        self.measuring = false;
        let wall = self.wall.at(self.now);
        let Phase::Live(live) = &mut self.phase else { return };
        live.sequence += 1;
        let mut heartbeat = Heartbeat {
            sequence: live.sequence,
            wall,
            load: load(reading),
            values: Vec::with_capacity(Channel::COUNT),
            absent: Vec::new(),
            links: self.probes.changed(self.now, REPORTS),
            coordinate: self.probes.moved(),
            acknowledged: live.acknowledged,
        };
        for (position, value) in (0..).zip(reading) {
            heartbeat
                .values
                .push(value.filter(|value| value.is_finite()).unwrap_or(0.0));
            if value.is_none_or(|value| !value.is_finite()) {
                heartbeat.absent.push(position);
            }
        }
        let conn = live.conn;
        let (sequence, refreshed) = (live.sequence, std::mem::take(&mut live.refreshing));
        self.effects.push_back(Effect::Send {
            conn,
            report: Report::Heartbeat(Box::new(heartbeat)),
        });
        self.beaten(sequence);
        for id in refreshed {
            self.finish(id, State::Done, String::new());
        }
    }

    fn shutdown(&mut self, reason: String) {
        if let Phase::Live(live) = &self.phase {
            let conn = live.conn;
            self.effects.push_back(Effect::Send {
                conn,
                report: Report::Goodbye { reason },
            });
            self.effects.push_back(Effect::Close { conn });
        } else if let Some(conn) = self.conn() {
            self.effects.push_back(Effect::Close { conn });
        }
        self.phase = Phase::Stopped;
        self.effects.push_back(Effect::Stopped);
    }
}
