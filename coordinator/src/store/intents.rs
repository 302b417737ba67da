//! The state's record of the audit: intents that were carried out, and the end of the audit.

use std::collections::BTreeSet;

use redb::{ReadableTable, ReadableTableMetadata};
use wyneos_core::{integrity::Digest, store::Batch};

use super::{
    Embedded, StoreError,
    embedded::{INTENTS, META, number},
    file::{Failure, File},
};
use crate::audit::Known;

/// Keys of [`META`].
const FIRST: &str = "intents";
const AUDIT: &str = "audit";
const COMPARED: &str = "compared";

/// Number of intents that are remembered as carried out: twice the maximum number without an outcome.
const INTENTS_KEPT: u64 = 2 * crate::audit::OPEN as u64;

/// The intents of the audit that were carried out, as far as the store can determine.
#[derive(Debug, Default)]
pub(crate) struct CarriedOut {
    from: u64,
    intents: BTreeSet<u64>,
    /// The intent above which the state has all that were carried out, or has none.
    newest: u64,
    /// Whether the state was put back: intents above `newest` are unknown.
    is_set_back: bool,
}

impl CarriedOut {
    /// Returns whether an intent was carried out; `None` for one from before the record.
    pub(crate) fn tell(&self, intent: u64) -> Option<bool> {
        let is_told = intent >= self.from && !(self.is_set_back && intent > self.newest);
        is_told.then(|| self.intents.contains(&intent))
    }

    /// The newest intent that the state contains, as far as it can be compared with the audit.
    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }

    /// Records that the state was put back to before later intents.
    pub(crate) fn set_back(&mut self) {
        self.is_set_back = true;
    }
}

impl Embedded {
    /// The record of the audit; `None` if no start of a coordinator had one.
    pub(crate) fn known_audit(&self) -> Result<Option<Known>, StoreError> {
        self.state.read(|transaction| {
            let meta = transaction.open_table(META)?;
            let entry = match meta.get(AUDIT)? {
                Some(bytes) => Some(entry(bytes.value())?),
                None => None,
            };
            if entry.is_none() && number(&meta, FIRST)?.is_none() {
                return Ok(None);
            }
            let intents = transaction.open_table(INTENTS)?;
            let newest = intents.last()?.map_or(0, |(intent, _)| intent.value());
            let entry = entry.unwrap_or_default();
            Ok(Some(Known {
                newest: newest.max(entry.0),
                entry,
            }))
        })
    }

    /// The record of the audit's end, which is written at a stop, when the store has another owner.
    pub(crate) fn audit_end(&self) -> AuditEnd {
        AuditEnd(self.state.clone())
    }

    /// Records that the state was put back, and that the audit reports it: the comparison begins at the intent `next`.
    pub(crate) fn keep_set_back(&self, next: u64) -> Result<(), StoreError> {
        self.state.write(|transaction| {
            let mut meta = transaction.open_table(META)?;
            meta.insert(COMPARED, next.to_le_bytes().as_slice())?;
            Ok(())
        })
    }

    /// The intents that were carried out, for an audit whose next entry has the number `next`. Records that cannot
    /// belong to that audit are dropped: it was lost, or the store was put back.
    pub(crate) fn carried_out(&self, next: u64) -> Result<CarriedOut, StoreError> {
        let mut told = CarriedOut::default();
        self.state.write(|transaction| {
            let mut meta = transaction.open_table(META)?;
            let mut table = transaction.open_table(INTENTS)?;
            let newest = table.last()?.map_or(0, |(intent, _)| intent.value());
            let mut from = number(&meta, FIRST)?.unwrap_or(u64::MAX);
            if from > next || newest >= next {
                table.retain(|_, ()| false)?;
                from = next;
                meta.insert(FIRST, from.to_le_bytes().as_slice())?;
            }
            if table.len()? >= INTENTS_KEPT {
                from = from.max(table.first()?.map_or(0, |(intent, _)| intent.value()));
            }
            let mut intents = BTreeSet::new();
            for entry in table.iter()? {
                intents.insert(entry?.0.value());
            }
            // A comparison is not possible with versions that did not record intents of calls without changes.
            let compared = match number(&meta, COMPARED)? {
                Some(compared) => compared.min(next),
                None => {
                    meta.insert(COMPARED, next.to_le_bytes().as_slice())?;
                    next
                }
            };
            let newest = intents.last().copied().unwrap_or(0);
            told = CarriedOut {
                newest: newest.max(from.max(compared).saturating_sub(1)),
                from,
                intents,
                is_set_back: false,
            };
            Ok(())
        })?;
        Ok(told)
    }
}

/// The state's record of the audit's end.
pub(crate) struct AuditEnd(File);

impl AuditEnd {
    /// Records number and chain of the audit's newest entry.
    pub(crate) fn keep(&self, (number, chain): (u64, Digest)) -> Result<(), StoreError> {
        let bytes = [&number.to_le_bytes()[..], &chain].concat();
        self.0.write(|transaction| {
            transaction.open_table(META)?.insert(AUDIT, bytes.as_slice())?;
            Ok(())
        })
    }
}

fn entry(bytes: &[u8]) -> Result<(u64, Digest), Failure> {
    let (number, chain) = bytes.split_at_checked(8).ok_or("the audit's mark is too short")?;
    Ok((u64::from_le_bytes(number.try_into()?), chain.try_into()?))
}

/// Records the intents that are carried out; drops the oldest beyond [`INTENTS_KEPT`].
pub(super) fn keep_intents(transaction: &redb::WriteTransaction, batches: &[Batch]) -> Result<(), Failure> {
    let mut intents = batches.iter().flat_map(|batch| &batch.intents).peekable();
    if intents.peek().is_none() {
        return Ok(());
    }
    let mut table = transaction.open_table(INTENTS)?;
    for intent in intents {
        table.insert(*intent, ())?;
    }
    for _ in INTENTS_KEPT..table.len()? {
        table.pop_first()?;
    }
    Ok(())
}
