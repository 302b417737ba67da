//! The list of instances that this node has begun: an instance on it that is not found is lost, and is not begun again.
//!
//! The list is stored beside the directories of instances, not within them, so that damage to one of those does not
//! affect it. An id is on the disk before the supervisor of its instance is started, and is removed once the
//! coordinator retains nothing of the instance any more. A list that is missing or cannot be read never means that
//! nothing was begun: see [`agent::Begun::Any`].

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

/// Maximum number of instances on the list, 20 bytes each, and as many that were lost: more than a coordinator retains
/// of one node. Beyond it, none is begun.
const MOST: usize = 65_536;

/// Maximum size of the file, bytes: more than a full list takes.
const BYTES: u64 = 4 * 1024 * 1024;

/// Characters of the checksum below the list.
const SUM: usize = 16;

/// The contents of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    node: NodeId,
    /// Every instance of this cluster with a lower id may have been begun, too, because an earlier list was lost.
    #[serde(default)]
    presumed: Option<(ClusterId, AssignmentId)>,
    begun: BTreeSet<AssignmentId>,
    /// Lost instances of which nothing is left: they have no directory to record it.
    #[serde(default)]
    buried: BTreeSet<AssignmentId>,
}

#[derive(Debug)]
struct State {
    written: Written,
    /// The list is lost, and the coordinator has not reported yet which ids it may have contained.
    any: bool,
    /// Increases with every change.
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
    /// Reads the list of this node. For an id that this start created it is empty; for any other, a missing list is
    /// lost. Nothing is written before [`settle`](Self::settle): a start that the coordinator refuses leaves no list
    /// that claims more than is known.
    pub(crate) fn open(path: PathBuf, node: NodeId, is_new: bool) -> Begun {
        let (read, any) = match read(&path) {
            Ok(Some(written)) if written.node == node => (Some(written), false),
            // Also a copy that joins as a separate node.
            Ok(_) if is_new => (None, false),
            Ok(other) => {
                let what = match &other {
                    Some(_) => "the list of begun instances belongs to another node",
                    None => "there is no list of begun instances",
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
                        "{what}: the list was removed, or an earlier version ran here. Assigned instances that are not found and may have been \
                         begun count as lost"
                    ),
                }
                (None, true)
            }
            Err(error) => {
                tracing::error!(
                    path = %path.display(), %error,
                    "the list of begun instances cannot be read. Assigned instances that are not found and may have been begun count as \
                     lost"
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

    /// Called once the coordinator has welcomed this agent: an empty list is written, so that the next agent knows that
    /// nothing was begun. The possible contents of a lost list are written once they are [presumed](Self::presume).
    pub(super) fn settle(&self) {
        if held(&self.state).any {
            return;
        }
        if let Err(error) = self.save() {
            // Without it nothing is begun, and the attempt to begin an instance reports the error.
            tracing::warn!(path = %self.path.display(), %error, "cannot write the list of begun instances");
        }
    }

    /// The node that the list belongs to.
    pub(super) fn node(&self) -> NodeId {
        held(&self.state).written.node
    }

    /// Ids of the instances that were begun, or lost.
    pub(super) fn ids(&self) -> BTreeSet<AssignmentId> {
        let state = held(&self.state);
        state.written.begun.union(&state.written.buried).copied().collect()
    }

    /// Returns whether an instance was lost, and nothing of it is left.
    pub(super) fn is_buried(&self, id: AssignmentId) -> bool {
        held(&self.state).written.buried.contains(&id)
    }

    /// Records that an instance was lost, and that nothing of it is left. The next agent looks again for instances that
    /// do not fit on the list.
    ///
    /// The disk does not accept the write.
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

    /// Returns whether an instance may have been begun, before the coordinator has reported anything.
    pub(super) fn may_have(&self, id: AssignmentId) -> bool {
        let state = held(&self.state);
        let presumed = state.written.presumed.is_some_and(|(_, below)| id < below);
        state.any || presumed || state.written.begun.contains(&id)
    }

    /// The instances that may have been begun in addition.
    pub(crate) fn beyond(&self) -> agent::Begun {
        let state = held(&self.state);
        match state.written.presumed {
            _ if state.any => agent::Begun::Any,
            Some((cluster, below)) => agent::Begun::Below(cluster, below),
            None => agent::Begun::None,
        }
    }

    /// Records which ids a lost list may have contained, as reported by the coordinator. It is on the disk after
    /// [`save`](Self::save).
    pub(super) fn presume(&self, cluster: ClusterId, below: AssignmentId) {
        let mut state = held(&self.state);
        (state.written.presumed, state.any) = (Some((cluster, below)), false);
        state.version += 1;
    }

    /// Adds instances to the list. They are on the disk when this returns: it waits for the disk.
    ///
    /// The disk does not accept the write, or the list is full. None of the instances may then be begun.
    pub(super) fn add(&self, ids: &[AssignmentId]) -> io::Result<()> {
        {
            let mut state = held(&self.state);
            if state.written.begun.len() + ids.len() > MOST {
                return Err(io::Error::other(format!("this node retains {MOST} instances already")));
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

    /// Removes an instance of which nothing is retained any more from the list. The disk is updated with the next
    /// [`save`](Self::save); until then the next agent regards it as lost, and the coordinator tells it to forget it.
    pub(super) fn remove(&self, id: AssignmentId) {
        let mut state = held(&self.state);
        let is_there = [state.written.begun.remove(&id), state.written.buried.remove(&id)];
        if is_there.contains(&true) {
            state.version += 1;
        }
    }

    /// Writes the present list to the disk. Callers that wait for the same write share it.
    pub(super) fn save(&self) -> io::Result<()> {
        let wanted = held(&self.state).version;
        let mut on_disk = held(&self.on_disk);
        if *on_disk >= wanted {
            return Ok(());
        }
        let (bytes, version) = {
            let state = held(&self.state);
            if state.any {
                // A new list would claim that nothing was begun before.
                return Err(io::Error::other(
                    "it is not known yet which instances were begun before",
                ));
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

/// `None` if there is no file.
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
