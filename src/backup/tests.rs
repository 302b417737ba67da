use prost::Message as _;
use wyneos_core::{
    event::{Event, EventBody},
    id::{Cycle, Epoch, EventNo, Uuid},
    integrity::{DigestSigner, PublicKey, Sealer},
    time::WallTime,
};

use super::{MAGIC, Maker, PIECE, Record, verify};
use crate::{
    convert,
    v1::{self, BackupKind},
};

const CLUSTER: Uuid = Uuid([9; 16]);
const SECRET: [u8; 32] = [7; 32];

fn event(sequence: u64) -> Vec<u8> {
    let event = Event {
        sequence: EventNo(sequence),
        time: WallTime(1),
        epoch: Epoch(1),
        cycle: Cycle(2),
        node: None,
        node_name: String::new(),
        summary: "x".repeat(10),
        body: EventBody::Command {
            verb: "label".to_owned(),
            detail: String::new(),
            by: "ada".to_owned(),
        },
        times: 1,
    };
    serde_json::to_vec(&event).unwrap()
}

/// A snapshot that is longer than one record.
fn snapshot() -> (v1::SealedEntry, Vec<u8>) {
    let snapshot = v1::Snapshot {
        cluster_id: CLUSTER.to_string(),
        epoch: 3,
        cycle: 40,
        coordinator_version: "x".repeat(2 * PIECE),
        ..v1::Snapshot::default()
    };
    let bytes = snapshot.encode_to_vec();
    let seal = Sealer::new(CLUSTER, &SECRET, [5; 32]).seal(Epoch(3), Cycle(40), &bytes);
    let entry = v1::SealedEntry {
        seal: Some((&seal).into()),
        time: Some(convert::timestamp(WallTime(1))),
        size_bytes: bytes.len() as u64,
        lived_millis: 0,
    };
    (entry, bytes)
}

fn header() -> v1::BackupHeader {
    v1::BackupHeader {
        cluster_id: CLUSTER.to_string(),
        epoch: 3,
        cycle: 40,
        event_sequence: 8,
        time: Some(convert::timestamp(WallTime(5_000))),
        ..v1::BackupHeader::default()
    }
}

fn file_of(header: v1::BackupHeader, records: &[(BackupKind, &str, Vec<u8>)]) -> Vec<u8> {
    let mut maker = Maker::new(DigestSigner::new(&SECRET));
    let mut parts = vec![maker.header(header)];
    for (kind, name, value) in records {
        parts.extend(maker.record(*kind, name, value));
    }
    parts.push(maker.end());
    let mut file = MAGIC.to_vec();
    for part in parts {
        file.extend(part.encode_length_delimited_to_vec());
    }
    file
}

fn records() -> Vec<(BackupKind, &'static str, Vec<u8>)> {
    let (entry, bytes) = snapshot();
    vec![
        (BackupKind::File, "signing.key", SECRET.to_vec()),
        (BackupKind::File, "ca/1/ca.key", b"key".to_vec()),
        (BackupKind::Event, "", event(7)),
        (BackupKind::Event, "", event(8)),
        (BackupKind::Seal, "", entry.encode_to_vec()),
        (BackupKind::Snapshot, "", bytes),
    ]
}

fn refused(records: &[(BackupKind, &str, Vec<u8>)]) -> String {
    verify(&file_of(header(), records)[..], None).unwrap_err().to_string()
}

#[test]
fn what_was_written_is_read() {
    let file = file_of(header(), &records());
    let contents = verify(&file[..], Some(DigestSigner::new(&SECRET).public_key())).unwrap();
    assert_eq!(contents.files, ["signing.key", "ca/1/ca.key"]);
    assert_eq!(contents.count(BackupKind::Event), 2);
    assert_eq!(contents.header.cycle, 40);
    let read: Result<Vec<Record>, _> = super::Reader::new(&file[..], None).unwrap().collect();
    let (entry, bytes) = snapshot();
    assert_eq!(read.unwrap().last(), Some(&Record::Snapshot(entry, bytes)));
    let other = verify(&file[..], Some(PublicKey([1; 32]))).unwrap_err();
    assert!(other.to_string().contains("public_key"), "{other}");
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let mut small = records();
    small.truncate(4);
    let header = v1::BackupHeader { cycle: 0, ..header() };
    let file = file_of(header, &small);
    verify(&file[..], None).unwrap();
    for bit in 0..file.len() * 8 {
        let mut altered = file.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        assert!(verify(&altered[..], None).is_err(), "bit {bit} of {}", file.len() * 8);
    }
    for length in 0..file.len() {
        assert!(verify(&file[..length], None).is_err(), "cut at {length}");
    }
    let longer = [&file[..], b"x"].concat();
    assert!(verify(&longer[..], None).is_err());
}

#[test]
fn records_that_make_no_sense_are_refused() {
    let without = |at: usize| {
        let mut records = records();
        records.remove(at);
        refused(&records)
    };
    assert!(without(0).contains("signing.key is missing"));
    assert!(without(3).contains("event_sequence"));
    assert!(without(4).contains("without its seal"));
    assert!(without(5).contains("cycle"));
    for name in [
        "../x",
        "/etc/passwd",
        "ca/01/ca.key",
        "ca/1/../../x",
        "state.redb",
        "ca/1/ca.key",
    ] {
        let mut records = records();
        records.insert(2, (BackupKind::File, name, Vec::new()));
        assert!(refused(&records).contains("is no file of a backup"), "{name}");
    }
    let mut backwards = records();
    backwards.swap(2, 3);
    assert!(refused(&backwards).contains("is not the next"));
    let mut disordered = records();
    disordered.swap(1, 2);
    assert!(refused(&disordered).contains("order"));
    let mut other_key = records();
    other_key[0].2 = vec![1; 32];
    assert!(refused(&other_key).contains("public_key"));
    let mut no_json = records();
    no_json.insert(2, (BackupKind::Node, "", b"{}".to_vec()));
    assert!(refused(&no_json).contains("value"));
}
