//! What is read of the embedded store beside its owner's writes.

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use redb::{AccessGuard, ReadableTable as _};
use wyneos::{convert, v1};
use wyneos_core::{event::Event, id::NodeId, integrity::Seal, time::WallTime};

use super::{
    History, SealEntry, SealedSnapshot, StoreError,
    embedded::{EVENTS, EVENTS_OF, EVENTS_OF_WORK, META, SEALS, SNAPSHOTS, number},
    file::{Failure, File},
};

fn entry_time(entry: &[u8]) -> Option<WallTime> {
    let entry = v1::SealedEntry::decode(entry).ok()?;
    convert::timestamp_in("time", &entry.time?).ok()
}

/// Reads beside the owner's writes.
pub(super) struct Reader {
    pub(super) state: File,
    pub(super) history: File,
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
            time: entry_time(bytes).ok_or_else(|| wrong("without a time".to_owned()))?,
            lived: Duration::from_millis(entry.lived_millis),
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
            let dropped = number(&transaction.open_table(META)?, "dropped")?.unwrap_or(0);
            let oldest = table.first()?.map_or(0, |(sequence, _)| sequence.value());
            Ok((events, if oldest == 0 { 0 } else { oldest.max(dropped + 1) }))
        })
    }

    fn events_of(&self, node: NodeId, before: u64, most: usize) -> Result<Vec<Event>, StoreError> {
        self.indexed(|index| Ok(index.range((node.0, 0)..(node.0, before))?.rev().take(most).collect()))
    }

    fn events_of_work(&self, workload: &str, before: u64, most: usize) -> Result<Vec<Event>, StoreError> {
        self.state.read(|transaction| {
            let table = transaction.open_table(EVENTS)?;
            let index = transaction.open_table(EVENTS_OF_WORK)?;
            let mut events = Vec::new();
            for entry in index.range((workload, 0)..(workload, before))?.rev().take(most) {
                let sequence = entry?.0.value().1;
                if let Some(json) = table.get(sequence)? {
                    events.push(self.state.parse(&format!("event {sequence}"), json.value())?);
                }
            }
            Ok(events)
        })
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
                lived: entry.lived,
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
