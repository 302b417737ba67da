mod evidence;
mod golden;

use std::{fs, sync::Arc, time::Duration};

use prost::Message as _;
use wyneos::{backup, convert, v1};
use wyneos_core::{
    access::{Access, Credential, OperatorRecord, Role, ShutOut},
    autonomy::{Mode, Policy},
    event::{Event, EventBody},
    id::{Cycle, DecisionId, Epoch, EventNo, NodeId, Revision, SessionNo, Uuid},
    integrity::{DigestSigner, Sealer},
    node::{Eligibility, Facts, Labels, NodeRecord},
    placement::Score,
    store::{Batch, Restored},
    time::WallTime,
    workload::{Assignment, AssignmentId, End, Exit, Goal, Spec, Workload},
};

use super::*;

const CLUSTER: Uuid = Uuid([9; 16]);

fn retention(events: u64, snapshots: u64) -> Retention {
    Retention {
        events,
        event_bytes: u64::MAX,
        snapshots,
        snapshot_age: Duration::from_secs(1_000),
    }
}

fn node(number: u8) -> Arc<NodeRecord> {
    let facts = Facts {
        id: Uuid([number; 16]),
        name: format!("node-{number}"),
        agent_version: "1".to_owned(),
        boot_time: WallTime(0),
        capacity: Default::default(),
        attributes: Default::default(),
        labels: Labels::from([("zone".to_owned(), "a".to_owned())]),
        binary_digest: [1; 32],
        config_digest: [2; 32],
        probe_address: String::new(),
    };
    Arc::new(NodeRecord {
        incarnation: 3,
        session: SessionNo(4),
        eligibility: Eligibility::Cordoned,
        heartbeat: Some(Duration::from_millis(250)),
        ..NodeRecord::new(Arc::new(facts))
    })
}

fn event(sequence: u64, node: Option<NodeId>) -> Arc<Event> {
    let body = EventBody::Command {
        verb: "label".to_owned(),
        detail: sequence.to_string(),
        by: "ada".to_owned(),
    };
    let (epoch, cycle, time) = (1, 2, WallTime(3));
    Arc::new(Event {
        sequence: EventNo(sequence),
        time,
        epoch: Epoch(epoch),
        cycle: Cycle(cycle),
        node,
        node_name: String::new(),
        summary: String::new(),
        body,
        times: 1,
    })
}

fn batch(nodes: &[u8], events: std::ops::RangeInclusive<u64>) -> Batch {
    let about = |sequence: u64| sequence.is_multiple_of(2).then_some(Uuid([1; 16]));
    Batch {
        forgotten: Vec::new(),
        nodes: nodes.iter().map(|number| node(*number)).collect(),
        events: events.map(|sequence| event(sequence, about(sequence))).collect(),
        access: nodes.first().map(|number| access(*number)),
        policy: nodes.first().map(|number| Policy {
            heal: if *number == 1 { Mode::Observe } else { Mode::Advise },
            rebalance: Mode::Act,
            preempt: Mode::Observe,
        }),
        workloads: nodes.iter().map(|number| workload(*number)).collect(),
        assignments: nodes.iter().map(|number| assignment(*number)).collect(),
        decisions: 5,
        restored: nodes.first().map(|_| restored()),
        intents: Vec::new(),
    }
}

fn restored() -> Restored {
    Restored {
        taken: WallTime(1),
        time: WallTime(2),
        epoch: Epoch(0),
        event: EventNo(4),
        settled: true,
    }
}

/// A workload; that of node 3 is removed.
fn workload(number: u8) -> (Arc<str>, Option<Arc<Workload>>) {
    let name = format!("web-{number}");
    let record = Workload {
        revisions: [(Revision(4), Arc::new(Spec::new(&name, "/bin/true")))].into(),
        revision: Revision(4),
        stable: Revision(3),
        time: WallTime(7),
        by: "ada".to_owned(),
        deleted: false,
        restarted: None,
        promoted: Revision(0),
        rolled_back: String::new(),
        run: 1,
        failed: None,
        run_from: None,
    };
    (name.as_str().into(), (number != 3).then(|| Arc::new(record)))
}

/// An instance; that of node 3 is removed.
fn assignment(number: u8) -> (AssignmentId, Option<Arc<Assignment>>) {
    let id = AssignmentId(u64::from(number));
    let record = Assignment {
        id,
        workload: format!("web-{number}").as_str().into(),
        slot: 0,
        revision: Revision(4),
        node: Uuid([number; 16]),
        goal: Goal::Stop,
        placed: WallTime(7),
        reason: "declared".to_owned(),
        score: Score::default(),
        decision: DecisionId(9),
        replaces: Some(AssignmentId(1)),
        attempt: 2,
        stop_reason: "scaled down".to_owned(),
        leaving: "hot".to_owned(),
        leaving_because: None,
        end: Some(End {
            time: WallTime(8),
            exit: Some(Exit::Signal(9)),
            complete: true,
            unknown: false,
            interrupted: true,
            detail: String::new(),
            last_stderr: "Segmentation fault".to_owned(),
        }),
        orphan: (number == 2).then(|| Arc::new(Spec::new("web-2", "/bin/true"))),
    };
    (id, (number != 3).then(|| Arc::new(record)))
}

/// Tokens and operators, one of them revoked.
fn access(number: u8) -> Arc<Access> {
    let operator = OperatorRecord {
        name: format!("ada-{number}"),
        role: Role::Admin,
        credential: Credential::Bearer([number; 32]),
        created: WallTime(1),
        created_by: "root".to_owned(),
        expires: WallTime(2),
        lived: Duration::ZERO,
        revoked: Some((WallTime(3), "eve".to_owned())),
        revoked_lived: Some(Duration::from_secs(4)),
    };
    let shut = ShutOut {
        time: WallTime(5),
        lived: Duration::from_secs(6),
        revoked: true,
    };
    let mut access = Access::default();
    access.operators.insert(operator.name.clone(), operator);
    access.shut_out = Arc::new([(format!("bob-{number}"), shut)].into());
    access.signs_from = Some(Duration::from_secs(7));
    Arc::new(access)
}

/// Requirements on every store.
fn behaves(mut store: impl Store) {
    let durable = store.load(CLUSTER).unwrap();
    assert_eq!(
        (durable.cluster, durable.epoch, durable.last_event.0),
        (CLUSTER, Epoch(1), 0)
    );
    store
        .commit(Epoch(1), &[batch(&[1, 2], 1..=3), batch(&[2], 4..=6)])
        .unwrap();
    assert!(matches!(
        store.commit(Epoch(7), &[batch(&[3], 7..=7)]),
        Err(StoreError::Fenced {
            ours: Epoch(7),
            theirs: Epoch(1)
        })
    ));
    let history = store.history();
    let sequences = |events: Vec<Event>| events.iter().map(|event| event.sequence.0).collect::<Vec<u64>>();
    let (events, oldest) = history.events(2, 3).unwrap();
    assert_eq!((sequences(events), oldest), (vec![2, 3, 4], 1));
    assert_eq!(sequences(history.events_before(6, 2).unwrap()), [5, 4]);
    assert_eq!(sequences(history.events_of(Uuid([1; 16]), 6, 9).unwrap()), [4, 2]);
    assert_eq!(sequences(history.events_of_from(Uuid([1; 16]), 3, 9).unwrap()), [4, 6]);
    assert_eq!(
        sequences(history.events_of(Uuid([8; 16]), 99, 9).unwrap()),
        Vec::<u64>::new()
    );

    let mut sealer = Sealer::new(CLUSTER, &[1; 32], [0; 32]);
    for cycle in 1..=4 {
        let bytes = Bytes::from(cycle.to_string());
        let seal = Arc::new(sealer.seal(Epoch(1), Cycle(cycle), &bytes));
        store
            .keep_snapshot(&SealedSnapshot {
                seal,
                time: WallTime(cycle as i64),
                lived: Duration::ZERO,
                bytes,
            })
            .unwrap();
    }
    // Three are retained.
    assert!(history.snapshot(1).unwrap().is_none());
    assert_eq!(history.snapshot(2).unwrap().unwrap().bytes, "2");
    assert_eq!(history.snapshot_from(0).unwrap().unwrap().seal.cycle, Cycle(2));
    assert!(history.snapshot_from(5).unwrap().is_none());
    let cycles: Vec<u64> = history
        .seals(4, 9)
        .unwrap()
        .iter()
        .map(|entry| entry.seal.cycle.0)
        .collect();
    assert_eq!(cycles, [3, 2]);

    // Events beyond the retention are dropped, oldest first.
    store.commit(Epoch(1), &[batch(&[], 7..=12)]).unwrap();
    let (events, oldest) = history.events(0, 99).unwrap();
    assert_eq!((sequences(events), oldest), ((3..=12).collect(), 3));
    assert_eq!(sequences(history.events_of_from(Uuid([1; 16]), 0, 1).unwrap()), [4]);

    let durable = store.load(Uuid([7; 16])).unwrap();
    assert_eq!(
        (durable.cluster, durable.epoch, durable.last_event.0, durable.decisions),
        (CLUSTER, Epoch(2), 12, 5)
    );
    assert!(durable.nodes.values().eq([&node(1), &node(2)]));
    assert_eq!(durable.access, access(2), "the newest");
    assert_eq!(durable.restored, Some(restored()));
    assert_eq!((durable.last_snapshot.0, durable.last_snapshot.1), (Epoch(1), Cycle(4)));
    // The previous leader is fenced off.
    assert!(matches!(
        store.commit(Epoch(1), &[batch(&[], 13..=13)]),
        Err(StoreError::Fenced { .. })
    ));
}

/// An event about a workload.
fn of_work(sequence: u64, workload: &str) -> Arc<Event> {
    let mut about = Event::clone(&event(sequence, Some(Uuid([1; 16]))));
    about.body = EventBody::Workload {
        workload: workload.to_owned(),
        assignment: None,
        by: String::new(),
    };
    Arc::new(about)
}

/// One noisy subject keeps the rest of the room, and the others keep their events.
fn shares(store: &mut impl Store) {
    store.load(CLUSTER).unwrap();
    let quiet = [of_work(1, "quiet"), event(2, Some(Uuid([2; 16]))), event(3, None)];
    let commit = |store: &mut _, events: Vec<Arc<Event>>| {
        let batch = Batch {
            events,
            ..Batch::default()
        };
        Store::commit(store, Epoch(1), &[batch]).unwrap();
    };
    commit(store, quiet.to_vec());
    let mut sequence = 3;
    for _ in 0..40 {
        let loud = (0..50).map(|_| {
            sequence += 1;
            of_work(sequence, "loud")
        });
        let loud = loud.collect();
        commit(store, loud);
    }
    let history = store.history();
    let (events, complete_from) = history.events(0, 1_000).unwrap();
    assert_eq!(events.len(), 100);
    let kept: Vec<u64> = events.iter().map(|event| event.sequence.0).collect();
    assert_eq!(kept[..3], [1, 2, 3]);
    assert_eq!(kept[3..], (1_907..=2_003).collect::<Vec<u64>>());
    assert_eq!(complete_from, 1_907, "between 3 and this some are missing");
    assert_eq!(history.events_of_work("quiet", u64::MAX, 9).unwrap().len(), 1);
    assert_eq!(history.events_of(Uuid([2; 16]), u64::MAX, 9).unwrap().len(), 1);
    assert_eq!(history.events_of_work("loud", u64::MAX, 1_000).unwrap().len(), 97);
    // A second one that is equally noisy takes from the first, and not from the others.
    let second = (2_004..=2_100).map(|sequence| of_work(sequence, "second"));
    commit(store, second.collect());
    let of = |workload: &str| history.events_of_work(workload, u64::MAX, 1_000).unwrap().len();
    assert_eq!((of("quiet"), of("loud") + of("second")), (1, 97));
    assert!(
        of("loud").abs_diff(of("second")) <= 1,
        "{} {}",
        of("loud"),
        of("second")
    );
}

/// Bytes of the retained records of these events.
fn bytes_of(history: &dyn History, of: Of<'_>) -> u64 {
    let mut bytes = 0;
    history
        .visit(of, Along::From(0), &mut |kept| {
            bytes += kept.len() as u64;
            Ok(std::ops::ControlFlow::Continue(()))
        })
        .unwrap();
    bytes
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(24))]
    #[test]
    fn kept_events_are_bounded_in_bytes_and_a_small_subject_keeps_its_own(
        commits in proptest::collection::vec(proptest::collection::vec((0usize..4, 0usize..3_000), 1..30), 1..12),
        most in 20_000u64..60_000,
    ) {
        let retention = Retention { event_bytes: most, ..retention(1_000, 3) };
        let directory = tempfile::tempdir().unwrap();
        let mut stores: Vec<Box<dyn Store>> = vec![
            Box::new(Memory::new(retention)),
            Box::new(Embedded::open(directory.path(), retention).unwrap()),
        ];
        let mut made = std::collections::BTreeMap::<usize, u64>::new();
        for store in &mut stores {
            store.load(CLUSTER).unwrap();
        }
        let names = ["a", "b", "c", "d"];
        let mut sequence = 0;
        for commit in commits {
            let events: Vec<Arc<Event>> = commit
                .iter()
                .map(|(subject, text)| {
                    sequence += 1;
                    let mut event = Event::clone(&of_work(sequence, names[*subject]));
                    event.summary = "s".repeat(*text);
                    *made.entry(*subject).or_default() += serde_json::to_vec(&event).unwrap().len() as u64;
                    Arc::new(event)
                })
                .collect();
            for store in &mut stores {
                let batch = Batch { events: events.clone(), ..Batch::default() };
                store.commit(Epoch(1), &[batch]).unwrap();
                let history = store.history();
                proptest::prop_assert!(bytes_of(&*history, Of::All) <= most);
                for (subject, bytes) in made.iter().filter(|(_, bytes)| **bytes <= most / 4) {
                    proptest::prop_assert_eq!(bytes_of(&*history, Of::Work(names[*subject])), *bytes);
                }
            }
        }
        // Both drop the same events, and a reopened store counts as before.
        let kept: Vec<_> = stores.iter().map(|store| store.history().events(0, 1_000).unwrap()).collect();
        proptest::prop_assert_eq!(&kept[0], &kept[1]);
        drop(stores);
        let mut store = Embedded::open(directory.path(), Retention { event_bytes: most / 2, ..retention }).unwrap();
        store.load(CLUSTER).unwrap();
        let events = vec![of_work(sequence + 1, "a")];
        store.commit(Epoch(2), &[Batch { events, ..Batch::default() }]).unwrap();
        proptest::prop_assert!(bytes_of(&*store.history(), Of::All) <= most / 2);
    }
}

#[test]
fn a_loud_subject_does_not_push_out_the_others_events() {
    shares(&mut Memory::new(retention(100, 3)));
    let directory = tempfile::tempdir().unwrap();
    let mut store = Embedded::open(directory.path(), retention(100, 3)).unwrap();
    shares(&mut store);
    let (before, oldest) = store.history().events(0, 1_000).unwrap();
    drop(store);
    // The same after a restart, which counts again.
    let mut store = Embedded::open(directory.path(), retention(100, 3)).unwrap();
    store.load(CLUSTER).unwrap();
    assert_eq!(store.history().events(0, 1_000).unwrap(), (before, oldest));
    let batch = Batch {
        events: (2_101..=2_200).map(|sequence| of_work(sequence, "third")).collect(),
        ..Batch::default()
    };
    store.commit(Epoch(2), &[batch]).unwrap();
    let history = store.history();
    assert_eq!(history.events_of_work("quiet", u64::MAX, 9).unwrap().len(), 1);
    assert_eq!(history.events_of_work("third", u64::MAX, 999).unwrap().len(), 33);
}

#[test]
fn the_store_in_memory_behaves() {
    behaves(Memory::new(retention(10, 3)));
}

#[test]
fn the_embedded_store_behaves_and_opens_again() {
    let directory = tempfile::tempdir().unwrap();
    behaves(Embedded::open(directory.path(), retention(10, 3)).unwrap());
    let mut store = Embedded::open(directory.path(), retention(10, 3)).unwrap();
    let durable = store.load(CLUSTER).unwrap();
    assert_eq!(
        (durable.epoch, durable.nodes.len(), durable.last_event.0),
        (Epoch(3), 2, 12)
    );
}

#[test]
fn snapshots_go_by_the_time_lived_through_and_the_newest_stays() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Embedded::open(directory.path(), retention(10, 100)).unwrap();
    let mut store = open();
    store.load(CLUSTER).unwrap();
    let mut sealer = Sealer::new(CLUSTER, &[1; 32], [0; 32]);
    const DAY: i64 = 24 * 3600;
    // Cycle, wall clock, running time of the coordinator, and the cycles retained then.
    let steps: [(u64, i64, u64, &[u64]); 7] = [
        (1, 0, 0, &[1]),
        (2, 500, 500, &[2, 1]),
        // The clock is set three days ahead, and back.
        (3, 3 * DAY, 506, &[3, 2, 1]),
        (4, 3 * DAY + 6, 512, &[4, 3, 2, 1]),
        (5, 520, 518, &[5, 4, 3, 2, 1]),
        // It is set to 1970 and stays there: old snapshots are dropped nevertheless.
        (6, 0, 1_510, &[6, 5, 4]),
        (7, 0, 9_000, &[7]),
    ];
    for (cycle, second, lived, expected) in steps {
        let seal = Arc::new(sealer.seal(Epoch(1), Cycle(cycle), b"x"));
        store
            .keep_snapshot(&SealedSnapshot {
                seal,
                time: WallTime(second * 1_000),
                lived: Duration::from_secs(lived),
                bytes: Bytes::from_static(b"x"),
            })
            .unwrap();
        let kept = store.history().seals(u64::MAX, 9).unwrap();
        let kept: Vec<u64> = kept.iter().map(|entry| entry.seal.cycle.0).collect();
        assert_eq!(kept, expected, "cycle {cycle}");
    }
    drop(store);
    let lived = open().load(CLUSTER).unwrap().lived;
    assert_eq!(lived, Duration::from_secs(9_000), "kept across restarts");
}

#[test]
fn what_was_carried_out_is_told_only_of_intents_that_the_store_can_know() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Embedded::open(directory.path(), retention(10, 3)).unwrap();
    let mut store = open();
    store.load(CLUSTER).unwrap();
    // An audit with entries from before intents existed.
    assert_eq!(store.carried_out(8).unwrap().tell(7), None);
    let with = |intents: &[u64]| Batch {
        intents: intents.to_vec(),
        ..batch(&[1], 1..=1)
    };
    store.commit(Epoch(1), &[with(&[8, 10]), with(&[])]).unwrap();
    drop(store);
    let mut store = open();
    store.load(CLUSTER).unwrap();
    let told = store.carried_out(12).unwrap();
    let told: Vec<_> = (7..=10).map(|intent| told.tell(intent)).collect();
    assert_eq!(told, [None, Some(true), Some(false), Some(true)]);
    // The audit was lost: the record refers to the numbers of another one.
    assert_eq!(store.carried_out(1).unwrap().tell(8), Some(false));
    // An intent without changes is recorded as well.
    let alone = Batch {
        intents: vec![5],
        ..Batch::default()
    };
    store.commit(Epoch(2), &[alone]).unwrap();
    assert_eq!(store.carried_out(12).unwrap().tell(5), Some(true));
    // More than are remembered.
    let many: Vec<u64> = (20..20_000).collect();
    store.commit(Epoch(2), &[with(&many)]).unwrap();
    let told = store.carried_out(20_000).unwrap();
    assert_eq!((told.tell(21), told.tell(19_999)), (None, Some(true)));
}

#[test]
fn a_store_that_is_locked_foreign_or_corrupt_is_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Embedded::open(directory.path(), retention(10, 3));
    let first = open().unwrap();
    let locked = open().err().unwrap();
    assert!(matches!(locked, StoreError::Locked(_)), "{locked}");
    assert!(locked.to_string().contains("data_dir"));
    drop(first);
    fs::write(
        directory.path().join("state.redb"),
        b"this is no store, but long enough to have had a header".repeat(100),
    )
    .unwrap();
    let foreign = open().err().unwrap();
    assert!(
        matches!(foreign, StoreError::Foreign { .. } | StoreError::Corrupt { .. }),
        "{foreign:?}"
    );
    assert!(foreign.to_string().contains("state.redb"));
}

/// After any damage to a file, such as flipped bytes or truncation, the store opens and answers, or returns an error;
/// it never panics.
#[test]
fn no_damage_to_a_file_makes_a_panic() {
    use rand::{RngExt, SeedableRng};
    let directory = tempfile::tempdir().unwrap();
    let mut store = Embedded::open(directory.path(), retention(1_000, 100)).unwrap();
    store.load(CLUSTER).unwrap();
    store
        .commit(Epoch(1), &[batch(&(1..=200).collect::<Vec<u8>>(), 1..=300)])
        .unwrap();
    drop(store);
    let path = directory.path().join("state.redb");
    let sound = fs::read(&path).unwrap();
    let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(5);
    for round in 0..60 {
        let mut damaged = sound.clone();
        for _ in 0..1 + round % 40 {
            let at = rng.random_range(0..damaged.len());
            damaged[at] ^= 1 << rng.random_range(0..8);
        }
        if round % 5 == 0 {
            damaged.truncate(rng.random_range(0..sound.len()));
        }
        // In a different directory each time: a store that encountered damage keeps its lock.
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("state.redb"), damaged).unwrap();
        if let Ok(mut store) = Embedded::open(directory.path(), retention(1_000, 100)) {
            drop(store.load(CLUSTER));
            drop(store.history().events(0, 1_000));
            drop(store.history().events_of(Uuid([1; 16]), 1_000, 1_000));
            drop(store.commit(Epoch(2), &[batch(&[1], 301..=301)]));
        }
    }
}

#[test]
fn a_file_cut_short_or_lost_is_no_new_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Embedded::open(directory.path(), retention(10, 3));
    let mut store = open().unwrap();
    store.load(CLUSTER).unwrap();
    let bytes = Bytes::from_static(b"x");
    let seal = Arc::new(Sealer::new(CLUSTER, &[1; 32], [0; 32]).seal(Epoch(1), Cycle(1), &bytes));
    let time = WallTime(1);
    store
        .keep_snapshot(&SealedSnapshot {
            seal,
            time,
            lived: Duration::ZERO,
            bytes,
        })
        .unwrap();
    drop(store);
    let path = directory.path().join("state.redb");
    let sound = fs::read(&path).unwrap();
    for length in [10, 100, 5_000, sound.len() - 1] {
        fs::write(&path, &sound[..length]).unwrap();
        let cut = open().err().unwrap();
        assert!(matches!(cut, StoreError::Corrupt { .. }), "{length}: {cut:?}");
    }
    fs::remove_file(&path).unwrap();
    // For any number of attempts.
    for _ in 0..3 {
        let lost = open().unwrap().load(CLUSTER).err().unwrap();
        assert!(matches!(lost, StoreError::Corrupt { .. }), "{lost:?}");
        assert!(lost.to_string().contains("history.redb"), "{lost}");
    }
    fs::write(&path, &sound).unwrap();
    assert_eq!(open().unwrap().load(CLUSTER).unwrap().epoch, Epoch(2));
}

/// A backup in memory.
struct Backup {
    maker: backup::Maker,
    bytes: Vec<u8>,
}

impl Backup {
    fn of(store: &Embedded) -> Vec<u8> {
        let maker = backup::Maker::new(DigestSigner::new(&[1; 32]));
        let bytes = backup::MAGIC.to_vec();
        let mut backup = Backup { maker, bytes };
        store.source().read(&mut backup).unwrap();
        let Backup { maker, mut bytes } = backup;
        bytes.extend(maker.end().encode_length_delimited_to_vec());
        bytes
    }

    fn add(&mut self, kind: v1::BackupKind, name: &str, value: &[u8]) {
        for part in self.maker.record(kind, name, value) {
            self.bytes.extend(part.encode_length_delimited_to_vec());
        }
    }
}

impl Sink for Backup {
    fn header(&mut self, header: v1::BackupHeader) -> Result<(), file::Failure> {
        let time = Some(convert::timestamp(WallTime(7_000)));
        let part = self.maker.header(v1::BackupHeader { time, ..header });
        self.bytes.extend(part.encode_length_delimited_to_vec());
        Ok(())
    }

    fn files(&mut self) -> Result<(), file::Failure> {
        self.add(v1::BackupKind::File, "signing.key", &[1; 32]);
        Ok(())
    }

    fn record(&mut self, kind: v1::BackupKind, value: &[u8]) -> Result<(), file::Failure> {
        self.add(kind, "", value);
        Ok(())
    }

    fn audit(&mut self) -> Result<(), file::Failure> {
        Ok(())
    }
}

#[test]
fn a_store_made_from_a_backup_goes_on_above_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Embedded::open(directory.path(), retention(10, 3)).unwrap();
    store.load(CLUSTER).unwrap();
    store.commit(Epoch(1), &[batch(&[1, 2], 1..=8)]).unwrap();
    let mut sealer = Sealer::new(CLUSTER, &[1; 32], [0; 32]);
    for cycle in 1..=2 {
        let snapshot = v1::Snapshot {
            cluster_id: CLUSTER.to_string(),
            epoch: 1,
            cycle,
            ..v1::Snapshot::default()
        };
        let bytes = Bytes::from(snapshot.encode_to_vec());
        let (seal, time) = (Arc::new(sealer.seal(Epoch(1), Cycle(cycle), &bytes)), WallTime(1));
        store
            .keep_snapshot(&SealedSnapshot {
                seal,
                time,
                lived: Duration::ZERO,
                bytes,
            })
            .unwrap();
    }
    let kept = store.history().snapshot(2).unwrap();
    let bytes = Backup::of(&store);
    // Later writes are not in it.
    store.commit(Epoch(1), &[batch(&[], 9..=9)]).unwrap();

    let target = tempfile::tempdir().unwrap();
    let reader = backup::Reader::new(&bytes[..], None).unwrap();
    let header = reader.contents().header.clone();
    let now = WallTime(9_000_000);
    let restored = Restored::new(Epoch(header.epoch), EventNo(header.event_sequence), taken(&header), now).unwrap();
    let mut import = Import::new(target.path(), &header, &restored).unwrap();
    for record in reader {
        import.take(record.unwrap()).unwrap();
    }
    import.finish().unwrap();

    let mut made = Embedded::open(target.path(), retention(10, 3)).unwrap();
    let durable = made.load(Uuid([7; 16])).unwrap();
    assert_eq!(
        (durable.cluster, durable.epoch, durable.last_event.0),
        (CLUSTER, Epoch(9_001), 9_000_000)
    );
    assert_eq!(durable.restored, Some(restored));
    assert!(durable.nodes.values().eq([&node(1), &node(2)]));
    assert_eq!((durable.access, durable.decisions), (access(1), 5));
    assert_eq!((durable.workloads.len(), durable.assignments.len()), (2, 2));
    assert_eq!(durable.last_snapshot.1, Cycle(2));
    assert_eq!(made.history().snapshot(2).unwrap(), kept, "the chain goes on from it");
    assert!(made.history().snapshot(1).unwrap().is_none());
    let sequences = |events: Vec<Event>| events.iter().map(|event| event.sequence.0).collect::<Vec<u64>>();
    assert_eq!(
        sequences(made.history().events(0, 99).unwrap().0),
        (1..=8).collect::<Vec<u64>>()
    );
    assert_eq!(
        sequences(made.history().events_of(Uuid([1; 16]), 99, 9).unwrap()),
        [8, 6, 4, 2]
    );
    made.commit(Epoch(9_001), &[batch(&[], 9_000_001..=9_000_001)]).unwrap();
    assert_eq!(made.load(CLUSTER).unwrap().last_event, EventNo(9_000_001));
}
