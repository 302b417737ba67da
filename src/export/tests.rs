use std::io::Cursor;

use prost::Message;
use wyneos_core::{
    id::{ClusterId, Cycle, Epoch},
    integrity::{PublicKey, Sealer, ZERO_DIGEST},
};

use super::{ExportError, MAGIC, MESSAGE_MAX, Place, Reader, Writer, verify};
use crate::v1;

const CLUSTER: ClusterId = wyneos_core::id::Uuid([0xab; 16]);

fn sealer() -> Sealer {
    Sealer::new(CLUSTER, &[7; 32], ZERO_DIGEST)
}

fn record(sealer: &mut Sealer, cycle: u64) -> v1::ReadSnapshotsResponse {
    let snapshot = v1::Snapshot {
        cluster_id: CLUSTER.to_string(),
        epoch: 1,
        cycle,
        coordinator_version: "0.1.0".to_owned(),
        ..v1::Snapshot::default()
    };
    let bytes = snapshot.encode_to_vec();
    let seal = sealer.seal(Epoch(1), Cycle(cycle), &bytes);
    v1::ReadSnapshotsResponse {
        snapshot: bytes.into(),
        seal: Some((&seal).into()),
    }
}

fn file() -> (Vec<u8>, PublicKey) {
    let mut sealer = sealer();
    let key = sealer.public_key();
    let mut writer = Writer::new(Cursor::new(Vec::new()), CLUSTER, key).unwrap();
    for cycle in 5..7 {
        writer.write(&record(&mut sealer, cycle)).unwrap();
    }
    let mut file = Vec::new();
    writer.finish(&mut file).unwrap();
    (file, key)
}

fn bad(result: Result<v1::ExportHeader, ExportError>) -> (Place, &'static str) {
    match result.unwrap_err() {
        ExportError::Bad { place, field, .. } => (place, field),
        ExportError::Io { source, .. } => panic!("{source}"),
    }
}

#[test]
fn what_is_written_is_read() {
    let (file, key) = file();
    let reader = Reader::new(&file[..], Some(key)).unwrap();
    let cycles: Vec<u64> = reader.map(|record| record.unwrap().seal.unwrap().cycle).collect();
    assert_eq!(cycles, [5, 6]);
    let header = verify(&file[..], None).unwrap();
    assert_eq!((header.from_cycle, header.to_cycle, header.count), (5, 6, 2));
}

#[test]
fn every_flipped_bit_is_found() {
    let (mut file, _) = file();
    for at in 0..file.len() {
        for bit in 0..8 {
            file[at] ^= 1 << bit;
            let (place, field) = bad(verify(&file[..], None));
            assert!(!field.is_empty());
            if at < MAGIC.len() {
                assert_eq!(place, Place::Magic);
            }
            file[at] ^= 1 << bit;
        }
    }
    verify(&file[..], None).unwrap();
}

#[test]
fn every_truncation_is_found() {
    let (file, _) = file();
    for length in 0..file.len() {
        bad(verify(&file[..length], None));
    }
}

#[test]
fn appended_bytes_are_found() {
    let (mut file, _) = file();
    for byte in 0..=255 {
        file.push(byte);
        assert_eq!(bad(verify(&file[..], None)), (Place::End, "count"));
        file.pop();
    }
}

#[test]
fn a_flipped_field_is_named_with_its_record() {
    let (file, _) = file();
    let mut sealer = sealer();
    let signature = record(&mut sealer, 5).seal.unwrap().signature;
    let second = record(&mut sealer, 6);
    let digest = second.seal.as_ref().unwrap().digest.clone();
    let find = |needle: &[u8]| file.windows(needle.len()).position(|window| window == needle).unwrap();
    let flipped = |at: usize| {
        let mut file = file.clone();
        file[at] ^= 2;
        bad(verify(&file[..], None))
    };
    let place = |number, after| Place::Record {
        number,
        cycle: Some(number + 4),
        after,
    };

    assert_eq!(flipped(find(&signature) + 9), (place(1, None), "signature"));
    assert_eq!(flipped(find(&digest)), (place(2, Some(5)), "digest"));
    assert_eq!(flipped(find(&second.snapshot) + 46), (place(2, Some(5)), "digest"));
    // After the snapshot: the seal's tag and length, the epoch's tag and value, the cycle's tag and value.
    let seal = find(&second.snapshot) + second.snapshot.len();
    assert_eq!(flipped(seal + 4).1, "epoch");
    assert_eq!(flipped(seal + 6).1, "cycle");
}

#[test]
fn records_cannot_be_taken_out_or_swapped() {
    let mut sealer = sealer();
    let key = sealer.public_key();
    let records: Vec<_> = (1..5).map(|cycle| record(&mut sealer, cycle)).collect();
    let write = |order: &[usize]| {
        let mut writer = Writer::new(Cursor::new(Vec::new()), CLUSTER, key).unwrap();
        order.iter().try_for_each(|&at| writer.write(&records[at]))
    };
    write(&[0, 1, 2, 3]).unwrap();
    write(&[1, 2]).unwrap();
    for order in [&[0, 2][..], &[1, 0], &[0, 0]] {
        let error = write(order).unwrap_err();
        assert!(matches!(error, ExportError::Bad { field: "previous", .. }), "{error}");
    }
}

#[test]
fn unknown_fields_do_not_ride_along() {
    let (file, _) = file();
    let header = verify(&file[..], None).unwrap();
    let body = MAGIC.len() + header.encode_length_delimited_to_vec().len();
    let mut longer = header.encode_to_vec();
    // Field 15, varint 1.
    longer.extend([0x78, 1]);
    let mut forged = MAGIC.to_vec();
    forged.push(longer.len() as u8);
    forged.extend(longer);
    forged.extend(&file[body..]);
    assert_eq!(bad(verify(&forged[..], None)), (Place::Header, "message"));
}

#[test]
fn another_key_is_not_trusted() {
    let (file, _) = file();
    let other = Sealer::new(CLUSTER, &[8; 32], ZERO_DIGEST).public_key();
    assert_eq!(bad(verify(&file[..], Some(other))), (Place::Header, "public_key"));
}

#[test]
fn a_length_beyond_the_limit_allocates_nothing() {
    let mut file = MAGIC.to_vec();
    prost::encoding::encode_varint(MESSAGE_MAX + 1, &mut file);
    assert_eq!(bad(verify(&file[..], None)), (Place::Header, "length"));
}

#[test]
fn nothing_is_no_export() {
    let writer = Writer::new(Cursor::new(Vec::new()), CLUSTER, sealer().public_key()).unwrap();
    writer.finish(Vec::new()).unwrap_err();
}

#[test]
fn a_record_in_another_form_is_named_by_its_cycle() {
    let mut sealer = sealer();
    let key = sealer.public_key();
    let record = record(&mut sealer, 5);
    let mut writer = Writer::new(Cursor::new(Vec::new()), CLUSTER, key).unwrap();
    writer.write(&record).unwrap();
    let mut file = Vec::new();
    writer.finish(&mut file).unwrap();
    file.truncate(file.len() - record.encode_length_delimited_to_vec().len());
    let mut longer = record.encode_to_vec();
    longer.extend([0x78, 1]);
    prost::encoding::encode_varint(longer.len() as u64, &mut file);
    file.extend(longer);
    let place = Place::Record {
        number: 1,
        cycle: Some(5),
        after: None,
    };
    assert_eq!(bad(verify(&file[..], None)), (place, "message"));
}
