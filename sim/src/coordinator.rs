//! The coordinator's machine: the real logic, its publisher and a disk.

mod disk;
mod observed;
mod operator;

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use prost::Message as _;
use rand::RngExt;
use wyneos::{canonical::Canonical, convert, encoded::Encoded, v1};
use wyneos_core::{
    coherence::Snapshot,
    coordinator::{self, Coordinator, Effect, Input, Message, Rules},
    id::Uuid,
    integrity::Sealer,
    node::{Admission, ConnId, NodeRecord, Origin},
    store::{Batch, Durable, Restored},
    time::{Time, WallTime},
};

use observed::observe_moves;

use crate::{
    agents::Machines,
    clock::Clock,
    event::{StreamId, Way, What},
    names::{id_of, name, node_of},
    pins::{Pin, of_answer, of_batch, of_coordinator},
    scene::Scene,
    wires::Item,
};

pub(crate) const CLUSTER: Uuid = Uuid(*b"simulated-------");
const SECRET: [u8; 32] = [7; 32];

/// A transaction takes this long, and up to as long again.
const DISK: Duration = Duration::from_micros(800);

/// The logic notices after 2 s that a batch is not durable; by a clock that may be slower.
const NOTICEABLY: Duration = Duration::from_millis(2_300);

/// Batches that are handed to the store at most, and a snapshot behind them.
const WRITES_MAX: usize = 64 + 1;

/// What the disk was asked to keep.
enum Write {
    Batch(Box<Batch>, Time),
    Snapshot(Arc<Snapshot>),
}

/// What is on the disk.
struct Disk {
    kept: Durable,
    /// Backups, by the faults that restore them, and when they were made.
    backups: BTreeMap<usize, (WallTime, Durable)>,
    /// Under way, in order.
    writes: VecDeque<Write>,
    /// How many of them the transaction under way is for.
    under_way: usize,
    pub(crate) stalled_until: Time,
    /// The next write fails, and ends the process.
    fails: bool,
}

/// The coordinator's machine.
pub(crate) struct Host {
    core: Option<Coordinator>,
    sealer: Sealer,
    canonical: Option<Canonical>,
    pub(crate) generation: u32,
    frozen: u32,
    frozen_since: Time,
    /// So many batches waited for the disk that the logic kept the next one back.
    was_full: bool,
    inbox: Vec<Input>,
    wake: u64,
    wake_at: Option<Time>,
    clock: Clock,
    /// Thresholds of its verdicts.
    rules: Rules,
    disk: Disk,
    /// The newest seal, and how many there were.
    seal: (u64, Encoded),
    published: (u64, u64),
    last_event: u64,
    /// Each node's session that counts, by its stream.
    sessions: BTreeMap<usize, StreamId>,
}

impl Host {
    pub(crate) fn new(clock: Clock, rules: Rules) -> Host {
        let mut durable = Durable::new(CLUSTER);
        durable.epoch = 0;
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
            published: (0, 0),
            last_event: 0,
            sessions: BTreeMap::new(),
        }
    }

    pub(crate) fn runs(&self) -> bool {
        self.core.is_some()
    }

    /// Kinds of timers that fired in its process.
    pub(crate) fn timers(&self) -> impl Iterator<Item = &'static str> {
        self.core.iter().flat_map(Coordinator::timers_fired)
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen > 0
    }

    pub(crate) fn fail_disk(&mut self) {
        self.disk.fails = true;
    }

    pub(crate) fn mend_disk(&mut self) {
        self.disk.fails = false;
    }

    fn is_full(&self) -> bool {
        self.disk.writes.len() >= WRITES_MAX - 1
    }

    /// True when a batch has waited for so long that the logic must have noticed.
    pub(crate) fn is_behind(&self, now: Time) -> bool {
        let batches = self.disk.writes.iter().filter_map(|write| match write {
            Write::Batch(_, at) => Some(*at),
            Write::Snapshot(_) => None,
        });
        batches.min().is_some_and(|at| now.since(at) >= NOTICEABLY)
    }

    pub(crate) fn stall_disk(&mut self, until: Time) {
        self.disk.stalled_until = self.disk.stalled_until.max(until);
    }
}

impl Host {
    pub(crate) fn start_coordinator(&mut self, scene: &mut Scene<'_>, machines: &Machines) {
        let (now, seed, rules) = (scene.stage.now, scene.stage.rng.random(), self.rules);
        let cluster = &scene.stage.scenario.cluster;
        let host = &mut *self;
        host.generation += 1;
        host.inbox.clear();
        host.sessions.clear();
        host.wake_at = None;
        host.mend_disk();
        let durable = &mut host.disk.kept;
        durable.epoch += 1;
        host.sealer = Sealer::new(CLUSTER, &SECRET, durable.last_snapshot.2);
        host.canonical = None;
        host.last_event = durable.last_event;
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
        self.turn_coordinator(scene, machines);
    }

    /// Its process ends at once. What the disk was asked to keep is kept or not; what is kept has no gap.
    pub(crate) fn kill_coordinator(&mut self, scene: &mut Scene<'_>) {
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
        // Its kernel ends its connections.
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

    /// A backup is made, for the fault that restores it.
    pub(crate) fn back_up(&mut self, scene: &mut Scene<'_>, fault: usize) {
        let now = self.clock.wall(scene.stage.now);
        let disk = &mut self.disk;
        disk.backups.insert(fault, (now, disk.kept.clone()));
    }

    /// What the disk keeps is what it was when the backup for this fault was made.
    pub(crate) fn restore_coordinator(&mut self, scene: &mut Scene<'_>, fault: usize) {
        let now = self.clock.wall(scene.stage.now);
        let Some((taken, mut durable)) = self.disk.backups.remove(&fault) else {
            return scene.stage.fail("there is no backup to restore".to_owned());
        };
        let Some(restored) = Restored::new(durable.epoch, durable.last_event, taken, now) else {
            return scene.stage.fail("the clock is behind the backup".to_owned());
        };
        (durable.epoch, durable.last_event) = (restored.epoch, restored.event);
        durable.restored = Some(restored);
        self.disk.kept = durable;
    }

    pub(crate) fn freeze_coordinator(&mut self, scene: &mut Scene<'_>) {
        let host = &mut *self;
        host.frozen += 1;
        if host.frozen == 1 {
            host.frozen_since = scene.stage.now;
        }
    }

    pub(crate) fn thaw_coordinator(&mut self, scene: &mut Scene<'_>, machines: &Machines) {
        self.frozen = self.frozen.saturating_sub(1);
        if self.is_frozen() {
            return;
        }
        scene.witness.known.resume(self.frozen_since, scene.stage.now);
        let waiting = mem::take(&mut self.inbox);
        if scene.stage.rng.random_bool(0.5) {
            self.turn_coordinator(scene, machines);
        }
        for input in waiting {
            self.tell_coordinator(scene, machines, input);
        }
        self.turn_coordinator(scene, machines);
    }

    pub(crate) fn jump_coordinator(&mut self, scene: &mut Scene<'_>, machines: &Machines, millis: i64) {
        self.clock.jumped += millis;
        let wall = self.clock.wall(scene.stage.now);
        self.tell_coordinator(scene, machines, Input::WallClock(wall));
    }

    fn tell_coordinator(&mut self, scene: &mut Scene<'_>, machines: &Machines, input: Input) {
        let now = scene.stage.now;
        let host = &mut *self;
        let frozen = host.is_frozen();
        let Some(core) = &mut host.core else { return };
        if frozen {
            host.inbox.push(input);
            return;
        }
        core.handle(host.clock.local(now), input);
        self.turn_coordinator(scene, machines);
    }

    pub(crate) fn wake_coordinator(&mut self, scene: &mut Scene<'_>, machines: &Machines, token: u64) {
        if self.wake == token && !self.is_frozen() {
            self.wake_at = None;
            self.turn_coordinator(scene, machines);
        }
    }

    fn turn_coordinator(&mut self, scene: &mut Scene<'_>, machines: &Machines) {
        loop {
            let now = scene.stage.now;
            let host = &mut *self;
            let local = host.clock.local(now);
            let Some(core) = &mut host.core else { return };
            if core.poll_timeout().is_some_and(|due| due <= local) {
                core.handle_timeout(local);
            }
            match core.poll_effect() {
                Some(effect) => self.do_for_coordinator(scene, machines, effect),
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

    fn do_for_coordinator(&mut self, scene: &mut Scene<'_>, machines: &Machines, effect: Effect) {
        scene.stage.pin(Pin::Effects, || of_coordinator(&effect));
        match effect {
            Effect::Send { conn, message } => {
                if let Some(stream) = scene.wires.streams.get_mut(&conn.0) {
                    let machine = stream.machine;
                    if matches!(message, Message::Welcome(_)) {
                        stream.welcomed = true;
                        self.sessions.insert(machine, conn.0);
                        scene.witness.known.welcome(machine, scene.stage.now);
                    } else if stream.welcomed
                        && !matches!(message, Message::Refused(_))
                        && self.sessions.get(&machine) != Some(&conn.0)
                    {
                        scene.stage.fail(format!(
                            "a session of {} that was replaced is told something",
                            name(machine)
                        ));
                    }
                    let bytes = v1::SessionResponse::from(message).encode_to_vec();
                    scene
                        .wires
                        .push(&mut scene.stage, conn.0, Way::Down, Item::Bytes(bytes.into()));
                }
            }
            Effect::Announce(seal) => {
                let bytes = v1::SessionResponse::from(Message::Seal { seal, heard: 0 });
                self.seal = (self.seal.0 + 1, Encoded::new(&bytes));
            }
            Effect::Close { conn } => {
                scene.wires.release(conn.0);
                scene.wires.push(&mut scene.stage, conn.0, Way::Down, Item::End);
            }
            Effect::Commit(batch) => {
                scene
                    .stage
                    .pin(Pin::Batches, || ("batch", of_batch(&batch).into_bytes()));
                self.observe(scene, machines, &batch);
                observe_moves(scene, &batch);
                self.write(scene, Write::Batch(batch, scene.stage.now));
                self.was_full = self.is_full();
            }
            Effect::View(_) | Effect::Nodes(_) => {}
            Effect::Publish(snapshot) => self.write(scene, Write::Snapshot(snapshot)),
            Effect::Reply { answer, .. } => {
                scene.stage.note(Pin::Replies, "reply", &of_answer(&answer));
            }
        }
    }

    pub(crate) fn coordinator_hears(&mut self, scene: &mut Scene<'_>, machines: &Machines, id: StreamId, item: Item) {
        let conn = ConnId(id);
        let Item::Bytes(bytes) = item else {
            self.coordinator_loses(scene, machines, id, true);
            return;
        };
        scene.stage.note(Pin::Wire, "up", &bytes);
        let request = match v1::SessionRequest::decode(bytes) {
            Ok(request) => request,
            Err(error) => {
                return scene
                    .stage
                    .fail(format!("a message to the coordinator is none: {error}"));
            }
        };
        let mut heard = 0;
        match convert::session_input(conn, &Origin::default(), request) {
            Ok(input) => {
                if let Input::Heartbeat { heartbeat, .. } = &input {
                    heard = heartbeat.sequence;
                }
                self.note_sign(scene, id, &input);
                self.tell_coordinator(scene, machines, input);
            }
            Err(error) => scene
                .stage
                .fail(format!("the coordinator cannot read an agent: {error}")),
        }
        // A seal rides on a heartbeat.
        let (number, seal) = (self.seal.0, self.seal.1.clone());
        if let Some(stream) = scene.wires.streams.get_mut(&id)
            && stream.welcomed
            && heard > 0
            && mem::replace(&mut stream.sealed, number) != number
            && !self.is_frozen()
        {
            scene.wires.push(
                &mut scene.stage,
                id,
                Way::Down,
                Item::Bytes(convert::confirming(&seal, heard).0),
            );
        }
    }

    /// Takes note of what a process of the coordinator that is there got from a node.
    fn note_sign(&mut self, scene: &mut Scene<'_>, id: StreamId, input: &Input) {
        let Some(machine) = scene.wires.streams.get(&id).map(|stream| stream.machine) else {
            return;
        };
        let of_session = self.sessions.get(&machine) == Some(&id);
        let sign = matches!(
            input,
            Input::Heartbeat { .. } | Input::Evidence { .. } | Input::Arrivals { .. }
        );
        scene
            .witness
            .known
            .receive(machine, sign && of_session, scene.stage.now);
    }

    /// The records of nodes that have joined and wait to be admitted.
    pub(crate) fn enrol_pending(&mut self, scene: &mut Scene<'_>) {
        for &node in &scene.witness.pending_nodes {
            let record = NodeRecord {
                admission: Admission::Pending,
                ..NodeRecord::enrolled(id_of(node), &name(node))
            };
            self.disk.kept.nodes.insert(record.id(), Arc::new(record));
        }
    }

    pub(crate) fn coordinator_loses(
        &mut self,
        scene: &mut Scene<'_>,
        machines: &Machines,
        id: StreamId,
        by_peer: bool,
    ) {
        scene.wires.release(id);
        self.tell_coordinator(
            scene,
            machines,
            Input::Closed {
                conn: ConnId(id),
                by_peer,
            },
        );
    }
}
