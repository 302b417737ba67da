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
const COMPARED: &str = "compared";

/// Intents that are remembered as carried out: twice as many as may be without an outcome at once.
const INTENTS_KEPT: u64 = 2 * crate::audit::OPEN as u64;

/// Which intents of the audit were carried out, as far as the store can tell.
#[derive(Debug, Default)]
pub(crate) struct CarriedOut {
    from: u64,
    intents: BTreeSet<u64>,
    /// The intent above which the state has all that were carried out, or has none.
    newest: u64,
    /// The state was put back: of intents above `newest` it tells nothing.
    is_set_back: bool,
}

impl CarriedOut {
    /// Whether an intent was carried out; `None` for one of before what is remembered.
    pub(crate) fn tell(&self, intent: u64) -> Option<bool> {
        let is_told = intent >= self.from && !(self.is_set_back && intent > self.newest);
        is_told.then(|| self.intents.contains(&intent))
    }

    /// The newest intent that the state has, as far as it can be compared with the audit.
    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }

    /// Takes in that the state was put back to before later intents.
    pub(crate) fn set_back(&mut self) {
        self.is_set_back = true;
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

    /// Notes that the state was put back, and that the audit tells so: it is compared from the intent `next` on.
    pub(crate) fn keep_set_back(&self, next: u64) -> Result<(), StoreError> {
        self.state.write(|transaction| {
            let mut meta = transaction.open_table(META)?;
            meta.insert(COMPARED, next.to_le_bytes().as_slice())?;
            Ok(())
        })
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
            // Versions that kept no intents of calls which changed nothing cannot be compared with.
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
