//! The embedded store: redb, state and history in two files.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use prost::Message;
use redb::{
    AccessGuard, Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
    TableError,
};
use wyneos::{convert, v1};
use wyneos_core::{
    event::Event,
    id::{ClusterId, NodeId},
    integrity::Seal,
    node::NodeRecord,
    store::{Batch, Durable},
    time::WallTime,
};

use super::{History, Retention, SealEntry, SealedSnapshot, Store, StoreError};

/// `"format"` (always 1), `"cluster"` (16 bytes), `"epoch"` and `"decisions"` (u64, little endian).
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// Node id → JSON of a `NodeRecord`.
const NODES: TableDefinition<[u8; 16], &[u8]> = TableDefinition::new("nodes");
/// Event number → JSON of an `Event`.
const EVENTS: TableDefinition<u64, &[u8]> = TableDefinition::new("events");
/// (Node id, event number) → nothing: the events about a node.
const EVENTS_OF: TableDefinition<([u8; 16], u64), ()> = TableDefinition::new("events_of");
/// Cycle → `wyneos.v1.SealedEntry`.
const SEALS: TableDefinition<u64, &[u8]> = TableDefinition::new("seals");
/// Cycle → canonical bytes.
const SNAPSHOTS: TableDefinition<u64, &[u8]> = TableDefinition::new("snapshots");

/// Version of the layout above.
const FORMAT: u64 = 1;

/// Memory that redb may use for each file's pages.
const CACHE: usize = 16 << 20;

/// Events or snapshots beyond the retention that one transaction drops at most, so that none takes long.
const DROPPED_AT_ONCE: u64 = 1_000;

/// One redb file and its errors' context.
#[derive(Clone)]
struct File {
    path: PathBuf,
    database: Arc<Database>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs `run`, which uses redb: on some damaged pages that panics instead of saying so.
fn contained<T>(path: &Path, run: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let damaged = |_| {
        let (path, reason) = (path.to_owned(), "its pages contradict one another".to_owned());
        Err(StoreError::Corrupt { path, reason })
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(damaged)
}

impl File {
    fn open(path: PathBuf) -> Result<File, StoreError> {
        let open = || Ok(Database::builder().set_cache_size(CACHE).create(&path));
        let database = contained(&path, open)?.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::Locked(path.clone()),
            DatabaseError::UpgradeRequired(version) => StoreError::Foreign {
                path: path.clone(),
                reason: format!("of redb's file format {version}"),
            },
            DatabaseError::Storage(redb::StorageError::Corrupted(reason)) => StoreError::Corrupt {
                path: path.clone(),
                reason,
            },
            DatabaseError::Storage(redb::StorageError::Io(error))
                if error.kind() == std::io::ErrorKind::InvalidData =>
            {
                StoreError::Foreign {
                    path: path.clone(),
                    reason: "not a store of this coordinator".to_owned(),
                }
            }
            error => StoreError::Io {
                path: path.clone(),
                what: "open the store",
                source: error.into(),
            },
        })?;
        Ok(File {
            path,
            database: Arc::new(database),
        })
    }

    fn io<E: Into<Failure>>(&self, what: &'static str) -> impl Fn(E) -> StoreError {
        let path = self.path.clone();
        move |error| StoreError::Io {
            path: path.clone(),
            what,
            source: error.into(),
        }
    }

    fn corrupt(&self, reason: impl Into<String>) -> StoreError {
        StoreError::Corrupt {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }

    /// As the function of that name. What redb holds after a panic is never used again, nor closed: closing it would panic
    /// once more, and the process is about to end.
    fn contained<T>(&self, run: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let held = Arc::clone(&self.database);
        let mut panicked = true;
        let result = contained(&self.path, || {
            let result = run();
            panicked = false;
            result
        });
        if panicked {
            std::mem::forget(held);
        }
        result
    }

    /// Runs `write` in one durable transaction.
    fn write(&self, write: impl FnOnce(&redb::WriteTransaction) -> Result<(), Failure>) -> Result<(), StoreError> {
        let run = || -> Result<(), Failure> {
            let mut transaction = self.database.begin_write()?;
            // Reopening after a crash must not take longer the larger the file is.
            transaction.set_quick_repair(true);
            write(&transaction)?;
            Ok(transaction.commit()?)
        };
        self.contained(|| {
            run().map_err(|error| match error.downcast::<StoreError>() {
                Ok(error) => *error,
                Err(error) => self.io("write")(error),
            })
        })
    }

    fn read<T: Default>(
        &self,
        read: impl FnOnce(&redb::ReadTransaction) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let run = || read(&self.database.begin_read()?);
        let told = |error: Failure| match error.downcast::<TableError>() {
            // Nothing was written yet.
            Ok(missing) if matches!(*missing, TableError::TableDoesNotExist(_)) => Ok(T::default()),
            Ok(error) => Err(self.io("read")(error)),
            Err(error) => Err(match error.downcast::<StoreError>() {
                Ok(error) => *error,
                Err(error) => self.io("read")(error),
            }),
        };
        self.contained(|| run().or_else(told))
    }

    fn parse<'a, T: serde::Deserialize<'a>>(&self, what: &str, json: &'a [u8]) -> Result<T, StoreError> {
        serde_json::from_slice(json).map_err(|error| self.corrupt(format!("{what}: {error}")))
    }
}

/// The embedded store.
pub(crate) struct Embedded {
    state: File,
    history: File,
    retention: Retention,
}

impl Embedded {
    /// Opens the store in `directory`, which exists.
    pub(crate) fn open(directory: &Path, retention: Retention) -> Result<Embedded, StoreError> {
        let state = File::open(directory.join("state.redb"))?;
        let history = File::open(directory.join("history.redb"))?;
        Ok(Embedded {
            state,
            history,
            retention,
        })
    }

    /// Checks the layout's version and begins a new epoch.
    fn begin_epoch(&self, fresh: ClusterId) -> Result<(), StoreError> {
        self.state.write(|transaction| {
            let mut meta = transaction.open_table(META)?;
            let format = number(&meta, "format")?;
            if format.is_some_and(|format| format != FORMAT) {
                let reason = format!("of format {}; this version knows {FORMAT}", format.unwrap_or_default());
                return Err(StoreError::Foreign {
                    path: self.state.path.clone(),
                    reason,
                }
                .into());
            }
            meta.insert("format", FORMAT.to_le_bytes().as_slice())?;
            if meta.get("cluster")?.is_none() {
                meta.insert("cluster", fresh.0.as_slice())?;
            }
            let epoch = number(&meta, "epoch")?.unwrap_or(0) + 1;
            meta.insert("epoch", epoch.to_le_bytes().as_slice())?;
            transaction.open_table(NODES)?;
            transaction.open_table(EVENTS)?;
            transaction.open_table(EVENTS_OF)?;
            Ok(())
        })
    }

    fn drop_old_events(&self, transaction: &redb::WriteTransaction) -> Result<(), Failure> {
        let mut events = transaction.open_table(EVENTS)?;
        let mut events_of = transaction.open_table(EVENTS_OF)?;
        let surplus = events.len()?.saturating_sub(self.retention.events).min(DROPPED_AT_ONCE);
        for _ in 0..surplus {
            let Some((sequence, json)) = events.pop_first()? else {
                break;
            };
            let event: Event = serde_json::from_slice(json.value())?;
            if let Some(node) = event.node {
                events_of.remove((node.0, sequence.value()))?;
            }
        }
        Ok(())
    }

    fn drop_old_snapshots(&self, transaction: &redb::WriteTransaction, now: WallTime) -> Result<(), Failure> {
        let mut seals = transaction.open_table(SEALS)?;
        let mut snapshots = transaction.open_table(SNAPSHOTS)?;
        let age = i64::try_from(self.retention.snapshot_age.as_millis()).unwrap_or(i64::MAX);
        for _ in 0..DROPPED_AT_ONCE {
            let Some((cycle, time)) = seals
                .first()?
                .map(|(cycle, entry)| (cycle.value(), entry_time(entry.value())))
            else {
                break;
            };
            let many = seals.len()? > self.retention.snapshots;
            let old = time.is_some_and(|time| now.0.saturating_sub(time.0) > age);
            // The newest stays, however old: the chain goes on from it.
            if seals.len()? <= 1 || !(many || old) {
                break;
            }
            seals.remove(cycle)?;
            snapshots.remove(cycle)?;
        }
        Ok(())
    }
}

fn entry_time(entry: &[u8]) -> Option<WallTime> {
    let entry = v1::SealedEntry::decode(entry).ok()?;
    convert::timestamp_in("time", &entry.time?).ok()
}

fn number(table: &impl ReadableTable<&'static str, &'static [u8]>, key: &str) -> Result<Option<u64>, Failure> {
    match table.get(key)? {
        Some(value) => Ok(Some(u64::from_le_bytes(value.value().try_into()?))),
        None => Ok(None),
    }
}

impl Store for Embedded {
    fn load(&mut self, fresh: ClusterId) -> Result<Durable, StoreError> {
        self.begin_epoch(fresh)?;
        self.history.write(|transaction| {
            transaction.open_table(SEALS)?;
            transaction.open_table(SNAPSHOTS)?;
            Ok(())
        })?;
        let newest = self.history().seals(u64::MAX, 1)?.pop();
        let last_snapshot = newest.map_or((0, 0, [0; 32]), |entry| {
            (entry.seal.epoch, entry.seal.cycle, entry.seal.chain)
        });
        let loaded = self.state.read(|transaction| {
            let meta = transaction.open_table(META)?;
            let cluster = meta
                .get("cluster")?
                .map(|value| <[u8; 16]>::try_from(value.value()))
                .transpose()?;
            let cluster = cluster.ok_or_else(|| self.state.corrupt("the cluster's id is missing"))?;
            let mut nodes = Vec::new();
            for entry in transaction.open_table(NODES)?.iter()? {
                let (id, json) = entry?;
                let what = format!("node {}", wyneos_core::id::Uuid(id.value()));
                let record: NodeRecord = self.state.parse(&what, json.value())?;
                nodes.push(Arc::new(record));
            }
            Ok(Some(Durable {
                cluster: wyneos_core::id::Uuid(cluster),
                epoch: number(&meta, "epoch")?.unwrap_or(1),
                nodes,
                last_event: transaction
                    .open_table(EVENTS)?
                    .last()?
                    .map_or(0, |(sequence, _)| sequence.value()),
                decisions: number(&meta, "decisions")?.unwrap_or(0),
                last_snapshot,
            }))
        })?;
        loaded.ok_or_else(|| self.state.corrupt("its tables are missing"))
    }

    fn commit(&mut self, epoch: u64, batches: &[Batch]) -> Result<(), StoreError> {
        if batches.iter().all(Batch::is_empty) {
            return Ok(());
        }
        self.state.write(|transaction| {
            let mut meta = transaction.open_table(META)?;
            let theirs = number(&meta, "epoch")?.unwrap_or(0);
            if theirs != epoch {
                return Err(StoreError::Fenced { ours: epoch, theirs }.into());
            }
            let decisions = batches.iter().map(|batch| batch.decisions).max().unwrap_or(0);
            if decisions > 0 {
                meta.insert("decisions", decisions.to_le_bytes().as_slice())?;
            }
            {
                let mut nodes = transaction.open_table(NODES)?;
                let mut events = transaction.open_table(EVENTS)?;
                let mut events_of = transaction.open_table(EVENTS_OF)?;
                for batch in batches {
                    for node in &batch.nodes {
                        nodes.insert(node.id().0, serde_json::to_vec(&**node)?.as_slice())?;
                    }
                    for event in &batch.events {
                        events.insert(event.sequence, serde_json::to_vec(&**event)?.as_slice())?;
                        if let Some(node) = event.node {
                            events_of.insert((node.0, event.sequence), ())?;
                        }
                    }
                }
            }
            self.drop_old_events(transaction)
        })
    }

    fn keep_snapshot(&mut self, snapshot: &SealedSnapshot) -> Result<(), StoreError> {
        let entry = v1::SealedEntry {
            seal: Some((&*snapshot.seal).into()),
            time: Some(convert::timestamp(snapshot.time)),
            size_bytes: snapshot.bytes.len() as u64,
        };
        self.history.write(|transaction| {
            transaction
                .open_table(SEALS)?
                .insert(snapshot.seal.cycle, entry.encode_to_vec().as_slice())?;
            transaction
                .open_table(SNAPSHOTS)?
                .insert(snapshot.seal.cycle, &*snapshot.bytes)?;
            self.drop_old_snapshots(transaction, snapshot.time)
        })
    }

    fn history(&self) -> Arc<dyn History> {
        Arc::new(Reader {
            state: self.state.clone(),
            history: self.history.clone(),
        })
    }
}

/// Reads beside the owner's writes.
struct Reader {
    state: File,
    history: File,
}

/// What a range of the index of events about a node yields.
type Indexed = Vec<Result<(AccessGuard<'static, ([u8; 16], u64)>, AccessGuard<'static, ()>), redb::StorageError>>;

impl Reader {
    /// The events that a look-up in the index finds.
    fn indexed(
        &self,
        look_up: impl FnOnce(&redb::ReadOnlyTable<([u8; 16], u64), ()>) -> Result<Indexed, Failure>,
    ) -> Result<Vec<Event>, StoreError> {
        self.state.read(|transaction| {
            let table = transaction.open_table(EVENTS)?;
            let mut events = Vec::new();
            for entry in look_up(&transaction.open_table(EVENTS_OF)?)? {
                let sequence = entry?.0.value().1;
                if let Some(json) = table.get(sequence)? {
                    events.push(self.state.parse(&format!("event {sequence}"), json.value())?);
                }
            }
            Ok(events)
        })
    }

    fn entry(&self, cycle: u64, bytes: &[u8]) -> Result<SealEntry, StoreError> {
        let wrong = |reason: String| self.history.corrupt(format!("seal of cycle {cycle}: {reason}"));
        let entry = v1::SealedEntry::decode(bytes).map_err(|error| wrong(error.to_string()))?;
        let seal = entry.seal.as_ref().ok_or_else(|| wrong("missing".to_owned()))?;
        Ok(SealEntry {
            seal: Seal::try_from(seal).map_err(|error| wrong(error.to_string()))?,
            time: entry_time(bytes).unwrap_or_default(),
            size: entry.size_bytes,
        })
    }
}

impl History for Reader {
    fn events(&self, from: u64, most: usize) -> Result<(Vec<Event>, u64), StoreError> {
        self.state.read(|transaction| {
            let table = transaction.open_table(EVENTS)?;
            let mut events = Vec::new();
            for entry in table.range(from..)?.take(most) {
                let (sequence, json) = entry?;
                events.push(self.state.parse(&format!("event {}", sequence.value()), json.value())?);
            }
            Ok((events, table.first()?.map_or(0, |(sequence, _)| sequence.value())))
        })
    }

    fn events_of(&self, node: NodeId, before: u64, most: usize) -> Result<Vec<Event>, StoreError> {
        self.indexed(|index| Ok(index.range((node.0, 0)..(node.0, before))?.rev().take(most).collect()))
    }

    fn events_of_from(&self, node: NodeId, from: u64, most: usize) -> Result<Vec<Event>, StoreError> {
        self.indexed(|index| Ok(index.range((node.0, from)..=(node.0, u64::MAX))?.take(most).collect()))
    }

    fn events_before(&self, before: u64, most: usize) -> Result<Vec<Event>, StoreError> {
        self.state.read(|transaction| {
            let mut events = Vec::new();
            for entry in transaction.open_table(EVENTS)?.range(..before)?.rev().take(most) {
                let (sequence, json) = entry?;
                events.push(self.state.parse(&format!("event {}", sequence.value()), json.value())?);
            }
            Ok(events)
        })
    }

    fn snapshot(&self, cycle: u64) -> Result<Option<SealedSnapshot>, StoreError> {
        Ok(self
            .snapshot_from(cycle)?
            .filter(|snapshot| snapshot.seal.cycle == cycle))
    }

    fn snapshot_from(&self, cycle: u64) -> Result<Option<SealedSnapshot>, StoreError> {
        self.history.read(|transaction| {
            let Some(first) = transaction.open_table(SEALS)?.range(cycle..)?.next() else {
                return Ok(None);
            };
            let (found, entry) = first?;
            let entry = self.entry(found.value(), entry.value())?;
            let snapshots = transaction.open_table(SNAPSHOTS)?;
            let missing = || {
                self.history
                    .corrupt(format!("the snapshot of cycle {} is missing", found.value()))
            };
            let bytes = snapshots
                .get(found.value())?
                .ok_or_else(missing)?
                .value()
                .to_vec()
                .into();
            Ok(Some(SealedSnapshot {
                seal: Arc::new(entry.seal),
                time: entry.time,
                bytes,
            }))
        })
    }

    fn seals(&self, before: u64, most: usize) -> Result<Vec<SealEntry>, StoreError> {
        self.history.read(|transaction| {
            let mut seals = Vec::new();
            for entry in transaction.open_table(SEALS)?.range(..before)?.rev().take(most) {
                let (cycle, bytes) = entry?;
                seals.push(self.entry(cycle.value(), bytes.value())?);
            }
            Ok(seals)
        })
    }
}
