//! The agent's logic, as a state machine without I/O: its session, heartbeats, probes and directives.

mod beacons;
mod directives;
mod evidence;
mod health;
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
mod work;
#[cfg(test)]
mod work_tests;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

use beacons::Beacons;
use evidence::Evidence;
use health::SelfHealth;
pub use io::{Effect, Input, Notice, ProbeOutcome, Recipient, Report};
use membership::Membership;
use probes::Probes;
use work::Work;

use crate::{
    behaviour::State,
    coordinator::Heartbeat,
    id::{ClusterId, NodeId},
    integrity::Digest,
    mesh::{Coordinate, REPORTS},
    node::{ConnId, Facts},
    telemetry::{Channel, Reading, load},
    time::{Time, WallClock, WallTime},
    timer::{Kinds, Timers},
    workload::{Assigned, AssignmentId, Status},
};

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
    /// Instances that were found on the host, and how they are; also those of which nothing but that they were begun is known.
    pub instances: Vec<Found>,
    /// What may have been begun here besides.
    pub begun: Begun,
}

/// Instances that earlier agents of this node may have begun though nothing of them is found. They are not run: a process of one may be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Begun {
    /// None.
    #[default]
    None,
    /// Those of this cluster with a lower id.
    Below(ClusterId, AssignmentId),
    /// All that the coordinator knew of before it welcomed this process: the list of what was begun is lost.
    Any,
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
    /// True when the instance was given to another node, as when `node-id` was replaced: its lease is not renewed, and it is stopped after the
    /// first welcome.
    pub of_another: bool,
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
    /// A peer's question is passed on, unless the coordinator answered it: its number.
    PassOn(u64),
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
        "agent.pass-on",
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
            Timer::PassOn(_) => 11,
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
    /// The highest number of a ping that came.
    pinged: u64,
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
    /// Sessions in a row that ended over their content, and what this agent could not read in the last one.
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
    evidence: Evidence,
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
            evidence: Evidence::default(),
            membership: Membership::default(),
            health: SelfHealth::default(),
            work: Work::new(std::mem::take(&mut config.instances), config.begun),
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
            Input::Question { id, cluster, question } => self.question(id, cluster, question),
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
                Timer::Heartbeat(token) if token == self.beat => self.beat(due),
                Timer::Quiet(token) if token == self.quiet => self.give_up_quiet(),
                Timer::Probe(target, token) => self.probe(target, token, due),
                Timer::Missed(target, number) => self.missed(target, number, due),
                Timer::Beacons => self.send_beacons(),
                Timer::Membership(token) => self.check_membership(token),
                Timer::PassOn(number) => self.pass_on(number),
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

    /// Has the host read, and the next heartbeat come in time.
    fn beat(&mut self, turn: Time) {
        if !self.is_live() {
            return;
        }
        self.beat += 1;
        let next = turn.next_turn(self.interval, self.now);
        self.timers.set(next, Timer::Heartbeat(self.beat));
        self.next_beat();
        self.measure();
    }

    /// The coordinator wants to know what this agent sees by now.
    fn pinged(&mut self, number: u64) {
        if let Phase::Live(live) = &mut self.phase {
            live.pinged = live.pinged.max(number);
            self.retell_sights();
            self.next_beat();
            self.measure();
        }
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
            answers: Some(live.pinged),
            sent_millis: self.now.millis(),
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
