use prost::Message;
use prost_reflect::{Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use super::{Labels, RowKey, Wire, WireDelta, WireGetResponse, WireWatchResponse};

/// Maximum depth of nested messages that are filled; deeper ones contain no field of these types.
const DEPTH: u32 = 3;

fn descriptor(name: &str) -> MessageDescriptor {
    let pool = DescriptorPool::decode(crate::FILE_DESCRIPTOR_SET).unwrap();
    pool.get_message_by_name(&format!("wyneos.v1.{name}")).unwrap()
}

/// Returns a message with every field of its descriptor set; of a oneof, the field `chosen` or the first one.
fn filled(descriptor: &MessageDescriptor, chosen: &str, depth: u32) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        let others = field.containing_oneof().map(|oneof| oneof.fields().collect::<Vec<_>>());
        let taken = others.is_some_and(|fields| {
            let wanted = fields.iter().find(|one| one.name() == chosen).or(fields.first());
            wanted != Some(&field)
        });
        if !taken {
            message.set_field(&field, value(&field, depth));
        }
    }
    message
}

fn value(field: &FieldDescriptor, depth: u32) -> Value {
    let one = match field.kind() {
        Kind::Message(inner) if depth == 0 => Value::Message(DynamicMessage::new(inner)),
        Kind::Message(inner) => Value::Message(filled(&inner, "", depth - 1)),
        Kind::Enum(inner) => Value::EnumNumber(inner.values().last().unwrap().number()),
        Kind::String => Value::String(field.name().to_owned()),
        Kind::Bytes => Value::Bytes(vec![1; 3].into()),
        Kind::Bool => Value::Bool(true),
        Kind::Float => Value::F32(1.5),
        Kind::Double => Value::F64(1.5),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(7),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(7),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(7),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(7),
    };
    match field.cardinality() {
        Cardinality::Repeated => Value::List(vec![one.clone(), one]),
        _ => one,
    }
}

/// Checks that a hand-written type reads and writes exactly the fields of the message that it represents.
fn stands_for<T: Message + Default>(name: &str, chosen: &str) {
    let descriptor = descriptor(name);
    let message = filled(&descriptor, chosen, DEPTH);
    let bytes = message.encode_to_vec();
    let own = T::decode(bytes.as_slice()).unwrap().encode_to_vec();
    let read = DynamicMessage::decode(descriptor, own.as_slice()).unwrap();
    assert_eq!(
        read, message,
        "{name}: a field, its number or its type is another than the proto's"
    );
    assert_eq!(own, bytes, "{name}: written in another order than by number");
}

#[test]
fn tags_that_are_written_by_hand_are_the_protos() {
    stands_for::<Wire>("Snapshot", "");
    stands_for::<WireDelta>("SnapshotDelta", "");
    stands_for::<WireGetResponse>("GetSnapshotResponse", "");
    stands_for::<WireWatchResponse>("WatchSnapshotsResponse", "full");
    stands_for::<WireWatchResponse>("WatchSnapshotsResponse", "delta");
}

#[test]
fn the_key_of_every_kind_of_row_is_its_first_field() {
    for (row, key) in [
        ("NodeRow", "id"),
        ("ObserverLinks", "observer_id"),
        ("Workload", "name"),
        ("Assignment", "id"),
    ] {
        let descriptor = descriptor(row);
        assert_eq!(
            descriptor.get_field(1).map(|field| field.name().to_owned()).as_deref(),
            Some(key),
            "{row}"
        );
        // In a row with all fields set, no other field is mistaken for the key.
        let bytes = filled(&descriptor, "", DEPTH).encode_to_vec();
        assert_eq!(RowKey::decode(bytes.as_slice()).unwrap().id, key, "{row}");
    }
}

#[test]
fn labels_are_those_of_a_nodes_row() {
    let bytes = filled(&descriptor("NodeRow"), "", DEPTH).encode_to_vec();
    let labels = Labels::decode(bytes.as_slice()).unwrap().labels;
    assert_eq!(labels.len(), 2);
    assert_eq!((labels[0].key.as_str(), labels[0].value.as_str()), ("key", "value"));
}

#[test]
fn a_snapshot_with_everything_in_its_rows_is_read_back() {
    let mut message = filled(&descriptor("Snapshot"), "", DEPTH);
    // Node ids are UUIDs, instance ids are numbers.
    for (rows, key, id) in [
        ("nodes", "id", "515f4fb3-1c0e-4f3a-9f5e-8a1c2b3d4e5f"),
        ("links", "observer_id", "515f4fb3-1c0e-4f3a-9f5e-8a1c2b3d4e5f"),
        ("assignments", "id", "6b0a1b2c00000001"),
    ] {
        for row in message.get_field_by_name_mut(rows).unwrap().as_list_mut().unwrap() {
            let row = row.as_message_mut().unwrap();
            row.set_field_by_name(key, Value::String(id.to_owned()));
        }
    }
    let bytes = message.encode_to_vec();
    let read = super::Canonical::from_bytes(bytes.clone().into()).unwrap();
    assert_eq!(read.bytes(), bytes);
}
