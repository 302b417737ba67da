use proptest::prelude::*;
use prost::Message as _;
use wyneos_core::{
    agent::FromAgent,
    coordinator::{Heartbeat, Input, Message},
    id::{Cycle, Epoch},
    mesh::{LinkFailure, LinkReport, LinkState},
    node::{Attributes, CONTAINMENT_REASON, ConnId, NOT_CONTAINED, Origin, PID_NAMESPACE},
    telemetry::Channel,
};

use super::*;
use crate::v1::{self, session_request};

const CONN: ConnId = ConnId(1);

fn hello() -> v1::Hello {
    v1::Hello {
        node_id: "01020304-0506-0708-090a-0b0c0d0e0f10".to_owned(),
        name: "web-1".to_owned(),
        incarnation: 1,
        agent_version: "0.1.0".to_owned(),
        boot_time: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
        capacity: Some(v1::Capacity {
            cpu_millis: 1000,
            memory_bytes: 1,
            disk_bytes: 0,
        }),
        attributes: Some(v1::Attributes {
            cpus: 1,
            memory_bytes: 1,
            cgroups: "none".to_owned(),
            containment: NOT_CONTAINED.to_owned(),
            containment_reason: "not permitted".to_owned(),
            users: Some(v1::NodeUsers {
                default_user: "nobody".to_owned(),
                permitted: vec![v1::NodeUser {
                    name: "nobody".to_owned(),
                    uid: Some(65_534),
                }],
                unknown: vec!["postgres".to_owned()],
                own_only: true,
            }),
            ..v1::Attributes::default()
        }),
        labels: vec![v1::Label {
            key: "zone".to_owned(),
            value: "a".to_owned(),
        }],
        channels: vec![Channel::CpuUsed.name().to_owned(), "from.the.future".to_owned()],
        binary_digest: vec![1; 32],
        config_digest: vec![2; 32],
        probe_address: "10.0.0.1:7402".to_owned(),
        attempt: 0,
        instance: vec![3; 16],
        machine: Vec::new(),
        last_failure: String::new(),
    }
}

fn heartbeat() -> v1::Heartbeat {
    v1::Heartbeat {
        sequence: 1,
        load: 0.5,
        values: vec![0.5, 0.0],
        absent: vec![1],
        ..v1::Heartbeat::default()
    }
}

fn input(message: session_request::Message) -> Result<Input, ConvertError> {
    session_input(CONN, &Origin::default(), v1::SessionRequest { message: Some(message) })
}

#[test]
fn a_good_hello_is_taken_and_unknown_channels_are_passed_over() {
    let Ok(Input::Opened { hello, .. }) = input(session_request::Message::Hello(hello())) else {
        panic!("refused")
    };
    assert_eq!(hello.channels, [Some(Channel::CpuUsed), None]);
    assert_eq!(hello.facts.labels["zone"], "a");
}

fn attributes(hello: &mut v1::Hello) -> &mut v1::Attributes {
    hello.attributes.as_mut().expect("a good hello has some")
}

#[test]
fn an_agent_that_does_not_tell_its_containment_is_taken() {
    let mut older = hello();
    attributes(&mut older).containment.clear();
    attributes(&mut older).containment_reason.clear();
    let Ok(Input::Opened { hello, .. }) = input(session_request::Message::Hello(older)) else {
        panic!("refused")
    };
    assert_eq!(hello.facts.attributes.containment, "");
}

#[test]
fn every_bad_field_of_a_hello_is_named() {
    type Spoil = fn(&mut v1::Hello);
    let many = |hello: &mut v1::Hello| {
        hello.labels = (0..10_000)
            .map(|at| v1::Label {
                key: format!("k{at}"),
                value: String::new(),
            })
            .collect();
    };
    let cases: [(&str, Spoil); 23] = [
        ("hello.node_id", |hello| hello.node_id = "web-1".to_owned()),
        ("hello.name", |hello| hello.name = "a\u{7}b".to_owned()),
        ("hello.name", |hello| hello.name = "x".repeat(254)),
        ("hello.name", |hello| hello.name = " ".to_owned()),
        ("hello.incarnation", |hello| hello.incarnation = 0),
        ("hello.agent_version", |hello| hello.agent_version = "1".repeat(65)),
        ("hello.boot_time", |hello| hello.boot_time = None),
        ("hello.boot_time", |hello| {
            hello.boot_time = Some(prost_types::Timestamp {
                seconds: i64::MAX,
                nanos: 0,
            })
        }),
        ("hello.capacity", |hello| hello.capacity = None),
        ("hello.capacity.cpu_millis", |hello| {
            hello.capacity = Some(v1::Capacity {
                cpu_millis: u64::MAX,
                memory_bytes: 1,
                disk_bytes: 0,
            });
        }),
        ("hello.capacity.memory_bytes", |hello| {
            hello.capacity = Some(v1::Capacity {
                cpu_millis: 1,
                memory_bytes: u64::MAX,
                disk_bytes: 0,
            });
        }),
        ("hello.attributes", |hello| hello.attributes = None),
        ("hello.attributes.cpus", |hello| {
            hello.attributes = Some(v1::Attributes::default())
        }),
        ("hello.attributes.containment", |hello| {
            attributes(hello).containment = "x".repeat(17)
        }),
        ("hello.attributes.containment_reason", |hello| {
            attributes(hello).containment_reason = "x".repeat(CONTAINMENT_REASON + 1)
        }),
        ("hello.attributes.containment_reason", |hello| {
            attributes(hello).containment_reason = "not\npermitted".to_owned()
        }),
        ("hello.labels", many),
        ("hello.labels[1].key", |hello| {
            hello.labels = vec![hello.labels[0].clone(), hello.labels[0].clone()]
        }),
        ("hello.labels[0].key", |hello| hello.labels[0].key = "a b".to_owned()),
        ("hello.labels[0].value", |hello| hello.labels[0].value = "\n".to_owned()),
        ("hello.channels", |hello| hello.channels = vec!["x".to_owned(); 65]),
        ("hello.binary_digest", |hello| hello.binary_digest = vec![0; 31]),
        ("hello.probe_address", |hello| {
            hello.probe_address = "no port".to_owned()
        }),
    ];
    for (field, spoil) in cases {
        let mut hello = hello();
        spoil(&mut hello);
        let error = input(session_request::Message::Hello(hello)).expect_err(field);
        assert_eq!(error.field, field, "{error}");
        assert!(!error.reason.is_empty());
    }
}

#[test]
fn every_bad_field_of_a_heartbeat_is_named() {
    type Spoil = fn(&mut v1::Heartbeat);
    let cases: [(&str, Spoil); 10] = [
        ("heartbeat.values[0]", |heartbeat| heartbeat.values[0] = f32::NAN),
        ("heartbeat.values[1]", |heartbeat| heartbeat.values[1] = f32::INFINITY),
        ("heartbeat.values", |heartbeat| heartbeat.values = vec![0.0; 65]),
        ("heartbeat.load", |heartbeat| heartbeat.load = f32::NAN),
        ("heartbeat.load", |heartbeat| heartbeat.load = 1.5),
        ("heartbeat.absent", |heartbeat| heartbeat.absent = vec![1, 0]),
        ("heartbeat.absent", |heartbeat| heartbeat.absent = vec![2]),
        ("heartbeat.links", |heartbeat| {
            heartbeat.links = vec![v1::LinkReport::default(); 65]
        }),
        ("heartbeat.links[0].subject_id", |heartbeat| {
            heartbeat.links = vec![v1::LinkReport::default()]
        }),
        ("heartbeat.links[0].state", |heartbeat| {
            let subject_id = hello().node_id;
            heartbeat.links = vec![v1::LinkReport {
                subject_id,
                state: 99,
                ..v1::LinkReport::default()
            }];
        }),
    ];
    for (field, spoil) in cases {
        let mut heartbeat = heartbeat();
        spoil(&mut heartbeat);
        let error = input(session_request::Message::Heartbeat(heartbeat)).expect_err(field);
        assert_eq!(error.field, field, "{error}");
    }
    assert!(input(session_request::Message::Heartbeat(heartbeat())).is_ok());
}

#[test]
fn other_messages_name_their_fields_too() {
    let empty = session_input(CONN, &Origin::default(), v1::SessionRequest { message: None });
    assert_eq!(empty.unwrap_err().field, "message");
    let update = v1::DirectiveUpdate {
        id: 1,
        state: 42,
        detail: String::new(),
    };
    assert_eq!(
        input(session_request::Message::Directive(update)).unwrap_err().field,
        "directive.state"
    );
    let goodbye = v1::Goodbye {
        reason: "x".repeat(257),
    };
    assert_eq!(
        input(session_request::Message::Goodbye(goodbye)).unwrap_err().field,
        "goodbye.reason"
    );
}

proptest! {
    /// Any bytes yield a message or an error, never a panic.
    #[test]
    fn no_bytes_break_a_conversion(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(request) = v1::SessionRequest::decode(&*bytes) {
            drop(session_input(CONN, &Origin::default(), request));
        }
        if let Ok(response) = v1::SessionResponse::decode(&*bytes) {
            drop(Message::try_from(response));
        }
    }

    /// Heartbeats are unchanged by a round trip.
    #[test]
    fn heartbeats_survive_the_wire(
        sequence: u64,
        load in 0.0f32..=1.0,
        values in prop::collection::vec(-1e9f32..1e9, 0..20),
        rtt: u32,
        age: Option<u64>,
        acknowledged: (u64, u64),
    ) {
        let report = LinkReport {
            state: LinkState::Lossy,
            rtt_micros: rtt,
            rtt_p95_micros: rtt,
            loss: load,
            last_success_age_millis: age,
            failure: age.map(|_| LinkFailure::Unreachable),
        };
        let links = vec![("01020304-0506-0708-090a-0b0c0d0e0f10".parse().unwrap(), report)];
        let acknowledged = (Epoch(acknowledged.0), Cycle(acknowledged.1));
        let heartbeat = Heartbeat { sequence, load, values, links, acknowledged, ..Heartbeat::default() };
        let bytes = v1::SessionRequest::from(FromAgent::Heartbeat(heartbeat.clone())).encode_to_vec();
        let decoded = v1::SessionRequest::decode(&*bytes).unwrap();
        prop_assert_eq!(session_input(CONN, &Origin::default(), decoded), Ok(Input::FromAgent(CONN, FromAgent::Heartbeat(heartbeat))));
    }
}

#[test]
fn times_and_spans_have_their_ranges() {
    let late = prost_types::Timestamp {
        seconds: 253_402_300_800,
        nanos: 0,
    };
    assert_eq!(timestamp_in("t", &late).unwrap_err().field, "t");
    let before_1970 = wyneos_core::time::WallTime(-1);
    assert_eq!(timestamp_in("t", &timestamp(before_1970)), Ok(before_1970));
    assert!(duration_in("d", &prost_types::Duration { seconds: -1, nanos: 0 }).is_err());
    assert!(duration_in("d", &prost_types::Duration { seconds: 0, nanos: -1 }).is_err());
    let span = std::time::Duration::new(7, 9);
    assert_eq!(duration_in("d", &duration(span)), Ok(span));
}

#[test]
fn a_beacon_proves_who_sent_it_and_nothing_in_it_can_be_altered() {
    let id = wyneos_core::id::Uuid([3; 16]);
    let beacon = Beacon {
        cluster: id,
        sender: id,
        receiver: id,
        observes: true,
        sequence: 7,
    };
    let (key, other) = ([1; 32], [2; 32]);
    for proof in [None, Some(&key)] {
        let bytes = beacon_out(beacon, proof);
        assert_eq!(bytes.len(), BEACON_BYTES);
        assert_eq!(beacon_in(&bytes), Ok(beacon));
        assert_eq!(beacon_is_proven(&bytes, &key), proof.is_some());
        assert!(!beacon_is_proven(&bytes, &other));
    }
    let good = beacon_out(beacon, Some(&key));
    for at in [0, 20, 80, 130, 700, BEACON_BYTES - 17, BEACON_BYTES - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(!beacon_is_proven(&bad, &key), "{at}");
    }
    assert!(!beacon_is_proven(&good[..10], &key));
}

proptest! {
    /// A reason that is too long or has control characters would cause the agent to be refused.
    #[test]
    fn whatever_a_probe_says_is_taken_as_the_reason(reason in "(.|\n|\u{7}){0,300}") {
        let probed = Attributes { cpus: 1, memory_bytes: 1, ..Attributes::default() };
        let without = probed.clone().with_containment(Err(reason));
        prop_assert_eq!(&without.containment, NOT_CONTAINED);
        prop_assert_eq!(Attributes::try_from(v1::Attributes::from(&without)), Ok(without));
        let with = probed.with_containment(Ok(()));
        prop_assert_eq!(&with.containment, PID_NAMESPACE);
        prop_assert_eq!(Attributes::try_from(v1::Attributes::from(&with)), Ok(with));
    }
}
