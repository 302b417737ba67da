//! The embedded store: redb, with state and history in two files.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use prost::Message;
use redb::{ReadableTable, ReadableTableMetadata, TableDefinition};
use wyneos::{convert, v1};
use wyneos_core::{
    autonomy::Policy,
    event::Event,
    id::{ClusterId, Cycle, Epoch, EventNo},
    node::NodeRecord,
    store::{Batch, Durable, Entry, Restored},
    workload::AssignmentId,
};

use super::file::{Failure, File, Kind};
use super::intents::keep_intents;
use super::reader::Reader;
use super::{
    History, Retention, SealedSnapshot, Source, Store, StoreError,
    shares::{Shares, Size},
};

/// `"format"` (always 1), `"cluster"` (16 bytes), `"epoch"` and `"decisions"` (u64, little endian), `"access"` (JSON of
/// an `Access`), `"policy"` (JSON of a `Policy`), `"restored"` (JSON of a `Restored`), `"dropped"` (u64: the highest
/// number of an event that is no longer retained, though older ones may be), `"intents"` (u64: the first intent that
/// [`INTENTS`] may have), `"compared"` (u64: the first intent from which on it has every one that was carried out),
/// `"audit"` (u64 and 32 bytes: number and chain of the newest entry of the audit as of the last start or stop).
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// Node id → JSON of a `NodeRecord`.
pub(super) const NODES: TableDefinition<[u8; 16], &[u8]> = TableDefinition::new("nodes");
/// Workload's name → JSON of a `Workload`.
pub(super) const WORKLOADS: TableDefinition<&str, &[u8]> = TableDefinition::new("workloads");
/// Instance's id → JSON of an `Assignment`.
pub(super) const ASSIGNMENTS: TableDefinition<u64, &[u8]> = TableDefinition::new("assignments");
/// (Workload's name, event number) → nothing: the events about a workload.
pub(super) const EVENTS_OF_WORK: TableDefinition<(&str, u64), ()> = TableDefinition::new("events_of_work");
/// Event number → JSON of an `Event`.
pub(super) const EVENTS: TableDefinition<u64, &[u8]> = TableDefinition::new("events");
/// (Node id, event number) → nothing: the events about a node.
pub(super) const EVENTS_OF: TableDefinition<([u8; 16], u64), ()> = TableDefinition::new("events_of");
/// (Subject, event number) → nothing: the subject that each event counts for ([`Event::subject`]).
pub(super) const EVENTS_BY: TableDefinition<(&str, u64), ()> = TableDefinition::new("events_by");
/// Cycle → `wyneos.v1.SealedEntry`.
pub(super) const SEALS: TableDefinition<u64, &[u8]> = TableDefinition::new("seals");
/// Cycle → canonical bytes.
pub(super) const SNAPSHOTS: TableDefinition<u64, &[u8]> = TableDefinition::new("snapshots");

/// Number of an intent of the audit → nothing: intents that were carried out, with the changes of the same transaction.
pub(super) const INTENTS: TableDefinition<u64, ()> = TableDefinition::new("intents");

/// Version of the layout above.
pub(super) const FORMAT: u64 = 1;

/// Maximum number of events or snapshots beyond the retention that one transaction drops, so that none takes long.
const DROPPED_AT_ONCE: u64 = 1_000;

/// The embedded store.
pub(crate) struct Embedded {
    pub(super) state: File,
    history: File,
    retention: Retention,
    /// The value as of the last commit.
    shares: Shares,
}

impl Embedded {
    /// Opens the store in `directory`, which exists.
    pub(crate) fn open(directory: &Path, retention: Retention) -> Result<Embedded, StoreError> {
        let state = File::open(directory.join("state.redb"), Kind::State)?;
        let history = File::open(directory.join("history.redb"), Kind::History)?;
        // Readers may arrive before the state is loaded.
        history.write(|transaction| {
            transaction.open_table(SEALS)?;
            transaction.open_table(SNAPSHOTS)?;
            Ok(())
        })?;
        Ok(Embedded {
            state,
            history,
            retention,
            shares: Shares::default(),
        })
    }

    /// The source of backups.
    pub(crate) fn source(&self) -> Source {
        Source {
            state: self.state.clone(),
            history: self.history.clone(),
        }
    }

    /// Verifies the layout's version and begins a new epoch, above the one in which the newest snapshot was `sealed`.
    fn begin_epoch(&self, fresh: ClusterId, sealed: Epoch) -> Result<(), StoreError> {
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
            let epoch = Epoch(number(&meta, "epoch")?.unwrap_or(0)).next();
            if epoch <= sealed {
                let reason = format!(
                    "its next epoch is {epoch}, but history.redb has snapshots of epoch {sealed}: it was lost or put back"
                );
                return Err(self.state.corrupt(reason).into());
            }
            meta.insert("epoch", epoch.0.to_le_bytes().as_slice())?;
            transaction.open_table(NODES)?;
            transaction.open_table(EVENTS)?;
            transaction.open_table(EVENTS_OF)?;
            transaction.open_table(WORKLOADS)?;
            transaction.open_table(ASSIGNMENTS)?;
            transaction.open_table(EVENTS_OF_WORK)?;
            transaction.open_table(EVENTS_BY)?;
            Ok(())
        })
    }

    /// Counts the events by subject. For a store from an earlier version or a backup, the subjects are recorded first.
    fn count_events(&mut self) -> Result<(), StoreError> {
        let state = &self.state;
        state.write(|transaction| {
            let events = transaction.open_table(EVENTS)?;
            let mut events_by = transaction.open_table(EVENTS_BY)?;
            if events.len()? == events_by.len()? {
                return Ok(());
            }
            let mut meta = transaction.open_table(META)?;
            let restored: Option<Restored> = match meta.get("restored")? {
                Some(json) => Some(state.parse("restored", json.value())?),
                None => None,
            };
            let (mut before, mut dropped) = (None, 0);
            for entry in events.iter()? {
                let (sequence, json) = entry?;
                let sequence = sequence.value();
                let event: Event = state.parse(&format!("event {sequence}"), json.value())?;
                events_by.insert((event.subject().as_str(), sequence), ())?;
                // Numbers that a restore skipped were never assigned.
                let passed_over = restored.is_some_and(|restored| restored.event.0 + 1 == sequence);
                if before.is_some_and(|before| before + 1 != sequence) && !passed_over {
                    dropped = sequence - 1;
                }
                before = Some(sequence);
            }
            meta.insert("dropped", dropped.to_le_bytes().as_slice())?;
            Ok(())
        })?;
        self.shares = state.read(|transaction| {
            let mut shares = Shares::default();
            let events = transaction.open_table(EVENTS)?;
            for entry in transaction.open_table(EVENTS_BY)?.iter()? {
                let key = entry?.0;
                let (subject, sequence) = key.value();
                let bytes = events.get(sequence)?.map_or(0, |json| json.value().len());
                shares.add(subject, sequence, bytes as u64);
            }
            Ok(shares)
        })?;
        Ok(())
    }

    /// Drops snapshots beyond the retention. Age is measured in running time of coordinators: changing a clock drops
    /// nothing.
    fn drop_old_snapshots(&self, transaction: &redb::WriteTransaction, lived: Duration) -> Result<(), Failure> {
        let mut seals = transaction.open_table(SEALS)?;
        let mut snapshots = transaction.open_table(SNAPSHOTS)?;
        for _ in 0..DROPPED_AT_ONCE {
            let Some((cycle, since)) = seals
                .first()?
                .map(|(cycle, entry)| (cycle.value(), entry_lived(entry.value())))
            else {
                break;
            };
            let many = seals.len()? > self.retention.snapshots;
            let old = since.is_some_and(|since| lived.saturating_sub(since) > self.retention.snapshot_age);
            // The newest is always retained, since the chain continues from it.
            if seals.len()? <= 1 || !(many || old) {
                break;
            }
            seals.remove(cycle)?;
            snapshots.remove(cycle)?;
        }
        Ok(())
    }
}

/// Drops events beyond the retention: the oldest of the subject that has most. Returns the highest number that was
/// dropped.
fn drop_events(transaction: &redb::WriteTransaction, shares: &mut Shares, keep: Size) -> Result<Option<u64>, Failure> {
    let mut events = transaction.open_table(EVENTS)?;
    let mut events_of = transaction.open_table(EVENTS_OF)?;
    let mut events_of_work = transaction.open_table(EVENTS_OF_WORK)?;
    let mut events_by = transaction.open_table(EVENTS_BY)?;
    let mut dropped = None;
    for _ in 0..DROPPED_AT_ONCE {
        let Some((subject, sequence)) = shares.beyond(keep) else {
            break;
        };
        events_by.remove((subject.as_str(), sequence))?;
        let rest = events_by
            .range((subject.as_str(), sequence)..=(subject.as_str(), u64::MAX))?
            .next();
        let next = rest.transpose()?.map(|(key, _)| key.value().1);
        dropped = dropped.max(Some(sequence));
        let json = events.remove(sequence)?;
        let bytes = json.as_ref().map_or(0, |json| json.value().len());
        shares.remove_oldest(&subject, bytes as u64, next);
        let Some(json) = json else { continue };
        let event: Event = serde_json::from_slice(json.value())?;
        if let Some(node) = event.node {
            events_of.remove((node.0, sequence))?;
        }
        if !event.workload().is_empty() {
            events_of_work.remove((event.workload(), sequence))?;
        }
    }
    Ok(dropped)
}

fn entry_lived(entry: &[u8]) -> Option<Duration> {
    let entry = v1::SealedEntry::decode(entry).ok()?;
    Some(Duration::from_millis(entry.lived_millis))
}

pub(super) fn number(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<Option<u64>, Failure> {
    match table.get(key)? {
        Some(value) => Ok(Some(u64::from_le_bytes(value.value().try_into()?))),
        None => Ok(None),
    }
}

impl Store for Embedded {
    fn load(&mut self, fresh: ClusterId) -> Result<Durable, StoreError> {
        let newest = self.history().seals(u64::MAX, 1)?.pop();
        let lived = newest.as_ref().map_or(Duration::ZERO, |entry| entry.lived);
        let last_snapshot = newest.map_or((Epoch(0), Cycle(0), [0; 32]), |entry| {
            (entry.seal.epoch, entry.seal.cycle, entry.seal.chain)
        });
        self.begin_epoch(fresh, last_snapshot.0)?;
        self.count_events()?;
        let loaded = self.state.read(|transaction| {
            let meta = transaction.open_table(META)?;
            let cluster = meta
                .get("cluster")?
                .map(|value| <[u8; 16]>::try_from(value.value()))
                .transpose()?;
            let cluster = cluster.ok_or_else(|| self.state.corrupt("the cluster's id is missing"))?;
            let mut nodes = BTreeMap::new();
            for entry in transaction.open_table(NODES)?.iter()? {
                let (id, json) = entry?;
                let what = format!("node {}", wyneos_core::id::Uuid(id.value()));
                let record: NodeRecord = self.state.parse(&what, json.value())?;
                nodes.insert(record.id(), Arc::new(record));
            }
            let mut workloads = BTreeMap::new();
            for entry in transaction.open_table(WORKLOADS)?.iter()? {
                let (name, json) = entry?;
                let what = format!("workload {}", name.value());
                workloads.insert(name.value().into(), Arc::new(self.state.parse(&what, json.value())?));
            }
            let mut assignments = BTreeMap::new();
            for entry in transaction.open_table(ASSIGNMENTS)?.iter()? {
                let (id, json) = entry?;
                let what = format!("assignment {:016x}", id.value());
                assignments.insert(
                    AssignmentId(id.value()),
                    Arc::new(self.state.parse(&what, json.value())?),
                );
            }
            let access = match meta.get("access")? {
                Some(json) => Arc::new(self.state.parse("access", json.value())?),
                None => Arc::default(),
            };
            let policy = match meta.get("policy")? {
                Some(json) => self.state.parse("policy", json.value())?,
                None => Policy::default(),
            };
            let restored: Option<Restored> = match meta.get("restored")? {
                Some(json) => Some(self.state.parse("restored", json.value())?),
                None => None,
            };
            let newest = transaction
                .open_table(EVENTS)?
                .last()?
                .map_or(0, |(sequence, _)| sequence.value());
            Ok(Some(Durable {
                cluster: wyneos_core::id::Uuid(cluster),
                epoch: Epoch(number(&meta, "epoch")?.unwrap_or(1)),
                nodes,
                access,
                workloads,
                assignments,
                policy,
                last_event: restored.map_or(EventNo(newest), |restored| restored.event.max(EventNo(newest))),
                decisions: number(&meta, "decisions")?.unwrap_or(0),
                last_snapshot,
                restored,
                lived,
            }))
        })?;
        loaded.ok_or_else(|| self.state.corrupt("its tables are missing"))
    }

    fn commit(&mut self, epoch: Epoch, batches: &[Batch]) -> Result<(), StoreError> {
        if batches.iter().all(Batch::is_empty) {
            return Ok(());
        }
        let shares = &mut self.shares;
        let keep = Size {
            events: self.retention.events,
            bytes: self.retention.event_bytes,
        };
        self.state.write(|transaction| {
            let mut meta = transaction.open_table(META)?;
            let theirs = Epoch(number(&meta, "epoch")?.unwrap_or(0));
            if theirs != epoch {
                return Err(StoreError::Fenced { ours: epoch, theirs }.into());
            }
            {
                let mut nodes = transaction.open_table(NODES)?;
                let mut events = transaction.open_table(EVENTS)?;
                let mut events_of = transaction.open_table(EVENTS_OF)?;
                let mut events_of_work = transaction.open_table(EVENTS_OF_WORK)?;
                let mut events_by = transaction.open_table(EVENTS_BY)?;
                let mut workloads = transaction.open_table(WORKLOADS)?;
                let mut assignments = transaction.open_table(ASSIGNMENTS)?;
                for change in batches.iter().flat_map(Batch::changes) {
                    match change {
                        Entry::Forgotten(id) => drop(nodes.remove(id.0)?),
                        Entry::Node(node) => {
                            nodes.insert(node.id().0, serde_json::to_vec(&**node)?.as_slice())?;
                        }
                        Entry::Workload(name, Some(record)) => {
                            workloads.insert(&**name, serde_json::to_vec(&**record)?.as_slice())?;
                        }
                        Entry::Workload(name, None) => drop(workloads.remove(&**name)?),
                        Entry::Assignment(id, Some(record)) => {
                            assignments.insert(id.0, serde_json::to_vec(&**record)?.as_slice())?;
                        }
                        Entry::Assignment(id, None) => drop(assignments.remove(id.0)?),
                        Entry::Event(event) => {
                            let json = serde_json::to_vec(&**event)?;
                            events.insert(event.sequence.0, json.as_slice())?;
                            if let Some(node) = event.node {
                                events_of.insert((node.0, event.sequence.0), ())?;
                            }
                            if !event.workload().is_empty() {
                                events_of_work.insert((event.workload(), event.sequence.0), ())?;
                            }
                            let subject = event.subject();
                            events_by.insert((subject.as_str(), event.sequence.0), ())?;
                            shares.add(&subject, event.sequence.0, json.len() as u64);
                        }
                        Entry::Access(access) => {
                            meta.insert("access", serde_json::to_vec(&**access)?.as_slice())?;
                        }
                        Entry::Policy(policy) => {
                            meta.insert("policy", serde_json::to_vec(&policy)?.as_slice())?;
                        }
                        Entry::Decisions(decisions) => {
                            meta.insert("decisions", decisions.to_le_bytes().as_slice())?;
                        }
                        Entry::Restored(restored) => {
                            meta.insert("restored", serde_json::to_vec(&restored)?.as_slice())?;
                        }
                        // All of them together, below.
                        Entry::Intent(_) => {}
                    }
                }
            }
            keep_intents(transaction, batches)?;
            if let Some(dropped) = drop_events(transaction, shares, keep)? {
                let before = number(&meta, "dropped")?.unwrap_or(0);
                meta.insert("dropped", dropped.max(before).to_le_bytes().as_slice())?;
            }
            Ok(())
        })
    }

    fn keep_snapshot(&mut self, snapshot: &SealedSnapshot) -> Result<(), StoreError> {
        let entry = v1::SealedEntry {
            seal: Some((&*snapshot.seal).into()),
            time: Some(convert::timestamp(snapshot.time)),
            size_bytes: snapshot.bytes.len() as u64,
            lived_millis: u64::try_from(snapshot.lived.as_millis()).unwrap_or(u64::MAX),
        };
        self.history.write(|transaction| {
            transaction
                .open_table(SEALS)?
                .insert(snapshot.seal.cycle.0, entry.encode_to_vec().as_slice())?;
            transaction
                .open_table(SNAPSHOTS)?
                .insert(snapshot.seal.cycle.0, &*snapshot.bytes)?;
            self.drop_old_snapshots(transaction, snapshot.lived)
        })
    }

    fn history(&self) -> Arc<dyn History> {
        Arc::new(Reader {
            state: self.state.clone(),
            history: self.history.clone(),
        })
    }
}
