//! The list of instances that this node has begun: what is on it and not found is lost, and is not begun again.
//!
//! It lies beside the directories of instances, not within them, so that what happens to one of those does not reach it. An id is on the disk before
//! the supervisor of its instance is started, and is taken off once the coordinator keeps nothing of the instance any more. A list that is
//! missing or cannot be read never means that nothing was begun: see [`agent::Begun::Any`].

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use wyneos_core::{
    agent,
    id::{ClusterId, NodeId},
    workload::AssignmentId,
};
use wyneos_shell::files;

#[cfg(test)]
mod tests;

/// Instances on the list at most, 20 bytes each, and as many that were lost: more than a coordinator keeps of one node. Beyond, none is begun.
const MOST: usize = 65_536;

/// Bytes of the file: more than a full list takes. A larger one is none.
const BYTES: u64 = 4 * 1024 * 1024;

/// Characters of the checksum below the list.
const SUM: usize = 16;

/// What the file holds.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    node: NodeId,
    /// Every instance of this cluster with a lower id may have been begun, too: a list from before was lost.
    #[serde(default)]
    presumed: Option<(ClusterId, AssignmentId)>,
    begun: BTreeSet<AssignmentId>,
    /// Those that were lost, of which nothing is left: they have no directory that would say so.
    #[serde(default)]
    buried: BTreeSet<AssignmentId>,
}

#[derive(Debug)]
struct State {
    written: Written,
    /// The list is lost, and the coordinator has not said yet what it may have had on it.
    any: bool,
    /// Grows with every change.
    version: u64,
}

/// The list.
#[derive(Debug)]
pub(crate) struct Begun {
    path: PathBuf,
    state: Mutex<State>,
    /// The version that is on the disk; held while it is written.
    on_disk: Mutex<u64>,
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Begun {
    /// Reads the list of this node. Of one whose id was made by this very start it is empty; of any other, one that is missing is lost. Nothing is
    /// written before [`settle`](Self::settle): a start that the coordinator refuses leaves no list that says more than is known.
    pub(crate) fn open(path: PathBuf, node: NodeId, is_new: bool) -> Begun {
        let (read, any) = match read(&path) {
            Ok(Some(written)) if written.node == node => (Some(written), false),
            // Also a copy that joins as a node of its own.
            Ok(_) if is_new => (None, false),
            Ok(other) => {
                let what = match &other {
                    Some(_) => "the list of the instances that were begun is another node's",
                    None => "there is no list of the instances that were begun",
                };
                let path = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
                let instances = path.with_file_name("instances");
                let first = other.is_none() && fs::read_dir(&instances).map_or(true, |mut all| all.next().is_none());
                match first {
                    true => tracing::info!(
                        path = %path.display(),
                        "{what}, as is usual at the first start of a node that has joined"
                    ),
                    false => tracing::warn!(
                        path = %path.display(),
                        "{what}: the list was removed, or an earlier version ran here. What is assigned, is not found here and may have been \
                         begun is taken for lost"
                    ),
                }
                (None, true)
            }
            Err(error) => {
                tracing::error!(
                    path = %path.display(), %error,
                    "the list of the instances that were begun cannot be read. What is assigned, is not found here and may have been begun is \
                     taken for lost"
                );
                (None, true)
            }
        };
        let on_disk = u64::from(read.is_some());
        let written = read.unwrap_or(Written {
            node,
            presumed: None,
            begun: BTreeSet::new(),
            buried: BTreeSet::new(),
        });
        Begun {
            path,
            state: Mutex::new(State {
                written,
                any,
                version: 1,
            }),
            on_disk: Mutex::new(on_disk),
        }
    }

    /// The coordinator has welcomed this agent: an empty list is written, so that the next agent knows that nothing was begun. What a lost one may have
    /// had on it is written once that is [presumed](Self::presume).
    pub(super) fn settle(&self) {
        if held(&self.state).any {
            return;
        }
        if let Err(error) = self.save() {
            // Without it nothing is begun, and whoever begins something says so.
            tracing::warn!(path = %self.path.display(), %error, "cannot write the list of the instances that are begun");
        }
    }

    /// The node that the list belongs to.
    pub(super) fn node(&self) -> NodeId {
        held(&self.state).written.node
    }

    /// The instances that were begun, or lost.
    pub(super) fn ids(&self) -> BTreeSet<AssignmentId> {
        let state = held(&self.state);
        state.written.begun.union(&state.written.buried).copied().collect()
    }

    /// Whether an instance was lost, and nothing of it is left.
    pub(super) fn is_buried(&self, id: AssignmentId) -> bool {
        held(&self.state).written.buried.contains(&id)
    }

    /// Writes down that an instance was lost, and that nothing of it is left. What finds no room on the list, the next agent looks for again.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(super) fn bury(&self, id: AssignmentId) -> io::Result<()> {
        {
            let mut state = held(&self.state);
            if state.written.buried.len() >= MOST || !state.written.buried.insert(id) {
                return Ok(());
            }
            state.version += 1;
        }
        self.save()
    }

    /// Whether an instance may have been begun, as far as is known before the coordinator has said anything.
    pub(super) fn may_have(&self, id: AssignmentId) -> bool {
        let state = held(&self.state);
        let presumed = state.written.presumed.is_some_and(|(_, below)| id < below);
        state.any || presumed || state.written.begun.contains(&id)
    }

    /// What may have been begun beyond that.
    pub(crate) fn beyond(&self) -> agent::Begun {
        let state = held(&self.state);
        match state.written.presumed {
            _ if state.any => agent::Begun::Any,
            Some((cluster, below)) => agent::Begun::Below(cluster, below),
            None => agent::Begun::None,
        }
    }

    /// The coordinator has said what a list that was lost may have had on it. It is on the disk after [`save`](Self::save).
    pub(super) fn presume(&self, cluster: ClusterId, below: AssignmentId) {
        let mut state = held(&self.state);
        (state.written.presumed, state.any) = (Some((cluster, below)), false);
        state.version += 1;
    }

    /// Puts instances on the list. They are on the disk when this returns: it waits for the disk.
    ///
    /// # Errors
    /// The disk does not take it, or the list is full. Then none of them is to be begun.
    pub(super) fn add(&self, ids: &[AssignmentId]) -> io::Result<()> {
        {
            let mut state = held(&self.state);
            if state.written.begun.len() + ids.len() > MOST {
                return Err(io::Error::other(format!(
                    "this node keeps something of {MOST} instances already"
                )));
            }
            state.written.begun.extend(ids);
            state.version += 1;
        }
        self.save().inspect_err(|_| {
            let mut state = held(&self.state);
            state.written.begun.retain(|id| !ids.contains(id));
            state.version += 1;
        })
    }

    /// Takes an instance off the list, of which nothing is kept any more. On the disk that is with the next [`save`](Self::save); until then the
    /// next agent takes it for lost, which the coordinator tells it to forget.
    pub(super) fn remove(&self, id: AssignmentId) {
        let mut state = held(&self.state);
        let is_there = [state.written.begun.remove(&id), state.written.buried.remove(&id)];
        if is_there.contains(&true) {
            state.version += 1;
        }
    }

    /// Has the disk take the list as it is now. Those who wait for the same write share it.
    pub(super) fn save(&self) -> io::Result<()> {
        let wanted = held(&self.state).version;
        let mut on_disk = held(&self.on_disk);
        if *on_disk >= wanted {
            return Ok(());
        }
        let (bytes, version) = {
            let state = held(&self.state);
            if state.any {
                // A list that begins anew would say that nothing was begun before.
                return Err(io::Error::other("it is not known yet what was begun before"));
            }
            (format(&state.written)?, state.version)
        };
        let name = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display()));
        files::write_durably(&self.path, &bytes, 0o600).map_err(name)?;
        *on_disk = version;
        Ok(())
    }
}

fn sum(text: &[u8]) -> String {
    let mut sum = blake3::hash(text).to_hex().to_string();
    sum.truncate(SUM);
    sum
}

fn format(written: &Written) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(written)?;
    let sum = sum(&bytes);
    bytes.extend(format!("\n{sum}\n").bytes());
    Ok(bytes)
}

/// `None` when there is no file.
fn read(path: &Path) -> io::Result<Option<Written>> {
    let bytes = match files::read(path, BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "it is damaged");
    let rest = bytes.strip_suffix(b"\n").ok_or_else(damaged)?;
    let at = rest.iter().rposition(|byte| *byte == b'\n').ok_or_else(damaged)?;
    let (text, told) = (&rest[..at], &rest[at + 1..]);
    if sum(text).as_bytes() != told {
        return Err(damaged());
    }
    Ok(Some(serde_json::from_slice(text)?))
}
