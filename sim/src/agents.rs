//! Agents' machines: the real logic, and what its driver would do.

mod effects;
mod peers;

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
    time::Duration,
};

use prost::Message as _;
use rand::RngExt;
use wyneos::v1;
use wyneos_core::{
    agent::{Agent, Config, Input, Report},
    id::{ClusterId, NodeId},
    mesh::{Observation, REPORTS, Sight},
    node::{Attributes, Capacity, ConnId, Facts, Labels},
    time::Time,
    workload::{Assigned, AssignmentId},
};

use crate::{
    clock::Clock,
    event::{Ask, StreamId, Way, What},
    names::{id_of, name},
    streams::Item,
    work::{CAPACITY, Instances},
    world::World,
};

/// TCP's first wait for an answer to a SYN; it doubles.
const SYN: Duration = Duration::from_secs(1);

/// A probe's connection stands; what is lost on it is sent again.
const RESEND: Duration = Duration::from_millis(200);

/// How long a question to a peer is waited for.
const PATIENCE: Duration = Duration::from_millis(900);

/// What an agent's disk takes for a write.
const WRITE: Duration = Duration::from_millis(2);

/// What waits for a process that stands still.
#[derive(Debug)]
enum Waiting {
    Fact(Input),
    /// A probe by this observer, with its number.
    Probe(usize, u64),
}

/// A machine with an agent.
pub(crate) struct Machine {
    core: Option<Agent>,
    pub(crate) powered: bool,
    /// Counts the starts of its agent, as the world sees them.
    pub(crate) generation: u32,
    incarnation: u64,
    /// Faults that make it stand still now.
    frozen: u32,
    frozen_since: Time,
    /// When it last went on.
    pub(crate) thawed: Option<Time>,
    /// Whom its agent was asked to probe.
    pub(crate) targets: BTreeSet<usize>,
    pub(crate) starving: Option<usize>,
    pub(crate) standing: bool,
    inbox: Vec<Waiting>,
    wake: u64,
    wake_at: Option<Time>,
    /// The same by its own clock.
    due: Option<Time>,
    pub(crate) clock: Clock,
    load: f32,
    /// What a fault makes of its load.
    pub(crate) loaded: Option<f32>,
    pub(crate) streams: BTreeMap<ConnId, StreamId>,
    /// Probes under way, few at a time: subject, number, and when each left.
    probes: Vec<(usize, u64, Time)>,
    /// Peers that its agent has a connection to which no probe uses.
    connections: BTreeSet<usize>,
    /// Peers' questions that its agent was given.
    questions: BTreeMap<u64, Ask>,
    /// Its disk fails whatever it is asked.
    pub(crate) disk_fails: bool,
    /// Until when its disk takes nothing.
    pub(crate) disk_stalled_until: Time,
    /// Claims not to hear its peers, by this fault.
    pub(crate) lies: Option<usize>,
    /// Started again once it has ended.
    pub(crate) restarts: bool,
    /// What runs on it; it outlives its agent.
    pub(crate) instances: Instances,
    /// Whether the kernel ends everything that an instance started when its supervisor ends, and whether the agent reports that.
    pub(crate) contained: bool,
    pub(crate) told_contained: bool,
    /// Programs that outlived their supervisors.
    pub(crate) strays: Vec<Arc<Assigned>>,
    /// The list of what was begun is gone; and what its agent has written down of an earlier one that was.
    pub(crate) listless: bool,
    pub(crate) presumed: Option<(ClusterId, AssignmentId)>,
}

impl Machine {
    pub(crate) fn new(clock: Clock) -> Machine {
        Machine {
            core: None,
            powered: true,
            generation: 0,
            incarnation: 0,
            frozen: 0,
            frozen_since: Time(0),
            thawed: None,
            targets: BTreeSet::new(),
            starving: None,
            standing: false,
            inbox: Vec::new(),
            wake: 0,
            wake_at: None,
            due: None,
            clock,
            load: 0.3,
            loaded: None,
            streams: BTreeMap::new(),
            probes: Vec::new(),
            connections: BTreeSet::new(),
            questions: BTreeMap::new(),
            disk_fails: false,
            disk_stalled_until: Time(0),
            lies: None,
            restarts: false,
            instances: Instances::new(),
            contained: true,
            told_contained: true,
            strays: Vec::new(),
            listless: false,
            presumed: None,
        }
    }

    /// True when its agent's process is there, standing still or not.
    pub(crate) fn runs(&self) -> bool {
        self.core.is_some()
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen > 0
    }

    /// Kinds of timers that fired in its agent's process.
    pub(crate) fn timers(&self) -> impl Iterator<Item = &'static str> {
        self.core.iter().flat_map(Agent::timers_fired)
    }

    /// Since when it stands still.
    pub(crate) fn still_since(&self) -> Option<Time> {
        self.is_frozen().then_some(self.frozen_since)
    }
}

impl World<'_> {
    pub(crate) fn start_agent(&mut self, node: usize) {
        let seed: u64 = self.rng.random();
        let zone = node % self.scenario.cluster.zones;
        let now = self.now;
        self.find_gone(node);
        let found = self.left_on(node);
        let machine = &mut self.machines[node];
        machine.generation += 1;
        machine.incarnation += 1;
        machine.inbox.clear();
        (machine.wake_at, machine.due) = (None, None);
        machine.probes.clear();
        machine.connections.clear();
        machine.questions.clear();
        machine.targets.clear();
        self.truth.stale = true;
        let mut labels = Labels::from([("zone".to_owned(), format!("zone-{}", zone + 1))]);
        for (label, values) in &self.scenario.cluster.labels {
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
        let mut instance = [0; 16];
        instance[..8].copy_from_slice(&seed.to_le_bytes());
        instance[8..].copy_from_slice(&machine.incarnation.to_le_bytes());
        let config = Config {
            facts,
            incarnation: machine.incarnation,
            coordinators: vec!["coordinator:7400".to_owned()],
            seed,
            instance,
            machine: [0; 32],
            instances: found,
            begun: machine.begun(),
        };
        machine.core = Some(Agent::new(machine.clock.local(now), machine.clock.wall(now), config));
        self.turn_agent(node);
    }

    /// Its agent's process ends at once. Its kernel says so to whoever it was connected with, if it lives.
    pub(crate) fn kill_agent(&mut self, node: usize) {
        self.truth.stale = true;
        let machine = &mut self.machines[node];
        self.timers.extend(machine.timers());
        machine.core = None;
        machine.inbox.clear();
        machine.probes.clear();
        machine.connections.clear();
        let streams = mem::take(&mut machine.streams);
        let powered = machine.powered;
        for stream in streams.into_values() {
            if powered {
                self.push(stream, Way::Up, Item::End);
            } else {
                self.silence(stream);
            }
        }
    }

    /// Asks it to stop; it is started again when it has.
    pub(crate) fn restart_agent(&mut self, node: usize) {
        self.machines[node].restarts = true;
        let reason = "restart".to_owned();
        self.tell_agent(node, Input::Shutdown { reason });
    }

    pub(crate) fn freeze_agent(&mut self, node: usize) {
        let now = self.now;
        self.truth.stale |= self.net.has_cuts();
        let machine = &mut self.machines[node];
        machine.frozen += 1;
        if machine.frozen == 1 {
            machine.frozen_since = now;
        }
    }

    pub(crate) fn thaw_agent(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        let was_frozen = machine.is_frozen();
        machine.frozen = machine.frozen.saturating_sub(1);
        if was_frozen && !machine.is_frozen() {
            machine.thawed = Some(self.now);
            self.truth.stood(node, machine.frozen_since, self.now);
            self.truth.stale |= self.net.has_cuts();
        }
        if machine.is_frozen() || !machine.runs() {
            return;
        }
        let waiting = mem::take(&mut machine.inbox);
        // A driver that wakes up may look at its timers first, or at what has come.
        if self.rng.random_bool(0.5) {
            self.turn_agent(node);
        }
        for waiting in waiting {
            match waiting {
                Waiting::Fact(input) => self.tell_agent(node, input),
                Waiting::Probe(observer, number) => self.probe_in(observer, node, number),
            }
        }
        self.turn_agent(node);
    }

    pub(crate) fn written(&mut self, node: usize, generation: u32) {
        if self.machines[node].generation == generation {
            let done = !self.machines[node].disk_fails;
            self.tell_agent(node, Input::DiskTouched { done });
        }
    }

    /// Claims of `peers` (everybody, when there are none) that they are silent, once a second.
    pub(crate) fn lie(&mut self, node: usize, number: usize) {
        let machine = &self.machines[node];
        if machine.lies != Some(number) {
            return;
        }
        let observation = Observation {
            sight: Sight::Silent,
            last_heard_age_millis: Some(5_000),
        };
        let hub = self.hub();
        let peers: Vec<usize> = self.lied_about(number).unwrap_or_else(|| (0..hub).collect());
        let observations: Vec<(NodeId, Observation)> = peers
            .into_iter()
            .filter(|&peer| peer != node)
            .take(REPORTS)
            .map(|peer| (id_of(peer), observation))
            .collect();
        let report = Report::Evidence {
            observations,
            health: None,
            sent_millis: 0,
        };
        let streams: Vec<StreamId> = self.machines[node].streams.values().copied().collect();
        if !self.machines[node].is_frozen() {
            for stream in streams {
                let bytes = v1::SessionRequest::from(report.clone()).encode_to_vec();
                self.push(stream, Way::Up, Item::Bytes(bytes.into()));
            }
        }
        self.later(Duration::from_secs(1), What::Lie(node, number));
    }

    pub(crate) fn tell_agent(&mut self, node: usize, input: Input) {
        let now = self.now;
        let machine = &mut self.machines[node];
        let frozen = machine.is_frozen();
        let Some(core) = &mut machine.core else { return };
        if frozen {
            machine.inbox.push(Waiting::Fact(input));
            return;
        }
        core.handle(machine.clock.local(now), input);
        self.turn_agent(node);
    }

    pub(crate) fn wake_agent(&mut self, node: usize, token: u64) {
        let machine = &mut self.machines[node];
        if machine.wake == token && !machine.is_frozen() {
            (machine.wake_at, machine.due) = (None, None);
            self.turn_agent(node);
        }
    }

    /// Timers that are due, and everything that the logic wants done.
    fn turn_agent(&mut self, node: usize) {
        loop {
            let now = self.now;
            let machine = &mut self.machines[node];
            let local = machine.clock.local(now);
            let Some(core) = &mut machine.core else { return };
            if core.poll_timeout().is_some_and(|due| due <= local) {
                core.handle_timeout(local);
            }
            match core.poll_effect() {
                Some(effect) => self.do_for_agent(node, effect),
                None => break,
            }
        }
        let machine = &mut self.machines[node];
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
                self.at(due, What::Wake(node, wake));
            }
        }
    }

    pub(crate) fn takes_itself_for_a_member(&self, node: usize) -> bool {
        let machine = &self.machines[node];
        let now = machine.clock.local(self.now);
        machine.core.as_ref().is_some_and(|core| core.is_member(now))
    }
}
