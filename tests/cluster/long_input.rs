//! Texts of 200 KB in every string of every request: each is answered with a status that any client can read.

use std::time::Duration;

use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, MethodDescriptor, Value};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use wyneos::v1::Liveness;

use crate::{
    harness::{Cluster, PATIENCE},
    raw::{RawSession, hello},
    untyped::Call,
};

/// Length of the texts, in bytes.
const LONG: usize = 200_000;

/// Maximum bytes of headers and trailers that most gRPC clients accept.
const TRAILERS: u32 = 8 * 1024;

/// Time to listen to a stream that has nothing to report.
const QUIET: Duration = Duration::from_millis(300);

/// Collects the paths of all strings in a message by field numbers, including nested messages.
fn strings(message: &MessageDescriptor, path: &[u32], found: &mut Vec<(Vec<u32>, String)>, name: &str) {
    for field in message.fields() {
        let path = [path, &[field.number()]].concat();
        let name = format!("{name}.{}", field.name());
        match field.kind() {
            Kind::String => found.push((path, name)),
            Kind::Message(inner) if path.len() < 6 => strings(&inner, &path, found, &name),
            _ => {}
        }
    }
}

/// Returns a message with `text` as the string at `path`, and no other field.
fn with(message: &MessageDescriptor, path: &[u32], text: &str) -> DynamicMessage {
    let mut made = DynamicMessage::new(message.clone());
    let field = message.get_field(path[0]).unwrap();
    let value = match field.kind() {
        Kind::Message(inner) => Value::Message(with(&inner, &path[1..], text)),
        _ => Value::String(text.to_owned()),
    };
    let value = if field.is_list() {
        Value::List(vec![value])
    } else {
        value
    };
    made.set_field(&field, value);
    made
}

async fn call(channel: &Channel, method: &MethodDescriptor, request: Vec<u8>) -> Result<(), Status> {
    let told = Call {
        channel,
        rpc: &format!("{}/{}", method.parent_service().full_name(), method.name()),
        request,
        // No message follows the first one for now.
        stays: method.is_client_streaming(),
        patience: [if method.is_server_streaming() { QUIET } else { PATIENCE }, QUIET],
    };
    told.answers().await.error.map_or(Ok(()), Err)
}

/// Returns whether the field names an object that does not exist.
fn is_look_up(method: &str, field: &str) -> bool {
    match method {
        "LabelNode" => field == ".node",
        "ListEvents" | "ListDecisions" => field == ".node",
        "ListAssignments" => field == ".workload" || field == ".node",
        "WatchAssignments" => field == ".workload",
        "RevokeNode" | "ForgetNode" | "GetNodeTelemetry" => field == ".node",
        "GetNode"
        | "ExplainNode"
        | "CordonNode"
        | "UncordonNode"
        | "DrainNode"
        | "RefreshNode"
        | "SetHeartbeatInterval"
        | "AdmitNode"
        | "GetWorkload"
        | "ExplainWorkload"
        | "ScaleWorkload"
        | "RestartWorkload"
        | "PromoteWorkload"
        | "DeleteWorkload"
        | "WhatIf"
        | "ReadLogs"
        | "EstimateRtt"
        | "DeleteJoinToken" => true,
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_long_is_answered_with_a_status_that_every_client_can_read() {
    let cluster = Cluster::start().await;
    let _session = RawSession::welcomed(&cluster, hello(1, 1)).await;
    cluster.node_is("raw-1", Liveness::Online).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", cluster.address)).unwrap();
    let channel = endpoint.http2_max_header_list_size(TRAILERS).connect().await.unwrap();
    let pool = DescriptorPool::decode(wyneos::FILE_DESCRIPTOR_SET).unwrap();
    let (mut tried, mut looked_up) = (0, 0);
    for service in pool.services().filter(|service| service.name() != "MeshService") {
        for method in service.methods() {
            let mut found = Vec::new();
            strings(&method.input(), &[], &mut found, "");
            for (path, name) in found {
                for letter in ["a", "é", "\u{1b}[2J", "😀=", "\n."] {
                    let text = letter.repeat(LONG / letter.len());
                    let message = with(&method.input(), &path, &text);
                    let what = format!("{}{name} of {letter:?}", method.full_name());
                    let bytes = prost::Message::encode_to_vec(&message);
                    let outcome = call(&channel, &method, bytes).await;
                    tried += 1;
                    let looks_up = is_look_up(method.name(), &name);
                    looked_up += usize::from(looks_up);
                    let Err(status) = outcome else {
                        assert!(!looks_up, "{what}: found");
                        continue;
                    };
                    let broken = [Code::Unknown, Code::Internal, Code::Unavailable, Code::Cancelled];
                    assert!(!broken.contains(&status.code()), "{what}: {status:?}");
                    if looks_up {
                        assert_eq!(status.code(), Code::NotFound, "{what}: {status:?}");
                    }
                    assert!(!status.message().contains(char::is_control), "{what}: {status:?}");
                    assert!(status.message().len() <= 1_024, "{what}: {status:?}");
                }
            }
        }
    }
    assert!(
        tried > 400 && looked_up > 100,
        "{tried} tried, {looked_up} of them look-ups"
    );
    // Nothing is stored unmodified.
    for event in cluster.events().await {
        assert!(event.summary.len() <= 1_024, "{}", event.summary);
    }
    let log = cluster.coordinator.as_ref().unwrap().log_text();
    let longest = log.lines().map(str::len).max().unwrap_or_default();
    assert!(longest <= 4_096, "a line of {longest} bytes in the log");
}
