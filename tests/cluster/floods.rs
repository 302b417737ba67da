//! Floods of calls: by clients that do not read, and by unauthenticated clients.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;
use wyneos::{
    client,
    v1::{self, Liveness},
};

use crate::{
    harness::{Cluster, wait_until},
    requests::metrics,
    secure::{Secure, nobody},
};

const MIB: u64 = 1 << 20;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types and flags of HTTP/2.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Encodes a text for HPACK, without Huffman coding.
fn hpack(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 127).unwrap();
    [&[length], text.as_bytes()].concat()
}

/// Returns the headers of a call.
fn headers(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x87, 0x04];
    block.extend(hpack(path));
    block.push(0x01);
    block.extend(hpack("localhost"));
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
        block.push(0);
        block.extend(hpack(name));
        block.extend(hpack(value));
    }
    block
}

/// Returns a client's first bytes; the table of the server's headers is empty, so that each answer is transferred in
/// full.
fn greeting() -> Vec<u8> {
    let settings = frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]);
    [PREFACE, &settings, &frame(SETTINGS, ACK, 0, &[])].concat()
}

async fn connect(source: &str, address: &str, receives: u32) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(receives).unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    let address: SocketAddr = address.parse().unwrap();
    socket.connect(address).await.unwrap()
}

/// Calls as often as the server permits, and reads nothing.
async fn call_and_read_nothing(stream: &mut (impl AsyncWrite + Unpin), path: &str, message: &[u8]) {
    let mut bytes = greeting();
    let block = headers(path);
    for number in 0..2_040 {
        let stream = 2 * number + 1;
        bytes.extend(frame(HEADERS, END_HEADERS, stream, &block));
        bytes.extend(frame(DATA, END_STREAM, stream, message));
    }
    // The server may close the connection or stop reading.
    drop(timeout(Duration::from_millis(500), stream.write_all(&bytes)).await);
}

/// Calls with their messages: one refused by its handler, one by the gate.
fn refused_calls() -> [(&'static str, Vec<u8>); 2] {
    let name = "n".repeat(60);
    let length = u8::try_from(name.len()).unwrap();
    let request = [&[0, 0, 0, 0, length + 2, 0x0a, length], name.as_bytes()].concat();
    [
        ("/wyneos.v1.ClusterService/GetNode", request),
        ("/wyneos.v1.NoService/NoRpc", vec![0; 5]),
    ]
}

#[tokio::test]
async fn errors_that_are_not_read_cost_little() {
    for (path, message) in refused_calls() {
        let cluster = Cluster::start().await;
        cluster.snapshot().await;
        let coordinator = cluster.coordinator.as_ref().unwrap();
        let before = coordinator.rss();
        let mut held = Vec::new();
        for _ in 0..60 {
            let mut stream = connect("127.0.0.2", &cluster.address, 2_304).await;
            call_and_read_nothing(&mut stream, path, &message).await;
            held.push(stream);
        }
        let mut grown = coordinator.rss();
        wait_until("what they sent was read", async || {
            let cycle = cluster.snapshot().await.cycle;
            let later = async || (cluster.snapshot().await.cycle > cycle + 2).then_some(());
            wait_until("some cycles", later).await;
            let now = coordinator.rss();
            let steady = now < grown + MIB;
            grown = now;
            steady.then_some(())
        })
        .await;
        let grown = grown.saturating_sub(before);
        // For 120,000 answers.
        assert!(grown < 40 * MIB, "{path}: {} MiB", grown / MIB);
        cluster.snapshot().await;
        drop(held);
    }
}

/// Calls an unknown rpc as fast as the server answers, and counts the answers.
async fn flood(mut stream: impl AsyncRead + AsyncWrite + Unpin, at_once: u32, until: Instant, answered: &AtomicU64) {
    let (block, mut next, mut buffer) = (headers("/wyneos.v1.NoService/NoRpc"), 1, vec![0; 1 << 16]);
    if stream.write_all(&greeting()).await.is_err() {
        return;
    }
    while Instant::now() < until {
        let mut bytes = Vec::new();
        for _ in 0..at_once {
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, next, &block));
            next += 2;
        }
        let wrote = timeout(Duration::from_secs(5), stream.write_all(&bytes)).await;
        if !matches!(wrote, Ok(Ok(()))) {
            return;
        }
        while let Ok(read) = timeout(Duration::from_millis(5), stream.read(&mut buffer)).await {
            match read {
                Ok(0) | Err(_) => return,
                Ok(count) => answered.fetch_add(count as u64, Ordering::Relaxed),
            };
        }
    }
}

/// Returns how often agents were disconnected.
async fn cut_off(cluster: &Secure) -> usize {
    let request = v1::ListEventsRequest {
        page_size: 1_000,
        ..Default::default()
    };
    let events = client::events(cluster.admin().await).list_events(request).await;
    let cut_off = |event: &v1::Event| match &event.body {
        Some(v1::event::Body::Liveness(change)) => !matches!(change.to(), Liveness::Online | Liveness::Suspect),
        _ => false,
    };
    events
        .unwrap()
        .into_inner()
        .events
        .iter()
        .filter(|event| cut_off(event))
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_those_whom_nobody_knows_cuts_no_agent_off() {
    let (cluster, quiet) = (Secure::start(&[]).await, Secure::start(&[]).await);
    let mut agents = Vec::new();
    for cluster in [&cluster, &quiet] {
        agents.extend([cluster.joined("one").await, cluster.joined("two").await]);
    }
    let mut before = Vec::new();
    for name in ["one", "two"] {
        before.push(cluster.online(name).await);
    }
    let (began, opened) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let (answered, until) = (Arc::new(AtomicU64::new(0)), began + Duration::from_secs(8));
    let mut floods = JoinSet::new();
    for number in 0..6 {
        // As many as a connection may have, and more.
        let at_once = if number % 2 == 0 { 50 } else { 200 };
        let (tls, address) = (nobody(&cluster.path("admin")), cluster.address.clone());
        let (answered, opened) = (Arc::clone(&answered), Arc::clone(&opened));
        floods.spawn(async move {
            while Instant::now() < until {
                opened.fetch_add(1, Ordering::Relaxed);
                let stream = connect("127.0.0.2", &address, 1 << 16).await;
                let name = ServerName::try_from("localhost").unwrap();
                if let Ok(stream) = TlsConnector::from(Arc::clone(&tls)).connect(name, stream).await {
                    flood(stream, at_once, until, &answered).await;
                }
            }
        });
    }
    floods.join_all().await;
    assert!(answered.load(Ordering::Relaxed) > 0);
    // A busy machine may disconnect agents without a flood; one more is tolerated.
    let (flooded, quiet) = (cut_off(&cluster).await, cut_off(&quiet).await);
    assert!(flooded <= quiet + 1, "{flooded} cut off, and {quiet} without a flood");
    for before in before {
        let after = cluster.online(&before.name).await;
        assert_eq!(after.session, before.session, "{}", before.name);
    }
    let told = metrics(&cluster).await;
    let counted = told
        .lines()
        .find(|line| line.starts_with("wyneos_coordinator_connections_refused_total{reason=\"calls\"}"));
    assert!(counted.is_some(), "{told}");
    let carried = told
        .lines()
        .find_map(|line| line.strip_prefix("wyneos_coordinator_calls_refused_total{reason=\"no_rule\"} "));
    let carried: u64 = carried.unwrap().parse().unwrap();
    // 300 at once, 50 per second for the duration on a busy machine, and those in progress on each refused connection.
    let opened = opened.load(Ordering::Relaxed);
    let most = 300 + 50 * (began.elapsed().as_secs() + 1) + 64 * opened;
    eprintln!(
        "CARRIED {carried} of {most} {opened} {}",
        answered.load(Ordering::Relaxed)
    );
    assert!(carried <= most, "{carried} of {most}, on {opened} connections");
}
