//! The audit: every call that changes something, and every refusal; durable, chained and signed.
//!
//! One thread writes. A call that changed something is answered once its entry is durable. Refusals do not wait, and a flood of them
//! fills neither memory nor disk: one of each kind and source is written a minute, with the count of those like it.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use prometheus_client::metrics::counter::Counter;
use prost::Message as _;
use redb::{ReadableTable as _, ReadableTableMetadata as _, TableDefinition};
use tokio::sync::{broadcast, mpsc, oneshot};
use wyneos::{audit, convert, v1};
use wyneos_core::{
    id::ClusterId,
    integrity::{Digest, ZERO_DIGEST},
    time::WallTime,
};

use wyneos_shell::listener;

use crate::store::{Failure, File, StoreError};

/// Number → `wyneos.v1.AuditEntry`.
const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");

/// Entries that wait to be written at most; then changes wait, and refusals are counted and left out.
const WAITING: usize = 1_024;

/// Entries that one transaction takes at most.
const GROUP: usize = 256;

/// Entries that a watcher may be behind; then it is ended, and reads on from where it was.
pub(crate) const BEHIND: usize = 1_024;

/// Kinds of refusals that are told apart at once, of those who are known and of those who are not; and of one of them. Further ones are
/// counted together.
const KINDS: usize = 1_024;
const KINDS_OF_ONE: usize = 32;

/// How long refusals of one kind and source are counted before they are written again.
const MINUTE: Duration = Duration::from_secs(60);

/// Entries beyond the retention that one transaction drops at most.
const DROPPED_AT_ONCE: u64 = 1_000;

/// Whoever is nobody in particular.
pub(crate) const NOBODY: &str = "anybody";

/// How often the writer looks whether something was counted for a minute.
const LOOK: Duration = Duration::from_secs(10);

/// What the writer is asked to do.
enum Work {
    /// Write an entry; the sender hears once it is durable.
    Write(v1::AuditRecord, oneshot::Sender<()>),
    /// Write a refusal, or count it.
    Note(v1::AuditRecord),
    /// See whether something was counted for long enough.
    Look,
    /// Write what was counted, and end.
    Stop,
}

/// Refusals of one kind and source.
#[derive(Debug)]
struct Repeated {
    since: Instant,
    last: v1::AuditRecord,
    more: u64,
}

/// Who was refused: a name, or where it is. What it said is not part of it: that is its own to choose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    Named(String),
    At(Option<IpAddr>),
}

/// Who, what, and the gRPC status.
type Kind = (Who, String, u32);

/// Refusals of the last minute, by their kinds.
#[derive(Debug, Default)]
struct Repeats {
    kinds: HashMap<Kind, Repeated>,
    of: HashMap<Who, usize>,
}

/// The audit; clones share it.
#[derive(Clone)]
pub(crate) struct Audit {
    file: File,
    work: mpsc::Sender<Work>,
    entries: broadcast::Sender<Arc<v1::AuditEntry>>,
    /// Refusals that were left out because too many came at once.
    dropped: Counter,
}

struct Writer {
    file: File,
    cluster: ClusterId,
    signer: audit::Signer,
    next: u64,
    previous: Digest,
    keep: u64,
    entries: broadcast::Sender<Arc<v1::AuditEntry>>,
    named: Repeats,
    others: Repeats,
}

impl Audit {
    /// Opens the audit of `cluster`, and starts its writer. The receiver hears when that ends, as it does when the disk fails.
    pub(crate) fn open(
        data_dir: &Path,
        cluster: ClusterId,
        secret: &[u8; 32],
        keep: u64,
        dropped: Counter,
    ) -> Result<(Audit, thread::JoinHandle<()>, oneshot::Receiver<()>), StoreError> {
        let file = File::open(data_dir.join("audit.redb"))?;
        file.write(|transaction| {
            transaction.open_table(ENTRIES)?;
            Ok(())
        })?;
        let newest: Option<v1::AuditEntry> = file.read(|transaction| {
            let table = transaction.open_table(ENTRIES)?;
            let last = table.last()?;
            Ok(last
                .map(|(_, bytes)| v1::AuditEntry::decode(bytes.value()))
                .transpose()?)
        })?;
        let (next, previous) = match newest {
            Some(entry) => {
                let sequence = entry.record.map_or(0, |record| record.sequence);
                let chain = entry.chain.as_slice().try_into();
                (sequence + 1, chain.map_err(|_| file.corrupt("an entry has no chain"))?)
            }
            None => (1, ZERO_DIGEST),
        };
        let (work, queue) = mpsc::channel(WAITING);
        let (entries, _) = broadcast::channel(BEHIND);
        let writer = Writer {
            file: file.clone(),
            cluster,
            signer: audit::Signer::new(secret),
            next,
            previous,
            keep,
            entries: entries.clone(),
            named: Repeats::default(),
            others: Repeats::default(),
        };
        let (ended, failed) = oneshot::channel::<()>();
        let run = move || {
            if let Err(error) = writer.run(queue) {
                tracing::error!(%error, "the audit cannot be written");
            }
            drop(ended);
        };
        let thread = thread::Builder::new().name("audit".to_owned()).spawn(run);
        let writer = thread.map_err(file.io("start its thread"))?;
        let audit = Audit {
            file,
            work,
            entries,
            dropped,
        };
        Ok((audit, writer, failed))
    }

    /// Writes the entry of a call that changed something, or tried to; returns once it is durable.
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
        self.file.read(|transaction| {
            let table = transaction.open_table(ENTRIES)?;
            let mut entries = Vec::new();
            for entry in table.range(from..)?.take(most) {
                entries.push(v1::AuditEntry::decode(entry?.1.value())?);
            }
            Ok(entries)
        })
    }

    /// Hands every entry to `each`, oldest first, as they are at one moment. Reads the disk.
    pub(crate) fn copy(&self, mut each: impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), StoreError> {
        self.file.read(|transaction| {
            for entry in transaction.open_table(ENTRIES)?.iter()? {
                each(entry?.1.value())?;
            }
            Ok(())
        })
    }

    /// Has the writer look after what it counts, for ever.
    pub(crate) async fn keep_looking(self) {
        loop {
            tokio::time::sleep(LOOK).await;
            // When it has more to do than it can, it looks anyway.
            drop(self.work.try_send(Work::Look));
        }
    }

    /// Ends the writer, behind what it was given. Blocks until it has.
    pub(crate) fn stop(&self, writer: thread::JoinHandle<()>) {
        drop(self.work.blocking_send(Work::Stop));
        // It said itself why, if it failed.
        drop(writer.join());
    }

    /// Hears of every further entry.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<v1::AuditEntry>> {
        self.entries.subscribe()
    }
}

/// An audit that is made from a backup, in a directory that has none.
pub(crate) struct Import {
    file: File,
    waiting: Vec<v1::AuditEntry>,
}

impl Import {
    pub(crate) fn new(data_dir: &Path) -> Result<Import, StoreError> {
        Ok(Import {
            file: File::open(data_dir.join("audit.redb"))?,
            waiting: Vec::new(),
        })
    }

    /// Takes an entry, which was verified.
    pub(crate) fn take(&mut self, entry: v1::AuditEntry) -> Result<(), StoreError> {
        self.waiting.push(entry);
        if self.waiting.len() >= GROUP {
            self.write()
        } else {
            Ok(())
        }
    }

    /// Makes all of it durable.
    pub(crate) fn finish(mut self) -> Result<(), StoreError> {
        self.write()
    }

    fn write(&mut self) -> Result<(), StoreError> {
        let entries = std::mem::take(&mut self.waiting);
        self.file.write(|transaction| {
            let mut table = transaction.open_table(ENTRIES)?;
            for entry in &entries {
                let sequence = entry.record.as_ref().map_or(0, |record| record.sequence);
                table.insert(sequence, entry.encode_to_vec().as_slice())?;
            }
            Ok(())
        })
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

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Work>) -> Result<(), StoreError> {
        let mut group = Vec::new();
        while let Some(first) = queue.blocking_recv() {
            group.push(first);
            while group.len() < GROUP
                && let Ok(next) = queue.try_recv()
            {
                group.push(next);
            }
            let mut waiting = Vec::new();
            let now = Instant::now();
            let mut records = self.named.elapsed(now);
            records.append(&mut self.others.elapsed(now));
            let mut last = false;
            for work in group.drain(..) {
                match work {
                    Work::Write(record, done) => {
                        waiting.push(done);
                        records.push(record);
                    }
                    Work::Note(record) => records.extend(self.fold(record, now)),
                    Work::Look => {}
                    Work::Stop => last = true,
                }
            }
            if last {
                records.append(&mut self.named.all());
                records.append(&mut self.others.all());
            }
            self.append(records)?;
            for done in waiting {
                // Its caller may have gone.
                let _ = done.send(());
            }
            if last {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A refusal, unless one like it was written within the last minute.
    fn fold(&mut self, record: v1::AuditRecord, now: Instant) -> Option<v1::AuditRecord> {
        let repeats = match record.principal.as_str() {
            NOBODY => &mut self.others,
            _ => &mut self.named,
        };
        repeats.fold(record, now)
    }

    fn append(&mut self, records: Vec<v1::AuditRecord>) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        let mut entries = Vec::with_capacity(records.len());
        for mut record in records {
            record.sequence = self.next;
            self.next += 1;
            let entry = self.signer.seal(self.cluster, self.previous, record);
            self.previous = entry.1;
            entries.push(Arc::new(entry.0));
        }
        self.file.write(|transaction| {
            let mut table = transaction.open_table(ENTRIES)?;
            for entry in &entries {
                let sequence = entry.record.as_ref().map_or(0, |record| record.sequence);
                table.insert(sequence, entry.encode_to_vec().as_slice())?;
            }
            let surplus = table.len()?.saturating_sub(self.keep).min(DROPPED_AT_ONCE);
            for _ in 0..surplus {
                table.pop_first()?;
            }
            Ok(())
        })?;
        for entry in entries {
            // Nobody may be watching.
            drop(self.entries.send(entry));
        }
        Ok(())
    }
}

impl Repeats {
    fn fold(&mut self, record: v1::AuditRecord, now: Instant) -> Option<v1::AuditRecord> {
        let address = record.source.parse().ok();
        let address = address.map(|source: SocketAddr| listener::source(source.ip()));
        let who = match record.principal.as_str() {
            NOBODY => Who::At(address),
            name => Who::Named(name.to_owned()),
        };
        let mut kind = (who.clone(), record.action.clone(), record.code);
        let full = self.kinds.len() >= KINDS || self.of.get(&who).is_some_and(|kinds| *kinds >= KINDS_OF_ONE);
        if full && !self.kinds.contains_key(&kind) {
            kind = (Who::At(None), "several".to_owned(), 0);
        }
        if let Some(repeated) = self.kinds.get_mut(&kind) {
            repeated.more += 1;
            repeated.last = record;
            return None;
        }
        let repeated = Repeated {
            since: now,
            last: record.clone(),
            more: 0,
        };
        *self.of.entry(kind.0.clone()).or_default() += 1;
        self.kinds.insert(kind, repeated);
        Some(record)
    }

    /// What was counted for a minute.
    fn elapsed(&mut self, now: Instant) -> Vec<v1::AuditRecord> {
        let due = |repeated: &Repeated| now.duration_since(repeated.since) >= MINUTE;
        let due: Vec<(Kind, Repeated)> = self.kinds.extract_if(|_, repeated| due(repeated)).collect();
        for ((who, ..), _) in &due {
            if let Some(kinds) = self.of.get_mut(who) {
                *kinds -= 1;
                if *kinds == 0 {
                    self.of.remove(who);
                }
            }
        }
        due.into_iter().filter_map(|(_, repeated)| told(repeated)).collect()
    }

    /// What was counted so far.
    fn all(&mut self) -> Vec<v1::AuditRecord> {
        self.of.clear();
        self.kinds.drain().filter_map(|(_, repeated)| told(repeated)).collect()
    }
}

fn told(repeated: Repeated) -> Option<v1::AuditRecord> {
    let repeats = repeated.more;
    (repeats > 0).then_some(v1::AuditRecord {
        repeats,
        ..repeated.last
    })
}
