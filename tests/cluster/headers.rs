//! Headers, and requests that are not calls.

use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::{
    Code,
    codegen::http::{HeaderMap, HeaderName, HeaderValue},
};
use tonic_types::StatusExt as _;
use wyneos::{client, v1};

use crate::{
    harness::{Cluster, PATIENCE, wait_until},
    requests::{bearer, begin_with, metrics},
    secure::{Secure, nobody},
    untyped::Call,
};

const MIB: u64 = 1 << 20;

/// Returns as many empty headers as a call may have.
fn many() -> HeaderMap {
    let named = |number: usize| HeaderName::try_from(format!("x{number}")).unwrap();
    (0..400)
        .map(|number| (named(number), HeaderValue::from_static("")))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_nobody_reads_are_not_kept() {
    let cluster = Secure::start(&[]).await;
    let token = bearer(&cluster, "ada", v1::Role::Viewer).await;
    let coordinator = cluster.coordinator.as_ref().unwrap();
    let before = coordinator.rss();
    let (besides, mut calls, mut held) = (many(), Vec::new(), Vec::new());
    for _ in 0..25 {
        let channel = cluster.connect(&nobody(&cluster.path("admin"))).await;
        let rpc = "wyneos.v1.ClusterService/ListNodes";
        calls.extend((0..60).map(|_| begin_with(&channel, rpc, Some(&token), 64, &besides)));
        held.push(channel);
    }
    let counted = wait_until("all calls are under way", async || {
        let told = metrics(&cluster).await;
        let line = told
            .lines()
            .find(|line| line.starts_with("wyneos_coordinator_request_bytes "))?;
        let bytes = line.rsplit(' ').next()?.parse::<u64>().ok()?;
        (bytes >= 1_500 * 64).then_some(bytes)
    })
    .await;
    let grown = coordinator.rss().saturating_sub(before);
    // A stream needs a few kilobytes in the transport alone.
    assert!(grown < 40 * MIB, "{} MiB, {counted} bytes counted", grown / MIB);
    assert!(calls.iter().all(|call| !call.is_finished()));
    calls.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn every_request_that_is_none_says_why_in_its_status() {
    let cluster = Cluster::start().await;
    cluster.snapshot().await;
    let channel = client::connect(&cluster.address).await.unwrap();
    let refused = async |rpc: &str, request: Vec<u8>| {
        let call = Call {
            channel: &channel,
            rpc,
            request,
            stays: false,
            patience: [PATIENCE; 2],
        };
        call.answers().await.error.expect("a refusal")
    };
    let reason = |status: &tonic::Status| status.get_error_details().error_info().map(|info| info.reason.clone());
    // A field whose length exceeds the message, and one that is not UTF-8.
    for bytes in [vec![0x0a, 0x7f], vec![0x0a, 0x02, 0xff, 0xfe]] {
        let status = refused("wyneos.v1.ClusterService/GetNode", bytes).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert_eq!(reason(&status).as_deref(), Some("INVALID_FIELD"), "{status:?}");
        assert!(
            status.message().starts_with("request: not a message of this rpc"),
            "{status:?}"
        );
    }
    let status = refused("wyneos.v1.ClusterService/Nothing", Vec::new()).await;
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(reason(&status).as_deref(), Some("RPC_UNKNOWN"), "{status:?}");
    let encoding = HeaderMap::from_iter([("grpc-encoding".parse().unwrap(), HeaderValue::from_static("gzip"))]);
    let packed = begin_with(&channel, "wyneos.v1.ClusterService/ListNodes", None, 64, &encoding);
    let status = packed.await.unwrap();
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(reason(&status).as_deref(), Some("COMPRESSION"), "{status:?}");
}

#[tokio::test]
async fn requests_that_are_no_calls_are_told_so_counted_and_turned_away() {
    let cluster = Secure::start(&[]).await;
    let tls = TlsConnector::from(nobody(&cluster.path("admin")));
    let stream = TcpStream::connect(&cluster.address).await.unwrap();
    let stream = tls
        .connect(ServerName::try_from("localhost").unwrap(), stream)
        .await
        .unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let asked = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2_000);
    let writing = tokio::spawn(async move { writer.write_all(&asked).await });
    let mut answers = Vec::new();
    // The server closes the connection in the meantime.
    drop(reader.read_to_end(&mut answers).await);
    drop(writing.await);
    let answers = String::from_utf8_lossy(&answers);
    assert!(
        answers.starts_with("HTTP/1.1 415 ") && answers.contains("calls of gRPC"),
        "{answers:.300}"
    );
    let answered = answers.matches("HTTP/1.1 ").count();
    assert!((2..1_000).contains(&answered), "{answered} answers");
    let told = metrics(&cluster).await;
    for reason in ["stray", "rate"] {
        let counted = format!("wyneos_coordinator_calls_refused_total{{reason=\"{reason}\"}}");
        assert!(told.contains(&counted), "{counted} in {told}");
    }
}
