//! Clients that request much and read nothing.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Streaming};
use tonic_types::StatusExt as _;
use wyneos::{
    client,
    v1::{self, session_request::Message as Up, watch_snapshots_response::State},
};

use crate::{
    harness::{Cluster, free_address, wait_until},
    raw::{RawSession, heartbeat, hello},
};

/// Number of nodes, whose labels make the state about a megabyte.
const NODES: u8 = 50;

const MIB: u64 = 1 << 20;

/// Starts a cluster with a state of about a megabyte. The sessions end when the return value is dropped.
async fn large(extra: &'static [&'static str]) -> (Cluster, Vec<RawSession>) {
    let cluster = Cluster::start_with(extra).await;
    let mut sessions = Vec::new();
    for number in 0..NODES {
        let label = |at| v1::Label {
            key: format!("{at:063}"),
            value: "v".repeat(255),
        };
        let hello = v1::Hello {
            labels: (0..64).map(label).collect(),
            ..hello(number, 1)
        };
        let session = RawSession::welcomed(&cluster, hello).await;
        session.say(Up::Heartbeat(heartbeat(1))).await;
        sessions.push(session);
    }
    wait_until("the state is large", async || {
        (cluster.snapshot().await.nodes.len() == usize::from(NODES)).then_some(())
    })
    .await;
    (cluster, sessions)
}

fn full() -> v1::WatchSnapshotsRequest {
    v1::WatchSnapshotsRequest {
        always_full: true,
        ..Default::default()
    }
}

/// Returns the coordinator's metrics.
async fn metrics(address: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

fn rss(cluster: &Cluster) -> u64 {
    cluster.coordinator.as_ref().unwrap().rss()
}

#[tokio::test]
async fn a_thousand_full_watches_that_do_not_read_cost_little() {
    let (cluster, sessions) = large(&[]).await;
    // Once beforehand, so that initial allocations are not counted.
    cluster.snapshot().await;
    let before = rss(&cluster);
    let mut stalled = Vec::new();
    for _ in 0..40 {
        let channel = cluster.channel().await;
        for _ in 0..25 {
            let watch = client::coherence(channel.clone()).watch_snapshots(full()).await;
            stalled.push(watch.unwrap().into_inner());
        }
    }
    // A separate connection, because the windows of the others are exhausted.
    let one = client::coherence(cluster.channel().await).watch_snapshots(full()).await;
    let mut one = one.unwrap().into_inner();
    let cycle = cluster.snapshot().await.cycle;
    wait_until("ten cycles", async || {
        (cluster.snapshot().await.cycle > cycle + 10).then_some(())
    })
    .await;
    let grown = rss(&cluster).saturating_sub(before);
    // 48 KiB each, plus connections and streams; a copy of the state each would be a gigabyte.
    assert!(grown < 160 * MIB, "{} MiB", grown / MIB);
    // A subscriber that resumes reading continues where it stopped, and reaches the newest state.
    let newest = cluster.snapshot().await.cycle;
    while one.message().await.unwrap().unwrap().seal.unwrap().cycle < newest {}
    drop((stalled, sessions));
}

#[tokio::test]
async fn unary_answers_that_are_not_read_cost_little_either() {
    let (cluster, sessions) = large(&["--answer-memory-mib", "64"]).await;
    cluster.snapshot().await;
    let before = rss(&cluster);
    let mut calls = Vec::new();
    let mut channel = cluster.channel().await;
    for number in 0..600 {
        // A connection has at most 256 streams.
        if number % 200 == 199 {
            channel = cluster.channel().await;
        }
        let mut raw = tonic::client::Grpc::new(channel.clone());
        raw.ready().await.unwrap();
        let (path, codec) = match number % 2 {
            0 => (
                "/wyneos.v1.ClusterService/ListNodes",
                tonic_prost::ProstCodec::<v1::ListNodesRequest, v1::ListNodesResponse>::default(),
            ),
            _ => (
                "/wyneos.v1.CoherenceService/GetSnapshot",
                tonic_prost::ProstCodec::default(),
            ),
        };
        let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
        let request = tonic::Request::new(v1::ListNodesRequest::default());
        // A stream with one message, which is not read.
        let answer = raw.server_streaming(request, path, codec).await.unwrap();
        calls.push(answer.into_inner());
    }
    let grown = rss(&cluster).saturating_sub(before);
    // For 300 pages of a megabyte each.
    assert!(grown < 160 * MIB, "{} MiB", grown / MIB);
    assert_eq!(cluster.snapshot().await.nodes.len(), usize::from(NODES));
    drop((calls, sessions));
}

#[tokio::test]
async fn old_states_that_nobody_reads_end_and_are_resumed() {
    let extra = &["--cycle", "100ms", "--answer-memory-mib", "64", "--metrics-listen"];
    let metrics_address: &'static str = free_address().leak();
    let extra: Vec<&'static str> = extra.iter().copied().chain([metrics_address]).collect();
    let (cluster, sessions) = large(extra.leak()).await;
    let before = rss(&cluster);
    let mut pulse = client::coherence(cluster.channel().await)
        .watch_snapshots(v1::WatchSnapshotsRequest::default())
        .await
        .unwrap()
        .into_inner();
    let mut stalled: Vec<(Streaming<v1::WatchSnapshotsResponse>, String)> = Vec::new();
    for _ in 0..100 {
        let watch = client::coherence(cluster.channel().await).watch_snapshots(full()).await;
        let mut watch = watch.unwrap().into_inner();
        let token = watch.message().await.unwrap().unwrap().resume_token;
        stalled.push((watch, token));
        // The next one stops reading at another state.
        pulse.message().await.unwrap().unwrap();
    }
    let grown = rss(&cluster).saturating_sub(before);
    assert!(grown < 160 * MIB, "{} MiB", grown / MIB);
    let counted = "wyneos_coordinator_answers_ended_total{reason=\"memory\"}";
    wait_until("answers are ended", async || {
        metrics(metrics_address).await.contains(counted).then_some(())
    })
    .await;
    let (mut oldest, token) = stalled.remove(0);
    let ended = loop {
        match oldest.message().await {
            Ok(message) => assert!(message.is_some(), "it ended without a reason"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::ResourceExhausted, "{ended:?}");
    assert!(ended.message().contains("answer_memory_mib"), "{ended:?}");
    assert!(ended.get_error_details().retry_info().is_some());
    let request = v1::WatchSnapshotsRequest {
        resume_token: token,
        ..Default::default()
    };
    let resumed = client::coherence(cluster.channel().await)
        .watch_snapshots(request)
        .await;
    let first = resumed.unwrap().into_inner().message().await.unwrap().unwrap();
    assert!(matches!(first.state, Some(State::Delta(_))), "{}", first.reset_reason);
    // The newest one continues.
    let (mut newest, _) = stalled.pop().unwrap();
    for _ in 0..3 {
        newest.message().await.unwrap().unwrap();
    }
    drop((stalled, sessions));
}

#[tokio::test]
async fn one_identity_has_so_many_subscriptions_and_the_limit_is_named() {
    let cluster = Cluster::start_with(&["--max-subscribers-per-identity", "3"]).await;
    let channel = cluster.channel().await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let watch = client::coherence(channel.clone()).watch_snapshots(full()).await;
        held.push(watch.unwrap());
    }
    let events = client::events(channel)
        .watch_events(v1::WatchEventsRequest::default())
        .await;
    let refused = events.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused.message().contains("max_subscribers_per_identity"),
        "{refused:?}"
    );
    assert!(refused.get_error_details().retry_info().is_some());
    held.pop();
    wait_until("there is room again", async || {
        let watch = client::events(cluster.channel().await)
            .watch_events(v1::WatchEventsRequest::default())
            .await;
        watch.ok()
    })
    .await;
}

/// Makes a gRPC-Web call on a separate connection; returns the headers and body received so far.
async fn by_web(address: &str, kind: &str, path: &str, until: usize) -> Vec<u8> {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    // An empty message; its frame is in base64 for the text format.
    let frame: &[u8] = if kind.ends_with("text") { b"AAAAAAA=" } else { &[0; 5] };
    let head = format!(
        "POST /wyneos.v1.CoherenceService/{path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/{kind}\r\n\
         accept: application/{kind}\r\ncontent-length: {}\r\n\r\n",
        frame.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(frame).await.unwrap();
    let mut got = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    while got.len() < until {
        let read = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut buffer)).await;
        match read.unwrap().unwrap() {
            0 => break,
            count => got.extend(&buffer[..count]),
        }
    }
    got
}

#[tokio::test]
async fn browsers_get_the_same_states_as_they_come() {
    let (cluster, sessions) = large(&[]).await;
    let size = prost::Message::encoded_len(&cluster.snapshot().await);
    for kind in ["grpc-web+proto", "grpc-web-text"] {
        // A watch does not end: three states arrive without its end.
        let watched = by_web(&cluster.address, kind, "WatchSnapshots", size).await;
        let text = String::from_utf8_lossy(&watched[..200]).to_lowercase();
        assert!(text.starts_with("http/1.1 200"), "{text}");
        assert!(text.contains(&format!("content-type: application/{kind}")), "{text}");
        let got = by_web(&cluster.address, kind, "GetSnapshot", size).await;
        assert!(got.len() >= size, "{} of {size}", got.len());
    }
    drop(sessions);
}
