//! The audit's file: chained, signed and durable entries, and the intents among them without an outcome.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, TryLockError},
};

use prost::Message as _;
use redb::{ReadableTable as _, ReadableTableMetadata as _, TableDefinition};
use wyneos::{audit, convert, v1};
use wyneos_core::{
    id::ClusterId,
    integrity::{Digest, ZERO_DIGEST},
};

use super::loss::{Known, Loss};
use crate::store::{Failure, File, Grouped, Kind, StoreError};

/// The audit's file in the `data_dir`.
pub(super) const FILE: &str = "audit.redb";

/// Number → `wyneos.v1.AuditEntry`.
const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");

/// `"open"`: every intent below this number has an outcome.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// Maximum number of entries beyond the retention that one transaction drops.
const DROPPED_AT_ONCE: u64 = 1_000;

/// The file, for its writer and its readers.
#[derive(Clone)]
pub(super) struct Shared {
    path: Arc<PathBuf>,
    /// `None` while it cannot be opened again.
    file: Arc<RwLock<Option<File>>>,
}

impl Shared {
    /// Opens the audit in `data_dir`. If `is_known`, it had entries before, and an empty file is an error.
    pub(super) fn open(data_dir: &Path, is_known: bool) -> Result<Shared, StoreError> {
        let path = data_dir.join(FILE);
        if is_known && fs::metadata(&path).is_ok_and(|file| file.is_file() && file.len() == 0) {
            let reason = "it is empty, and had entries before (to continue without them, remove it: the audit begins again, and records that they are \
                          missing)";
            return Err(StoreError::Corrupt {
                path,
                reason: reason.to_owned(),
            });
        }
        let file = File::open(path.clone(), Kind::Audit)?;
        file.write(|transaction| {
            transaction.open_table(ENTRIES)?;
            transaction.open_table(META)?;
            Ok(())
        })?;
        Ok(Shared {
            path: Arc::new(path),
            file: Arc::new(RwLock::new(Some(file))),
        })
    }

    #[cfg(test)]
    pub(super) fn of(file: File) -> Shared {
        Shared {
            path: Arc::new(file.path.clone()),
            file: Arc::new(RwLock::new(Some(file))),
        }
    }

    fn with<T>(&self, run: impl FnOnce(&File) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let file = self.file.read().unwrap_or_else(PoisonError::into_inner);
        match &*file {
            Some(file) => run(file),
            None => Err(StoreError::Io {
                path: (*self.path).clone(),
                what: "reopen it after a failure",
                source: "the log has the reason".into(),
            }),
        }
    }

    /// Closes the file.
    pub(super) fn close(&self) {
        let file = self.file.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(file) = file {
            file.close();
        }
    }

    /// Reopens the file: after a failed write redb neither reads nor writes. False while a reader holds it.
    fn reopen(&self) -> Result<bool, StoreError> {
        let mut file = match self.file.try_write() {
            Ok(file) => file,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(false),
        };
        if let Some(file) = file.take() {
            file.close();
        }
        *file = Some(File::open((*self.path).clone(), Kind::Audit)?);
        Ok(true)
    }

    /// Reads at most `most` entries from number `from` on, oldest first.
    pub(super) fn read(&self, from: u64, most: usize) -> Result<Vec<v1::AuditEntry>, StoreError> {
        self.with(|file| {
            file.read(|transaction| {
                let table = transaction.open_table(ENTRIES)?;
                let mut entries = Vec::new();
                for entry in table.range(from..)?.take(most) {
                    entries.push(v1::AuditEntry::decode(entry?.1.value())?);
                }
                Ok(entries)
            })
        })
    }

    /// Reads at most `most` of the newest entries, newest first.
    pub(super) fn newest(&self, most: usize) -> Result<Vec<v1::AuditEntry>, StoreError> {
        self.with(|file| {
            file.read(|transaction| {
                let table = transaction.open_table(ENTRIES)?;
                let mut entries = Vec::new();
                for entry in table.iter()?.rev().take(most) {
                    entries.push(v1::AuditEntry::decode(entry?.1.value())?);
                }
                Ok(entries)
            })
        })
    }

    /// Passes every entry to `each`, oldest first, as of one moment.
    pub(super) fn copy(&self, mut each: impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), StoreError> {
        self.with(|file| {
            file.read(|transaction| {
                for entry in transaction.open_table(ENTRIES)?.iter()? {
                    each(entry?.1.value())?;
                }
                Ok(())
            })
        })
    }
}

pub(super) fn sequence(entry: &v1::AuditEntry) -> u64 {
    entry.record.as_ref().map_or(0, |record| record.sequence)
}

fn insert(transaction: &redb::WriteTransaction, entry: &v1::AuditEntry) -> Result<(), Failure> {
    let mut table = transaction.open_table(ENTRIES)?;
    table.insert(sequence(entry), entry.encode_to_vec().as_slice())?;
    Ok(())
}

/// The end of the chain, to which its single writer appends.
pub(super) struct Log {
    shared: Shared,
    cluster: ClusterId,
    signer: audit::Signer,
    next: u64,
    previous: Digest,
    keep: u64,
    /// Intents without an outcome.
    open: BTreeSet<u64>,
}

impl Log {
    /// Opens the log of `cluster`; returns it with the intents without an outcome, whose calls a crash cut off.
    pub(super) fn new(
        shared: Shared,
        cluster: ClusterId,
        secret: &[u8; 32],
        keep: u64,
    ) -> Result<(Log, Vec<v1::AuditRecord>), StoreError> {
        let mut log = Log {
            shared,
            cluster,
            signer: audit::Signer::new(secret),
            next: 1,
            previous: ZERO_DIGEST,
            keep,
            open: BTreeSet::new(),
        };
        log.find_end()?;
        let from = log.shared.with(|file| {
            file.read(|transaction| Ok(transaction.open_table(META)?.get("open")?.map(|from| from.value())))
        })?;
        // A file of a version without intents has none.
        let mut unfinished = Vec::new();
        let mut intents = audit::Intents::default();
        if let Some(from) = from {
            log.shared.with(|file| {
                file.read(|transaction| {
                    for entry in transaction.open_table(ENTRIES)?.range(from..)? {
                        let record = v1::AuditEntry::decode(entry?.1.value())?.record.unwrap_or_default();
                        intents.take(&record);
                        if record.kind() == v1::AuditKind::Intent {
                            unfinished.push(record);
                        }
                    }
                    Ok(())
                })
            })?;
        }
        unfinished.retain(|record| intents.open.contains(&record.sequence));
        log.open = intents.open;
        Ok((log, unfinished))
    }

    /// Number of the next entry.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Number and chain of the newest entry; 0 and zeros if there is none.
    pub(super) fn end(&self) -> (u64, Digest) {
        (self.next - 1, self.previous)
    }

    /// Raises the number of the next entry to `number`, unless it is higher already.
    pub(super) fn pass_over_to(&mut self, number: u64) {
        self.next = self.next.max(number);
    }

    /// The loss in this audit, by comparison with the store's record.
    pub(super) fn loss(&self, known: &Known) -> Result<Option<Loss>, StoreError> {
        let Some(newest) = self.shared.newest(1)?.pop() else {
            return Ok((known.newest > 0).then_some(Loss::Gone));
        };
        let key = self.signer.public_key();
        if audit::Verifier::new(self.cluster, key).next(&newest).is_err() {
            return Ok(Some(match self.entry_known(known)? {
                Some(true) => Loss::WrongKey,
                _ => Loss::Foreign,
            }));
        }
        if self.next <= known.newest {
            return Ok(Some(Loss::CutBack(self.next)));
        }
        let is_other = self.entry_known(known)? == Some(false);
        Ok(is_other.then_some(Loss::Replaced(known.entry.0)))
    }

    /// Returns whether the entry that the store remembers is the one with that number; `None` if there is no such
    /// entry.
    fn entry_known(&self, known: &Known) -> Result<Option<bool>, StoreError> {
        let (number, chain) = known.entry;
        let there = self.shared.read(number, 1)?.pop();
        let there = there.filter(|entry| number > 0 && sequence(entry) == number);
        Ok(there.map(|entry| entry.chain == chain))
    }

    /// The newest intent above `after` that was carried out, among calls that change the state; `None` if there is
    /// none.
    pub(super) fn newest_done(
        &self,
        after: u64,
        is_kept: impl Fn(&v1::AuditRecord) -> bool,
    ) -> Result<Option<u64>, StoreError> {
        self.shared.with(|file| {
            file.read(|transaction| {
                let mut newest = None;
                for entry in transaction.open_table(ENTRIES)?.range(after.saturating_add(1)..)? {
                    let record = v1::AuditEntry::decode(entry?.1.value())?.record.unwrap_or_default();
                    let is_outcome = matches!(record.kind(), v1::AuditKind::Outcome | v1::AuditKind::Reconciled);
                    if is_outcome && record.code == audit::APPLIED && record.intent > after && is_kept(&record) {
                        newest = newest.max(Some(record.intent));
                    }
                }
                Ok(newest)
            })
        })
    }

    /// Sources of the newest `most` entries; `None` while they cannot be read.
    pub(super) fn newest_sources(&self, most: usize) -> Option<HashSet<String>> {
        let entries = self.shared.newest(most).ok()?;
        Some(
            entries
                .into_iter()
                .filter_map(|entry| Some(entry.record?.source))
                .collect(),
        )
    }

    fn find_end(&mut self) -> Result<(), StoreError> {
        if let Some(newest) = self.shared.newest(1)?.pop() {
            let chain = newest.chain.as_slice().try_into();
            let corrupt = |_| StoreError::Corrupt {
                path: (*self.shared.path).clone(),
                reason: "an entry has no chain".to_owned(),
            };
            (self.next, self.previous) = (sequence(&newest).saturating_add(1), chain.map_err(corrupt)?);
        }
        Ok(())
    }

    /// Appends all records, or none; returns the entries once they are durable.
    pub(super) fn append(&mut self, records: Vec<v1::AuditRecord>) -> Result<Vec<Arc<v1::AuditEntry>>, StoreError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let (mut next, mut previous, mut open) = (self.next, self.previous, self.open.clone());
        let mut entries = Vec::with_capacity(records.len());
        for mut record in records {
            record.sequence = next;
            next += 1;
            if record.kind() == v1::AuditKind::Intent {
                open.insert(record.sequence);
            } else {
                open.remove(&record.intent);
            }
            let entry = self.signer.seal(self.cluster, previous, record);
            previous = entry.1;
            entries.push(Arc::new(entry.0));
        }
        let from = open.first().copied().unwrap_or(next);
        let mut oldest = 0;
        self.shared.with(|file| {
            file.write(|transaction| {
                entries.iter().try_for_each(|entry| insert(transaction, entry))?;
                let mut table = transaction.open_table(ENTRIES)?;
                let surplus = table.len()?.saturating_sub(self.keep).min(DROPPED_AT_ONCE);
                for _ in 0..surplus {
                    table.pop_first()?;
                }
                oldest = table.first()?.map_or(0, |(number, _)| number.value());
                transaction.open_table(META)?.insert("open", from.max(oldest))?;
                Ok(())
            })
        })?;
        // Entries beyond the retention need no longer be tracked.
        open.retain(|intent| *intent >= oldest);
        (self.next, self.previous, self.open) = (next, previous, open);
        Ok(entries)
    }

    /// Reopens the file after a failed append, whose entries may all be durable nevertheless; returns those entries.
    /// `None` while it cannot be opened.
    pub(super) fn reopen(&mut self) -> Result<Option<Vec<v1::AuditEntry>>, StoreError> {
        match self.shared.reopen() {
            Ok(true) => {}
            Ok(false) | Err(StoreError::Io { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
        let newest = self.shared.newest(1)?.last().map_or(0, sequence);
        if newest + 1 < self.next {
            return Err(StoreError::Corrupt {
                path: (*self.shared.path).clone(),
                reason: "entries are missing that were durable before".to_owned(),
            });
        }
        let late = self.shared.read(self.next, usize::MAX)?;
        for record in late.iter().filter_map(|entry| entry.record.as_ref()) {
            if record.kind() == v1::AuditKind::Intent {
                self.open.insert(record.sequence);
            } else {
                self.open.remove(&record.intent);
            }
        }
        self.find_end()?;
        Ok(Some(late))
    }

    /// Returns whether an intent has no outcome.
    pub(super) fn is_open(&self, intent: u64) -> bool {
        self.open.contains(&intent)
    }
}

/// The result of a call that was cut off after its intent, as far as `done` determines it.
pub(super) fn reconciled(intent: &v1::AuditRecord, done: Option<bool>) -> v1::AuditRecord {
    let (code, reason) = match done {
        Some(true) => (
            audit::APPLIED,
            "carried out: the coordinator ended before that was recorded",
        ),
        Some(false) => (
            audit::NOT_APPLIED,
            "not carried out: the coordinator ended before anything was changed",
        ),
        None => (audit::UNKNOWN, "unknown: the coordinator ended before it was recorded"),
    };
    outcome_of(intent, code, reason)
}

/// The outcome of an intent whose caller was told that nothing was changed.
pub(super) fn refused(intent: &v1::AuditRecord) -> v1::AuditRecord {
    let reason = "not carried out: writing the intent seemed to fail, and the caller was refused";
    outcome_of(intent, audit::NOT_APPLIED, reason)
}

fn outcome_of(intent: &v1::AuditRecord, code: u32, reason: &str) -> v1::AuditRecord {
    v1::AuditRecord {
        code,
        reason: reason.to_owned(),
        kind: v1::AuditKind::Reconciled.into(),
        intent: intent.sequence,
        time: Some(convert::timestamp(super::wall())),
        ..intent.clone()
    }
}

/// Creates an audit from a backup, in a directory that has none. The entries were verified.
pub(crate) fn import(data_dir: &Path) -> Result<Grouped<v1::AuditEntry>, StoreError> {
    let file = File::open(data_dir.join(FILE), Kind::Audit)?;
    file.write(|transaction| {
        // The first start determines whether there are intents without an outcome.
        transaction.open_table(META)?.insert("open", 0)?;
        Ok(())
    })?;
    Ok(Grouped::new(file, super::GROUP, insert))
}

#[cfg(test)]
mod tests;
