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
    coordinator::{self, Coordinator, Effect, Input, Message},
    id::Uuid,
    integrity::Sealer,
    node::{Admission, ConnId, NodeRecord, Origin},
    store::{Batch, Durable, Restored},
    time::{Time, WallTime},
};

use crate::{
    clock::Clock,
    event::{StreamId, Way, What},
    names::{id_of, name, node_of},
    pins::{Pin, of_answer, of_batch, of_coordinator},
    streams::Item,
    world::World,
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
    pub(crate) clock: Clock,
    disk: Disk,
    /// The newest seal, and how many there were.
    seal: (u64, Encoded),
    published: (u64, u64),
    last_event: u64,
    /// Each node's session that counts, by its stream.
    sessions: BTreeMap<usize, StreamId>,
}

impl Host {
    pub(crate) fn new(clock: Clock) -> Host {
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

impl World<'_> {
    pub(crate) fn start_coordinator(&mut self) {
        let (now, seed, rules) = (self.now, self.rng.random(), self.rules);
        let cluster = &self.scenario.cluster;
        let host = &mut self.host;
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
        self.known.restart(now, nodes);
        let (local, wall) = (host.clock.local(now), host.clock.wall(now));
        host.core = Some(Coordinator::new(local, wall, config, durable.clone()));
        self.turn_coordinator();
    }

    /// Its process ends at once. What the disk was asked to keep is kept or not; what is kept has no gap.
    pub(crate) fn kill_coordinator(&mut self) {
        self.timers.extend(self.host.timers());
        self.host.core = None;
        self.host.inbox.clear();
        let under_way = self.host.disk.writes.len();
        let kept = self.rng.random_range(0..=under_way);
        for write in mem::take(&mut self.host.disk.writes).into_iter().take(kept) {
            self.keep(write);
        }
        self.host.disk.under_way = 0;
        // Its kernel ends its connections.
        let generation = self.host.generation;
        let mine = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.host_generation == generation);
        for id in mine.map(|(&id, _)| id).collect::<Vec<_>>() {
            self.push(id, Way::Down, Item::End);
        }
        self.host.generation += 1;
    }

    /// A backup is made, for the fault that restores it.
    pub(crate) fn back_up(&mut self, fault: usize) {
        let now = self.host.clock.wall(self.now);
        let disk = &mut self.host.disk;
        disk.backups.insert(fault, (now, disk.kept.clone()));
    }

    /// What the disk keeps is what it was when the backup for this fault was made.
    pub(crate) fn restore_coordinator(&mut self, fault: usize) {
        let now = self.host.clock.wall(self.now);
        let Some((taken, mut durable)) = self.host.disk.backups.remove(&fault) else {
            return self.fail("there is no backup to restore".to_owned());
        };
        let Some(restored) = Restored::new(durable.epoch, durable.last_event, taken, now) else {
            return self.fail("the clock is behind the backup".to_owned());
        };
        (durable.epoch, durable.last_event) = (restored.epoch, restored.event);
        durable.restored = Some(restored);
        self.host.disk.kept = durable;
    }

    pub(crate) fn freeze_coordinator(&mut self) {
        let host = &mut self.host;
        host.frozen += 1;
        if host.frozen == 1 {
            host.frozen_since = self.now;
        }
    }

    pub(crate) fn thaw_coordinator(&mut self) {
        self.host.frozen = self.host.frozen.saturating_sub(1);
        if self.host.is_frozen() {
            return;
        }
        self.known.resume(self.host.frozen_since, self.now);
        let waiting = mem::take(&mut self.host.inbox);
        if self.rng.random_bool(0.5) {
            self.turn_coordinator();
        }
        for input in waiting {
            self.tell_coordinator(input);
        }
        self.turn_coordinator();
    }

    pub(crate) fn jump_coordinator(&mut self, millis: i64) {
        self.host.clock.jumped += millis;
        let wall = self.host.clock.wall(self.now);
        self.tell_coordinator(Input::WallClock(wall));
    }

    fn tell_coordinator(&mut self, input: Input) {
        let now = self.now;
        let host = &mut self.host;
        let frozen = host.is_frozen();
        let Some(core) = &mut host.core else { return };
        if frozen {
            host.inbox.push(input);
            return;
        }
        core.handle(host.clock.local(now), input);
        self.turn_coordinator();
    }

    pub(crate) fn wake_coordinator(&mut self, token: u64) {
        if self.host.wake == token && !self.host.is_frozen() {
            self.host.wake_at = None;
            self.turn_coordinator();
        }
    }

    fn turn_coordinator(&mut self) {
        loop {
            let now = self.now;
            let host = &mut self.host;
            let local = host.clock.local(now);
            let Some(core) = &mut host.core else { return };
            if core.poll_timeout().is_some_and(|due| due <= local) {
                core.handle_timeout(local);
            }
            match core.poll_effect() {
                Some(effect) => self.do_for_coordinator(effect),
                None => break,
            }
        }
        let host = &mut self.host;
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
                self.at(due, What::WakeCoordinator(wake));
            }
        }
    }

    fn do_for_coordinator(&mut self, effect: Effect) {
        self.pin(Pin::Effects, || of_coordinator(&effect));
        match effect {
            Effect::Send { conn, message } => {
                if let Some(stream) = self.streams.get_mut(&conn.0) {
                    let machine = stream.machine;
                    if matches!(message, Message::Welcome(_)) {
                        stream.welcomed = true;
                        self.host.sessions.insert(machine, conn.0);
                        self.known.welcome(machine, self.now);
                    } else if stream.welcomed
                        && !matches!(message, Message::Refused(_))
                        && self.host.sessions.get(&machine) != Some(&conn.0)
                    {
                        self.fail(format!(
                            "a session of {} that was replaced is told something",
                            name(machine)
                        ));
                    }
                    let bytes = v1::SessionResponse::from(message).encode_to_vec();
                    self.push(conn.0, Way::Down, Item::Bytes(bytes.into()));
                }
            }
            Effect::Announce(seal) => {
                let bytes = v1::SessionResponse::from(Message::Seal { seal, heard: 0 });
                self.host.seal = (self.host.seal.0 + 1, Encoded::new(&bytes));
            }
            Effect::Close { conn } => {
                self.release(conn.0);
                self.push(conn.0, Way::Down, Item::End);
            }
            Effect::Commit(batch) => {
                self.pin(Pin::Batches, || ("batch", of_batch(&batch).into_bytes()));
                self.observe(&batch);
                self.observe_moves(&batch);
                self.write(Write::Batch(batch, self.now));
                self.host.was_full = self.host.is_full();
            }
            Effect::View(_) | Effect::Nodes(_) => {}
            Effect::Publish(snapshot) => self.write(Write::Snapshot(snapshot)),
            Effect::Reply { answer, .. } => {
                self.note(Pin::Replies, "reply", &of_answer(&answer));
            }
        }
    }

    pub(crate) fn coordinator_hears(&mut self, id: StreamId, item: Item) {
        let conn = ConnId(id);
        let Item::Bytes(bytes) = item else {
            self.coordinator_loses(id, true);
            return;
        };
        self.note(Pin::Wire, "up", &bytes);
        let request = match v1::SessionRequest::decode(bytes) {
            Ok(request) => request,
            Err(error) => return self.fail(format!("a message to the coordinator is none: {error}")),
        };
        let mut heard = 0;
        match convert::session_input(conn, &Origin::default(), request) {
            Ok(input) => {
                if let Input::Heartbeat { heartbeat, .. } = &input {
                    heard = heartbeat.sequence;
                }
                self.note_sign(id, &input);
                self.tell_coordinator(input);
            }
            Err(error) => self.fail(format!("the coordinator cannot read an agent: {error}")),
        }
        // A seal rides on a heartbeat.
        let (number, seal) = (self.host.seal.0, self.host.seal.1.clone());
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.welcomed
            && heard > 0
            && mem::replace(&mut stream.sealed, number) != number
            && !self.host.is_frozen()
        {
            self.push(id, Way::Down, Item::Bytes(convert::confirming(&seal, heard).0));
        }
    }

    /// Takes note of what a process of the coordinator that is there got from a node.
    fn note_sign(&mut self, id: StreamId, input: &Input) {
        let Some(machine) = self.streams.get(&id).map(|stream| stream.machine) else {
            return;
        };
        let of_session = self.host.sessions.get(&machine) == Some(&id);
        let sign = matches!(
            input,
            Input::Heartbeat { .. } | Input::Evidence { .. } | Input::Arrivals { .. }
        );
        self.known.receive(machine, sign && of_session, self.now);
    }

    /// The records of nodes that have joined and wait to be admitted.
    pub(crate) fn enrol_pending(&mut self) {
        for &node in &self.pending_nodes {
            let record = NodeRecord {
                admission: Admission::Pending,
                ..NodeRecord::enrolled(id_of(node), &name(node))
            };
            self.host.disk.kept.nodes.insert(record.id(), Arc::new(record));
        }
    }

    fn release(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.released = true;
        }
    }

    pub(crate) fn coordinator_loses(&mut self, id: StreamId, by_peer: bool) {
        self.release(id);
        self.tell_coordinator(Input::Closed {
            conn: ConnId(id),
            by_peer,
        });
    }
}
