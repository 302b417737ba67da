//! Workloads and instances as readers see them.

use std::sync::Arc;

use super::Waiting;
use super::{Assignment, AssignmentId, Goal, Status, Workload};

/// Rows that lie together; one that changes costs a copy of as many pointers.
const CHUNK: usize = 256;

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
    /// Instances whose nodes are offline.
    pub lost: u32,
    /// Instances whose nodes are in doubt: they may run or not, and count as neither running nor healthy.
    pub unknown: u32,
    /// Instances that run by the present declaration, or are about to.
    pub current: u32,
    /// Instances of a batch that are done.
    pub complete: u32,
    /// Instances that do not stay up: their process ended, and is started again and again.
    pub failing: u32,
    /// Restarts of those.
    pub restarts: u32,
    /// Processes of its instances that the kernel killed for want of memory.
    pub oom_kills: u32,
    /// Of those that there should be, how many are not there: not well, and not about to be for the first time.
    pub unwell: u32,
    /// Why one of them ended last, for people.
    pub failure: String,
    /// What waits, and for what.
    pub waiting: Vec<Waiting>,
}

impl WorkloadRow {
    /// Its name.
    pub fn name(&self) -> &str {
        self.record.spec().map_or("", |spec| spec.name.as_str())
    }
}

/// Why nobody knows how an instance is: what its node said last is shown beside this, and not as what is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Its node is offline, so that it has most likely ended.
    Lost,
    /// Its node is in doubt, or says nothing: it may run or not.
    Unknown,
}

/// An instance as the snapshot shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignmentRow {
    /// Its record.
    pub record: Arc<Assignment>,
    /// How it is, or, in doubt, how it was: never healthy then.
    pub status: Status,
    /// Why that is not known.
    pub doubt: Option<Doubt>,
    /// Its ports' names, in the order of the status' ports.
    pub ports: Vec<String>,
}

/// All of it at one moment, for readers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The workloads, sorted by name.
    pub workloads: Vec<Arc<WorkloadRow>>,
    /// The instances, sorted by id.
    pub assignments: Rows,
}

impl View {
    /// The workload of that name.
    pub fn workload(&self, name: &str) -> Option<&Arc<WorkloadRow>> {
        let at = self.workloads.binary_search_by(|row| row.name().cmp(name)).ok()?;
        self.workloads.get(at)
    }

    /// Whether there is a workload of that name, or at least an instance.
    pub fn knows(&self, name: &str) -> bool {
        self.workload(name).is_some() || self.assignments.iter().any(|row| *row.record.workload == *name)
    }

    /// Instances that a name such as `web.3` fits alike, where there are several: they are to run, and none takes the place of another.
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

    /// The instance that a text names: its id, or its workload's name and its slot as in `web.3`, of which the newest is meant.
    pub fn assignment(&self, text: &str) -> Option<&Arc<AssignmentRow>> {
        if let Some((name, slot)) = text.rsplit_once('.') {
            let slot: u32 = slot.parse().ok()?;
            let is = |row: &&Arc<AssignmentRow>| &*row.record.workload == name && row.record.slot == slot;
            return self.assignments.iter().rev().find(is);
        }
        self.assignments.get(text.parse().ok()?)
    }
}

/// Instances by id, in pieces: one view and the next share all those in which nothing changed.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// None is empty.
    chunks: Vec<Arc<Vec<Arc<AssignmentRow>>>>,
    len: usize,
}

impl Rows {
    /// How many.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<AssignmentRow>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// One of them.
    pub fn get(&self, id: AssignmentId) -> Option<&Arc<AssignmentRow>> {
        let chunk = self.chunks.get(self.chunk_of(id))?;
        let at = chunk.binary_search_by_key(&id, |row| row.record.id).ok()?;
        chunk.get(at)
    }

    /// The piece that an id is in, or belongs into; the first where there is none.
    fn chunk_of(&self, id: AssignmentId) -> usize {
        let begins = |chunk: &Arc<Vec<Arc<AssignmentRow>>>| chunk.first().is_some_and(|row| row.record.id <= id);
        self.chunks.partition_point(begins).saturating_sub(1)
    }

    /// Takes a row in, in the place of the one with its id; false when that is the same.
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
            // New ids are the highest: what is full stays as it is.
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

    /// Takes a row out; false when there is none.
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
    /// Rows that come by id, each once.
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
