//! Workloads and instances as published to readers.

use std::sync::Arc;

use super::Waiting;
use super::{Assignment, AssignmentId, Goal, Status, Workload};

/// Number of rows per chunk; a changed row costs a copy of this many pointers.
const CHUNK: usize = 256;

/// A workload in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadRow {
    /// The workload's record.
    pub record: Arc<Workload>,
    /// Desired number of instances; for a daemon, the number intended on suitable nodes.
    pub desired: u32,
    /// Number of instances with a running process.
    pub running: u32,
    /// Number of running instances that are healthy.
    pub healthy: u32,
    /// Number of instances on offline nodes.
    pub lost: u32,
    /// Number of instances on nodes in doubt; they may be running and count as neither running nor healthy.
    pub unknown: u32,
    /// Number of instances that run the current revision or are about to.
    pub current: u32,
    /// Number of completed parts of a batch.
    pub complete: u32,
    /// Number of instances whose process keeps ending and being restarted.
    pub failing: u32,
    /// Total restarts of the failing instances.
    pub restarts: u32,
    /// Total processes killed by the kernel for lack of memory.
    pub oom_kills: u32,
    /// Number of desired instances that are missing or unhealthy, except those in their first start.
    pub unwell: u32,
    /// Most recent failure of a failing instance, human-readable.
    pub failure: String,
    /// Slots without an instance, and the reasons.
    pub waiting: Vec<Waiting>,
}

impl WorkloadRow {
    /// The workload's name.
    pub fn name(&self) -> &str {
        self.record.spec().map_or("", |spec| spec.name.as_str())
    }
}

/// Why the state of an instance is not known. The last reported state is shown beside it and is not current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The node is offline, so the instance has most likely ended.
    Lost,
    /// The node is in doubt or has not reported; the instance may be running.
    Unknown,
}

/// An instance in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignmentRow {
    /// The instance's record.
    pub record: Arc<Assignment>,
    /// Current state or, in doubt, the last reported state, which is then never healthy.
    pub status: Status,
    /// Why the current state is not known; `None` if it is.
    pub doubt: Option<Doubt>,
    /// Names of the ports, in the order of the status's ports.
    pub ports: Vec<String>,
}

/// A consistent view of workloads and instances for readers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Workloads, sorted by name.
    pub workloads: Vec<Arc<WorkloadRow>>,
    /// Instances, sorted by id.
    pub assignments: Rows,
}

impl View {
    /// Finds a workload by name.
    pub fn workload(&self, name: &str) -> Option<&Arc<WorkloadRow>> {
        let at = self.workloads.binary_search_by(|row| row.name().cmp(name)).ok()?;
        self.workloads.get(at)
    }

    /// Whether a workload of that name, or an instance of one, exists.
    pub fn knows(&self, name: &str) -> bool {
        self.workload(name).is_some() || self.assignments.iter().any(|row| *row.record.workload == *name)
    }

    /// Instances to which a name such as `web.3` applies ambiguously: several of them are to run, and none replaces
    /// another. Empty if the name is unambiguous.
    pub fn called(&self, text: &str) -> Vec<AssignmentId> {
        let Some((name, slot)) = text.rsplit_once('.') else {
            return Vec::new();
        };
        let Ok(slot) = slot.parse::<u32>() else {
            return Vec::new();
        };
        let is = |row: &&Arc<AssignmentRow>| {
            let record = &row.record;
            let runs = record.end.is_none() && record.goal == Goal::Run;
            runs && record.slot == slot && &*record.workload == name
        };
        let fit: Vec<&Arc<AssignmentRow>> = self.assignments.iter().filter(is).collect();
        let follows = |id: AssignmentId| fit.iter().any(|row| row.record.replaces == Some(id));
        let ids = fit
            .iter()
            .map(|row| row.record.id)
            .filter(|id| !follows(*id))
            .collect::<Vec<_>>();
        if ids.len() > 1 { ids } else { Vec::new() }
    }

    /// Finds an instance by its id, or by its workload's name and slot as in `web.3`, which denotes the newest.
    pub fn assignment(&self, text: &str) -> Option<&Arc<AssignmentRow>> {
        if let Some((name, slot)) = text.rsplit_once('.') {
            let slot: u32 = slot.parse().ok()?;
            let is = |row: &&Arc<AssignmentRow>| &*row.record.workload == name && row.record.slot == slot;
            return self.assignments.iter().rev().find(is);
        }
        self.assignments.get(text.parse().ok()?)
    }
}

/// Instances by id, in chunks; consecutive views share unchanged chunks.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// No chunk is empty.
    chunks: Vec<Arc<Vec<Arc<AssignmentRow>>>>,
    len: usize,
}

impl Rows {
    /// Number of instances.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no instances.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All instances in the order of their ids.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<AssignmentRow>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// Finds an instance by id.
    pub fn get(&self, id: AssignmentId) -> Option<&Arc<AssignmentRow>> {
        let chunk = self.chunks.get(self.chunk_of(id))?;
        let at = chunk.binary_search_by_key(&id, |row| row.record.id).ok()?;
        chunk.get(at)
    }

    /// Index of the chunk that contains an id or that it belongs in; 0 if there are no chunks.
    fn chunk_of(&self, id: AssignmentId) -> usize {
        let begins = |chunk: &Arc<Vec<Arc<AssignmentRow>>>| chunk.first().is_some_and(|row| row.record.id <= id);
        self.chunks.partition_point(begins).saturating_sub(1)
    }

    /// Inserts or replaces a row; returns false if an equal row exists.
    pub fn set(&mut self, row: AssignmentRow) -> bool {
        let id = row.record.id;
        let index = self.chunk_of(id);
        let last = index + 1 >= self.chunks.len();
        let Some(chunk) = self.chunks.get_mut(index) else {
            self.chunks.push(Arc::new(vec![Arc::new(row)]));
            self.len += 1;
            return true;
        };
        match chunk.binary_search_by_key(&id, |row| row.record.id) {
            Ok(at) if *chunk[at] == row => return false,
            Ok(at) => Arc::make_mut(chunk)[at] = Arc::new(row),
            // New ids are the highest, so full chunks remain unchanged.
            Err(at) if at >= CHUNK && at == chunk.len() && last => {
                self.chunks.push(Arc::new(vec![Arc::new(row)]));
                self.len += 1;
            }
            Err(at) => {
                let rows = Arc::make_mut(chunk);
                rows.insert(at, Arc::new(row));
                self.len += 1;
                if rows.len() > 2 * CHUNK {
                    let rest = rows.split_off(CHUNK);
                    self.chunks.insert(index + 1, Arc::new(rest));
                }
            }
        }
        true
    }

    /// Removes a row; returns false if there is none.
    pub fn remove(&mut self, id: AssignmentId) -> bool {
        let index = self.chunk_of(id);
        let Some(chunk) = self.chunks.get_mut(index) else {
            return false;
        };
        let Ok(at) = chunk.binary_search_by_key(&id, |row| row.record.id) else {
            return false;
        };
        let rows = Arc::make_mut(chunk);
        rows.remove(at);
        self.len -= 1;
        let left = rows.len();
        let next = self.chunks.get(index + 1).map(Arc::clone);
        if left == 0 {
            self.chunks.remove(index);
        } else if let Some(next) = next.filter(|next| left + next.len() <= CHUNK) {
            Arc::make_mut(&mut self.chunks[index]).extend(next.iter().cloned());
            self.chunks.remove(index + 1);
        }
        true
    }
}

impl FromIterator<Arc<AssignmentRow>> for Rows {
    /// Collects rows that are sorted by id without duplicates.
    fn from_iter<I: IntoIterator<Item = Arc<AssignmentRow>>>(rows: I) -> Rows {
        let mut chunks: Vec<Arc<Vec<_>>> = Vec::new();
        let (mut chunk, mut len) = (Vec::new(), 0);
        for row in rows {
            len += 1;
            chunk.push(row);
            if chunk.len() == CHUNK {
                chunks.push(Arc::new(std::mem::take(&mut chunk)));
            }
        }
        if !chunk.is_empty() {
            chunks.push(Arc::new(chunk));
        }
        Rows { chunks, len }
    }
}

impl PartialEq for Rows {
    fn eq(&self, other: &Rows) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl Eq for Rows {}
