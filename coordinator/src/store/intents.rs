//! What the state remembers of the audit: which intents were carried out, and where the audit ended.

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

/// Intents that are remembered as carried out: twice as many as may be without an outcome at once.
const INTENTS_KEPT: u64 = 2 * crate::audit::OPEN as u64;

/// Which intents of the audit were carried out, as far as the store can tell.
#[derive(Debug, Default)]
pub(crate) struct CarriedOut {
    from: u64,
    intents: BTreeSet<u64>,
}

impl CarriedOut {
    /// Whether an intent was carried out; `None` for one of before what is remembered.
    pub(crate) fn tell(&self, intent: u64) -> Option<bool> {
        (intent >= self.from).then(|| self.intents.contains(&intent))
    }
}

impl Embedded {
    /// What is remembered of the audit; `None` when no start of a coordinator had one.
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

    /// Where the audit's end is kept: at a stop, which comes when somebody else has the store, too.
    pub(crate) fn audit_end(&self) -> AuditEnd {
        AuditEnd(self.state.clone())
    }

    /// Which intents were carried out, for an audit whose next entry gets the number `next`. What is remembered is forgotten where it
    /// cannot be about that audit: it was lost, or the store was put back.
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
            told = CarriedOut { from, intents };
            Ok(())
        })?;
        Ok(told)
    }
}

/// What the state remembers of the audit's end.
pub(crate) struct AuditEnd(File);

impl AuditEnd {
    /// Remembers number and chain of the audit's newest entry.
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

/// Notes which intents are carried out; forgets the oldest beyond [`INTENTS_KEPT`].
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
