//! What survives: durable facts, events and the chain of snapshots.

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
    id::ClusterId,
    integrity::Seal,
    store::{Batch, Durable},
    time::WallTime,
};
use wyneos_shell::exit;

/// Why the store cannot do what it is asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Another process has it.
    #[error("{}: in use by another coordinator; stop that one, or give this one another data_dir", .0.display())]
    Locked(PathBuf),
    /// It is no store of this kind, or of a newer version.
    #[error("{}: {reason}; give the coordinator another data_dir, or move this file away", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        reason: String,
    },
    /// Its contents make no sense.
    #[error("{}: {reason}; restore the file from a backup", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What makes no sense.
        reason: String,
    },
    /// The disk failed.
    #[error("{}: cannot {what}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What came of it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A newer coordinator leads.
    #[error("epoch {ours} is over: the store belongs to epoch {theirs}")]
    Fenced {
        /// This coordinator's.
        ours: u64,
        /// The store's.
        theirs: u64,
    },
}

impl StoreError {
    /// How a process ends over it.
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

/// A snapshot as it was sealed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SealedSnapshot {
    /// Its seal.
    pub(crate) seal: Arc<Seal>,
    /// When it was made.
    pub(crate) time: WallTime,
    /// The cluster's running time by then, across restarts of the coordinator.
    pub(crate) lived: Duration,
    /// Its canonical bytes.
    pub(crate) bytes: Bytes,
}

/// A seal and what is known of its snapshot without reading it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SealEntry {
    /// The seal.
    pub(crate) seal: Seal,
    /// When the snapshot was made.
    pub(crate) time: WallTime,
    /// The cluster's running time by then, across restarts of the coordinator.
    pub(crate) lived: Duration,
    /// Length of its canonical bytes.
    pub(crate) size: u64,
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    /// Events, of all subjects together. More: longer memory for `events` and `why`, about 500 bytes each.
    pub(crate) events: u64,
    /// Bytes of those events' records, of all subjects together.
    pub(crate) event_bytes: u64,
    /// Snapshots, by count.
    pub(crate) snapshots: u64,
    /// Snapshots, by age: of the time that the coordinator has run, whatever clocks say.
    pub(crate) snapshot_age: Duration,
}

/// The durable side. One owner writes; readers go by [`History`].
pub(crate) trait Store: Send {
    /// What the coordinator starts from; begins a new epoch. `fresh` becomes the cluster's id at its first start.
    fn load(&mut self, fresh: ClusterId) -> Result<Durable, StoreError>;

    /// Makes batches durable, together and in order. Refused when `epoch` is no longer the store's.
    fn commit(&mut self, epoch: u64, batches: &[Batch]) -> Result<(), StoreError>;

    /// Makes a snapshot durable, and drops those beyond the retention.
    fn keep_snapshot(&mut self, snapshot: &SealedSnapshot) -> Result<(), StoreError>;

    /// For readers.
    fn history(&self) -> Arc<dyn History>;
}

/// What readers are served from; may be used while the owner writes.
pub(crate) trait History: Send + Sync {
    /// Hands events to `visitor`, one after another, until it has enough. The number from which on every event is kept, as of the same
    /// moment (0 when none is): of older ones those of loud subjects are missing.
    fn visit(&self, of: Of<'_>, along: Along, visitor: &mut Visitor<'_>) -> Result<u64, StoreError>;

    /// The snapshot of a cycle.
    fn snapshot(&self, cycle: u64) -> Result<Option<SealedSnapshot>, StoreError>;

    /// The oldest snapshot of `cycle` or later.
    fn snapshot_from(&self, cycle: u64) -> Result<Option<SealedSnapshot>, StoreError>;

    /// At most `most` seals of cycles below `before`, newest first.
    fn seals(&self, before: u64, most: usize) -> Result<Vec<SealEntry>, StoreError>;
}
