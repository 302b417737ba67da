//! The world: dispatches events from one queue to the simulated parts.

use std::{collections::BTreeMap, time::Duration};

use wyneos_core::{agent::Input, coordinator::Rules, time::Time};

use crate::{
    clock::Clock,
    event::{StreamId, Way, What},
    expect,
    host::Host,
    machines::Machines,
    names::name,
    pins::Pin,
    presence,
    report::Report,
    scenario::{Scenario, resolve},
    scene::Scene,
    script::{Cast, Script},
    stage::Stage,
    verdicts,
    wires::{KEEP_ALIVE, Wires},
    witness::{Ending, Witness},
};

/// Simulated time between two calls of `go_on`.
const PROGRESS: Duration = Duration::from_secs(1);

/// The world.
pub(crate) struct World<'a> {
    seed: u64,
    scene: Scene<'a>,
    machines: Machines,
    host: Host,
    script: Script,
}

impl<'a> World<'a> {
    pub(crate) fn new(scenario: &'a Scenario, seed: u64, rules: Rules, pinned: bool) -> World<'a> {
        let mut stage = Stage::new(scenario, seed, pinned);
        let cluster = &scenario.cluster;
        let mut clock = || Clock::new(&mut stage.rng, cluster.clock_drift);
        let machines = Machines::new(cluster, &mut clock);
        let host = Host::new(clock(), rules);
        let pending_nodes = resolve(&cluster.pending, cluster, &mut |_| Default::default()).0;
        let witness = Witness {
            pending_nodes,
            ..Witness::default()
        };
        let wires = Wires::new(scenario);
        let scene = Scene { stage, wires, witness };
        let mut world = World {
            seed,
            scene,
            machines,
            host,
            script: Script::default(),
        };
        world.start(scenario);
        world
    }

    /// Starts everything and schedules the scenario's events.
    fn start(&mut self, scenario: &Scenario) {
        let scene = &mut self.scene;
        self.host.enrol_pending(scene);
        self.host.start(scene, &self.machines);
        for machine in 0..scenario.cluster.nodes {
            self.machines.start_agent(scene, machine);
        }
        let stage = &mut scene.stage;
        for (order, given) in scenario.commands.iter().enumerate() {
            stage.at(Time(0) + given.at, What::Order(order));
        }
        for (number, declared) in scenario.workloads.iter().enumerate() {
            stage.at(Time(0) + declared.at, What::Declare(number));
        }
        for (fault, begins) in scenario.faults.iter().enumerate() {
            stage.at(Time(0) + begins.at, What::Fault(fault, true));
            if let Some(taken) = begins.taken {
                stage.at(Time(0) + taken, What::BackUp(fault));
            }
        }
    }

    pub(crate) fn run(mut self, go_on: &mut dyn FnMut(f64) -> bool) -> (Report, BTreeMap<Pin, String>) {
        let end = Time(0) + self.scene.stage.scenario.duration;
        let mut told = Time(0);
        let mut complete = true;
        let mut events = 0;
        while let Some(what) = self.scene.stage.next(end) {
            let now = self.scene.stage.now;
            events += 1;
            if now.since(told) >= PROGRESS {
                told = now;
                if !go_on(now.0 as f64 / 1e9) {
                    complete = false;
                    break;
                }
            }
            self.happen(what);
            presence::look_who_is_there(&mut self.scene, &self.machines);
        }
        if complete {
            self.scene.stage.now = end;
            expect::check(&mut self.scene, self.script.met());
        }
        self.report(complete, events)
    }

    fn happen(&mut self, what: What) {
        let World {
            scene,
            machines,
            host,
            script,
            ..
        } = self;
        match what {
            What::Wake(machine, token) => machines.wake_agent(scene, machine, token),
            What::WakeCoordinator(token) => host.wake(scene, machines, token),
            What::Pump(stream, way) => scene.wires.pump(&mut scene.stage, stream, way, true),
            What::Stands(stream) => self.stands(stream),
            What::Arrive(stream, way) => self.arrive(stream, way),
            What::KeepAlive(stream) => self.keep_alive(stream),
            What::Dial(machine, generation, conn, attempt) => {
                machines.dial(scene, machine, generation, conn, attempt);
            }
            What::ProbeOut(observer, subject, number, attempt) => {
                machines.probe_out(scene, observer, subject, number, attempt);
            }
            What::Connect(observer, subject, number, attempt) => {
                machines.connect(scene, observer, subject, number, attempt);
            }
            What::ProbeIn(observer, subject, number) => machines.probe_in(scene, observer, subject, number),
            What::ReplyOut(observer, subject, number, attempt) => {
                machines.reply_out(scene, observer, subject, number, attempt);
            }
            What::ReplyIn(observer, subject, number, answered) => {
                machines.reply_in(scene, observer, subject, number, answered);
            }
            What::ProbeTimeout(observer, subject, number) => machines.probe_timeout(scene, observer, subject, number),
            What::Beacon(sender, receiver, observes) => machines.beacon_in(scene, sender, receiver, observes),
            What::Ask(ask) => machines.ask(scene, *ask),
            What::Answered(answer) => machines.answered(scene, answer.0, answer.1),
            What::DiskDone(generation) => host.disk_done(scene, machines, generation),
            What::Fault(fault, begins) => script.fault(scene, &mut Cast { machines, host }, fault, begins),
            What::LeaseOver(node, at) => verdicts::check_lease(scene, machines, node, at),
            What::Order(order) => host.order(scene, machines, order),
            What::Flap(fault, begins) => script.flap(scene, fault, begins),
            What::Starve(machine, fault) => script.starve(scene, &mut Cast { machines, host }, machine, fault),
            What::Written(machine, generation) => machines.written(scene, machine, generation),
            What::Lie(machine, fault) => script.lie(scene, machines, machine, fault),
            What::Step(step) => machines.step(scene, step.0, step.1, step.2),
            What::Declare(number) => host.declare(scene, machines, number),
            What::BackUp(fault) => host.back_up(scene, fault),
        }
    }

    fn stands(&mut self, id: StreamId) {
        if let Some(stream) = self.scene.wires.streams.get(&id)
            && stream.generation == self.machines.of(stream.machine).generation
        {
            let (machine, conn) = (stream.machine, stream.conn);
            self.machines
                .tell_agent(&mut self.scene, machine, Input::Connected { conn });
        }
    }

    fn arrive(&mut self, id: StreamId, way: Way) {
        let scene = &mut self.scene;
        let Some(stream) = scene.wires.streams.get_mut(&id) else {
            return;
        };
        let (machine, generation, conn) = (stream.machine, stream.generation, stream.conn);
        let Some(item) = stream.arrived(way) else { return };
        match way {
            Way::Up if stream.host_generation == self.host.generation => {
                self.host.hears(scene, &self.machines, id, item);
            }
            Way::Down if generation == self.machines.of(machine).generation => {
                self.machines.agent_hears(scene, machine, conn, item);
            }
            // A process that is gone receives nothing.
            _ => {}
        }
    }

    fn keep_alive(&mut self, id: StreamId) {
        let hub = self.scene.wires.hub();
        let now = self.scene.stage.now;
        let Some(stream) = self.scene.wires.streams.get(&id) else {
            return;
        };
        let machine = stream.machine;
        let agent = self.machines.of(machine);
        let agent_there =
            agent.runs() && agent.generation == stream.generation && agent.streams.get(&stream.conn) == Some(&id);
        let host_there = self.host.runs() && self.host.generation == stream.host_generation && !stream.released;
        if !agent_there && !host_there {
            self.scene.wires.streams.remove(&id);
            return;
        }
        // A briefly stopped process answers when it resumes.
        let stands_still = agent.still_since().is_some_and(|since| now.since(since) >= KEEP_ALIVE);
        let answers = agent_there && host_there && !stands_still && !self.host.is_frozen();
        let is_cut = self.scene.wires.is_cut(machine, hub);
        let Some(stream) = self.scene.wires.streams.get_mut(&id) else {
            return;
        };
        if stream.is_given_up(answers, is_cut) {
            self.break_stream(id);
            return;
        }
        self.scene.stage.later(KEEP_ALIVE, What::KeepAlive(id));
    }

    /// Informs both ends, if present, that the transport is gone.
    fn break_stream(&mut self, id: StreamId) {
        let scene = &mut self.scene;
        let Some(stream) = scene.wires.streams.remove(&id) else {
            return;
        };
        if stream.host_generation == self.host.generation {
            self.host.loses(scene, &self.machines, id, false);
        }
        if stream.generation == self.machines.of(stream.machine).generation {
            self.machines
                .agent_loses(scene, stream.machine, stream.conn, "keep-alive timed out");
        }
    }

    fn report(mut self, complete: bool, events: u64) -> (Report, BTreeMap<Pin, String>) {
        let timers = &mut self.scene.witness.timers;
        timers.extend(self.machines.iter().flat_map(|machine| machine.timers()));
        timers.extend(self.host.timers());
        let unheard = |node: &usize| !presence::is_heard(&self.scene, &self.machines, *node);
        let unheard = (0..self.scene.wires.hub()).filter(unheard).map(name).collect();
        let Scene { stage, witness, .. } = self.scene;
        let ending = Ending {
            seed: self.seed,
            events,
            complete,
            unheard,
        };
        let report = witness.report(&stage, ending);
        let (failures, trace_hash, pins) = stage.into_parts();
        let report = Report {
            failures,
            trace_hash,
            ..report
        };
        (report, pins)
    }
}
