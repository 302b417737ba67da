use std::{fs, path::Path};

use proptest::prelude::*;
use wyneos_core::id::{ClusterId, Uuid};

use crate::{
    audit::{
        Known, Opened, Started, intent_of,
        log::{FILE, Shared},
    },
    store::{File, Kind, StoreError},
};
use wyneos::{
    audit::Verifier,
    v1::{self, AuditKind},
};
use wyneos_core::integrity::DigestSigner;

const CLUSTER: ClusterId = Uuid([1; 16]);
const SECRET: [u8; 32] = [7; 32];

fn intent() -> v1::AuditRecord {
    intent_of(v1::AuditRecord::default())
}

/// Starts and ends an audit with this many intents; returns the reported loss, and the record of the audit.
fn run(place: &Path, secret: &[u8; 32], known: Option<Known>, intents: u64) -> (Option<String>, Known) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let opened = Opened::new(place, CLUSTER, secret, 1_000, known).unwrap();
    let Started {
        audit,
        writer,
        end,
        lost,
        ..
    } = opened.start(place, Default::default(), |_| Some(true)).unwrap();
    let newest = runtime.block_on(async {
        let mut newest = known.map_or(0, |known| known.newest);
        for _ in 0..intents {
            newest = audit.intend(intent()).await.unwrap().number();
        }
        audit.stop().await;
        newest
    });
    writer.join().unwrap();
    let newest = newest.max(end.0);
    (lost.into_iter().next(), Known { newest, entry: end })
}

/// The entries with a verified chain, and the losses that they report.
fn verified(place: &Path, known: Known) -> (Vec<v1::AuditRecord>, Vec<(u64, u64)>) {
    let opened = Opened::new(place, CLUSTER, &SECRET, 1_000, Some(known)).unwrap();
    assert_eq!(opened.lost, None);
    let mut verifier = Verifier::new(CLUSTER, DigestSigner::new(&SECRET).public_key());
    let entries = opened.shared.read(0, usize::MAX).unwrap();
    for entry in &entries {
        verifier.next(entry).unwrap();
    }
    let records = entries.into_iter().filter_map(|entry| entry.record).collect();
    (records, verifier.lost().to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// For any sequence of starts, an older copy that is put back is detected, and so is a missing audit; nothing is
    /// reported if nothing is missing.
    #[test]
    fn what_is_missing_is_noticed_and_told(
        starts in prop::collection::vec(0u64..4, 1..5),
        which in any::<prop::sample::Index>(),
        gone in any::<bool>(),
        later in 0u64..3,
    ) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(FILE);
        let (mut known, mut copies) = (None, Vec::new());
        for intents in starts {
            let (lost, now) = run(place.path(), &SECRET, known, intents);
            prop_assert_eq!(lost, None);
            known = Some(now);
            copies.push((fs::read(&path).unwrap(), now.newest));
        }
        let before = known.unwrap();
        let (copy, newest) = &copies[which.index(copies.len())];
        match gone {
            true => fs::remove_file(&path).unwrap(),
            false => fs::write(&path, copy).unwrap(),
        }
        let is_missing = if gone { before.newest > 0 } else { *newest < before.newest };
        let (lost, known) = run(place.path(), &SECRET, Some(before), later);
        prop_assert_eq!(lost.is_some(), is_missing, "{:?}", lost);
        let (records, told) = verified(place.path(), known);
        match records.iter().find(|record| record.kind() == AuditKind::Lost) {
            Some(entry) => {
                prop_assert_eq!(entry.sequence, before.newest + 1);
                prop_assert_eq!(told.len(), 1);
                prop_assert_eq!(told[0].1, before.newest);
            }
            None => prop_assert!(!is_missing),
        }
    }
}

#[test]
fn an_audit_of_somebody_else_is_put_aside_and_another_one_of_ours_is_noticed() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_, known) = run(ours.path(), &SECRET, None, 3);
    let (_, known) = run(ours.path(), &SECRET, Some(known), 2);
    // More entries than are missed: only the signature distinguishes them.
    run(theirs.path(), &[8; 32], None, 40);
    let mut known = known;
    // However often: a renamed audit never replaces another one.
    for (times, name) in ["audit.redb.foreign", "audit.redb.foreign.2", "audit.redb.foreign.3"]
        .into_iter()
        .enumerate()
    {
        run(theirs.path(), &[8; 32], None, 1 + times as u64);
        let before = fs::read(theirs.path().join(FILE)).unwrap();
        fs::write(ours.path().join(FILE), &before).unwrap();
        let lost;
        (lost, known) = run(ours.path(), &SECRET, Some(known), 1);
        let told = lost.unwrap();
        assert!(told.contains(&format!("kept as {name}:")), "{told}");
        let entries = |place: &Path, name: &str| {
            fs::copy(place.join(name), theirs.path().join("copy.redb")).unwrap();
            Shared::of(File::open(theirs.path().join("copy.redb"), Kind::Audit).unwrap())
                .read(0, 1_000)
                .unwrap()
        };
        assert_eq!(entries(ours.path(), name), entries(theirs.path(), FILE));
        let (_, told) = verified(ours.path(), known);
        assert_eq!(told.len(), 1, "{times}");
    }
    // An audit of this coordinator with the same numbers and other contents.
    let fork = tempfile::tempdir().unwrap();
    let (_, other) = run(fork.path(), &SECRET, None, 40);
    run(fork.path(), &SECRET, Some(other), 0);
    fs::copy(fork.path().join(FILE), ours.path().join(FILE)).unwrap();
    let (lost, known) = run(ours.path(), &SECRET, Some(known), 1);
    assert!(lost.unwrap().contains("replaced by another one of this coordinator"));
    verified(ours.path(), known);
}

#[test]
fn with_another_key_the_audit_that_the_state_knows_is_not_put_aside() {
    let place = tempfile::tempdir().unwrap();
    let (_, known) = run(place.path(), &SECRET, None, 3);
    let (_, known) = run(place.path(), &SECRET, Some(known), 2);
    let refused = Opened::new(place.path(), CLUSTER, &[8; 32], 1_000, Some(known))
        .err()
        .unwrap();
    assert!(
        matches!(&refused, StoreError::Corrupt { path, .. } if path.ends_with("signing.key")),
        "{refused}"
    );
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "nothing was renamed");
    // With the correct one it continues.
    let (lost, known) = run(place.path(), &SECRET, Some(known), 1);
    assert_eq!(lost, None);
    verified(place.path(), known);
}

#[test]
fn a_file_without_a_byte_is_refused_with_what_to_do() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(FILE);
    // An interrupted first start.
    fs::write(&path, b"").unwrap();
    let (_, known) = run(place.path(), &SECRET, None, 1);
    fs::write(&path, b"").unwrap();
    let refused = Opened::new(place.path(), CLUSTER, &SECRET, 1_000, Some(known))
        .err()
        .unwrap()
        .to_string();
    assert!(
        refused.contains("remove it") && refused.contains("from a backup"),
        "{refused}"
    );
    // Truncated.
    fs::remove_file(&path).unwrap();
    run(place.path(), &SECRET, None, 40);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let refused = Opened::new(place.path(), CLUSTER, &SECRET, 1_000, Some(known))
        .err()
        .unwrap()
        .to_string();
    assert!(
        refused.contains("truncated") || refused.contains("cut short"),
        "{refused}"
    );
}
