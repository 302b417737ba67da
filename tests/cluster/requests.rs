//! Unfinished requests, and calls of unauthenticated callers.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::Frame;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::{net::TcpSocket, task::JoinHandle};
use tokio_rustls::TlsConnector;
use tonic::{
    Code, Status, Streaming,
    codegen::http::HeaderMap,
    transport::{Channel, Endpoint, Uri},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;
use tower::{Service as _, ServiceExt as _, service_fn};
use wyneos::{client, v1};

use crate::{
    harness::{Cluster, wait_until},
    secure::{Secure, nobody, text},
};

const MIB: u64 = 1 << 20;

/// Size of a piece of a request, in bytes.
const PIECE: usize = 16 * 1024;

/// Number of concurrent calls on a connection without a certificate. Bytes of refused calls in transit count against
/// the connection, which is closed after 1,024 such pieces.
const BURST: usize = 64;

/// A request body that begins but does not end.
struct Unfinished(VecDeque<Bytes>);

impl http_body::Body for Unfinished {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.0.pop_front() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None => Poll::Pending,
        }
    }
}

/// Begins a call with a message of `length` bytes whose last byte never arrives; returns its status.
fn begin(channel: &Channel, rpc: &str, bearer: Option<&str>, length: usize) -> JoinHandle<Status> {
    begin_with(channel, rpc, bearer, length, &HeaderMap::new())
}

/// The same with additional headers.
pub fn begin_with(
    channel: &Channel,
    rpc: &str,
    bearer: Option<&str>,
    length: usize,
    besides: &HeaderMap,
) -> JoinHandle<Status> {
    let mut prefix = vec![0];
    prefix.extend(u32::try_from(length).unwrap().to_be_bytes());
    let piece = Bytes::from_static(&[b'x'; PIECE]);
    let mut pieces = VecDeque::from([Bytes::from(prefix)]);
    let rest = (length - 1) % PIECE;
    pieces.extend(std::iter::repeat_n(piece.clone(), (length - 1) / PIECE));
    pieces.extend((rest > 0).then(|| piece.slice(..rest)));
    let mut request = tonic::codegen::http::Request::builder()
        .method("POST")
        .uri(format!("http://localhost/{rpc}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(token) = bearer {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let mut request = request.body(tonic::body::Body::new(Unfinished(pieces))).unwrap();
    request.headers_mut().extend(besides.clone());
    let mut channel = channel.clone();
    tokio::spawn(async move {
        let answer = channel.ready().await.unwrap().call(request).await;
        match answer {
            Ok(answer) => Status::from_header_map(answer.headers()).expect("a status without an answer"),
            Err(error) => Status::from_error(error.into()),
        }
    })
}

/// Returns the output of the coordinator's metrics endpoint.
pub async fn metrics(cluster: &Secure) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let log = cluster.coordinator.as_ref().unwrap().log_text();
    let told = log.split("metrics_address=").nth(1).unwrap();
    let address = told.split_whitespace().next().unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

/// Creates an operator with this role; returns its bearer token.
pub async fn bearer(cluster: &Secure, name: &str, role: v1::Role) -> String {
    let request = v1::CreateOperatorRequest {
        name: name.to_owned(),
        role: role.into(),
        ..Default::default()
    };
    let mut access = client::access(cluster.admin().await);
    access.create_operator(request).await.unwrap().into_inner().bearer_token
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_never_finished_cost_little_and_end() {
    let cluster = Secure::start(&[]).await;
    let _agent = cluster.joined("one").await;
    let online = cluster.online("one").await;
    // A viewer that reads, and an operator that makes a change, which is carried out although its caller disconnects.
    let callers = [
        (
            "wyneos.v1.ClusterService/ListNodes",
            bearer(&cluster, "ada", v1::Role::Viewer).await,
        ),
        (
            "wyneos.v1.ClusterService/LabelNode",
            bearer(&cluster, "eve", v1::Role::Operator).await,
        ),
    ];
    let coordinator = cluster.coordinator.as_ref().unwrap();
    let before = coordinator.rss();
    let length = MIB as usize;
    let mut calls = Vec::new();
    for (rpc, token) in &callers {
        for _ in 0..5 {
            let channel = cluster.connect(&nobody(&cluster.path("admin"))).await;
            calls.extend((0..BURST).map(|_| begin(&channel, rpc, Some(token), length)));
        }
    }
    wait_until("all that do not fit are refused", async || {
        (calls.iter().filter(|call| !call.is_finished()).count() <= 16).then_some(())
    })
    .await;
    let grown = coordinator.rss().saturating_sub(before);
    assert!(grown < 64 * MIB, "{} MiB", grown / MIB);
    // In the meantime, others continue.
    let after = cluster.online("one").await;
    assert_eq!(
        (after.session, after.liveness_since),
        (online.session, online.liveness_since)
    );
    assert!(cluster.join("two", &cluster.token(1).await).status.success());
    let (mut exhausted, mut late) = (0, 0);
    for call in calls {
        let status = call.await.unwrap();
        match status.code() {
            Code::ResourceExhausted => {
                exhausted += 1;
                assert!(status.message().contains("8192 KiB"), "{status:?}");
                assert!(status.get_error_details().retry_info().is_some());
            }
            Code::DeadlineExceeded => {
                late += 1;
                assert!(status.message().contains("20s"), "{status:?}");
            }
            _ => panic!("{status:?}"),
        }
    }
    assert!(exhausted > 500 && late > 0, "{exhausted} refused, {late} too late");
    wait_until("everything is given back", async || {
        let told = metrics(&cluster).await;
        let count = |name: &str| {
            let line = told.lines().find(|line| line.starts_with(name))?;
            line.rsplit(' ').next()?.parse::<u64>().ok()
        };
        assert!(count("wyneos_coordinator_calls_refused_total{reason=\"request_bytes\"}")? > 500);
        (count("wyneos_coordinator_request_bytes ")? < MIB).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_joins_sends_little_and_soon() {
    let cluster = Secure::start(&[]).await;
    let coordinator = cluster.coordinator.as_ref().unwrap();
    let channel = cluster.connect(&nobody(&cluster.path("admin"))).await;
    let before = coordinator.rss();
    let mut calls = Vec::new();
    for _ in 0..4 {
        let channel = cluster.connect(&nobody(&cluster.path("admin"))).await;
        calls.extend((0..BURST).map(|_| begin(&channel, "wyneos.v1.EnrollmentService/Enroll", None, 64 * 1024)));
    }
    wait_until("most are refused", async || {
        (calls.iter().filter(|call| !call.is_finished()).count() <= 64).then_some(())
    })
    .await;
    let grown = coordinator.rss().saturating_sub(before);
    assert!(grown < 32 * MIB, "{} MiB", grown / MIB);
    // A message that is too long is refused by its length prefix alone, with the limit.
    let refused = begin(&channel, "grpc.health.v1.Health/Check", None, 2_000)
        .await
        .unwrap();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
    assert!(refused.message().contains("1024"), "{refused:?}");
    for call in calls {
        let code = call.await.unwrap().code();
        assert!(
            matches!(code, Code::ResourceExhausted | Code::DeadlineExceeded),
            "{code:?}"
        );
    }
}

#[tokio::test]
async fn headers_without_an_end_are_bounded_before_anybody_is_known() {
    use tokio::io::AsyncWriteExt as _;
    let cluster = Cluster::start().await;
    cluster.snapshot().await;
    let coordinator = cluster.coordinator.as_ref().unwrap();
    let before = coordinator.rss();
    let header = [b"POST / HTTP/1.1\r\nX: ".as_slice(), &[b'a'; 380 * 1024]].concat();
    let mut held = Vec::new();
    for _ in 0..300 {
        let mut stream = tokio::net::TcpStream::connect(&cluster.address).await.unwrap();
        // The server closes the connection in the meantime.
        drop(tokio::time::timeout(Duration::from_secs(5), stream.write_all(&header)).await);
        held.push(stream);
    }
    let grown = coordinator.rss().saturating_sub(before);
    assert!(grown < 40 * MIB, "{} MiB", grown / MIB);
    cluster.snapshot().await;
    drop(held);
}

/// Connects without a certificate from this address of the host.
async fn from(cluster: &Secure, source: &str) -> Channel {
    let connector = TlsConnector::from(nobody(&cluster.path("admin")));
    let source: SocketAddr = format!("{source}:0").parse().unwrap();
    let address: SocketAddr = cluster.address.parse().unwrap();
    let connect = move |_: Uri| {
        let connector = connector.clone();
        async move {
            let socket = TcpSocket::new_v4()?;
            socket.bind(source)?;
            let name = ServerName::try_from("localhost").unwrap();
            let stream = connector.connect(name, socket.connect(address).await?).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    };
    let endpoint = Endpoint::from_shared(format!("http://{}", cluster.address)).unwrap();
    endpoint.connect_with_connector(service_fn(connect)).await.unwrap()
}

/// Watches health up to `times` times or until refused; returns the open streams, and the number of refusals.
async fn watch(channel: &Channel, times: usize) -> (Vec<Streaming<HealthCheckResponse>>, usize) {
    let (mut held, mut refused) = (Vec::new(), 0);
    for _ in 0..times {
        match HealthClient::new(channel.clone())
            .watch(HealthCheckRequest::default())
            .await
        {
            Ok(stream) => held.push(stream.into_inner()),
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                refused += 1;
            }
        }
    }
    (held, refused)
}

#[tokio::test]
async fn streams_of_nobody_keep_nobody_from_joining_or_asking_for_health() {
    let cluster = Secure::start(&[]).await;
    let attacker = from(&cluster, "127.0.0.2").await;
    let (mut held, mut refused) = watch(&attacker, 80).await;
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(from(&cluster, "127.0.0.2").await);
        let (more, too) = watch(others.last().unwrap(), 60).await;
        held.extend(more);
        refused += too;
    }
    assert!(!held.is_empty() && refused > 200, "{} stand", held.len());
    // From another address and from the same one: joins and checks have places of their own.
    let own = from(&cluster, "127.0.0.1").await;
    let (more, _) = watch(&own, 100).await;
    for channel in [&attacker, &own] {
        let health = HealthClient::new(channel.clone())
            .check(HealthCheckRequest::default())
            .await;
        assert_eq!(health.unwrap().into_inner().status(), ServingStatus::Serving);
    }
    let joined = cluster.join("one", &cluster.token(1).await);
    assert!(joined.status.success(), "{}", text(&joined));
    let _agent = cluster.agent("one");
    cluster.online("one").await;
    let counted = "wyneos_coordinator_calls_refused_total{reason=\"limit\"}";
    assert!(metrics(&cluster).await.contains(counted));
    drop((held, more, others));
}
