//! The audit: every call that changes something, before and after it does, and every refusal; durable, chained and signed.
//!
//! One thread writes. What a call is about to change is written, as an intent, before anything is changed: many calls share a
//! transaction. A call that changed something is answered once its outcome is durable, too. Refusals do not wait, and a flood of them
//! fills neither memory nor disk: one of each kind and source is written a minute, with the count of those like it.
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

/// Entries that wait to be written at most; then changes wait, and refusals are counted and left out.
const WAITING: usize = 1_024;

/// Intents without an outcome at most: changes that are under way. Further ones wait, and are refused after [`PATIENCE`].
pub(crate) const OPEN: usize = 8_192;

/// Time limit for a change to have its intent queued.
const PATIENCE: Duration = Duration::from_secs(5);

/// Entries that one transaction takes at most.
const GROUP: usize = 256;

/// Entries that a watcher may be behind; then it is ended, and reads on from where it was.
pub(crate) const BEHIND: usize = 1_024;

/// The unauthenticated caller.
pub(crate) const NOBODY: &str = "anybody";

/// Bytes of a target, and of a reason, at most.
pub(crate) const TARGET: usize = 256;
pub(crate) const REASON: usize = 512;

/// Interval at which the writer looks for counted refusals, and for records of commands on this host.
const LOOK: Duration = Duration::from_secs(5);

/// Audits of somebody else that are kept beside this one at most; then the coordinator does not start.
const FOREIGN: u32 = 1_000;

/// The file of the key that signs.
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
    /// Refusals that were left out because too many came at once.
    dropped: Counter,
}

/// Counters of the audit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    /// Entries left out: too many came at once, or the disk failed for too long.
    pub(crate) dropped: Counter,
    /// Writes that failed.
    pub(crate) failures: Counter,
}

/// Why there is no intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoIntent {
    /// The disk failed.
    #[error(
        "the audit cannot be written, and nothing is changed without a record: nothing was done. Reads go on; the coordinator's log says why"
    )]
    NotWritten,
    /// Too many changes at once.
    #[error("{OPEN} changes are under way, the limit: nothing was done")]
    TooMany,
}

/// An intent that is durable, and has no outcome yet.
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

/// An audit that was opened, before it is written.
pub(crate) struct Opened {
    shared: Shared,
    log: Log,
    unfinished: Vec<v1::AuditRecord>,
    /// Tells of entries that are missing.
    lost: Option<v1::AuditRecord>,
    /// Tells of a state that was put back.
    set_back: Option<v1::AuditRecord>,
}

/// An audit that is written.
pub(crate) struct Started {
    pub(crate) audit: Audit,
    /// The writer's thread; it ends with number and chain of the newest entry, unless it failed.
    pub(crate) writer: thread::JoinHandle<Option<(u64, Digest)>>,
    /// Hears when the writer ends, as it does when the file is damaged.
    pub(crate) failed: oneshot::Receiver<()>,
    /// Number and chain of the newest entry, for the next start.
    pub(crate) end: (u64, Digest),
    /// What became of entries, or of changes, that are missing, for people.
    pub(crate) lost: Vec<String>,
}

/// Puts aside the audit of somebody else, beside those that were put aside before; what was open of it is closed. Returns its new name.
fn put_aside(data_dir: &Path) -> Result<String, StoreError> {
    let path = data_dir.join(FILE);
    let renamed = (1..=FOREIGN).map(|number| match number {
        1 => format!("{FILE}.foreign"),
        number => format!("{FILE}.foreign.{number}"),
    });
    // Nobody else makes files here: the data_dir is this coordinator's, whose store is open.
    let name = renamed
        .into_iter()
        .find(|name| files::is_missing(&data_dir.join(name)))
        .ok_or_else(|| StoreError::Corrupt {
            path: path.clone(),
            reason: format!(
                "it is not this coordinator's, and {FOREIGN} others lie beside it already; move those away"
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
    /// Opens the audit of `cluster`, and compares it with what the store remembers of it.
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
                reason: "it is not the key by which the audit of this data_dir is signed, and the audit is the one that the state knows: \
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

    /// The number that the next entry gets.
    pub(crate) fn next(&self) -> u64 {
        self.log.next()
    }

    /// Compares the audit with the state, which has the changes of intents up to number `kept` and none above it. True when the audit says
    /// that later ones were carried out: the state was put back. `is_kept` tells which calls change the state.
    pub(crate) fn is_ahead(
        &mut self,
        kept: u64,
        is_kept: impl Fn(&v1::AuditRecord) -> bool,
    ) -> Result<bool, StoreError> {
        let newest = self.log.newest_done(kept, is_kept)?;
        self.set_back = newest.map(|newest| loss::set_back(kept, newest));
        Ok(newest.is_some())
    }

    /// Writes which entries are missing, and what came of intents that a crash cut off, as far as `done` can tell of each; and starts the
    /// writer.
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
                "the coordinator ended while changes were under way; the audit has the result of each"
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
    /// Writes what a call is about to change; returns once that is durable.
    ///
    /// # Errors
    /// It is not, or too many are under way: nothing may be changed.
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

    /// Writes the outcome of a call that changed something, or tried to; returns once it is durable, or, while the disk fails, kept
    /// until it can be written: the intent is durable.
    pub(crate) async fn write(&self, record: v1::AuditRecord) {
        let (done, durable) = oneshot::channel();
        if self.work.send(Work::Write(record, done)).await.is_ok() {
            // Without a writer the process is ending.
            drop(durable.await);
        }
    }

    /// Writes the entry of a refusal when there is time.
    pub(crate) fn note(&self, record: v1::AuditRecord) {
        if self.work.try_send(Work::Note(record)).is_err() {
            self.dropped.inc();
        }
    }

    /// At most `most` entries from number `from` on, oldest first. Reads the disk.
    pub(crate) fn read(&self, from: u64, most: usize) -> Result<Vec<v1::AuditEntry>, StoreError> {
        self.shared.read(from, most)
    }

    /// Hands every entry to `each`, oldest first, as they are at one moment. Reads the disk.
    pub(crate) fn copy(&self, each: impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), StoreError> {
        self.shared.copy(each)
    }

    /// Has the writer look after what it counts, for ever.
    pub(crate) async fn keep_looking(self) {
        loop {
            // When it has more to do than it can, it looks anyway.
            drop(self.work.try_send(Work::Look));
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Tells the writer to end, behind what it was given, once it can be told.
    pub(crate) async fn stop(&self) {
        // Without a writer there is nothing to stop; it said itself why, if it failed.
        drop(self.work.send(Work::Stop).await);
    }

    /// Hears of every further entry.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<v1::AuditEntry>> {
        self.entries.subscribe()
    }
}

/// An entry, as of now; its number is the writer's.
pub(crate) fn record(principal: &str, source: &str, action: &str) -> v1::AuditRecord {
    v1::AuditRecord {
        principal: principal.to_owned(),
        source: source.to_owned(),
        action: action.to_owned(),
        time: Some(convert::timestamp(wall())),
        ..v1::AuditRecord::default()
    }
}

/// The intent of what a record says is about to be done.
fn intent_of(record: v1::AuditRecord) -> v1::AuditRecord {
    v1::AuditRecord {
        kind: v1::AuditKind::Intent.into(),
        // A reader that knows no intents must not take it for something done.
        code: UNKNOWN,
        reason: BEGUN.to_owned(),
        ..record
    }
}

fn wall() -> WallTime {
    wyneos_shell::clock::Clock::default().wall()
}

/// At most `most` bytes of a text, without control characters.
pub(crate) fn short(text: &str, most: usize) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control()).collect();
    let mut end = most.min(clean.len());
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    clean[..end].to_owned()
}
