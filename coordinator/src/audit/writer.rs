//! The audit's single writer: a thread that groups entries, and survives failures of the disk.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::{broadcast, mpsc, oneshot};
use wyneos::v1::{self, AuditKind};
use wyneos_core::integrity::Digest;

use super::{
    GROUP, NOBODY,
    inbox::Inbox,
    log::{Log, refused, sequence},
    repeats::Repeats,
};
use crate::store::StoreError;

/// Time after a failed write in which intents are refused before the next attempt.
const RETRY: Duration = Duration::from_secs(1);

/// Maximum number of outcomes and refusals that wait until the disk can be written again. Beyond it they are counted
/// and omitted: an intent remains without an outcome until the next start.
const UNWRITTEN: usize = 8_192;

/// The intent could not be made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotWritten;

/// Requests to the writer.
pub(super) enum Work {
    /// Write an intent; the sender receives its number once it is durable.
    Intend(v1::AuditRecord, oneshot::Sender<Result<u64, NotWritten>>),
    /// Write an outcome; the sender is notified once it is durable, or queued until it can be written.
    Write(v1::AuditRecord, oneshot::Sender<()>),
    /// Write a refusal, or count it.
    Note(v1::AuditRecord),
    /// Write counts of finished minutes, and records of this host's own commands.
    Look,
    /// Write all counts, and end.
    Stop,
}

/// The writer.
pub(super) struct Writer {
    pub(super) log: Log,
    pub(super) inbox: Inbox,
    pub(super) entries: broadcast::Sender<Arc<v1::AuditEntry>>,
    pub(super) named: Repeats,
    pub(super) others: Repeats,
    pub(super) unwritten: VecDeque<v1::AuditRecord>,
    pub(super) failed: Option<Instant>,
    pub(super) dropped: Counter,
    pub(super) failures: Counter,
}

/// The content of one transaction.
#[derive(Default)]
struct Group {
    records: Vec<v1::AuditRecord>,
    intents: Vec<v1::AuditRecord>,
    asked: Vec<oneshot::Sender<Result<u64, NotWritten>>>,
    waiting: Vec<oneshot::Sender<()>>,
    looks: bool,
    last: bool,
}

impl Writer {
    /// Writes until it is stopped, or every sender is gone. While the disk fails, intents are refused and the rest is
    /// queued until it can be written again; damage ends the writer. Returns number and chain of the newest entry.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Work>) -> Result<(u64, Digest), StoreError> {
        let mut works = Vec::new();
        while let Some(first) = queue.blocking_recv() {
            works.push(first);
            while works.len() < GROUP
                && let Ok(next) = queue.try_recv()
            {
                works.push(next);
            }
            let group = self.gather(works.drain(..));
            let last = group.last;
            self.write(group)?;
            if last {
                break;
            }
        }
        Ok(self.log.end())
    }

    fn gather(&mut self, works: impl Iterator<Item = Work>) -> Group {
        let now = Instant::now();
        let mut group = Group {
            records: self.named.elapsed(now),
            ..Group::default()
        };
        group.records.append(&mut self.others.elapsed(now));
        for work in works {
            match work {
                Work::Intend(record, asked) => {
                    group.intents.push(record);
                    group.asked.push(asked);
                }
                Work::Write(record, done) => {
                    group.waiting.push(done);
                    group.records.push(record);
                }
                Work::Note(record) => group.records.extend(self.fold(record, now)),
                Work::Look => group.looks = true,
                Work::Stop => group.last = true,
            }
        }
        if group.last {
            group.records.append(&mut self.named.all());
            group.records.append(&mut self.others.all());
        }
        group
    }

    /// Returns the refusal, unless a similar one was written within the last minute.
    fn fold(&mut self, record: v1::AuditRecord, now: Instant) -> Option<v1::AuditRecord> {
        let repeats = match record.principal.as_str() {
            NOBODY => &mut self.others,
            _ => &mut self.named,
        };
        repeats.fold(record, now)
    }

    fn write(&mut self, group: Group) -> Result<(), StoreError> {
        let rests = self.failed.is_some_and(|failed| failed.elapsed() < RETRY);
        let written = match rests && !group.last {
            true => {
                self.keep(group.records);
                None
            }
            false => self.try_write(group.records, &group.intents)?,
        };
        let mut numbers = written.into_iter().flatten();
        for asked in group.asked {
            // The caller may be gone.
            let _ = asked.send(numbers.next().ok_or(NotWritten));
        }
        for done in group.waiting {
            let _ = done.send(());
        }
        if group.looks && self.failed.is_none() {
            let taken = self.inbox.take(&self.log);
            if let Some(taken) = taken
                && self.try_write(taken.records, &[])?.is_some()
            {
                self.inbox.done(taken.files);
            }
        }
        Ok(())
    }

    /// Writes the waiting entries, these records and these intents; returns the intents' numbers once all is durable.
    /// `None`: the disk failed.
    fn try_write(
        &mut self,
        records: Vec<v1::AuditRecord>,
        intents: &[v1::AuditRecord],
    ) -> Result<Option<Vec<u64>>, StoreError> {
        let mut all: Vec<v1::AuditRecord> = self.unwritten.drain(..).collect();
        all.extend(records);
        let others = all.len();
        all.extend_from_slice(intents);
        match self.log.append(all.clone()) {
            Ok(entries) => {
                if self.failed.take().is_some() {
                    tracing::info!("the audit can be written again");
                }
                let numbers = entries.iter().skip(others).map(|entry| sequence(entry)).collect();
                for entry in entries {
                    // There may be no watchers.
                    drop(self.entries.send(entry));
                }
                Ok(Some(numbers))
            }
            Err(error @ StoreError::Io { .. }) => {
                all.truncate(others);
                self.fail(&error, all)?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Handles a failure of the disk: keeps what must be written, and ensures that the audit can be read.
    fn fail(&mut self, error: &StoreError, records: Vec<v1::AuditRecord>) -> Result<(), StoreError> {
        self.failures.inc();
        if self.failed.is_none() {
            let source = std::error::Error::source(error).map(ToString::to_string);
            tracing::error!(
                source,
                "{error}: changes are refused until the audit can be written; reads continue"
            );
        }
        self.failed = Some(Instant::now());
        self.keep(records);
        let Some(late) = self.log.reopen()? else {
            return Ok(());
        };
        // The write failed only after all was durable: callers were told that nothing was changed, and nothing is.
        let refusals: Vec<_> = late
            .iter()
            .filter_map(|entry| entry.record.as_ref())
            .filter(|record| record.kind() == AuditKind::Intent)
            .map(refused)
            .collect();
        self.unwritten
            .retain(|record| record.intent == 0 || self.log.is_open(record.intent));
        self.keep(refusals);
        for entry in late {
            drop(self.entries.send(Arc::new(entry)));
        }
        Ok(())
    }

    fn keep(&mut self, records: Vec<v1::AuditRecord>) {
        for record in records {
            if self.unwritten.len() < UNWRITTEN {
                self.unwritten.push_back(record);
            } else {
                self.dropped.inc();
            }
        }
    }
}
