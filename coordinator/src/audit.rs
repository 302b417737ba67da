//! The audit: every call that changes something, before and after the change, and every refusal; durable, chained and
//! signed.
//!
//! One thread writes. The intent of a call is written before anything is changed; many calls share a transaction. A
//! call that changed something is answered once its outcome is durable, too. Refusals do not wait, and a flood of them
//! fills neither memory nor disk: one per minute, kind and source is written, with the number of similar ones.
//!
//! While the audit cannot be written nothing is changed: intents fail, and their calls are refused.

mod inbox;
mod log;
mod loss;
mod repeats;
mod writer;

use std::{collections::VecDeque, fs, path::Path, sync::Arc, thread, time::Duration};

use prometheus_client::metrics::counter::Counter;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot},
    time::timeout,
};
use wyneos::{audit::UNKNOWN, convert, v1};
use wyneos_core::{id::ClusterId, integrity::Digest, time::WallTime};

pub(crate) use inbox::{FOLDER as INBOX, Local};
pub(crate) use log::import;
pub(crate) use loss::Known;

use wyneos_shell::files;

use crate::store::{Failure, StoreError};
use inbox::Inbox;
use log::{FILE, Log, Shared, reconciled};
use loss::Loss;
use repeats::Repeats;
use writer::{Work, Writer};

/// Maximum number of entries that wait to be written; beyond it changes wait, and refusals are counted and omitted.
const WAITING: usize = 1_024;

/// Maximum number of intents without an outcome, which are changes in progress. Further ones wait, and are refused
/// after [`PATIENCE`].
pub(crate) const OPEN: usize = 8_192;

/// Time limit for queueing the intent of a change.
const PATIENCE: Duration = Duration::from_secs(5);

/// Maximum number of entries in one transaction.
const GROUP: usize = 256;

/// Maximum number of entries that a watcher may lag behind; beyond it the watcher is ended, and resumes from its
/// position.
pub(crate) const BEHIND: usize = 1_024;

/// The unauthenticated caller.
pub(crate) const NOBODY: &str = "anybody";

/// Maximum length of a target, and of a reason, bytes.
pub(crate) const TARGET: usize = 256;
pub(crate) const REASON: usize = 512;

/// Interval at which the writer looks for counted refusals, and for records of commands on this host.
const LOOK: Duration = Duration::from_secs(5);

/// Maximum number of foreign audits that are kept beside this one; beyond it the coordinator does not start.
const FOREIGN: u32 = 1_000;

/// File of the signing key.
pub(crate) const SIGNING_KEY: &str = "signing.key";

/// The reason text of an intent.
const BEGUN: &str = "begun";

/// The audit; clones share it.
#[derive(Clone)]
pub(crate) struct Audit {
    shared: Shared,
    work: mpsc::Sender<Work>,
    entries: broadcast::Sender<Arc<v1::AuditEntry>>,
    open: Arc<Semaphore>,
    /// Number of refusals that were omitted because too many arrived at once.
    dropped: Counter,
}

/// Counters of the audit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    /// Omitted entries: too many arrived at once, or the disk failed for too long.
    pub(crate) dropped: Counter,
    /// Failed writes.
    pub(crate) failures: Counter,
}

/// The reason for which there is no intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoIntent {
    /// The disk failed.
    #[error(
        "the audit cannot be written, and nothing is changed without a record: nothing was done. Reads continue; the coordinator's log has the reason"
    )]
    NotWritten,
    /// Too many changes are in progress.
    #[error("{OPEN} changes are in progress, the limit: nothing was done")]
    TooMany,
}

/// A durable intent that has no outcome yet.
#[derive(Debug)]
pub(crate) struct Intent {
    number: u64,
    _permit: OwnedSemaphorePermit,
}

impl Intent {
    /// The entry's number in the audit.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

/// An audit that was opened and is not written yet.
pub(crate) struct Opened {
    shared: Shared,
    log: Log,
    unfinished: Vec<v1::AuditRecord>,
    /// The entry that reports missing entries.
    lost: Option<v1::AuditRecord>,
    /// The entry that reports a state that was put back.
    set_back: Option<v1::AuditRecord>,
}

/// An audit with a running writer.
pub(crate) struct Started {
    pub(crate) audit: Audit,
    /// The writer's thread; it returns number and chain of the newest entry, unless it failed.
    pub(crate) writer: thread::JoinHandle<Option<(u64, Digest)>>,
    /// Notified when the writer ends, for example because the file is damaged.
    pub(crate) failed: oneshot::Receiver<()>,
    /// Number and chain of the newest entry, for the next start.
    pub(crate) end: (u64, Digest),
    /// Descriptions of missing entries or changes, for people.
    pub(crate) lost: Vec<String>,
}

/// Renames a foreign audit, beside those that were renamed before, after closing it. Returns its new name.
fn put_aside(data_dir: &Path) -> Result<String, StoreError> {
    let path = data_dir.join(FILE);
    let renamed = (1..=FOREIGN).map(|number| match number {
        1 => format!("{FILE}.foreign"),
        number => format!("{FILE}.foreign.{number}"),
    });
    // No other process creates files here: the data_dir belongs to this coordinator, whose store is open.
    let name = renamed
        .into_iter()
        .find(|name| files::is_missing(&data_dir.join(name)))
        .ok_or_else(|| StoreError::Corrupt {
            path: path.clone(),
            reason: format!(
                "it is not this coordinator's, and {FOREIGN} others are stored beside it already; move those away"
            ),
        })?;
    fs::rename(&path, data_dir.join(&name))
        .and_then(|()| files::sync_directory(&path))
        .map_err(|error| StoreError::Io {
            path,
            what: "rename an audit that is not this coordinator's",
            source: error.into(),
        })?;
    Ok(name)
}

impl Opened {
    /// Opens the audit of `cluster`, and compares it with the store's record of it.
    pub(crate) fn new(
        data_dir: &Path,
        cluster: ClusterId,
        secret: &[u8; 32],
        keep: u64,
        known: Option<Known>,
    ) -> Result<Opened, StoreError> {
        let shared = Shared::open(data_dir, known.is_some())?;
        let (log, unfinished) = Log::new(shared.clone(), cluster, secret, keep)?;
        let mut opened = Opened {
            shared,
            log,
            unfinished,
            lost: None,
            set_back: None,
        };
        let Some(known) = known else { return Ok(opened) };
        let Some(loss) = opened.log.loss(&known)? else {
            return Ok(opened);
        };
        if loss == Loss::WrongKey {
            return Err(StoreError::Corrupt {
                path: data_dir.join(SIGNING_KEY),
                reason: "it is not the key that signed the audit of this data_dir, and the audit is the one that the state knows: \
                         nothing was changed"
                    .to_owned(),
            });
        }
        let mut kept = None;
        if loss == Loss::Foreign {
            opened.shared.close();
            kept = Some(put_aside(data_dir)?);
            opened.shared = Shared::open(data_dir, false)?;
            (opened.log, opened.unfinished) = Log::new(opened.shared.clone(), cluster, secret, keep)?;
        }
        opened.log.pass_over_to(known.newest + 1);
        opened.lost = Some(loss.record(&known, kept.as_deref()));
        Ok(opened)
    }

    /// Number of the next entry.
    pub(crate) fn next(&self) -> u64 {
        self.log.next()
    }

    /// Compares the audit with the state, which contains the changes of intents up to number `kept` and none above it.
    /// Returns whether the audit reports later ones as carried out, which means that the state was put back. `is_kept`
    /// determines which calls change the state.
    pub(crate) fn is_ahead(
        &mut self,
        kept: u64,
        is_kept: impl Fn(&v1::AuditRecord) -> bool,
    ) -> Result<bool, StoreError> {
        let newest = self.log.newest_done(kept, is_kept)?;
        self.set_back = newest.map(|newest| loss::set_back(kept, newest));
        Ok(newest.is_some())
    }

    /// Writes entries about missing entries, and about the results of intents that a crash cut off, as far as `done`
    /// knows them; then starts the writer.
    pub(crate) fn start(
        mut self,
        data_dir: &Path,
        counters: Counters,
        done: impl Fn(&v1::AuditRecord) -> Option<bool>,
    ) -> Result<Started, StoreError> {
        let cut_off = self.unfinished.len();
        let missing = self.lost.into_iter().chain(self.set_back);
        let missing: Vec<v1::AuditRecord> = missing.collect();
        let lost: Vec<String> = missing.iter().map(|record| record.reason.clone()).collect();
        let outcomes = self.unfinished.iter().map(|intent| reconciled(intent, done(intent)));
        self.log.append(missing.into_iter().chain(outcomes).collect())?;
        let end = self.log.end();
        for lost in &lost {
            tracing::error!("{lost}");
        }
        if cut_off > 0 {
            tracing::warn!(
                cut_off,
                "the coordinator ended while changes were in progress; the audit contains the result of each"
            );
        }
        let (work, queue) = mpsc::channel(WAITING);
        let (entries, _) = broadcast::channel(BEHIND);
        let writer = Writer {
            log: self.log,
            inbox: Inbox::new(data_dir),
            entries: entries.clone(),
            named: Repeats::default(),
            others: Repeats::default(),
            unwritten: VecDeque::new(),
            failed: None,
            dropped: counters.dropped.clone(),
            failures: counters.failures,
        };
        let (ended, failed) = oneshot::channel::<()>();
        let run = move || {
            let end = writer.run(queue);
            if let Err(error) = &end {
                tracing::error!(%error, "the audit cannot be written");
            }
            drop(ended);
            end.ok()
        };
        let thread = thread::Builder::new().name("audit".to_owned()).spawn(run);
        let writer = thread.map_err(|error| StoreError::Io {
            path: data_dir.join(FILE),
            what: "start its thread",
            source: error.into(),
        })?;
        let audit = Audit {
            shared: self.shared,
            work,
            entries,
            open: Arc::new(Semaphore::new(OPEN)),
            dropped: counters.dropped,
        };
        Ok(Started {
            audit,
            writer,
            failed,
            end,
            lost,
        })
    }
}

impl Audit {
    /// Writes the intent of a call; returns once it is durable.
    ///
    /// It cannot be written, or too many changes are in progress: nothing may be changed.
    pub(crate) async fn intend(&self, record: v1::AuditRecord) -> Result<Intent, NoIntent> {
        let permit = timeout(PATIENCE, Arc::clone(&self.open).acquire_owned()).await;
        let permit = permit.map_err(|_| NoIntent::TooMany)?.map_err(|_| NoIntent::TooMany)?;
        let (asked, number) = oneshot::channel();
        let work = Work::Intend(intent_of(record), asked);
        self.work.send(work).await.map_err(|_| NoIntent::NotWritten)?;
        let number = number.await.map_err(|_| NoIntent::NotWritten)?;
        Ok(Intent {
            number: number.map_err(|_| NoIntent::NotWritten)?,
            _permit: permit,
        })
    }

    /// Writes the outcome of a call that changed something, or attempted to; returns once it is durable, or, while the
    /// disk fails, queued until it can be written: the intent is durable.
    pub(crate) async fn write(&self, record: v1::AuditRecord) {
        let (done, durable) = oneshot::channel();
        if self.work.send(Work::Write(record, done)).await.is_ok() {
            // Without a writer the process is ending.
            drop(durable.await);
        }
    }

    /// Writes the entry of a refusal asynchronously.
    pub(crate) fn note(&self, record: v1::AuditRecord) {
        if self.work.try_send(Work::Note(record)).is_err() {
            self.dropped.inc();
        }
    }

    /// Reads at most `most` entries from number `from` on, oldest first. Reads the disk.
    pub(crate) fn read(&self, from: u64, most: usize) -> Result<Vec<v1::AuditEntry>, StoreError> {
        self.shared.read(from, most)
    }

    /// Passes every entry to `each`, oldest first, as of one moment. Reads the disk.
    pub(crate) fn copy(&self, each: impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), StoreError> {
        self.shared.copy(each)
    }

    /// Makes the writer process its counts periodically, without end.
    pub(crate) async fn keep_looking(self) {
        loop {
            // If its queue is full, it processes them anyway.
            drop(self.work.try_send(Work::Look));
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Tells the writer to end after its queued work, once the message can be queued.
    pub(crate) async fn stop(&self) {
        // Without a writer there is nothing to stop; it reported its own failure.
        drop(self.work.send(Work::Stop).await);
    }

    /// Subscribes to all further entries.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<v1::AuditEntry>> {
        self.entries.subscribe()
    }
}

/// Creates an entry with the present time; the writer assigns its number.
pub(crate) fn record(principal: &str, source: &str, action: &str) -> v1::AuditRecord {
    v1::AuditRecord {
        principal: principal.to_owned(),
        source: source.to_owned(),
        action: action.to_owned(),
        time: Some(convert::timestamp(wall())),
        ..v1::AuditRecord::default()
    }
}

/// The intent for a record.
fn intent_of(record: v1::AuditRecord) -> v1::AuditRecord {
    v1::AuditRecord {
        kind: v1::AuditKind::Intent.into(),
        // A reader that does not know intents must not interpret it as a completed change.
        code: UNKNOWN,
        reason: BEGUN.to_owned(),
        ..record
    }
}

fn wall() -> WallTime {
    wyneos_shell::clock::Clock::default().wall()
}

/// The first `most` bytes of a text, without control characters.
pub(crate) fn short(text: &str, most: usize) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control()).collect();
    let mut end = most.min(clean.len());
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    clean[..end].to_owned()
}
