//! The embedded store as a whole: reading it for a backup, and creating it from one.

use std::path::Path;

use prost::Message as _;
use redb::ReadableTable as _;
use wyneos::{
    backup::Record,
    convert,
    v1::{self, BackupKind},
};
use wyneos_core::{store::Restored, time::WallTime};

use super::{
    File, Grouped, Kind, StoreError,
    embedded::{
        ASSIGNMENTS, EVENTS, EVENTS_OF, EVENTS_OF_WORK, FORMAT, META, NODES, SEALS, SNAPSHOTS, WORKLOADS, number,
    },
    file::Failure,
};

/// Maximum number of records in one transaction.
const GROUP: usize = 1_000;

/// The source of backups.
#[derive(Clone)]
pub(crate) struct Source {
    pub(super) state: File,
    pub(super) history: File,
}

/// Receives the records of a backup in their order. An error ends the read.
pub(crate) trait Sink {
    /// The header; the sink sets `time` and `public_key`.
    fn header(&mut self, header: v1::BackupHeader) -> Result<(), Failure>;
    /// Called before all records of the store.
    fn files(&mut self) -> Result<(), Failure>;
    /// A record.
    fn record(&mut self, kind: BackupKind, value: &[u8]) -> Result<(), Failure>;
    /// Called between the state and the newest snapshot.
    fn audit(&mut self) -> Result<(), Failure>;
}

impl Source {
    /// Reads the complete durable state as of one moment, during writes. The newest snapshot is read as of just before:
    /// a coordinator that starts from both continues as after a crash that preceded the next snapshot.
    pub(crate) fn read(&self, sink: &mut dyn Sink) -> Result<(), StoreError> {
        self.history.read(|history| {
            let (seals, snapshots) = (history.open_table(SEALS)?, history.open_table(SNAPSHOTS)?);
            let newest = seals.last()?;
            let cycle = newest.as_ref().map_or(0, |(cycle, _)| cycle.value());
            self.state.read(|state| self.read_state(state, cycle, sink))?;
            if let Some((cycle, entry)) = newest {
                let missing = || self.history.corrupt("the newest snapshot is missing");
                let bytes = snapshots.get(cycle.value())?.ok_or_else(missing)?;
                sink.record(BackupKind::Seal, entry.value())?;
                sink.record(BackupKind::Snapshot, bytes.value())?;
            }
            Ok(())
        })
    }

    fn read_state(&self, state: &redb::ReadTransaction, cycle: u64, sink: &mut dyn Sink) -> Result<(), Failure> {
        let meta = state.open_table(META)?;
        let events = state.open_table(EVENTS)?;
        let missing = || self.state.corrupt("the cluster's id is missing");
        let cluster = meta.get("cluster")?.ok_or_else(missing)?;
        sink.header(v1::BackupHeader {
            cluster_id: wyneos_core::id::Uuid(cluster.value().try_into()?).to_string(),
            epoch: number(&meta, "epoch")?.unwrap_or(0),
            cycle,
            event_sequence: events.last()?.map_or(0, |(sequence, _)| sequence.value()),
            decisions: number(&meta, "decisions")?.unwrap_or(0),
            coordinator_version: wyneos::VERSION.to_owned(),
            ..v1::BackupHeader::default()
        })?;
        sink.files()?;
        for (kind, key) in [(BackupKind::Access, "access"), (BackupKind::Policy, "policy")] {
            if let Some(json) = meta.get(key)? {
                sink.record(kind, json.value())?;
            }
        }
        for entry in state.open_table(NODES)?.iter()? {
            sink.record(BackupKind::Node, entry?.1.value())?;
        }
        for entry in state.open_table(WORKLOADS)?.iter()? {
            sink.record(BackupKind::Workload, entry?.1.value())?;
        }
        for entry in state.open_table(ASSIGNMENTS)?.iter()? {
            sink.record(BackupKind::Assignment, entry?.1.value())?;
        }
        for entry in events.iter()? {
            sink.record(BackupKind::Event, entry?.1.value())?;
        }
        sink.audit()
    }
}

/// A store that is created from a backup, in a directory that has none.
pub(crate) struct Import {
    state: Grouped<Record>,
    history: File,
}

impl Import {
    /// Creates the store of the backup with this header in `directory`.
    pub(crate) fn new(directory: &Path, header: &v1::BackupHeader, restored: &Restored) -> Result<Import, StoreError> {
        let state = File::open(directory.join("state.redb"), Kind::State)?;
        let history = File::open(directory.join("history.redb"), Kind::History)?;
        state.write(|transaction| {
            let mut meta = transaction.open_table(META)?;
            let cluster: wyneos_core::id::Uuid = header.cluster_id.parse()?;
            meta.insert("format", FORMAT.to_le_bytes().as_slice())?;
            meta.insert("cluster", cluster.0.as_slice())?;
            meta.insert("epoch", restored.epoch.0.to_le_bytes().as_slice())?;
            meta.insert("decisions", header.decisions.to_le_bytes().as_slice())?;
            meta.insert("restored", serde_json::to_vec(restored)?.as_slice())?;
            Ok(())
        })?;
        Ok(Import {
            state: Grouped::new(state, GROUP, insert),
            history,
        })
    }

    /// Takes a record.
    pub(crate) fn take(&mut self, record: Record) -> Result<(), StoreError> {
        if let Record::Snapshot(entry, snapshot) = record {
            return self.history.write(|transaction| {
                let cycle = entry.seal.as_ref().map_or(0, |seal| seal.cycle);
                transaction
                    .open_table(SEALS)?
                    .insert(cycle, entry.encode_to_vec().as_slice())?;
                transaction.open_table(SNAPSHOTS)?.insert(cycle, snapshot.as_slice())?;
                Ok(())
            });
        }
        self.state.take(record)
    }

    /// Makes all of it durable.
    pub(crate) fn finish(self) -> Result<(), StoreError> {
        self.state.finish()
    }
}

fn insert(transaction: &redb::WriteTransaction, record: &Record) -> Result<(), Failure> {
    match record {
        Record::Access(access) => {
            let json = serde_json::to_vec(access)?;
            transaction.open_table(META)?.insert("access", json.as_slice())?;
        }
        Record::Policy(policy) => {
            let json = serde_json::to_vec(policy)?;
            transaction.open_table(META)?.insert("policy", json.as_slice())?;
        }
        Record::Node(node) => {
            let json = serde_json::to_vec(node)?;
            transaction.open_table(NODES)?.insert(node.id().0, json.as_slice())?;
        }
        Record::Workload(workload) => {
            let name = workload.spec().map_or("", |spec| spec.name.as_str());
            let json = serde_json::to_vec(workload)?;
            transaction.open_table(WORKLOADS)?.insert(name, json.as_slice())?;
        }
        Record::Assignment(assignment) => {
            let json = serde_json::to_vec(assignment)?;
            transaction
                .open_table(ASSIGNMENTS)?
                .insert(assignment.id.0, json.as_slice())?;
        }
        Record::Event(event) => {
            let json = serde_json::to_vec(event)?;
            transaction
                .open_table(EVENTS)?
                .insert(event.sequence.0, json.as_slice())?;
            if let Some(node) = event.node {
                transaction
                    .open_table(EVENTS_OF)?
                    .insert((node.0, event.sequence.0), ())?;
            }
            if !event.workload().is_empty() {
                let key = (event.workload(), event.sequence.0);
                transaction.open_table(EVENTS_OF_WORK)?.insert(key, ())?;
            }
        }
        // These records are stored elsewhere.
        Record::File(..) | Record::Audit(_) | Record::Snapshot(..) => {}
    }
    Ok(())
}

/// Time at which a backup was made.
pub(crate) fn taken(header: &v1::BackupHeader) -> WallTime {
    let time = header.time.as_ref().map(|time| convert::timestamp_in("time", time));
    time.and_then(Result::ok).unwrap_or_default()
}
