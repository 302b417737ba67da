//! Reads of the embedded store beside its owner's writes.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use prost::Message as _;
use redb::ReadableTable as _;
use wyneos::{convert, v1};
use wyneos_core::{id::Cycle, integrity::Seal, time::WallTime};

use super::{
    Along, History, KeptEvent, Of, SealEntry, SealedSnapshot, StoreError, Visitor,
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

/// The items of a range, the last one first if `backwards`.
fn ordered<'a, T: 'a>(
    range: impl DoubleEndedIterator<Item = T> + 'a,
    backwards: bool,
) -> Box<dyn Iterator<Item = T> + 'a> {
    match backwards {
        true => Box::new(range.rev()),
        false => Box::new(range),
    }
}

impl Reader {
    /// Passes the events with these numbers to `visitor`.
    fn hand_out(
        &self,
        events: &redb::ReadOnlyTable<u64, &[u8]>,
        sequences: impl Iterator<Item = Result<u64, redb::StorageError>>,
        visitor: &mut Visitor<'_>,
    ) -> Result<(), Failure> {
        for sequence in sequences {
            let sequence = sequence?;
            let Some(json) = events.get(sequence)? else { continue };
            let json = json.value();
            if self.takes(KeptEvent { sequence, json }, visitor)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn takes(&self, kept: KeptEvent<'_>, visitor: &mut Visitor<'_>) -> Result<ControlFlow<()>, StoreError> {
        visitor(kept).map_err(|error| self.state.corrupt(format!("event {}: {error}", kept.sequence)))
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
    fn visit(&self, of: Of<'_>, along: Along, visitor: &mut Visitor<'_>) -> Result<u64, StoreError> {
        let (numbers, backwards) = along.range();
        self.state.read(|transaction| {
            let events = transaction.open_table(EVENTS)?;
            match of {
                Of::All => {
                    for entry in ordered(events.range(numbers)?, backwards) {
                        let (sequence, json) = entry?;
                        let (sequence, json) = (sequence.value(), json.value());
                        if self.takes(KeptEvent { sequence, json }, visitor)?.is_break() {
                            break;
                        }
                    }
                }
                Of::Node(node) => {
                    let index = transaction.open_table(EVENTS_OF)?;
                    let range = ordered(index.range((node.0, numbers.start)..(node.0, numbers.end))?, backwards);
                    self.hand_out(&events, range.map(|entry| Ok(entry?.0.value().1)), visitor)?;
                }
                Of::Work(workload) => {
                    let index = transaction.open_table(EVENTS_OF_WORK)?;
                    let range = ordered(
                        index.range((workload, numbers.start)..(workload, numbers.end))?,
                        backwards,
                    );
                    self.hand_out(&events, range.map(|entry| Ok(entry?.0.value().1)), visitor)?;
                }
            }
            let dropped = number(&transaction.open_table(META)?, "dropped")?.unwrap_or(0);
            let oldest = events.first()?.map_or(0, |(sequence, _)| sequence.value());
            Ok(if oldest == 0 { 0 } else { oldest.max(dropped + 1) })
        })
    }

    fn snapshot(&self, cycle: u64) -> Result<Option<SealedSnapshot>, StoreError> {
        Ok(self
            .snapshot_from(cycle)?
            .filter(|snapshot| snapshot.seal.cycle == Cycle(cycle)))
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
