//! The coordinator's machine: the real state machine, its publisher and a disk.

mod disk;
mod effects;
mod observed;
mod operator;

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::Arc,
};

use rand::RngExt;
use wyneos::{canonical::Canonical, encoded::Encoded};
use wyneos_core::{
    coordinator::{self, Coordinator, Input, Rules},
    id::{Cycle, Epoch},
    integrity::Sealer,
    node::{Admission, NodeRecord},
    store::Durable,
    time::Time,
};

use disk::Disk;

use crate::{
    clock::Clock,
    event::{StreamId, Way, What},
    machines::Machines,
    names::{CLUSTER, id_of, name, node_of},
    scene::Scene,
    wires::Item,
};

const SECRET: [u8; 32] = [7; 32];

/// The coordinator's machine.
pub(crate) struct Host {
    core: Option<Coordinator>,
    sealer: Sealer,
    canonical: Option<Canonical>,
    pub(crate) generation: u32,
    frozen: u32,
    frozen_since: Time,
    /// Whether the batch queue was full, so that the coordinator held back the next batch.
    was_full: bool,
    inbox: Vec<Input>,
    wake: u64,
    wake_at: Option<Time>,
    clock: Clock,
    /// Verdict rules of the coordinator.
    rules: Rules,
    disk: Disk,
    /// Number and encoding of the newest seal.
    seal: (u64, Encoded),
    published: (Epoch, Cycle),
    last_event: u64,
    /// Current session of each node, by its stream.
    sessions: BTreeMap<usize, StreamId>,
}

impl Host {
    pub(crate) fn new(clock: Clock, rules: Rules) -> Host {
        let mut durable = Durable::new(CLUSTER);
        durable.epoch = Epoch(0);
        Host {
            core: None,
            sealer: Sealer::new(CLUSTER, &SECRET, [0; 32]),
            canonical: None,
            generation: 0,
            frozen: 0,
            frozen_since: Time(0),
            was_full: false,
            inbox: Vec::new(),
            wake: 0,
            wake_at: None,
            clock,
            rules,
            disk: Disk {
                kept: durable,
                backups: BTreeMap::new(),
                writes: VecDeque::new(),
                under_way: 0,
                stalled_until: Time(0),
                fails: false,
            },
            seal: (0, Encoded::default()),
            published: Default::default(),
            last_event: 0,
            sessions: BTreeMap::new(),
        }
    }

    pub(crate) fn runs(&self) -> bool {
        self.core.is_some()
    }

    /// Kinds of timers that fired in the current process.
    pub(crate) fn timers(&self) -> impl Iterator<Item = &'static str> {
        self.core.iter().flat_map(Coordinator::timers_fired)
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen > 0
    }

    pub(crate) fn start(&mut self, scene: &mut Scene<'_>, machines: &Machines) {
        let (now, seed, rules) = (scene.stage.now, scene.stage.rng.random(), self.rules);
        let cluster = &scene.stage.scenario.cluster;
        let host = &mut *self;
        host.generation += 1;
        host.inbox.clear();
        host.sessions.clear();
        host.wake_at = None;
        host.mend_disk();
        let durable = &mut host.disk.kept;
        durable.epoch = durable.epoch.next();
        host.sealer = Sealer::new(CLUSTER, &SECRET, durable.last_snapshot.2);
        host.canonical = None;
        host.last_event = durable.last_event.0;
        let config = coordinator::Config {
            cycle: cluster.cycle,
            heartbeat: cluster.heartbeat,
            probe_interval: cluster.probe_interval,
            suspect_grace: cluster.suspect_grace,
            restart_grace: cluster.restart_grace,
            seed,
            rules,
            ..coordinator::Config::new("0.1.0", host.sealer.public_key())
        };
        let nodes = durable.nodes.values().map(|record| {
            (
                node_of(record.id()),
                record.departed.map(|(liveness, cause, _)| (liveness, cause)),
            )
        });
        scene.witness.known.restart(now, nodes);
        let (local, wall) = (host.clock.local(now), host.clock.wall(now));
        scene.wires.listener = Some(host.generation);
        host.core = Some(Coordinator::new(local, wall, config, durable.clone()));
        self.turn(scene, machines);
    }

    /// Kills the process. Pending writes are kept up to a random point, without a gap.
    pub(crate) fn kill(&mut self, scene: &mut Scene<'_>) {
        scene.witness.timers.extend(self.timers());
        self.core = None;
        scene.wires.listener = None;
        self.inbox.clear();
        let under_way = self.disk.writes.len();
        let kept = scene.stage.rng.random_range(0..=under_way);
        for write in mem::take(&mut self.disk.writes).into_iter().take(kept) {
            self.keep(scene, write);
        }
        self.disk.under_way = 0;
        // The kernel closes the connections.
        let generation = self.generation;
        let mine = scene
            .wires
            .streams
            .iter()
            .filter(|(_, stream)| stream.host_generation == generation);
        for id in mine.map(|(&id, _)| id).collect::<Vec<_>>() {
            scene.wires.push(&mut scene.stage, id, Way::Down, Item::End);
        }
        self.generation += 1;
    }

    pub(crate) fn freeze(&mut self, scene: &mut Scene<'_>) {
        let host = &mut *self;
        host.frozen += 1;
        if host.frozen == 1 {
            host.frozen_since = scene.stage.now;
        }
    }

    pub(crate) fn thaw(&mut self, scene: &mut Scene<'_>, machines: &Machines) {
        self.frozen = self.frozen.saturating_sub(1);
        if self.is_frozen() {
            return;
        }
        scene.witness.known.resume(self.frozen_since, scene.stage.now);
        let waiting = mem::take(&mut self.inbox);
        if scene.stage.rng.random_bool(0.5) {
            self.turn(scene, machines);
        }
        for input in waiting {
            self.tell(scene, machines, input);
        }
        self.turn(scene, machines);
    }

    pub(crate) fn jump(&mut self, scene: &mut Scene<'_>, machines: &Machines, millis: i64) {
        self.clock.jumped += millis;
        let wall = self.clock.wall(scene.stage.now);
        self.tell(scene, machines, Input::WallClock(wall));
    }

    fn tell(&mut self, scene: &mut Scene<'_>, machines: &Machines, input: Input) {
        let now = scene.stage.now;
        let host = &mut *self;
        let frozen = host.is_frozen();
        let Some(core) = &mut host.core else { return };
        if frozen {
            host.inbox.push(input);
            return;
        }
        core.handle(host.clock.local(now), input);
        self.turn(scene, machines);
    }

    pub(crate) fn wake(&mut self, scene: &mut Scene<'_>, machines: &Machines, token: u64) {
        if self.wake == token && !self.is_frozen() {
            self.wake_at = None;
            self.turn(scene, machines);
        }
    }

    fn turn(&mut self, scene: &mut Scene<'_>, machines: &Machines) {
        loop {
            let now = scene.stage.now;
            let host = &mut *self;
            let local = host.clock.local(now);
            let Some(core) = &mut host.core else { return };
            if core.poll_timeout().is_some_and(|due| due <= local) {
                core.handle_timeout(local);
            }
            match core.poll_effect() {
                Some(effect) => self.act(scene, machines, effect),
                None => break,
            }
        }
        let host = &mut *self;
        let due = host
            .core
            .as_ref()
            .and_then(Coordinator::poll_timeout)
            .map(|due| host.clock.moment(due));
        if due != host.wake_at {
            host.wake += 1;
            host.wake_at = due;
            let wake = host.wake;
            if let Some(due) = due {
                scene.stage.at(due, What::WakeCoordinator(wake));
            }
        }
    }

    /// Adds records of nodes that have joined and are pending admission.
    pub(crate) fn enrol_pending(&mut self, scene: &mut Scene<'_>) {
        for &node in &scene.witness.pending_nodes {
            let record = NodeRecord {
                admission: Admission::Pending,
                ..NodeRecord::enrolled(id_of(node), &name(node))
            };
            self.disk.kept.nodes.insert(record.id(), Arc::new(record));
        }
    }
}
