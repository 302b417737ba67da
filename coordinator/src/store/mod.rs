//! The durable state: facts, events and the chain of snapshots.

mod copy;
mod embedded;
mod file;
mod grouped;
mod intents;
#[cfg(test)]
mod memory;
mod reader;
mod shares;
#[cfg(test)]
mod tests;
mod visit;
#[cfg(test)]
mod whole;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
pub(crate) use copy::{Import, Sink, Source, taken};
pub(crate) use embedded::Embedded;
pub(crate) use file::{Failure, File, Kind};
pub(crate) use grouped::Grouped;
pub(crate) use intents::AuditEnd;
#[cfg(test)]
pub(crate) use memory::Memory;
pub(crate) use visit::{Along, KeptEvent, Of, Visitor};
use wyneos_core::{
    id::{ClusterId, Epoch},
    integrity::Seal,
    store::{Batch, Durable},
    time::WallTime,
};
use wyneos_shell::exit;

/// The reason for which an operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Another process has it open.
    #[error("{}: in use by another coordinator; stop that one, or give this one another data_dir", .0.display())]
    Locked(PathBuf),
    /// It is not a store of this kind, or has a newer version.
    #[error("{}: {reason}; give the coordinator another data_dir, or move this file away", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// A description of its contents.
        reason: String,
    },
    /// The file has invalid contents.
    #[error("{}: {reason}; restore the file from a backup", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The fault.
        reason: String,
    },
    /// The disk failed.
    #[error("{}: cannot {what}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operation.
        what: &'static str,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A newer coordinator leads.
    #[error("epoch {ours} is over: the store belongs to epoch {theirs}")]
    Fenced {
        /// Epoch of this coordinator.
        ours: Epoch,
        /// Epoch of the store.
        theirs: Epoch,
    },
}

impl StoreError {
    /// The exit code of the process for this error.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            StoreError::Foreign { .. } | StoreError::Corrupt { .. } => exit::BAD_CONFIG,
            StoreError::Io { source, .. } => {
                let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&**source);
                while let Some(error) = cause {
                    if let Some(error) = error.downcast_ref::<std::io::Error>() {
                        return exit::of(error);
                    }
                    cause = error.source();
                }
                exit::FAILED
            }
            StoreError::Locked(_) | StoreError::Fenced { .. } => exit::FAILED,
        }
    }
}

/// A sealed snapshot.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SealedSnapshot {
    /// Seal of the snapshot.
    pub(crate) seal: Arc<Seal>,
    /// Time at which it was made.
    pub(crate) time: WallTime,
    /// The cluster's running time up to then, across restarts of the coordinator.
    pub(crate) lived: Duration,
    /// Canonical bytes of the snapshot.
    pub(crate) bytes: Bytes,
}

/// A seal and the metadata of its snapshot.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SealEntry {
    /// The seal.
    pub(crate) seal: Seal,
    /// Time at which the snapshot was made.
    pub(crate) time: WallTime,
    /// The cluster's running time up to then, across restarts of the coordinator.
    pub(crate) lived: Duration,
    /// Length of its canonical bytes.
    pub(crate) size: u64,
}

/// Limits of the retained history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    /// Number of events, of all subjects together. Higher: a longer history for `events` and `why`, about 500 bytes
    /// each.
    pub(crate) events: u64,
    /// Bytes of those events' records, of all subjects together.
    pub(crate) event_bytes: u64,
    /// Number of snapshots.
    pub(crate) snapshots: u64,
    /// Age of snapshots, in running time of the coordinator, whatever clocks show.
    pub(crate) snapshot_age: Duration,
}

/// The durable side. A single owner writes; readers use [`History`].
pub(crate) trait Store: Send {
    /// Loads the state for a start; begins a new epoch. `fresh` becomes the cluster's id at its first start.
    fn load(&mut self, fresh: ClusterId) -> Result<Durable, StoreError>;

    /// Makes batches durable, together and in order. Refused if `epoch` is no longer the store's.
    fn commit(&mut self, epoch: Epoch, batches: &[Batch]) -> Result<(), StoreError>;

    /// Makes a snapshot durable, and drops those beyond the retention.
    fn keep_snapshot(&mut self, snapshot: &SealedSnapshot) -> Result<(), StoreError>;

    /// The interface for readers.
    fn history(&self) -> Arc<dyn History>;
}

/// The interface for readers; may be used while the owner writes.
pub(crate) trait History: Send + Sync {
    /// Passes events to `visitor`, one after another, until it has enough. Returns the number from which on every event
    /// is retained, as of the same moment (0 if there is none): among older ones, those of noisy subjects are missing.
    fn visit(&self, of: Of<'_>, along: Along, visitor: &mut Visitor<'_>) -> Result<u64, StoreError>;

    /// The snapshot of a cycle.
    fn snapshot(&self, cycle: u64) -> Result<Option<SealedSnapshot>, StoreError>;

    /// The oldest snapshot of `cycle` or later.
    fn snapshot_from(&self, cycle: u64) -> Result<Option<SealedSnapshot>, StoreError>;

    /// At most `most` seals of cycles below `before`, newest first.
    fn seals(&self, before: u64, most: usize) -> Result<Vec<SealEntry>, StoreError>;
}
