//! The world: one queue of events, and what they happen to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use wyneos_core::{coordinator::Rules, node::Liveness, time::Time, workload::AssignmentId};

use crate::{
    agents::Machine,
    clock::Clock,
    coordinator::Host,
    event::{StreamId, What},
    expect,
    known::Known,
    names::name,
    net::Net,
    pins::{Pin, Pins},
    queue::Queue,
    report::{Detection, Found, Moved, Program, Report, Transition},
    scenario::{Scenario, resolve},
    streams::Stream,
    truth::Truth,
    work::Run,
};

/// Simulated time between two calls of `go_on`.
const PROGRESS: Duration = Duration::from_secs(1);

/// The two sides of a finding.
pub(crate) type Sides = (BTreeSet<usize>, BTreeSet<usize>);

/// An instance as the coordinator recorded it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) node: usize,
    pub(crate) revision: u64,
    /// It is to run, and has not ended.
    pub(crate) wanted: bool,
}

/// The world.
pub(crate) struct World<'a> {
    pub(crate) scenario: &'a Scenario,
    seed: u64,
    /// Thresholds of the coordinator's verdicts.
    pub(crate) rules: Rules,
    pub(crate) rng: Pcg64Mcg,
    pub(crate) now: Time,
    queue: Queue,
    pub(crate) net: Net,
    pub(crate) truth: Truth,
    pub(crate) known: Known,
    /// Nodes that no operator has admitted.
    pub(crate) pending_nodes: BTreeSet<usize>,
    pub(crate) machines: Vec<Machine>,
    /// Where each machine's agent answers.
    pub(crate) addresses: Vec<Arc<str>>,
    pub(crate) host: Host,
    pub(crate) streams: BTreeMap<StreamId, Stream>,
    pub(crate) opened: u64,
    /// Of each fault: whom it met.
    pub(crate) met: BTreeMap<usize, BTreeSet<usize>>,
    pub(crate) transitions: Vec<(Time, usize, Transition)>,
    pub(crate) findings: Vec<(Time, bool, Sides, Found)>,
    pub(crate) deaths: Vec<(Time, usize)>,
    /// Whose lease ran out, and when.
    pub(crate) lapses: Vec<(Time, usize)>,
    /// Who was told its liveness by way of a peer.
    pub(crate) told: Vec<(Time, usize, Liveness)>,
    pub(crate) asked: u64,
    /// Programs that started and ended.
    pub(crate) runs: Vec<Run>,
    /// Programs that run, by workload.
    pub(crate) running: BTreeMap<String, u32>,
    /// Slots whose programs have ended with success, by workload.
    pub(crate) done: BTreeMap<String, BTreeSet<u32>>,
    /// Instances that were placed, moved or stopped, as the coordinator recorded it.
    pub(crate) moves: Vec<Moved>,
    /// Decisions that wait for an operator.
    pub(crate) pending: BTreeSet<u64>,
    /// The newest instance that was placed.
    pub(crate) newest: AssignmentId,
    /// Instances as the coordinator last recorded them: workload, node, revision, and whether they are to run and have not ended.
    pub(crate) placed: BTreeMap<AssignmentId, Placed>,
    /// Whom decisions were about, and their rules.
    pub(crate) decisions: Vec<(Time, usize, String)>,
    /// Kinds of timers that fired in processes that have ended.
    pub(crate) timers: BTreeSet<&'static str>,
    pub(crate) failures: Vec<String>,
    pub(crate) trace: blake3::Hasher,
    /// What it did, where that is wanted.
    pins: Option<Pins>,
}

impl<'a> World<'a> {
    pub(crate) fn new(scenario: &'a Scenario, seed: u64, rules: Rules, pinned: bool) -> World<'a> {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let cluster = &scenario.cluster;
        let drift = cluster.clock_drift;
        let mut clock = || {
            let rate = if drift > 0.0 {
                1.0 + rng.random_range(-drift..drift)
            } else {
                1.0
            };
            Clock { rate, jumped: 0 }
        };
        let mut machines: Vec<Machine> = (0..cluster.nodes).map(|_| Machine::new(clock())).collect();
        for (names, told) in [(&cluster.uncontained, false), (&cluster.overstated, true)] {
            // No shares are among them that would have to be drawn.
            for node in resolve(names, cluster, &mut |_| BTreeSet::new()).0 {
                (machines[node].contained, machines[node].told_contained) = (false, told);
            }
        }
        let pending_nodes = resolve(&cluster.pending, cluster, &mut |_| BTreeSet::new()).0;
        let address = |node| format!("{}:7402", name(node)).into();
        let host = Host::new(clock());
        let mut world = World {
            scenario,
            seed,
            rules,
            rng,
            now: Time(0),
            queue: Queue::default(),
            net: Net::new(scenario.network.clone(), cluster.nodes, cluster.zones),
            truth: Truth::default(),
            known: Known::default(),
            pending_nodes,
            machines,
            addresses: (0..cluster.nodes).map(address).collect(),
            host,
            streams: BTreeMap::new(),
            opened: 0,
            met: BTreeMap::new(),
            transitions: Vec::new(),
            findings: Vec::new(),
            deaths: Vec::new(),
            lapses: Vec::new(),
            told: Vec::new(),
            asked: 0,
            runs: Vec::new(),
            running: BTreeMap::new(),
            done: BTreeMap::new(),
            moves: Vec::new(),
            pending: BTreeSet::new(),
            newest: AssignmentId::default(),
            placed: BTreeMap::new(),
            decisions: Vec::new(),
            timers: BTreeSet::new(),
            failures: Vec::new(),
            trace: blake3::Hasher::new(),
            pins: pinned.then(Pins::default),
        };
        world.enrol_pending();
        world.start_coordinator();
        for machine in 0..cluster.nodes {
            world.start_agent(machine);
        }
        for (order, given) in scenario.commands.iter().enumerate() {
            world.at(Time(0) + given.at, What::Order(order));
        }
        for (number, declared) in scenario.workloads.iter().enumerate() {
            world.at(Time(0) + declared.at, What::Declare(number));
        }
        for (fault, begins) in scenario.faults.iter().enumerate() {
            world.at(Time(0) + begins.at, What::Fault(fault, true));
            if let Some(taken) = begins.taken {
                world.at(Time(0) + taken, What::BackUp(fault));
            }
        }
        world
    }

    pub(crate) fn at(&mut self, at: Time, what: What) {
        self.queue.push(at, what);
    }

    /// For what always happens as long after it is said.
    pub(crate) fn at_last(&mut self, at: Time, what: What) {
        self.queue.push_ordered(at, what);
    }

    pub(crate) fn later(&mut self, after: Duration, what: What) {
        self.at(self.now + after, what);
    }

    pub(crate) fn fail(&mut self, what: String) {
        let at = self.now.0 as f64 / 1e9;
        if self.failures.len() < 100 {
            self.failures.push(format!("{at:.3} s: {what}"));
        }
    }

    /// Adds to what is pinned alone, if anything is.
    pub(crate) fn pin(&mut self, pin: Pin, what: impl FnOnce() -> (&'static str, Vec<u8>)) {
        if let Some(pins) = &mut self.pins {
            let (what, bytes) = what();
            pins.add(pin, self.now, what, &bytes);
        }
    }

    /// Adds to the trace.
    pub(crate) fn note(&mut self, pin: Pin, what: &str, bytes: &[u8]) {
        if let Some(pins) = &mut self.pins {
            pins.add(pin, self.now, what, bytes);
        }
        self.trace.update(&self.now.0.to_le_bytes());
        self.trace.update(what.as_bytes());
        self.trace.update(bytes);
    }

    pub(crate) fn run(mut self, go_on: &mut dyn FnMut(f64) -> bool) -> (Report, BTreeMap<Pin, String>) {
        let end = Time(0) + self.scenario.duration;
        let mut told = Time(0);
        let mut complete = true;
        let mut events = 0;
        while let Some(entry) = self.queue.pop() {
            if entry.at() > end {
                break;
            }
            self.now = entry.at();
            events += 1;
            if self.now.since(told) >= PROGRESS {
                told = self.now;
                if !go_on(self.now.0 as f64 / 1e9) {
                    complete = false;
                    break;
                }
            }
            self.happen(entry.what);
            self.look_who_is_there();
        }
        if complete {
            self.now = end;
            expect::check(&mut self);
        }
        let pins = self.pins.as_ref().map(Pins::told).unwrap_or_default();
        (self.report(complete, events), pins)
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Wake(machine, token) => self.wake_agent(machine, token),
            What::WakeCoordinator(token) => self.wake_coordinator(token),
            What::Pump(stream, way) => self.pump(stream, way, true),
            What::Stands(stream) => self.stands(stream),
            What::Arrive(stream, way) => self.arrive(stream, way),
            What::KeepAlive(stream) => self.keep_alive(stream),
            What::Dial(machine, generation, conn, attempt) => self.dial(machine, generation, conn, attempt),
            What::ProbeOut(observer, subject, number, attempt) => self.probe_out(observer, subject, number, attempt),
            What::Connect(observer, subject, number, attempt) => self.connect(observer, subject, number, attempt),
            What::ProbeIn(observer, subject, number) => self.probe_in(observer, subject, number),
            What::ReplyOut(observer, subject, number, attempt) => self.reply_out(observer, subject, number, attempt),
            What::ReplyIn(observer, subject, number, answered) => self.reply_in(observer, subject, number, answered),
            What::ProbeTimeout(observer, subject, number) => self.probe_timeout(observer, subject, number),
            What::Beacon(sender, receiver, observes) => self.beacon_in(sender, receiver, observes),
            What::Ask(ask) => self.ask(*ask),
            What::Answered(answer) => self.answered(answer.0, answer.1),
            What::DiskDone(generation) => self.disk_done(generation),
            What::Fault(fault, begins) => self.fault(fault, begins),
            What::LeaseOver(node, at) => self.lease_over(node, at),
            What::Order(order) => self.order(order),
            What::Flap(fault, begins) => self.flap(fault, begins),
            What::Starve(machine, fault) => self.starve(machine, fault),
            What::Written(machine, generation) => self.written(machine, generation),
            What::Lie(machine, fault) => self.lie(machine, fault),
            What::Step(step) => self.step(step.0, step.1, step.2),
            What::Declare(number) => self.declare(number),
            What::BackUp(fault) => self.back_up(fault),
        }
    }

    fn report(mut self, complete: bool, events: u64) -> Report {
        for machine in &self.machines {
            self.timers.extend(machine.timers());
        }
        self.timers.extend(self.host.timers());
        let seconds = |time: Time| time.0 as f64 / 1e9;
        let found = |died: Time, node: usize| {
            let mut later = self.transitions.iter().filter(|(at, of, _)| *of == node && *at >= died);
            later
                .find(|(_, _, transition)| transition.to == Liveness::Offline.name())
                .map(|(at, ..)| seconds(Time(at.0 - died.0)))
        };
        let detections = self.deaths.iter().map(|&(died, node)| Detection {
            node: name(node),
            died: seconds(died),
            after: found(died, node),
        });
        let detections = detections.collect();
        let unheard = (0..self.hub()).filter(|&node| !self.is_heard(node)).map(name).collect();
        let transitions: Vec<Transition> = self
            .transitions
            .into_iter()
            .map(|(_, _, transition)| transition)
            .collect();
        Report {
            scenario: self.scenario.name.clone(),
            seed: self.seed,
            seconds: seconds(self.now),
            complete,
            false_verdicts: transitions.iter().filter(|transition| !transition.right).count(),
            transitions,
            findings: self.findings.into_iter().map(|(.., found)| found).collect(),
            detections,
            unheard,
            lapses: self
                .lapses
                .iter()
                .map(|(at, node)| (seconds(*at), name(*node)))
                .collect(),
            moves: self.moves,
            programs: self
                .runs
                .into_iter()
                .map(|(at, workload, node, started)| Program {
                    at: seconds(at),
                    workload,
                    node: name(node),
                    started,
                })
                .collect(),
            timers: self.timers,
            failures: self.failures,
            events,
            trace_hash: self.trace.finalize().to_hex().to_string(),
        }
    }
}
