//! Every workload and instance that the coordinator knows, and the indexes that find them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use super::{Assignment, AssignmentId, Goal, Kind, Phase, Resources, Spec, Status, Workload};
use crate::{
    node::NodeIndex,
    placement::{Standing, Waiting},
    time::Time,
};

/// Instances that ended and are kept for the record, a workload; beyond, the oldest go. Those of a batch that are done are kept all.
const ENDED: usize = 20;

/// Failures that are remembered, a workload and node, and for how long.
const FAILURES: usize = 8;
const FAILURE_MEMORY: std::time::Duration = std::time::Duration::from_secs(1_800);

/// A workload and what is known of it beyond its record.
#[derive(Clone, Debug)]
pub struct Declared {
    /// What is durable.
    pub record: Arc<Workload>,
    /// Its instances, those that ended included.
    pub assignments: BTreeSet<AssignmentId>,
    /// When instances failed, by node.
    pub failures: BTreeMap<NodeIndex, VecDeque<Time>>,
    /// Before when a slot that failed is not filled again.
    pub not_before: BTreeMap<u32, Time>,
    /// What waits, and for what.
    pub waiting: Vec<Waiting>,
    row: Option<Arc<WorkloadRow>>,
}

/// An instance and what is known of it beyond its record.
#[derive(Clone, Debug)]
pub struct Held {
    /// What is durable.
    pub record: Arc<Assignment>,
    /// Its node.
    pub index: NodeIndex,
    /// What it was promised.
    pub resources: Resources,
    /// How it is, as its node said last.
    pub status: Status,
    /// Since when it has been healthy without a break.
    pub healthy_since: Option<Time>,
    /// It is written down, so that its node may be told of it.
    pub durable: bool,
    /// It has been healthy at some time.
    pub was_healthy: bool,
    /// When it was placed, or since when this coordinator has known it.
    pub known_since: Time,
    row: Option<Arc<AssignmentRow>>,
}

impl Declared {
    /// A workload without instances.
    pub fn new(record: Arc<Workload>) -> Declared {
        Declared {
            record,
            assignments: BTreeSet::new(),
            failures: BTreeMap::new(),
            not_before: BTreeMap::new(),
            waiting: Vec::new(),
            row: None,
        }
    }
}

impl Held {
    /// True while it is meant to run and has not ended.
    pub fn is_wanted(&self) -> bool {
        self.record.goal == Goal::Run && self.record.end.is_none()
    }

    /// True while a process of it may be there.
    pub fn is_there(&self) -> bool {
        self.record.end.is_none()
    }
}

/// A workload as the snapshot shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadRow {
    /// Its record.
    pub record: Arc<Workload>,
    /// Instances that there should be; for a daemon, that there are meant to be on the nodes that fit.
    pub desired: u32,
    /// Instances whose processes run.
    pub running: u32,
    /// Those of them that are healthy.
    pub healthy: u32,
    /// Instances that run by the present declaration, or are about to.
    pub current: u32,
    /// Instances of a batch that are done.
    pub complete: u32,
    /// What waits, and for what.
    pub waiting: Vec<Waiting>,
}

impl WorkloadRow {
    /// Its name.
    pub fn name(&self) -> &str {
        self.record.spec().map_or("", |spec| spec.name.as_str())
    }
}

/// An instance as the snapshot shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignmentRow {
    /// Its record.
    pub record: Arc<Assignment>,
    /// How it is.
    pub status: Status,
    /// Its ports' names, in the order of the status' ports.
    pub ports: Vec<String>,
}

/// All of it at one moment, for readers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The workloads, sorted by name.
    pub workloads: Vec<Arc<WorkloadRow>>,
    /// The instances, sorted by id.
    pub assignments: Vec<Arc<AssignmentRow>>,
}

impl View {
    /// The workload of that name.
    pub fn workload(&self, name: &str) -> Option<&Arc<WorkloadRow>> {
        let at = self.workloads.binary_search_by(|row| row.name().cmp(name)).ok()?;
        self.workloads.get(at)
    }

    /// The instance that a text names: its id, or its workload's name and its slot as in `web.3`, of which the newest is meant.
    pub fn assignment(&self, text: &str) -> Option<&Arc<AssignmentRow>> {
        if let Some((name, slot)) = text.rsplit_once('.') {
            let slot: u32 = slot.parse().ok()?;
            let is = |row: &&Arc<AssignmentRow>| &*row.record.workload == name && row.record.slot == slot;
            return self.assignments.iter().rev().find(is);
        }
        let id: AssignmentId = text.parse().ok()?;
        let at = self.assignments.binary_search_by_key(&id, |row| row.record.id).ok()?;
        self.assignments.get(at)
    }
}

/// The table.
#[derive(Clone, Debug, Default)]
pub struct Table {
    declared: BTreeMap<Arc<str>, Declared>,
    held: BTreeMap<AssignmentId, Held>,
    of_node: BTreeMap<NodeIndex, BTreeSet<AssignmentId>>,
    promised: BTreeMap<NodeIndex, Resources>,
    changed: bool,
    /// Workloads of which something changed since the last view.
    touched: BTreeSet<Arc<str>>,
    view: Arc<View>,
}

impl Table {
    /// Takes in a workload, or what it is now.
    pub fn declare(&mut self, name: &str, record: Arc<Workload>) {
        self.changed = true;
        self.touched.insert(name.into());
        if let Some(declared) = self.declared.get_mut(name) {
            declared.record = record;
            return;
        }
        self.declared.insert(name.into(), Declared::new(record));
    }

    /// Forgets a workload that has no instances left; returns those that had ended, and their nodes.
    pub fn forget_workload(&mut self, name: &str) -> Vec<(AssignmentId, NodeIndex)> {
        self.changed = true;
        let ended = self.declared.remove(name).map(|declared| declared.assignments);
        let ended = ended.unwrap_or_default().into_iter();
        ended.filter_map(|id| Some((id, self.remove(id)?))).collect()
    }

    /// Takes in an instance.
    pub fn hold(&mut self, record: Arc<Assignment>, index: NodeIndex, resources: Resources, now: Time) {
        self.changed = true;
        let id = record.id;
        self.touched.insert(Arc::clone(&record.workload));
        if let Some(declared) = self.declared.get_mut(&record.workload) {
            declared.assignments.insert(id);
        }
        if record.end.is_none() {
            self.of_node.entry(index).or_default().insert(id);
            let promised = self.promised.entry(index).or_default();
            *promised = promised.plus(resources);
        }
        let mut status = Status {
            since: record.placed,
            ..Status::default()
        };
        if let Some(end) = &record.end {
            (status.phase, status.since, status.exit) = (Phase::Ended, end.time, end.exit);
            (status.complete, status.detail) = (end.complete, end.detail.clone());
        }
        let held = Held {
            record,
            index,
            resources,
            status,
            healthy_since: None,
            durable: false,
            was_healthy: false,
            known_since: now,
            row: None,
        };
        self.held.insert(id, held);
    }

    /// An instance, to be changed.
    pub fn held_mut(&mut self, id: AssignmentId) -> Option<&mut Held> {
        let held = self.held.get_mut(&id)?;
        self.changed = true;
        self.touched.insert(Arc::clone(&held.record.workload));
        held.row = None;
        Some(held)
    }

    /// An instance is written down.
    pub fn kept(&mut self, id: AssignmentId) {
        if let Some(held) = self.held.get_mut(&id) {
            held.durable = true;
        }
    }

    /// An instance.
    pub fn held(&self, id: AssignmentId) -> Option<&Held> {
        self.held.get(&id)
    }

    /// A workload.
    pub fn declared(&self, name: &str) -> Option<&Declared> {
        self.declared.get(name)
    }

    /// A workload, to be changed.
    pub fn declared_mut(&mut self, name: &str) -> Option<&mut Declared> {
        self.changed = true;
        self.touched.insert(name.into());
        self.declared.get_mut(name)
    }

    /// The workloads, by name.
    pub fn workloads(&self) -> impl Iterator<Item = (&Arc<str>, &Declared)> {
        self.declared.iter()
    }

    /// A workload's instances, oldest first, those that ended included.
    pub fn instances<'a>(&'a self, declared: &'a Declared) -> impl Iterator<Item = &'a Held> {
        declared.assignments.iter().filter_map(|id| self.held.get(id))
    }

    /// Instances of a node of which a process may be there.
    pub fn of_node(&self, index: NodeIndex) -> impl Iterator<Item = &Held> {
        let ids = self.of_node.get(&index).into_iter().flatten();
        ids.filter_map(|id| self.held.get(id))
    }

    /// Number of instances that are meant to run.
    pub fn wanted(&self) -> usize {
        self.held.values().filter(|held| held.is_wanted()).count()
    }

    /// What is promised of a node.
    pub fn promised(&self, index: NodeIndex) -> Resources {
        self.promised.get(&index).copied().unwrap_or_default()
    }

    /// An instance's process is gone for good: its node has what it was promised back. Returns those that are forgotten for it, as only
    /// so many are kept, and their nodes.
    pub fn ended(&mut self, id: AssignmentId) -> Vec<(AssignmentId, NodeIndex)> {
        self.changed = true;
        let Some(held) = self.held.get(&id) else {
            return Vec::new();
        };
        let (index, resources, name) = (held.index, held.resources, Arc::clone(&held.record.workload));
        if self.of_node.get_mut(&index).is_some_and(|ids| ids.remove(&id)) {
            let promised = self.promised.entry(index).or_default();
            *promised = promised.less(resources);
        }
        let Some(declared) = self.declared.get(&name) else {
            return Vec::new();
        };
        let batch = matches!(declared.record.spec().map(|spec| spec.kind), Some(Kind::Batch { .. }));
        let old: Vec<AssignmentId> = self
            .instances(declared)
            .filter(|held| !(held.is_there() || batch && held.status.complete))
            .map(|held| held.record.id)
            .collect();
        let surplus = old.len().saturating_sub(ENDED);
        let old = old.into_iter().take(surplus);
        old.filter_map(|id| Some((id, self.remove(id)?))).collect()
    }

    fn remove(&mut self, id: AssignmentId) -> Option<NodeIndex> {
        let held = self.held.remove(&id)?;
        if self.of_node.get_mut(&held.index).is_some_and(|ids| ids.remove(&id)) {
            let promised = self.promised.entry(held.index).or_default();
            *promised = promised.less(held.resources);
        }
        self.touched.insert(Arc::clone(&held.record.workload));
        if let Some(declared) = self.declared.get_mut(&held.record.workload) {
            declared.assignments.remove(&id);
        }
        Some(held.index)
    }

    /// Remembers that an instance failed on a node.
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

    /// What placement is to know of a workload's instances.
    pub fn standing(&self, declared: &Declared, now: Time) -> Standing {
        let mut standing = Standing::default();
        for held in self.instances(declared).filter(|held| held.is_there()) {
            *standing.instances.entry(held.index).or_default() += 1;
        }
        for (index, failures) in &declared.failures {
            let lately = failures.iter().filter(|at| now.since(**at) < FAILURE_MEMORY).count();
            if lately > 0 {
                standing.failures.insert(*index, lately as u32);
            }
        }
        standing
    }

    /// What an instance's declaration promises it; nothing when that is not known.
    pub fn spec_of(&self, record: &Assignment) -> Option<&Arc<Spec>> {
        self.declared
            .get(&record.workload)?
            .record
            .revisions
            .get(&record.revision)
    }

    /// All of it for readers; `None` when it is as it was the last time.
    pub fn changed_view(&mut self) -> Option<Arc<View>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let declared = &self.declared;
        let mut assignments = Vec::with_capacity(self.held.len());
        for held in self.held.values_mut() {
            if held.row.is_none() {
                let spec = declared
                    .get(&held.record.workload)
                    .and_then(|declared| declared.record.revisions.get(&held.record.revision));
                held.row = Some(Arc::new(AssignmentRow {
                    record: Arc::clone(&held.record),
                    status: held.status.clone(),
                    ports: spec.map(|spec| spec.ports.clone()).unwrap_or_default(),
                }));
            }
            assignments.extend(held.row.clone());
        }
        let held = &self.held;
        let mut workloads = Vec::with_capacity(self.declared.len());
        let touched = std::mem::take(&mut self.touched);
        for (name, declared) in &mut self.declared {
            if declared.row.is_none() || touched.contains(name) {
                let row = workload_row(declared, held);
                if declared.row.as_deref() != Some(&row) {
                    declared.row = Some(Arc::new(row));
                }
            }
            workloads.extend(declared.row.clone());
        }
        let view = View { workloads, assignments };
        if view == *self.view {
            return None;
        }
        self.view = Arc::new(view);
        Some(Arc::clone(&self.view))
    }

    /// All of it for readers, as it was given out last.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }
}

fn workload_row(declared: &Declared, held: &BTreeMap<AssignmentId, Held>) -> WorkloadRow {
    let record = &declared.record;
    let mut row = WorkloadRow {
        record: Arc::clone(record),
        desired: 0,
        running: 0,
        healthy: 0,
        current: 0,
        complete: 0,
        waiting: declared.waiting.clone(),
    };
    let mut wanted = 0;
    for held in declared.assignments.iter().filter_map(|id| held.get(id)) {
        row.complete += u32::from(held.status.complete && held.record.goal == Goal::Run);
        if !held.is_there() {
            continue;
        }
        row.running += u32::from(held.status.phase == Phase::Running);
        row.healthy += u32::from(held.status.healthy);
        row.current += u32::from(held.is_wanted() && held.record.revision == record.revision);
        wanted += u32::from(held.is_wanted());
    }
    row.desired = match record.spec() {
        _ if record.deleted => 0,
        Some(spec) => spec.replicas().unwrap_or(wanted),
        None => 0,
    };
    row
}
