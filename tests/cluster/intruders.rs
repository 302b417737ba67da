//! Unauthorised callers, and copies of authorised ones.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status, transport::Channel};
use tonic_prost::ProstCodec;
use wyneos::{
    client,
    identity::{Authority, Principal},
    v1::{self, Liveness, agent_service_client::AgentServiceClient, session_request::Message as Up},
};
use wyneos_core::id::Uuid;

use crate::{
    harness::wait_until,
    raw::hello,
    secure::{Secure, copy, expose, issue, nobody, run, shown, text, tls, valid},
};

const NODE: Uuid = Uuid([0x11; 16]);

/// Sends a hello over a channel; returns the result.
async fn session(channel: Channel, hello: v1::Hello) -> Result<v1::SessionResponse, Status> {
    let hello = v1::SessionRequest {
        message: Some(Up::Hello(hello)),
    };
    let stream = tokio_stream::iter([hello]).chain(tokio_stream::pending());
    let mut answers = AgentServiceClient::new(channel).session(stream).await?.into_inner();
    let first = answers.message().await?.ok_or_else(|| Status::cancelled("ended"))?;
    match answers.message().await {
        Err(status) if matches!(first.message, Some(v1::session_response::Message::Refused(_))) => Err(status),
        _ => Ok(first),
    }
}

fn hello_of(node: Uuid) -> v1::Hello {
    v1::Hello {
        instance: vec![1; 16],
        node_id: node.to_string(),
        ..hello(1, 1)
    }
}

#[tokio::test]
async fn certificates_that_do_not_hold_get_no_connection() {
    let cluster = Secure::start(&[]).await;
    let _agent = cluster.joined("bystander").await;
    let before = cluster.online("bystander").await;
    let (authority, now) = (cluster.authority(), SystemTime::now());
    let hour = Duration::from_secs(3600);
    let agent = Principal::agent(cluster.cluster(), NODE);
    let (strange, _) = Authority::new(cluster.cluster(), now).unwrap();
    let elsewhere = Principal::agent(Uuid([9; 16]), NODE);
    let made_by = |authority: &Authority, principal: &Principal, holds| {
        let (key, chain) = issue(authority, principal, holds);
        shown(&agent, key, chain, cluster.authority().root())
    };
    let bad = [
        ("expired", made_by(&authority, &agent, now - hour * 2..now - hour)),
        ("not yet valid", made_by(&authority, &agent, now + hour..now + hour * 2)),
        ("self-made", made_by(&strange, &agent, valid())),
        ("another cluster's", made_by(&authority, &elsewhere, valid())),
    ];
    for (what, tls) in bad {
        // With TLS 1.3, the refusal may arrive after the handshake.
        let channel = client::connect_with(&cluster.address, Some(&tls)).await;
        let refused = match channel {
            Ok(channel) => session(channel, hello_of(NODE)).await.is_err(),
            Err(_) => true,
        };
        assert!(refused, "{what}");
    }
    cluster
        .audited("the failed handshakes", |record| record.action == "handshake")
        .await;
    let after = cluster.online("bystander").await;
    assert_eq!(
        (after.session, after.liveness_since),
        (before.session, before.liveness_since)
    );
    assert_eq!(cluster.snapshot().await.nodes.len(), 1);
}

#[tokio::test]
async fn an_agent_speaks_for_its_own_node_and_nobody_else_as_an_agent() {
    let cluster = Secure::start(&[]).await;
    let other = Uuid([0x22; 16]);
    let as_agent = cluster.connect(&cluster.as_agent(NODE)).await;
    let status = session(as_agent, hello_of(other)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("hello.node_id"), "{status}");
    let status = session(cluster.admin().await, hello_of(NODE)).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let status = session(cluster.connect(&nobody(&cluster.path("admin"))).await, hello_of(NODE))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    // A genuine certificate of a node that never joined: it waits for an operator.
    let welcome = session(cluster.connect(&cluster.as_agent(NODE)).await, hello_of(NODE))
        .await
        .unwrap();
    let Some(v1::session_response::Message::Welcome(welcome)) = welcome.message else {
        panic!("{welcome:?}");
    };
    assert_eq!(welcome.admission(), v1::Admission::Pending);
}

/// Makes a call without content; returns its result, or `None` while it is in progress.
async fn call(channel: &Channel, rpc: &str, bearer: Option<&str>) -> Option<Code> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let path = format!("/{rpc}").parse().unwrap();
    let mut request = tonic::Request::new(tokio_stream::once(()));
    if let Some(token) = bearer {
        let value = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    let call = async {
        match grpc.streaming(request, path, ProstCodec::<(), ()>::default()).await {
            Ok(answer) => match answer.into_inner().message().await {
                Ok(_) => Code::Ok,
                Err(status) => status.code(),
            },
            Err(status) => status.code(),
        }
    };
    tokio::time::timeout(Duration::from_millis(700), call).await.ok()
}

/// Connects from another source address than all other clients.
async fn connect_from(source: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((source, 0))).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test]
async fn half_open_handshakes_plaintext_and_huge_headers_disturb_nobody() {
    let limits = ["--handshake-timeout", "8s", "--max-connections-per-source", "1500"];
    let cluster = Secure::start(&limits).await;
    let _agent = cluster.joined("bystander").await;
    let before = cluster.online("bystander").await;
    let address: SocketAddr = cluster.address.parse().unwrap();
    let mut held = Vec::new();
    for number in 0..2_000 {
        let mut stream = connect_from([127, 0, 0, 2], address).await;
        if number % 2 == 0 {
            // The start of an incomplete record; connections beyond the limit may be closed already.
            drop(stream.write_all(&[22, 3, 1, 2, 0, 1]).await);
        }
        held.push(stream);
    }
    // While these connections are held, others are served.
    cluster.done(&["nodes"]);
    cluster
        .audited("those beyond the limit", |record| {
            record.reason.contains("max_connections_per_source")
        })
        .await;
    cluster
        .audited("those that took too long", |record| {
            record.reason.contains("no handshake within 8s")
        })
        .await;
    drop(held);
    // Plaintext is not accepted.
    let plain = client::connect(&cluster.address).await;
    if let Ok(channel) = plain {
        let mut client = client::cluster(channel);
        client.list_nodes(v1::ListNodesRequest::default()).await.unwrap_err();
    }
    // A header that would consume memory.
    let mut request = tonic::Request::new(v1::ListNodesRequest::default());
    request
        .metadata_mut()
        .insert("x-huge", "x".repeat(64 * 1024).parse().unwrap());
    let status = client::cluster(cluster.admin().await)
        .list_nodes(request)
        .await
        .unwrap_err();
    assert_ne!(status.code(), Code::Ok);
    let after = cluster.online("bystander").await;
    assert_eq!(
        (after.session, after.liveness_since),
        (before.session, before.liveness_since)
    );
}

#[tokio::test]
async fn keys_that_others_may_read_are_refused() {
    let mut cluster = Secure::start(&[]).await;
    assert!(cluster.join("one", &cluster.token(1).await).status.success());
    expose(&cluster.path("one").join("identity").join("key.pem"));
    let data_dir = cluster.path("one").display().to_string();
    let output = run(
        "wyneos-agent",
        &["run", "--listen", "127.0.0.1:0", "--data-dir", &data_dir],
    );
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output).contains("chmod 600"), "{}", text(&output));
    expose(&cluster.path("admin").join("key.pem"));
    let output = cluster.wynectl(&["nodes"]);
    assert!(
        !output.status.success() && text(&output).contains("chmod 600"),
        "{}",
        text(&output)
    );
    cluster.kill().await;
    let data_dir = cluster.data_dir();
    let args = ["run", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"];
    let args = [&args[..], &["--data-dir", &data_dir]].concat();
    let ca = cluster.path("coordinator").join("ca");
    let mode = |path: &std::path::Path, mode: u32| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&ca, 0o755);
    let output = run("wyneos-coordinator", &args);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output).contains("chmod 700"), "{}", text(&output));
    mode(&ca, 0o700);
    mode(&ca.join("1").join("ca.key"), 0o640);
    let output = run("wyneos-coordinator", &args);
    assert_eq!(output.status.code(), Some(64), "{}", text(&output));
    assert!(text(&output).contains("ca.key"), "{}", text(&output));
}

#[tokio::test]
async fn of_a_copied_identity_neither_replaces_the_other_and_the_operator_is_told() {
    let cluster = Secure::start(&[]).await;
    let original = cluster.joined("one").await;
    let before = cluster.online("one").await;
    copy(&cluster.path("one"), &cluster.path("copy"));
    let clone = cluster.agent("copy");
    let told = wait_until("the operator is told", async || {
        let events = client::events(cluster.admin().await)
            .list_events(v1::ListEventsRequest {
                page_size: 1_000,
                ..Default::default()
            })
            .await
            .ok()?
            .into_inner()
            .events;
        events.into_iter().find_map(|event| match event.body {
            Some(v1::event::Body::Impostor(impostor)) => Some(impostor.detail),
            _ => None,
        })
    })
    .await;
    assert!(told.contains("alive at once"), "{told}");
    assert_eq!(told.matches("127.0.0.1:").count(), 2, "{told}");
    let after = cluster.online("one").await;
    assert_eq!((after.session, after.incarnation), (before.session, before.incarnation));
    wait_until("the copy is refused, and says why", async || {
        clone
            .log_text()
            .contains("two processes with one identity")
            .then_some(())
    })
    .await;
    // Once the original is gone, the copy takes its place.
    original.kill().await;
    cluster
        .node("one", |node| {
            node.liveness() == Liveness::Online && node.session != before.session
        })
        .await;
}

#[tokio::test]
async fn no_secret_is_told() {
    let cluster = Secure::start(&["--log", "trace"]).await;
    let token = cluster.token(1).await;
    assert!(cluster.join("one", &token).status.success());
    let agent = cluster.agent("one");
    cluster.online("one").await;
    let request = v1::CreateOperatorRequest {
        name: "bearer".to_owned(),
        role: v1::Role::Viewer.into(),
        ..Default::default()
    };
    let mut access = client::access(cluster.admin().await);
    let bearer = access.create_operator(request).await.unwrap().into_inner().bearer_token;
    let channel = cluster.connect(&nobody(&cluster.path("admin"))).await;
    let read = call(&channel, "wyneos.v1.ClusterService/ListNodes", Some(&bearer)).await;
    assert_eq!(read, Some(Code::Ok));
    // The secret parts, not the names.
    let secret = token[token.len() - 48..token.len() - 8].to_owned();
    let mut secrets = vec![secret, bearer.trim_start_matches("wyneos-bearer-1-").to_owned()];
    let keys = [
        cluster.path("one").join("identity").join("key.pem"),
        cluster.path("admin").join("key.pem"),
        cluster.path("coordinator").join("ca").join("1").join("ca.key"),
    ];
    for key in keys {
        let pem = std::fs::read_to_string(key).unwrap();
        secrets.push(pem.lines().nth(1).unwrap().to_owned());
    }
    let places = [
        cluster.coordinator.as_ref().unwrap().log_text(),
        agent.log_text(),
        format!("{:?}", cluster.snapshot().await),
        format!("{:?}", cluster.audit().await),
        cluster.done(&["events", "-o", "json"]),
        cluster.done(&["token", "list", "-o", "json"]),
        cluster.done(&["operator", "list", "-o", "json"]),
    ];
    for (at, place) in places.iter().enumerate() {
        for secret in &secrets {
            assert!(!place.contains(secret.as_str()), "a secret is told in place {at}");
        }
    }
    // The store contains only hashes.
    let mut files = Vec::new();
    for name in ["state.redb", "audit.redb", "history.redb"] {
        files.extend(std::fs::read(cluster.path("coordinator").join(name)).unwrap());
    }
    for secret in &secrets[..2] {
        let found = files.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "a secret is in the store");
    }
    drop(tls(&cluster.path("admin")));
}
