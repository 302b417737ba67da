//! The agents' machines: the real state machines, and simulated drivers.

mod effects;
mod held_up;
mod instance;
mod machine;
mod misplaced;
mod peers;
mod supervisors;
mod work;

use std::{collections::BTreeSet, mem, sync::Arc, time::Duration};

use prost::Message as _;
use rand::RngExt;
use wyneos::v1;
use wyneos_core::{
    agent::{Agent, Config, FromAgent, Input},
    id::{NodeId, ProcessId},
    mesh::{Observation, REPORTS, Sight},
    node::{Attributes, Capacity, ConnId, Facts, Labels},
    time::Time,
};

use instance::CAPACITY;
use machine::{Machine, Waiting};

use crate::{
    clock::Clock,
    event::{StreamId, Way, What},
    names::{id_of, name},
    scenario::{Cluster, resolve},
    scene::Scene,
    wires::Item,
};

/// Initial SYN retransmission timeout of TCP; it doubles.
const SYN: Duration = Duration::from_secs(1);

/// Retransmission timeout on an established probe connection.
const RESEND: Duration = Duration::from_millis(200);

/// Timeout of a question to a peer.
const PATIENCE: Duration = Duration::from_millis(900);

/// Duration of a write to an agent's disk.
const WRITE: Duration = Duration::from_millis(2);

/// The machines of all nodes.
pub(crate) struct Machines {
    all: Vec<Machine>,
    /// Probe addresses of the agents.
    addresses: Vec<Arc<str>>,
    /// Number of questions handed to agents.
    asked: u64,
}

impl Machines {
    /// Creates a machine with a random clock for each node of the cluster.
    pub(crate) fn new(cluster: &Cluster, clock: &mut impl FnMut() -> Clock) -> Machines {
        let mut all: Vec<Machine> = (0..cluster.nodes).map(|_| Machine::new(clock())).collect();
        for (names, told) in [(&cluster.uncontained, false), (&cluster.overstated, true)] {
            // These names contain no percentages, so nothing is drawn.
            for node in resolve(names, cluster, &mut |_| BTreeSet::new()).0 {
                (all[node].contained, all[node].told_contained) = (false, told);
            }
        }
        let address = |node| format!("{}:7402", name(node)).into();
        Machines {
            all,
            addresses: (0..cluster.nodes).map(address).collect(),
            asked: 0,
        }
    }

    pub(crate) fn of(&self, node: usize) -> &Machine {
        &self.all[node]
    }

    pub(crate) fn of_mut(&mut self, node: usize) -> &mut Machine {
        &mut self.all[node]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Machine> {
        self.all.iter()
    }

    pub(crate) fn start_agent(&mut self, scene: &mut Scene<'_>, node: usize) {
        let seed: u64 = scene.stage.rng.random();
        let zone = node % scene.stage.scenario.cluster.zones;
        let now = scene.stage.now;
        self.find_gone(scene, node);
        let found = self.left_on(scene, node);
        let machine = &mut self.all[node];
        machine.generation += 1;
        machine.incarnation += 1;
        machine.inbox.clear();
        (machine.wake_at, machine.due) = (None, None);
        machine.probes.clear();
        machine.connections.clear();
        machine.questions.clear();
        machine.targets.clear();
        scene.witness.truth.stale = true;
        let mut labels = Labels::from([("zone".to_owned(), format!("zone-{}", zone + 1))]);
        for (label, values) in &scene.stage.scenario.cluster.labels {
            labels.insert(label.clone(), format!("{label}-{}", node % values + 1));
        }
        let facts = Facts {
            id: id_of(node),
            name: name(node),
            agent_version: "0.1.0".to_owned(),
            boot_time: machine.clock.wall(Time(0)),
            capacity: Capacity {
                cpu_millis: CAPACITY.cpu_millis,
                memory_bytes: CAPACITY.memory_bytes,
                disk_bytes: 64 << 30,
            },
            attributes: Attributes {
                os: "linux".to_owned(),
                kernel: "6.1".to_owned(),
                architecture: "x86_64".to_owned(),
                cpus: 4,
                memory_bytes: 8 << 30,
                cgroups: "none".to_owned(),
                ..Attributes::default()
            }
            .with_containment(match machine.told_contained {
                true => Ok(()),
                false => Err("the scenario says so".to_owned()),
            }),
            labels,
            binary_digest: [1; 32],
            config_digest: [2; 32],
            probe_address: self.addresses[node].to_string(),
        };
        let mut process_id = [0; 16];
        process_id[..8].copy_from_slice(&seed.to_le_bytes());
        process_id[8..].copy_from_slice(&machine.incarnation.to_le_bytes());
        let config = Config {
            facts,
            incarnation: machine.incarnation,
            coordinators: vec!["coordinator:7400".to_owned()],
            seed,
            process_id: ProcessId(process_id),
            machine: [0; 32],
            instances: found,
            begun: machine.begun(),
        };
        machine.core = Some(Agent::new(machine.clock.local(now), machine.clock.wall(now), config));
        self.turn_agent(scene, node);
    }

    /// Kills the agent's process. If the machine is powered, its kernel informs the peers of its connections.
    pub(crate) fn kill_agent(&mut self, scene: &mut Scene<'_>, node: usize) {
        scene.witness.truth.stale = true;
        let machine = &mut self.all[node];
        scene.witness.timers.extend(machine.timers());
        machine.core = None;
        machine.held_up.clear();
        machine.inbox.clear();
        machine.probes.clear();
        machine.connections.clear();
        let streams = mem::take(&mut machine.streams);
        let powered = machine.powered;
        for stream in streams.into_values() {
            if powered {
                scene.wires.push(&mut scene.stage, stream, Way::Up, Item::End);
            } else {
                scene.wires.silence(stream);
            }
        }
    }

    /// Asks the agent to stop; it is started again afterwards.
    pub(crate) fn restart_agent(&mut self, scene: &mut Scene<'_>, node: usize) {
        self.all[node].restarts = true;
        let reason = "restart".to_owned();
        self.tell_agent(scene, node, Input::Shutdown { reason });
    }

    pub(crate) fn freeze_agent(&mut self, scene: &mut Scene<'_>, node: usize) {
        let now = scene.stage.now;
        scene.witness.truth.stale |= scene.wires.net.has_cuts();
        let machine = &mut self.all[node];
        machine.frozen += 1;
        if machine.frozen == 1 {
            machine.frozen_since = now;
        }
    }

    pub(crate) fn thaw_agent(&mut self, scene: &mut Scene<'_>, node: usize) {
        let machine = &mut self.all[node];
        let was_frozen = machine.is_frozen();
        machine.frozen = machine.frozen.saturating_sub(1);
        if was_frozen && !machine.is_frozen() {
            machine.thawed = Some(scene.stage.now);
            scene.witness.truth.stood(node, machine.frozen_since, scene.stage.now);
            scene.witness.truth.stale |= scene.wires.net.has_cuts();
        }
        if machine.is_frozen() || !machine.runs() {
            return;
        }
        let waiting = mem::take(&mut machine.inbox);
        // A driver that resumes may handle its timers or its input first.
        if scene.stage.rng.random_bool(0.5) {
            self.turn_agent(scene, node);
        }
        for waiting in waiting {
            match waiting {
                Waiting::Fact(input) => self.tell_agent(scene, node, input),
                Waiting::Probe(observer, number) => self.probe_in(scene, observer, node, number),
            }
        }
        self.turn_agent(scene, node);
    }

    pub(crate) fn written(&mut self, scene: &mut Scene<'_>, node: usize, generation: u32) {
        if self.all[node].generation == generation {
            let done = !self.all[node].disk_fails;
            self.tell_agent(scene, node, Input::DiskTouched { done });
        }
    }

    /// Makes an agent claim falsely that `peers` (all peers if empty) are silent.
    pub(crate) fn lie(&mut self, scene: &mut Scene<'_>, node: usize, peers: Vec<usize>) {
        let observation = Observation {
            sight: Sight::Silent,
            last_heard_age_millis: Some(5_000),
        };
        let observations: Vec<(NodeId, Observation)> = peers
            .into_iter()
            .filter(|&peer| peer != node)
            .take(REPORTS)
            .map(|peer| (id_of(peer), observation))
            .collect();
        let report = FromAgent::Evidence {
            observations,
            health: None,
            sent_millis: 0,
        };
        let streams: Vec<StreamId> = self.all[node].streams.values().copied().collect();
        if !self.all[node].is_frozen() {
            for stream in streams {
                let bytes = v1::SessionRequest::from(report.clone()).encode_to_vec();
                scene
                    .wires
                    .push(&mut scene.stage, stream, Way::Up, Item::Bytes(bytes.into()));
            }
        }
    }

    pub(crate) fn tell_agent(&mut self, scene: &mut Scene<'_>, node: usize, input: Input) {
        let now = scene.stage.now;
        let machine = &mut self.all[node];
        let frozen = machine.is_frozen();
        let Some(core) = &mut machine.core else { return };
        if frozen {
            machine.inbox.push(Waiting::Fact(input));
            return;
        }
        core.handle(machine.clock.local(now), input);
        self.turn_agent(scene, node);
    }

    /// The stream of an agent's transport.
    fn stream_of(&self, node: usize, conn: ConnId) -> Option<StreamId> {
        self.all[node].streams.get(&conn).copied()
    }

    pub(crate) fn wake_agent(&mut self, scene: &mut Scene<'_>, node: usize, token: u64) {
        let machine = &mut self.all[node];
        if machine.wake == token && !machine.is_frozen() {
            (machine.wake_at, machine.due) = (None, None);
            self.turn_agent(scene, node);
        }
    }

    /// Handles due timers and executes all effects of an agent.
    fn turn_agent(&mut self, scene: &mut Scene<'_>, node: usize) {
        loop {
            let now = scene.stage.now;
            let machine = &mut self.all[node];
            let local = machine.clock.local(now);
            let Some(core) = &mut machine.core else { return };
            if core.poll_timeout().is_some_and(|due| due <= local) {
                core.handle_timeout(local);
            }
            match core.poll_effect() {
                Some(effect) => self.do_for_agent(scene, node, effect),
                None => break,
            }
        }
        let machine = &mut self.all[node];
        let due = machine.core.as_ref().and_then(Agent::poll_timeout);
        if due == machine.due {
            return;
        }
        machine.due = due;
        let due = due.map(|due| machine.clock.moment(due));
        if due != machine.wake_at {
            machine.wake += 1;
            machine.wake_at = due;
            let wake = machine.wake;
            if let Some(due) = due {
                scene.stage.at(due, What::Wake(node, wake));
            }
        }
    }
}
