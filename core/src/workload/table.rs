//! All workloads and instances known to the coordinator, with indexes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use super::{
    Assignment, AssignmentId, Claim, FixedPort, Goal, Instance, Kind, Phase, Protocol, Resources, Spec, Status,
    Waiting, Workload,
    view::{AssignmentRow, Doubt, View, WorkloadRow},
};
use crate::{
    id::Revision,
    node::{Liveness, NodeIndex},
    time::Time,
};

/// Number of ended instances retained per workload; the oldest are pruned first. For a batch, completed instances and
/// the newest one of each slot are always retained.
const ENDED: usize = 20;

/// Number of failures retained per workload and node; `FAILURE_MEMORY` limits their age.
const FAILURES: usize = 8;

/// Number of restarts from which a running instance of a revision that was never stable counts as failing.
const FLAPPING: u32 = 3;

const FAILURE_MEMORY: std::time::Duration = std::time::Duration::from_secs(1_800);

/// A workload with its transient state.
#[derive(Clone, Debug)]
pub struct Declared {
    /// The durable record.
    pub record: Arc<Workload>,
    /// Instances of the workload, including ended ones.
    pub assignments: BTreeSet<AssignmentId>,
    /// Times of failures, by node.
    pub failures: BTreeMap<NodeIndex, VecDeque<Time>>,
    /// Time until which a failed slot is not filled again.
    pub not_before: BTreeMap<u32, Time>,
    /// The newest instance that its node lost, and the time until which its lease may be valid; a singleton is not
    /// started before that.
    pub lost: Option<(AssignmentId, Time)>,
    /// Slots without an instance, and the reasons.
    pub waiting: Vec<Waiting>,
    /// A revision that no node takes an instance of, since when, and why.
    pub unplaced: Option<(Revision, Time, String)>,
    /// For a daemon: nodes that should have an instance and have none, because the previous one is ending or failed.
    pub absent: u32,
    /// Room being made for the workload.
    pub claims: Vec<Claim>,
    row: Option<Arc<WorkloadRow>>,
}

/// An instance with its transient state.
#[derive(Clone, Debug)]
pub struct Held {
    /// The durable record.
    pub record: Arc<Assignment>,
    /// Index of the node.
    pub index: NodeIndex,
    /// Reserved resources.
    pub resources: Resources,
    /// Fixed ports, each of which a node has once.
    pub ports: Vec<FixedPort>,
    /// The last reported state.
    pub status: Status,
    /// Whether the node has reported it and so has begun it.
    pub heard: bool,
    /// Whether it is known only from the store: since this coordinator started, its node has reported neither the
    /// instance nor a complete list.
    pub recalled: bool,
    /// Time since which it has been healthy without interruption.
    pub healthy_since: Option<Time>,
    /// Whether the record is durable, so that the node may be told.
    pub durable: bool,
    /// Whether it has ever been healthy.
    pub was_healthy: bool,
    /// Time of the placement, or from which this coordinator has known it.
    pub known_since: Time,
    /// The same, or the time at which it became unhealthy after it had been healthy for long enough.
    pub unwell_since: Time,
}

impl Declared {
    /// Creates a workload without instances.
    pub fn new(record: Arc<Workload>) -> Declared {
        Declared {
            record,
            assignments: BTreeSet::new(),
            failures: BTreeMap::new(),
            not_before: BTreeMap::new(),
            lost: None,
            waiting: Vec::new(),
            unplaced: None,
            absent: 0,
            claims: Vec::new(),
            row: None,
        }
    }

    /// For a singleton: the instance lost by its node that may still run, and the time at which its lease is over.
    pub fn may_still_run(&self, now: Time) -> Option<(AssignmentId, Time)> {
        let singleton = self.record.spec().is_some_and(|spec| spec.singleton);
        self.lost.filter(|(_, until)| singleton && *until > now)
    }

    /// Number of recent failures, by node.
    pub fn failures_lately(&self, now: Time) -> BTreeMap<NodeIndex, u32> {
        let lately = |failures: &VecDeque<Time>| failures.iter().filter(|at| now.since(**at) < FAILURE_MEMORY).count();
        let counts = self
            .failures
            .iter()
            .map(|(index, failures)| (*index, lately(failures) as u32));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

impl Held {
    /// A reference to the instance.
    pub fn instance(&self) -> Instance {
        Instance {
            workload: Arc::clone(&self.record.workload),
            slot: self.record.slot,
            id: Some(self.record.id),
        }
    }

    /// Whether it is meant to run and has not ended.
    pub fn is_wanted(&self) -> bool {
        self.record.goal == Goal::Run && self.record.end.is_none() && self.record.orphan.is_none()
    }

    /// Whether it has been healthy for `min_healthy` without interruption.
    pub fn has_settled(&self, min_healthy: std::time::Duration, now: Time) -> bool {
        self.healthy_since.is_some_and(|since| since + min_healthy <= now)
    }

    /// Whether it may still have a process.
    pub fn is_there(&self) -> bool {
        self.record.end.is_none()
    }

    /// Ports dynamically assigned by the agent; the protocol is unknown, so both are listed.
    pub fn handed_out(&self) -> impl Iterator<Item = FixedPort> {
        let is_fixed = |port: &&u16| self.ports.iter().any(|fixed| fixed.port == **port);
        let handed_out = self.status.ports.iter().filter(move |port| !is_fixed(port));
        handed_out.flat_map(|&port| [Protocol::Tcp, Protocol::Udp].map(|protocol| FixedPort { port, protocol }))
    }
}

/// Nodes that are not online, and what readers are told about their instances.
type Doubts = BTreeMap<NodeIndex, (Doubt, &'static str)>;

/// All workloads and instances.
#[derive(Clone, Debug, Default)]
pub struct Table {
    declared: BTreeMap<Arc<str>, Declared>,
    held: BTreeMap<AssignmentId, Held>,
    of_node: BTreeMap<NodeIndex, BTreeSet<AssignmentId>>,
    promised: BTreeMap<NodeIndex, Resources>,
    /// Fixed ports of instances that may have a process.
    taken: BTreeMap<NodeIndex, Vec<FixedPort>>,
    /// Nodes that are not online, and what readers are told about their instances.
    doubts: Doubts,
    /// Instances without a workload.
    orphans: BTreeSet<AssignmentId>,
    /// Workloads and instances changed since the last view.
    touched: BTreeSet<Arc<str>>,
    altered: BTreeSet<AssignmentId>,
    view: Arc<View>,
}

impl Table {
    /// Inserts or updates a workload.
    pub fn declare(&mut self, name: &str, record: Arc<Workload>) {
        self.touched.insert(name.into());
        if let Some(declared) = self.declared.get_mut(name) {
            declared.record = record;
            return;
        }
        self.declared.insert(name.into(), Declared::new(record));
    }

    /// Removes a workload without running instances; returns its ended instances and their nodes.
    pub fn forget_workload(&mut self, name: &str) -> Vec<(AssignmentId, NodeIndex)> {
        self.touched.insert(name.into());
        let ended = self.declared.remove(name).map(|declared| declared.assignments);
        let ended = ended.unwrap_or_default().into_iter();
        ended.filter_map(|id| Some((id, self.remove(id)?))).collect()
    }

    /// Updates a node's liveness: instances on a node that is not online are not shown as healthy. Returns whether this
    /// changes the view.
    pub fn stands(&mut self, index: NodeIndex, liveness: Liveness) -> bool {
        let doubt = match liveness {
            Liveness::Online => None,
            Liveness::Unseen => Some((Doubt::Unknown, "its node is not back since the coordinator started")),
            Liveness::Suspect => Some((Doubt::Unknown, "its node is suspect")),
            Liveness::Unreachable => Some((Doubt::Unknown, "its node is unreachable")),
            Liveness::Left => Some((Doubt::Unknown, "its node's agent has left")),
            Liveness::Offline => Some((Doubt::Lost, "its node is offline")),
        };
        let before = match doubt {
            Some(doubt) => self.doubts.insert(index, doubt),
            None => self.doubts.remove(&index),
        };
        if before == doubt {
            return false;
        }
        for id in self.of_node.get(&index).into_iter().flatten() {
            if let Some(held) = self.held.get(id) {
                self.touched.insert(Arc::clone(&held.record.workload));
                self.altered.insert(*id);
            }
        }
        true
    }

    /// Marks an instance as known only from the store; it is shown as neither healthy nor about to start.
    pub fn recall(&mut self, id: AssignmentId) {
        if let Some(held) = self.held_mut(id) {
            held.recalled = held.is_there();
        }
    }

    /// Inserts an instance.
    pub fn hold(&mut self, record: Arc<Assignment>, index: NodeIndex, now: Time) {
        let id = record.id;
        let spec = self.spec_of(&record);
        let resources = spec.map_or_else(Resources::default, |spec| spec.resources);
        let ports: Vec<FixedPort> = spec.map_or_else(Vec::new, |spec| spec.fixed_ports.values().copied().collect());
        self.touched.insert(Arc::clone(&record.workload));
        self.altered.insert(id);
        if record.orphan.is_none()
            && let Some(declared) = self.declared.get_mut(&record.workload)
        {
            declared.assignments.insert(id);
        }
        if record.end.is_none() {
            self.of_node.entry(index).or_default().insert(id);
            let promised = self.promised.entry(index).or_default();
            *promised = promised.plus(resources);
            if !ports.is_empty() {
                self.taken.entry(index).or_default().extend(&ports);
            }
        }
        let mut status = Status {
            since: record.placed,
            ..Status::default()
        };
        if let Some(end) = &record.end {
            (status.phase, status.since, status.exit) = (Phase::Ended, end.time, end.exit);
            (status.complete, status.unknown, status.interrupted) = (end.complete, end.unknown, end.interrupted);
            status.detail.clone_from(&end.detail);
            status.last_stderr.clone_from(&end.last_stderr);
        }
        let heard = record.end.is_some() || record.orphan.is_some();
        let held = Held {
            record,
            index,
            resources,
            ports,
            status,
            heard,
            recalled: false,
            healthy_since: None,
            durable: false,
            was_healthy: false,
            known_since: now,
            unwell_since: now,
        };
        if held.record.orphan.is_some() {
            self.orphans.insert(id);
        }
        self.held.insert(id, held);
    }

    /// An instance, mutable.
    pub fn held_mut(&mut self, id: AssignmentId) -> Option<&mut Held> {
        let held = self.held.get_mut(&id)?;
        self.touched.insert(Arc::clone(&held.record.workload));
        self.altered.insert(id);
        Some(held)
    }

    /// Marks an instance's record as durable.
    pub fn kept(&mut self, id: AssignmentId) {
        if let Some(held) = self.held.get_mut(&id) {
            held.durable = true;
        }
    }

    /// Finds an instance.
    pub fn held(&self, id: AssignmentId) -> Option<&Held> {
        self.held.get(&id)
    }

    /// Finds a workload.
    pub fn declared(&self, name: &str) -> Option<&Declared> {
        self.declared.get(name)
    }

    /// A workload, mutable.
    pub fn declared_mut(&mut self, name: &str) -> Option<&mut Declared> {
        self.touched.insert(name.into());
        self.declared.get_mut(name)
    }

    /// All workloads, by name.
    pub fn workloads(&self) -> impl Iterator<Item = (&Arc<str>, &Declared)> {
        self.declared.iter()
    }

    /// Instances of a workload, oldest first, including ended ones.
    pub fn instances<'a>(&'a self, declared: &'a Declared) -> impl Iterator<Item = &'a Held> {
        declared.assignments.iter().filter_map(|id| self.held.get(id))
    }

    /// Instances on a node that may have a process.
    pub fn of_node(&self, index: NodeIndex) -> impl Iterator<Item = &Held> {
        let ids = self.of_node.get(&index).into_iter().flatten();
        ids.filter_map(|id| self.held.get(id))
    }

    /// Number of instances that are meant to run, as readers see it.
    pub fn desired(&self) -> usize {
        self.view.workloads.iter().map(|row| row.desired as usize).sum()
    }

    /// Resources reserved on a node.
    pub fn promised(&self, index: NodeIndex) -> Resources {
        self.promised.get(&index).copied().unwrap_or_default()
    }

    /// Whether any workload has fixed ports, so that dynamically assigned ports matter.
    pub fn has_fixed_ports(&self) -> bool {
        let mut specs = self.declared.values().filter_map(|declared| declared.record.spec());
        specs.any(|spec| !spec.fixed_ports.is_empty())
    }

    /// Fixed ports in use on a node.
    pub fn taken(&self, index: NodeIndex) -> &[FixedPort] {
        self.taken.get(&index).map_or(&[], Vec::as_slice)
    }

    /// Releases an instance's reservations on its node, once.
    fn give_back(&mut self, id: AssignmentId, index: NodeIndex, resources: Resources, ports: &[FixedPort]) {
        if !self.of_node.get_mut(&index).is_some_and(|ids| ids.remove(&id)) {
            return;
        }
        let promised = self.promised.entry(index).or_default();
        *promised = promised.less(resources);
        if let Some(taken) = self.taken.get_mut(&index) {
            without(taken, ports);
        }
    }

    /// Releases the reservations of an ended instance. Returns the instances that are pruned as a result, and their
    /// nodes.
    pub fn ended(&mut self, id: AssignmentId) -> Vec<(AssignmentId, NodeIndex)> {
        let Some(held) = self.held.get(&id) else {
            return Vec::new();
        };
        let (index, resources, name) = (held.index, held.resources, Arc::clone(&held.record.workload));
        let ports = held.ports.clone();
        self.give_back(id, index, resources, &ports);
        let Some(declared) = self.declared.get(&name) else {
            return Vec::new();
        };
        let batch = match declared.record.spec().map(|spec| spec.kind) {
            Some(Kind::Batch { replicas, .. }) => replicas,
            _ => 0,
        };
        // Without the newest instance of its slot, a part of a batch that must not run again would look as if it had
        // never run.
        let of_batch = self.instances(declared).filter(|held| held.record.slot < batch);
        let newest: BTreeMap<u32, AssignmentId> = of_batch.map(|held| (held.record.slot, held.record.id)).collect();
        let record = &declared.record;
        let stays = |held: &Held| {
            let is_done = batch > 0 && held.status.complete && record.is_of_run(held.record.id);
            is_done || newest.get(&held.record.slot) == Some(&held.record.id)
        };
        let old: Vec<AssignmentId> = self
            .instances(declared)
            .filter(|held| !(held.is_there() || stays(held)))
            .map(|held| held.record.id)
            .collect();
        let surplus = old.len().saturating_sub(ENDED);
        let old = old.into_iter().take(surplus);
        old.filter_map(|id| Some((id, self.remove(id)?))).collect()
    }

    /// Instances of that workload name without a workload.
    pub fn orphans<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Held> {
        let of = |held: &&Held| held.record.orphan.is_some() && *held.record.workload == *name;
        self.orphans.iter().filter_map(|id| self.held.get(id)).filter(of)
    }

    /// Assigns an orphan to the workload of its name, with this slot and revision.
    pub fn adopt(&mut self, id: AssignmentId, slot: u32, revision: Revision) {
        let Some(held) = self.held_mut(id) else { return };
        let record = Arc::make_mut(&mut held.record);
        (record.orphan, record.slot, record.revision) = (None, slot, revision);
        let name = Arc::clone(&record.workload);
        self.orphans.remove(&id);
        if let Some(declared) = self.declared.get_mut(&name) {
            declared.assignments.insert(id);
        }
    }

    /// Removes an instance and returns its node.
    pub fn remove(&mut self, id: AssignmentId) -> Option<NodeIndex> {
        self.orphans.remove(&id);
        let held = self.held.remove(&id)?;
        self.give_back(id, held.index, held.resources, &held.ports);
        self.touched.insert(Arc::clone(&held.record.workload));
        self.altered.insert(id);
        if let Some(declared) = self.declared.get_mut(&held.record.workload) {
            declared.assignments.remove(&id);
        }
        Some(held.index)
    }

    /// Removes a forgotten node and its instances that may have a process, which are returned. Ended instances are
    /// retained without a node, so completed parts of a batch stay completed.
    pub fn forget_node(&mut self, index: NodeIndex) -> Vec<Arc<Assignment>> {
        let mut lost = Vec::new();
        for held in self.held.values_mut().filter(|held| held.index == index) {
            match held.record.end {
                None => lost.push(Arc::clone(&held.record)),
                Some(_) => held.index = NodeIndex::NOWHERE,
            }
        }
        for record in &lost {
            self.remove(record.id);
        }
        self.of_node.remove(&index);
        self.promised.remove(&index);
        self.taken.remove(&index);
        self.doubts.remove(&index);
        for declared in self.declared.values_mut() {
            declared.failures.remove(&index);
            declared.claims.retain(|claim| claim.node != index);
            if declared.record.spec().is_some_and(|spec| spec.kind == Kind::Daemon) {
                declared.not_before.remove(&index.0);
            }
        }
        lost
    }

    /// Records a failure of an instance on a node.
    pub fn failed(&mut self, name: &str, index: NodeIndex, now: Time) {
        if let Some(declared) = self.declared.get_mut(name) {
            let failures = declared.failures.entry(index).or_default();
            failures.retain(|at| now.since(*at) < FAILURE_MEMORY);
            if failures.len() >= FAILURES {
                failures.pop_front();
            }
            failures.push_back(now);
        }
    }

    /// Removes expired failures and back-offs of a workload.
    pub fn prune_failures(&mut self, name: &str, now: Time) {
        if let Some(declared) = self.declared.get_mut(name) {
            declared.not_before.retain(|_, until| *until > now);
            declared.failures.retain(|_, failures| {
                failures.retain(|at| now.since(*at) < FAILURE_MEMORY);
                !failures.is_empty()
            });
        }
    }

    /// The lowest priority of all workloads.
    pub fn least_priority(&self) -> Option<u8> {
        let specs = self.declared.values().filter_map(|declared| declared.record.spec());
        specs.map(|spec| spec.priority).min()
    }

    /// Room being made on nodes.
    pub fn claims(&self) -> impl Iterator<Item = Claim> {
        self.declared.values().flat_map(|declared| &declared.claims).copied()
    }

    /// The specification that an instance runs; `None` if unknown.
    pub fn spec_of<'a>(&'a self, record: &'a Assignment) -> Option<&'a Arc<Spec>> {
        if record.orphan.is_some() {
            return record.orphan.as_ref();
        }
        self.declared
            .get(&record.workload)?
            .record
            .revisions
            .get(&record.revision)
    }

    /// Whether anything changed since the last call of [`changed_view`](Self::changed_view).
    pub fn is_touched(&self) -> bool {
        !self.touched.is_empty() || !self.altered.is_empty()
    }

    /// The priority of a workload; 0 if it is not declared.
    pub fn priority(&self, name: &str) -> u8 {
        let spec = self.declared(name).and_then(|declared| declared.record.spec());
        spec.map_or(0, |spec| spec.priority)
    }

    /// A new view for readers; `None` if nothing changed since the last one. The cost is proportional to the changes
    /// plus the number of workloads.
    pub fn changed_view(&mut self) -> Option<Arc<View>> {
        let (touched, altered) = (std::mem::take(&mut self.touched), std::mem::take(&mut self.altered));
        if touched.is_empty() && altered.is_empty() {
            return None;
        }
        let mut changed = false;
        let mut view = View::clone(&self.view);
        for id in altered {
            changed |= match self.held.get(&id) {
                None => view.assignments.remove(id),
                Some(held) => {
                    let spec = self.spec_of(&held.record);
                    view.assignments.set(shown(held, spec, &self.doubts))
                }
            };
        }
        let before = view.workloads.len();
        view.workloads.clear();
        for (name, declared) in &mut self.declared {
            if declared.row.is_none() || touched.contains(name) {
                let row = workload_row(declared, &self.held, &self.doubts);
                if declared.row.as_deref() != Some(&row) {
                    declared.row = Some(Arc::new(row));
                    changed = true;
                }
            }
            view.workloads.extend(declared.row.clone());
        }
        if !changed && view.workloads.len() == before {
            return None;
        }
        self.view = Arc::new(view);
        Some(Arc::clone(&self.view))
    }

    /// The last view.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }
}

/// Removes each of `ports` from `taken` once.
pub(crate) fn without(taken: &mut Vec<FixedPort>, ports: &[FixedPort]) {
    for port in ports {
        if let Some(at) = taken.iter().position(|one| one == port) {
            taken.swap_remove(at);
        }
    }
}

/// Whether an instance that is meant to run keeps failing. Between two restarts it may briefly look healthy: for a
/// revision that was never stable, several restarts count as failing.
fn is_failing(held: &Held, stable: Revision) -> bool {
    let status = &held.status;
    if held.record.goal != Goal::Run || status.restarts == 0 {
        return false;
    }
    match status.phase {
        Phase::Backoff | Phase::Starting => status.exit.is_some(),
        Phase::Running => held.record.revision != stable && status.restarts >= FLAPPING,
        _ => false,
    }
}

/// Why the state of an instance is not known, if so.
fn doubt(held: &Held, doubts: &Doubts) -> Option<(Doubt, &'static str)> {
    let recalled = (
        Doubt::Unknown,
        "its node has not said how it is since the coordinator started",
    );
    let of_node = doubts.get(&held.index).copied();
    of_node
        .or(held.recalled.then_some(recalled))
        .filter(|_| held.is_there())
}

/// An instance as published to readers.
fn shown(held: &Held, spec: Option<&Arc<Spec>>, doubts: &Doubts) -> AssignmentRow {
    let mut status = held.status.clone();
    let doubt = doubt(held, doubts).map(|(doubt, why)| {
        (status.healthy, status.detail) = (false, why.to_owned());
        doubt
    });
    AssignmentRow {
        record: Arc::clone(&held.record),
        status,
        doubt,
        ports: spec.map(|spec| spec.ports.clone()).unwrap_or_default(),
    }
}

/// Whether this is the first process of an instance whose revision was never stable; it is allowed time to become
/// healthy.
fn is_begun(held: &Held, stable: Revision) -> bool {
    let status = &held.status;
    held.is_wanted() && held.record.revision != stable && status.restarts == 0 && status.exit.is_none()
}

fn workload_row(declared: &Declared, held: &BTreeMap<AssignmentId, Held>, doubts: &Doubts) -> WorkloadRow {
    let record = &declared.record;
    let mut row = WorkloadRow {
        record: Arc::clone(record),
        desired: 0,
        running: 0,
        healthy: 0,
        lost: 0,
        unknown: 0,
        current: 0,
        complete: 0,
        failing: 0,
        restarts: 0,
        oom_kills: 0,
        unwell: 0,
        failure: String::new(),
        waiting: declared.waiting.clone(),
    };
    let (mut wanted, mut well, mut done) = (0, 0, BTreeSet::new());
    for held in declared.assignments.iter().filter_map(|id| held.get(id)) {
        if record.is_done(held) && !record.is_outdated(held.record.revision) {
            done.insert(held.record.slot);
        }
        if !held.is_there() {
            continue;
        }
        row.current += u32::from(held.is_wanted() && held.record.revision == record.revision);
        wanted += u32::from(held.is_wanted());
        row.oom_kills = row.oom_kills.saturating_add(held.status.oom_kills);
        match doubt(held, doubts) {
            Some((Doubt::Lost, _)) => {
                row.lost += 1;
                continue;
            }
            Some(_) => {
                row.unknown += 1;
                continue;
            }
            None => {}
        }
        row.running += u32::from(held.status.phase == Phase::Running);
        row.healthy += u32::from(held.status.healthy);
        let is_well = held.status.healthy && !is_failing(held, record.stable);
        well += u32::from(is_well || is_begun(held, record.stable));
        if is_failing(held, record.stable) {
            row.failing += 1;
            row.restarts = row.restarts.saturating_add(held.status.restarts);
            row.failure = match (held.status.detail.as_str(), held.status.exit) {
                ("", Some(exit)) => exit.to_string(),
                (detail, _) => detail.to_owned(),
            };
        }
    }
    row.desired = match record.spec() {
        _ if record.deleted => 0,
        Some(spec) => spec.replicas().unwrap_or(wanted + declared.absent),
        None => 0,
    };
    // Parts completed beyond the current replica count are not counted.
    row.complete = done.range(..row.desired).count() as u32;
    row.unwell = match record.spec().map(|spec| spec.kind) {
        // For a batch, waiting parts are normal and permanently failed parts are not.
        Some(Kind::Batch { .. }) => declared
            .waiting
            .iter()
            .filter(|one| one.given_up)
            .map(|one| one.slots)
            .sum(),
        _ => row.desired.saturating_sub(well),
    };
    row
}
