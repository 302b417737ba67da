//! Stores of earlier releases are opened and contain what was written: a `data_dir` and, beside it, its records as
//! text.
//!
//! `WYNEOS_GOLDEN=NAME` writes a further one; existing ones are never rewritten.

use std::{
    fs,
    path::{Path, PathBuf},
};
use wyneos_core::id::Cycle;

use serde_json::{Value, json};
use wyneos_core::{id::Epoch, store::Durable};

use super::*;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// The durable state, record by record, as this version writes it.
fn told(durable: &Durable, events: &[Event], seals: &[SealEntry]) -> Value {
    json!({
        "cluster": durable.cluster.to_string(),
        "nodes": durable.nodes.values().collect::<Vec<_>>(),
        "access": durable.access,
        "workloads": durable.workloads.values().collect::<Vec<_>>(),
        "assignments": durable.assignments.values().collect::<Vec<_>>(),
        "policy": durable.policy,
        "decisions": durable.decisions,
        "restored": durable.restored,
        "events": events,
        "seals": seals.iter().map(|entry| (entry.seal.epoch, entry.seal.cycle)).collect::<Vec<_>>(),
    })
}

fn read(directory: &Path) -> Value {
    let mut store = Embedded::open(directory, retention(1_000, 100)).unwrap();
    let durable = store.load(Uuid([7; 16])).unwrap();
    let history = store.history();
    let (events, _) = history.events(0, 1_000).unwrap();
    let seals = history.seals(u64::MAX, 100).unwrap();
    told(&durable, &events, &seals)
}

fn write(directory: &Path) {
    fs::create_dir(directory).unwrap();
    let mut store = Embedded::open(directory, retention(1_000, 100)).unwrap();
    store.load(CLUSTER).unwrap();
    let batch = Batch {
        intents: vec![1, 3],
        ..batch(&[1, 2], 1..=6)
    };
    store.commit(Epoch(1), &[batch]).unwrap();
    let of_work = Batch {
        events: vec![of_work(7, "web-1"), evidence::decided(8)],
        ..Batch::default()
    };
    store.commit(Epoch(1), &[of_work]).unwrap();
    let mut sealer = Sealer::new(CLUSTER, &[1; 32], [0; 32]);
    let bytes = Bytes::from("snapshot");
    let seal = Arc::new(sealer.seal(Epoch(1), Cycle(1), &bytes));
    let (time, lived) = (WallTime(1), Duration::from_secs(6));
    store
        .keep_snapshot(&SealedSnapshot {
            seal,
            time,
            lived,
            bytes,
        })
        .unwrap();
    drop(store);
    let text = serde_json::to_string_pretty(&read(directory)).unwrap();
    fs::write(directory.join("records.json"), format!("{text}\n")).unwrap();
}

/// Whether everything in `wanted` is in `found`: a later version may contain more.
fn has(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, value)| found.get(key).is_some_and(|found| has(found, value))),
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| has(found, wanted))
        }
        _ => found == wanted,
    }
}

#[test]
fn stores_of_earlier_landings_open_with_all_that_was_written() {
    if let Some(name) = std::env::var_os("WYNEOS_GOLDEN") {
        write(&golden().join(name));
    }
    let mut opened = 0;
    for entry in fs::read_dir(golden()).unwrap() {
        let from = entry.unwrap().path();
        let directory = tempfile::tempdir().unwrap();
        for file in ["state.redb", "history.redb"] {
            fs::copy(from.join(file), directory.path().join(file)).unwrap();
        }
        let wanted: Value = serde_json::from_str(&fs::read_to_string(from.join("records.json")).unwrap()).unwrap();
        let found = read(directory.path());
        assert!(has(&found, &wanted), "{}: {found:#}", from.display());
        opened += 1;
    }
    assert!(opened > 0);
}
