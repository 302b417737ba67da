//! The coordinator's machine: the real logic, its publisher and a disk.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use prost::Message as _;
use rand::RngExt;
use wyneos::{canonical::Canonical, convert, encoded::Encoded, v1};
use wyneos_core::{
    autonomy::{Decision, Kind, Outcome, PolicyChange},
    coherence::Snapshot,
    coordinator::{
        self, Command, Coordinator, Effect, Input, Message, Published, RequestId, WorkloadCommand, WorkloadVerb,
    },
    event::EventBody,
    id::{NodeId, Uuid},
    integrity::Sealer,
    mesh::{Finding, Sight},
    node::{ConnId, Liveness, NodeRecord, Origin},
    standing,
    store::{Batch, Durable},
    time::Time,
    workload::{Assignment, AssignmentId, Goal, Workload},
};

use crate::{
    agents::node_of,
    report::{Found, Moved, Transition},
    scenario::Verb,
    streams::{Item, StreamId, Way},
    world::{Clock, What, World, name},
};

pub(crate) const CLUSTER: Uuid = Uuid(*b"simulated-------");
const SECRET: [u8; 32] = [7; 32];

/// A transaction takes this long, and up to as long again.
const DISK: Duration = Duration::from_micros(800);

/// Batches that are handed to the store at most, and a snapshot behind them.
const WRITES_MAX: usize = 64 + 1;

fn on_workload(verb: WorkloadVerb) -> Command {
    Command::Workload(Box::new(WorkloadCommand {
        plan: false,
        at: None,
        verb,
    }))
}

/// What the disk was asked to keep.
enum Write {
    Batch(Box<Batch>),
    Snapshot(Arc<Snapshot>),
}

/// What is on the disk.
struct Disk {
    nodes: BTreeMap<NodeId, Arc<NodeRecord>>,
    workloads: BTreeMap<Arc<str>, Arc<Workload>>,
    assignments: BTreeMap<AssignmentId, Arc<Assignment>>,
    durable: Durable,
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
            inbox: Vec::new(),
            wake: 0,
            wake_at: None,
            clock,
            disk: Disk {
                nodes: BTreeMap::new(),
                workloads: BTreeMap::new(),
                assignments: BTreeMap::new(),
                durable,
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

    pub(crate) fn stall_disk(&mut self, until: Time) {
        self.disk.stalled_until = self.disk.stalled_until.max(until);
    }
}

impl World<'_> {
    pub(crate) fn start_coordinator(&mut self) {
        let (now, seed) = (self.now, self.rng.random());
        let cluster = &self.scenario.cluster;
        let host = &mut self.host;
        host.generation += 1;
        host.inbox.clear();
        host.sessions.clear();
        host.wake_at = None;
        host.mend_disk();
        let durable = &mut host.disk.durable;
        durable.epoch += 1;
        durable.nodes = host.disk.nodes.values().cloned().collect();
        durable.workloads = host.disk.workloads.values().cloned().collect();
        durable.assignments = host.disk.assignments.values().cloned().collect();
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
            ..coordinator::Config::new("0.1.0", host.sealer.public_key())
        };
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

    pub(crate) fn freeze_coordinator(&mut self) {
        self.host.frozen += 1;
    }

    pub(crate) fn thaw_coordinator(&mut self) {
        self.host.frozen = self.host.frozen.saturating_sub(1);
        if self.host.is_frozen() {
            return;
        }
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

    /// An operator gives a command, a request each target.
    pub(crate) fn order(&mut self, number: usize) {
        let order = &self.scenario.commands[number];
        if order.verb == Verb::Autonomy {
            let change = PolicyChange {
                heal: order.heal,
                rebalance: order.rebalance,
                preempt: order.preempt,
            };
            self.command(number as u64, Command::SetPolicy(change));
            return;
        }
        if order.verb == Verb::Approve {
            for id in self.pending.clone() {
                self.command(id, Command::Decide { id, approve: true });
            }
            return;
        }
        if let Some(verb) = order.on_workload() {
            self.command(number as u64, on_workload(verb));
            return;
        }
        for (count, target) in self.nodes_of(&order.targets).into_iter().enumerate() {
            let node = name(target);
            let command = match order.verb {
                Verb::Cordon => Command::Cordon { node },
                Verb::Uncordon => Command::Uncordon { node },
                Verb::Refresh => Command::Refresh { node },
                Verb::Drain => Command::Drain {
                    node,
                    deadline: order.deadline,
                    plan: false,
                },
                // See above.
                Verb::Scale | Verb::Restart | Verb::Promote | Verb::Delete | Verb::Autonomy | Verb::Approve => continue,
                Verb::SetHeartbeat => Command::SetHeartbeat {
                    node,
                    interval: order.interval,
                },
            };
            self.command((number as u64) << 32 | count as u64, command);
        }
    }

    /// A workload is declared.
    pub(crate) fn declare(&mut self, number: usize) {
        let spec = self.scenario.workloads[number].spec();
        self.command(
            u64::MAX - number as u64,
            on_workload(WorkloadVerb::Apply(Arc::new(spec))),
        );
    }

    fn command(&mut self, request: u64, command: Command) {
        let (request, by) = (RequestId(request), "operator".into());
        self.tell_coordinator(Input::Command { request, command, by });
    }

    /// What is moved because a node was lost is not moved while it is not known what was lost.
    fn check_placement(&mut self, decision: &Decision) {
        let moves = ["the one before was lost", "gives way to"];
        let moved = |evidence: &wyneos_core::autonomy::Evidence| moves.iter().any(|what| evidence.fact.contains(what));
        let moved = decision.kind == Kind::Placement && decision.evidence.iter().any(moved);
        let open = |kind: &str| {
            let told = self.findings.iter().rfind(|(.., found)| found.kind == kind);
            told.is_some_and(|(.., found)| found.open)
        };
        if moved && open("ambiguous") {
            self.fail(format!("{} while it is ambiguous what died", decision.action));
        }
        if decision.evidence.is_empty() && decision.kind == Kind::Placement {
            self.fail(format!("{} without evidence", decision.action));
        }
    }

    /// Instances that were placed or told to stop: each by a decision.
    fn observe_moves(&mut self, batch: &Batch) {
        for (id, record) in &batch.assignments {
            let Some(record) = record else { continue };
            let placed = *id > self.newest;
            self.newest = self.newest.max(*id);
            if placed && record.decision == 0 {
                self.fail(format!("{id} of {} was placed without a decision", record.workload));
            }
            let (what, reason) = match record.goal {
                Goal::Run if placed => ("start", record.reason.clone()),
                Goal::Stop if record.end.is_none() => ("stop", record.stop_reason.clone()),
                _ => continue,
            };
            let moved = Moved {
                at: self.now.0 as f64 / 1e9,
                instance: format!("{}.{}", record.workload, record.slot),
                node: name(node_of(record.node)),
                what: what.to_owned(),
                reason,
            };
            self.moves.push(moved);
        }
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
        match effect {
            Effect::Send { conn, message } => {
                if let Some(stream) = self.streams.get_mut(&conn.0) {
                    let machine = stream.machine;
                    if matches!(message, Message::Welcome(_)) {
                        stream.welcomed = true;
                        self.host.sessions.insert(machine, conn.0);
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
                self.observe(&batch);
                self.observe_moves(&batch);
                self.write(Write::Batch(batch));
            }
            Effect::View(_) => {}
            Effect::Publish(snapshot) => self.write(Write::Snapshot(snapshot)),
            Effect::Reply { answer, .. } => {
                let outcome = answer.map_or_else(|refusal| refusal.to_string(), |answer| format!("{answer:?}"));
                self.note("reply", outcome.as_bytes());
            }
        }
    }

    fn write(&mut self, write: Write) {
        self.host.disk.writes.push_back(write);
        let waiting = self.host.disk.writes.len();
        if waiting > WRITES_MAX {
            self.fail(format!("{waiting} writes wait for the disk"));
        }
        self.write_on();
    }

    /// Begins the next transaction unless one is under way: every batch that waits, as the store does, or a snapshot.
    fn write_on(&mut self) {
        let takes = DISK + DISK.mul_f64(self.rng.random_range(0.0..1.0));
        let disk = &mut self.host.disk;
        if disk.under_way > 0 || disk.writes.is_empty() {
            return;
        }
        let batches = disk.writes.iter().take_while(|write| matches!(write, Write::Batch(_)));
        disk.under_way = batches.count().max(1);
        let (done, generation) = (self.now.max(disk.stalled_until) + takes, self.host.generation);
        self.at(done, What::DiskDone(generation));
    }

    pub(crate) fn disk_done(&mut self, generation: u32) {
        if generation != self.host.generation {
            return;
        }
        if self.host.disk.fails {
            // What could not be kept must not be acted on: the process ends.
            self.host.disk.writes.clear();
            self.kill_coordinator();
            return;
        }
        let disk = &mut self.host.disk;
        let many = mem::take(&mut disk.under_way).min(disk.writes.len());
        let done: Vec<Write> = disk.writes.drain(..many).collect();
        let kept: Vec<Input> = done.into_iter().map(|write| self.keep(write)).collect();
        for input in kept {
            self.tell_coordinator(input);
        }
        self.write_on();
    }

    /// Puts something onto the disk; returns what the logic is to hear of it.
    fn keep(&mut self, write: Write) -> Input {
        let host = &mut self.host;
        match write {
            Write::Batch(batch) => {
                let mut went_back = None;
                for node in &batch.nodes {
                    let before = host.disk.nodes.insert(node.id(), Arc::clone(node));
                    if before.is_some_and(|old| (old.incarnation, old.session) > (node.incarnation, node.session)) {
                        went_back = Some(format!("incarnation or session of {} went back", node.facts.name));
                    }
                }
                for (name, record) in &batch.workloads {
                    match record {
                        Some(record) => host.disk.workloads.insert(Arc::clone(name), Arc::clone(record)),
                        None => host.disk.workloads.remove(name),
                    };
                }
                for (id, record) in &batch.assignments {
                    match record {
                        Some(record) => host.disk.assignments.insert(*id, Arc::clone(record)),
                        None => host.disk.assignments.remove(id),
                    };
                }
                let durable = &mut host.disk.durable;
                durable.policy = batch.policy.unwrap_or(durable.policy);
                durable.last_event = batch.events.last().map_or(durable.last_event, |event| event.sequence);
                durable.decisions = durable.decisions.max(batch.decisions);
                if let Some(what) = went_back {
                    self.fail(what);
                }
                Input::Committed
            }
            Write::Snapshot(snapshot) => {
                let canonical = Canonical::new(&snapshot, host.canonical.as_ref());
                let seal = Arc::new(host.sealer.seal(snapshot.epoch, snapshot.cycle, &canonical.bytes()));
                host.canonical = Some(canonical);
                let last = mem::replace(
                    &mut host.disk.durable.last_snapshot,
                    (seal.epoch, seal.cycle, seal.chain),
                );
                let follows = seal.previous == last.2;
                let before = mem::replace(&mut host.published, (seal.epoch, seal.cycle));
                let seal_chain = seal.chain;
                if (seal.epoch, seal.cycle) <= before {
                    self.fail(format!(
                        "snapshot {:?} was published after {before:?}",
                        (seal.epoch, seal.cycle)
                    ));
                }
                if !follows {
                    self.fail("a seal does not follow the one before".to_owned());
                }
                self.note("seal", &seal_chain);
                Input::Published(Published {
                    seal,
                    subscribers: 0,
                    lagging: 0,
                })
            }
        }
    }

    pub(crate) fn coordinator_hears(&mut self, id: StreamId, item: Item) {
        let conn = ConnId(id);
        let Item::Bytes(bytes) = item else {
            self.coordinator_loses(id, true);
            return;
        };
        self.note("up", &bytes);
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

    fn found(&mut self, finding: &Finding, open: bool) {
        let side = |ids: &[NodeId]| -> BTreeSet<usize> { ids.iter().map(|&id| node_of(id)).collect() };
        let sides = (side(&finding.near), side(&finding.far));
        let names = |nodes: &BTreeSet<usize>| nodes.iter().map(|&node| name(node)).collect();
        let found = Found {
            at: self.now.0 as f64 / 1e9,
            kind: finding.kind.name().to_owned(),
            open,
            near: names(&sides.0),
            far: names(&sides.1),
            detail: finding.detail.clone(),
        };
        self.note(&found.kind, &[u8::from(open)]);
        self.findings.push((self.now, open, sides, found));
    }

    /// An `offline` must rest on silence that was long enough, and on nobody's hearing the node; and its lease must be over when
    /// another could have its place.
    fn check_offline(&mut self, node: usize, evidence: &[String]) {
        let long_enough = evidence
            .iter()
            .any(|fact| fact.contains("the window is") || fact.contains("without a sign of life"));
        let heard = evidence.iter().any(|fact| fact.ends_with(Sight::Heard.meaning()));
        if !long_enough || heard {
            self.fail(format!("{} is declared offline by {evidence:?}", name(node)));
        }
        let cluster = &self.scenario.cluster;
        let lease = standing::lease(cluster.cycle, cluster.heartbeat);
        // Its clock may be slower than ours.
        self.later(
            lease.mul_f64(1.0 + 2.0 * cluster.clock_drift),
            What::LeaseOver(node, self.now),
        );
    }

    /// A node that was declared offline `at`, so long ago, and not heard since, does not take itself for a member.
    pub(crate) fn lease_over(&mut self, node: usize, at: Time) {
        let last = self.transitions.iter().rfind(|(_, of, _)| *of == node);
        if last.is_some_and(|(last, ..)| *last == at) && self.takes_itself_for_a_member(node) {
            self.fail(format!(
                "{} takes itself for a member after it was given up",
                name(node)
            ));
        }
    }

    /// What the coordinator concludes, as its own events tell it.
    fn observe(&mut self, batch: &Batch) {
        for (at, event) in batch.events.iter().enumerate() {
            let expected = self.host.last_event + 1;
            self.host.last_event = event.sequence;
            if event.sequence != expected {
                self.fail(format!("event {} follows {}", event.sequence, expected - 1));
            }
            if let EventBody::Finding { finding, open } = &event.body {
                self.found(finding, *open);
            }
            if let EventBody::Decision(decision) = &event.body {
                if let Some(node) = decision.node {
                    self.decisions.push((self.now, node_of(node), decision.rule.clone()));
                }
                match decision.outcome {
                    Outcome::Pending => self.pending.insert(decision.id),
                    _ => self.pending.remove(&decision.id),
                };
                self.check_placement(decision);
            }
            let (Some(id), EventBody::Liveness { from, to, cause }) = (event.node, &event.body) else {
                continue;
            };
            let node = node_of(id);
            let decided = batch.events[at + 1..].iter().find_map(|next| match &next.body {
                EventBody::Decision(decision) if decision.node == Some(id) && decision.action.contains(to.name()) => {
                    Some(decision)
                }
                _ => None,
            });
            let facts = |fact: &wyneos_core::autonomy::Evidence| format!("{}: {}", fact.source, fact.fact);
            let evidence: Vec<String> = decided.map_or_else(Vec::new, |d| d.evidence.iter().map(facts).collect());
            if evidence.is_empty() {
                self.fail(format!("{} became {} without evidence", name(node), to.name()));
            }
            let right = *to != Liveness::Offline || self.is_gone(node);
            if *to == Liveness::Offline {
                self.check_offline(node, &evidence);
            }
            if !right {
                self.fail(format!("{} is declared offline and is there", name(node)));
            }
            let transition = Transition {
                at: self.now.0 as f64 / 1e9,
                node: name(node),
                from: from.map(|from| from.name().to_owned()),
                to: to.name().to_owned(),
                cause: cause.meaning().to_owned(),
                evidence,
                right,
            };
            self.note(&transition.to, &id.0);
            self.transitions.push((self.now, node, transition));
        }
    }
}
