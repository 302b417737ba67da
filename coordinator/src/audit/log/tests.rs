use std::{
    io,
    sync::{Mutex, MutexGuard},
};

use proptest::prelude::*;
use redb::StorageBackend;
use wyneos_core::id::Uuid;

use super::*;

const SECRET: [u8; 32] = [7; 32];
const CLUSTER: ClusterId = Uuid([1; 16]);

/// A write to a disk, or a change of its length.
#[derive(Clone, Debug)]
enum Op {
    Write(u64, Vec<u8>),
    Length(u64),
    Sync,
}

#[derive(Debug, Default)]
struct Bytes {
    bytes: Vec<u8>,
    /// Operations since the test began to record.
    ops: Option<Vec<Op>>,
    /// Free bytes; beyond them, the disk is full.
    room: Option<u64>,
}

/// A disk that records its operations, and that may be full.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Bytes>>);

impl Disk {
    fn of(bytes: Vec<u8>) -> Disk {
        let bytes = Bytes {
            bytes,
            ..Bytes::default()
        };
        Disk(Arc::new(Mutex::new(bytes)))
    }

    fn lock(&self) -> MutexGuard<'_, Bytes> {
        self.0.lock().unwrap()
    }
}

fn full() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

fn apply(bytes: &mut Vec<u8>, op: &Op, of_write: usize) {
    match op {
        Op::Write(offset, data) => {
            let (from, data) = (*offset as usize, &data[..of_write.min(data.len())]);
            bytes[from..from + data.len()].copy_from_slice(data);
        }
        Op::Length(length) => bytes.resize(*length as usize, 0),
        Op::Sync => {}
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.lock().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let disk = self.lock();
        let read = disk.bytes.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(read.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), io::Error> {
        let mut disk = self.lock();
        if disk.room.is_some_and(|room| length > room) {
            return Err(full());
        }
        disk.note(Op::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.lock().note(Op::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut disk = self.lock();
        if disk.room == Some(0) {
            return Err(full());
        }
        disk.note(Op::Write(offset, data.to_vec()));
        Ok(())
    }
}

impl Bytes {
    fn note(&mut self, op: Op) {
        apply(&mut self.bytes, &op, usize::MAX);
        if let Some(ops) = &mut self.ops {
            ops.push(op);
        }
    }
}

fn opened(disk: &Disk) -> (Log, Vec<v1::AuditRecord>) {
    let file = File::over(disk.clone()).unwrap();
    file.write(|transaction| {
        transaction.open_table(ENTRIES)?;
        transaction.open_table(META)?;
        Ok(())
    })
    .unwrap();
    Log::new(Shared::of(file), CLUSTER, &SECRET, 1_000).unwrap()
}

fn intent(target: &str) -> v1::AuditRecord {
    crate::audit::intent_of(v1::AuditRecord {
        target: target.to_owned(),
        ..v1::AuditRecord::default()
    })
}

fn outcome(intent: u64) -> v1::AuditRecord {
    v1::AuditRecord {
        kind: v1::AuditKind::Outcome.into(),
        intent,
        ..v1::AuditRecord::default()
    }
}

/// Number of entries, after verifying their chain.
fn verified(log: &Log) -> u64 {
    let key = wyneos_core::integrity::DigestSigner::new(&SECRET).public_key();
    let mut verifier = audit::Verifier::new(CLUSTER, key);
    let entries = log.shared.read(0, usize::MAX).unwrap();
    for entry in &entries {
        verifier.next(entry).unwrap();
    }
    assert_eq!(log.next(), entries.len() as u64 + 1);
    entries.len() as u64
}

#[test]
fn a_crash_at_any_byte_of_the_last_write_leaves_all_of_it_or_nothing() {
    let disk = Disk::default();
    let (mut log, _) = opened(&disk);
    log.append(vec![intent("one")]).unwrap();
    log.append(vec![outcome(1), intent("two")]).unwrap();
    let before = {
        let mut bytes = disk.lock();
        bytes.ops = Some(Vec::new());
        bytes.bytes.clone()
    };
    log.append(vec![intent("three")]).unwrap();
    let ops = disk.lock().ops.take().unwrap();
    let mut left = before;
    let mut seen = std::collections::BTreeSet::new();
    for (at, op) in ops.iter().enumerate() {
        // Every byte of short writes, such as those of the decisive header; some of pages.
        let cuts: Vec<usize> = match op {
            Op::Write(_, data) if data.len() <= 512 => (0..=data.len()).collect(),
            Op::Write(_, data) => (0..=data.len()).step_by(509).collect(),
            _ => vec![0],
        };
        for cut in cuts {
            let mut bytes = left.clone();
            apply(&mut bytes, op, cut);
            let (mut log, unfinished) = opened(&Disk::of(bytes));
            let entries = verified(&log);
            let numbers: Vec<u64> = unfinished.iter().map(|record| record.sequence).collect();
            match entries {
                3 => assert_eq!(numbers, [3], "operation {at}, byte {cut}"),
                4 => assert_eq!(numbers, [3, 4], "operation {at}, byte {cut}"),
                other => panic!("{other} entries, operation {at}, byte {cut}"),
            }
            seen.insert(entries);
            // The chain continues from there.
            log.append(vec![intent("behind")]).unwrap();
            assert_eq!(verified(&log), entries + 1);
        }
        apply(&mut left, op, usize::MAX);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn a_full_disk_refuses_and_the_chain_goes_on_once_there_is_room() {
    let disk = Disk::default();
    let (mut log, _) = opened(&disk);
    log.append(vec![intent("one")]).unwrap();
    disk.lock().room = Some(0);
    let refused = log.append(vec![intent("two")]);
    assert!(matches!(refused, Err(StoreError::Io { .. })), "{:?}", refused.err());
    assert_eq!(log.next(), 2);
    disk.lock().room = None;
    drop(log);
    let (mut log, unfinished) = opened(&Disk::of(disk.lock().bytes.clone()));
    assert_eq!(unfinished.len(), 1);
    log.append(vec![outcome(1), intent("two")]).unwrap();
    assert_eq!(verified(&log), 3);
}

#[test]
fn entries_of_a_version_without_intents_are_nobodys_intents() {
    let disk = Disk::default();
    let (mut log, _) = opened(&disk);
    log.append(vec![v1::AuditRecord::default(), v1::AuditRecord::default()])
        .unwrap();
    drop(log);
    let (mut log, unfinished) = opened(&Disk::of(disk.lock().bytes.clone()));
    assert!(unfinished.is_empty());
    log.append(vec![intent("new")]).unwrap();
    assert_eq!(verified(&log), 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// For any order of intents and outcomes, and any end of the coordinator, the intents without an outcome are found.
    #[test]
    fn intents_without_an_outcome_are_found(steps in prop::collection::vec((0..3u8, any::<prop::sample::Index>()), 1..40)) {
        let disk = Disk::default();
        let (mut log, _) = opened(&disk);
        let mut open = BTreeSet::new();
        for (step, which) in steps {
            match step {
                0 => {
                    open.insert(log.next());
                    log.append(vec![intent("some")]).unwrap();
                }
                1 if !open.is_empty() => {
                    let number = *open.iter().nth(which.index(open.len())).unwrap();
                    open.remove(&number);
                    log.append(vec![outcome(number)]).unwrap();
                }
                _ => {
                    let (again, unfinished) = opened(&Disk::of(disk.lock().bytes.clone()));
                    let found: BTreeSet<u64> = unfinished.iter().map(|record| record.sequence).collect();
                    prop_assert_eq!(&found, &open);
                    drop(again);
                }
            }
        }
        verified(&log);
    }
}
