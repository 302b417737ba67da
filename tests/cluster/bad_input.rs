use std::time::Duration;

use tokio::time::timeout;
use wyneos::v1::{self, Liveness, RefusalReason, session_request::Message as Up};

use crate::{
    harness::{Cluster, wait_until},
    raw::{RawSession, heartbeat, hello},
};

#[tokio::test]
async fn every_bad_message_is_answered_with_its_field_and_nobody_else_notices() {
    let cluster = Cluster::start().await;
    let agent = cluster.agent("bystander");
    cluster.node_is("bystander", Liveness::Online).await;
    let spoiled = |spoil: fn(&mut v1::Hello)| {
        let mut hello = hello(1, 1);
        spoil(&mut hello);
        Up::Hello(hello)
    };
    let before_welcome: Vec<(&str, Up)> = vec![
        ("heartbeat", Up::Heartbeat(heartbeat(1))),
        ("goodbye", Up::Goodbye(v1::Goodbye::default())),
        ("hello.node_id", spoiled(|hello| hello.node_id.clear())),
        ("hello.name", spoiled(|hello| hello.name = "a\u{1b}[2J".to_owned())),
        ("hello.name", spoiled(|hello| hello.name = "node-2\u{202e}".to_owned())),
        (
            "hello.capacity.cpu_millis",
            spoiled(|hello| hello.capacity.as_mut().unwrap().cpu_millis = u64::MAX),
        ),
        (
            "hello.labels",
            spoiled(|hello| {
                hello.labels = (0..5_000)
                    .map(|at| v1::Label {
                        key: format!("k{at}"),
                        value: String::new(),
                    })
                    .collect();
            }),
        ),
    ];
    for (field, message) in before_welcome {
        let mut session = RawSession::open(&cluster).await;
        session.say(message).await;
        let (refused, status) = session.refused().await;
        assert_eq!(refused.reason(), RefusalReason::Invalid, "{field}");
        assert!(refused.detail.contains(field), "{field}: {}", refused.detail);
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
    }
    let bad = |spoil: fn(&mut v1::Heartbeat)| {
        let mut heartbeat = heartbeat(5);
        spoil(&mut heartbeat);
        Up::Heartbeat(heartbeat)
    };
    let after_welcome: Vec<(&str, Up)> = vec![
        ("hello", Up::Hello(hello(9, 1))),
        ("heartbeat.sequence", bad(|heartbeat| heartbeat.sequence = 0)),
        (
            "heartbeat.values[0]",
            bad(|heartbeat| heartbeat.values = vec![f32::NAN]),
        ),
        (
            "heartbeat.values[0]",
            bad(|heartbeat| heartbeat.values = vec![f32::INFINITY]),
        ),
        ("heartbeat.values", bad(|heartbeat| heartbeat.values = vec![0.0; 7])),
        ("heartbeat.load", bad(|heartbeat| heartbeat.load = -1.0)),
        (
            "directive.state",
            Up::Directive(v1::DirectiveUpdate {
                id: 1,
                state: 77,
                detail: String::new(),
            }),
        ),
    ];
    for (incarnation, (field, message)) in (1..).zip(after_welcome) {
        let mut session = RawSession::welcomed(&cluster, hello(1, incarnation)).await;
        session.say(message).await;
        let (refused, _) = session.refused().await;
        assert!(refused.detail.contains(field), "{field}: {}", refused.detail);
    }
    assert_eq!(cluster.transitions("bystander").await, [Liveness::Online]);
    drop(agent);
}

#[tokio::test]
async fn a_sequence_that_goes_back_ends_the_session() {
    let cluster = Cluster::start().await;
    let mut session = RawSession::welcomed(&cluster, hello(1, 1)).await;
    session.say(Up::Heartbeat(heartbeat(7))).await;
    session.say(Up::Heartbeat(heartbeat(6))).await;
    let (refused, _) = session.refused().await;
    assert!(refused.detail.contains("6 is not above 7"), "{}", refused.detail);
}

#[tokio::test]
async fn an_oversized_message_ends_its_session_alone() {
    let cluster = Cluster::start().await;
    let bystander = RawSession::welcomed(&cluster, hello(2, 1)).await;
    let mut session = RawSession::welcomed(&cluster, hello(1, 1)).await;
    session
        .say(Up::Goodbye(v1::Goodbye {
            reason: "x".repeat(300 * 1024),
        }))
        .await;
    let status = loop {
        if let Err(status) = session.down.message().await {
            break status;
        }
    };
    assert_eq!(status.code(), tonic::Code::OutOfRange, "{status:?}");
    bystander.say(Up::Heartbeat(heartbeat(1))).await;
    cluster.node_is("raw-2", Liveness::Online).await;
}

#[tokio::test]
async fn a_newer_session_replaces_the_old_one_and_a_stale_hello_is_refused() {
    let cluster = Cluster::start().await;
    let mut first = RawSession::welcomed(&cluster, hello(1, 3)).await;
    let second = RawSession::welcomed(&cluster, hello(1, 4)).await;
    let (refused, status) = first.refused().await;
    assert_eq!(refused.reason(), RefusalReason::Replaced);
    assert_eq!(status.code(), tonic::Code::Aborted);
    drop(first);
    let mut stale = RawSession::open(&cluster).await;
    stale.say(Up::Hello(hello(1, 2))).await;
    assert_eq!(stale.refused().await.0.reason(), RefusalReason::Stale);
    // The second session stays.
    second.say(Up::Heartbeat(heartbeat(1))).await;
    wait_until("a snapshot shows the second one", async || {
        let row = cluster.node_is("raw-1", Liveness::Online).await;
        (row.incarnation == 4).then_some(())
    })
    .await;
    assert_eq!(cluster.transitions("raw-1").await.first(), Some(&Liveness::Online));
    assert!(!cluster.transitions("raw-1").await.contains(&Liveness::Left));
}

#[tokio::test]
async fn a_thousand_silent_streams_are_ended_and_hold_up_nobody() {
    let cluster = Cluster::start().await;
    let agent = cluster.agent("bystander");
    cluster.node_is("bystander", Liveness::Online).await;
    let channel = cluster.channel().await;
    let mut silent = Vec::new();
    for _ in 0..1_000 {
        let (up, queue) = tokio::sync::mpsc::channel::<v1::SessionRequest>(1);
        let mut client = v1::agent_service_client::AgentServiceClient::new(channel.clone());
        let down = client
            .session(tokio_stream::wrappers::ReceiverStream::new(queue))
            .await
            .unwrap()
            .into_inner();
        silent.push((up, down));
    }
    for (_up, mut down) in silent {
        let status = timeout(Duration::from_secs(60), down.message())
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert!(status.message().contains("hello"), "{}", status.message());
    }
    assert_eq!(cluster.transitions("bystander").await, [Liveness::Online]);
    drop(agent);
}

#[tokio::test]
async fn a_flood_of_heartbeats_holds_up_nobody() {
    // The default interval: with a shorter one, a busy machine rather than the flood would delay the bystander.
    let cluster = Cluster::start_with(&["--heartbeat", "2s"]).await;
    let agent = cluster.agent("bystander");
    cluster.node_is("bystander", Liveness::Online).await;
    let flood = RawSession::welcomed(&cluster, hello(1, 1)).await;
    let flooding = tokio::spawn(async move {
        for sequence in 1..=200_000 {
            flood.say(Up::Heartbeat(heartbeat(sequence))).await;
        }
        flood
    });
    let cycle = cluster.snapshot().await.cycle;
    wait_until("cycles go on", async || {
        (cluster.snapshot().await.cycle > cycle + 5).then_some(())
    })
    .await;
    let flood = flooding.await.unwrap();
    assert_eq!(cluster.transitions("bystander").await, [Liveness::Online]);
    assert_eq!(cluster.transitions("raw-1").await.first(), Some(&Liveness::Online));
    drop((flood, agent));
}

#[tokio::test]
async fn reads_and_commands_name_what_is_wrong_with_them() {
    use wyneos::client;
    let cluster = Cluster::start().await;
    let session = RawSession::welcomed(&cluster, hello(1, 1)).await;
    cluster.node_is("raw-1", Liveness::Online).await;
    let mut nodes = client::cluster(cluster.channel().await);
    let status = nodes
        .list_nodes(v1::ListNodesRequest {
            page_size: 5_000,
            ..Default::default()
        })
        .await
        .unwrap_err();
    assert!(status.message().contains("page_size"), "{status:?}");
    let status = nodes
        .list_nodes(v1::ListNodesRequest {
            page_token: "x".to_owned(),
            ..Default::default()
        })
        .await
        .unwrap_err();
    assert!(status.message().contains("page_token"), "{status:?}");
    let status = nodes.cordon_node(v1::CordonNodeRequest::default()).await.unwrap_err();
    assert!(status.message().contains("node"), "{status:?}");
    let status = nodes
        .get_node(v1::GetNodeRequest {
            node: "nobody".to_owned(),
        })
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    let set = vec![v1::Label {
        key: "a b".to_owned(),
        value: String::new(),
    }];
    let label = v1::LabelNodeRequest {
        node: "raw-1".to_owned(),
        set,
        remove: Vec::new(),
    };
    assert!(
        nodes
            .label_node(label)
            .await
            .unwrap_err()
            .message()
            .contains("set[0].key")
    );
    let mut snapshots = client::coherence(cluster.channel().await);
    let request = v1::GetSnapshotRequest {
        cycle: 999_999,
        ..Default::default()
    };
    assert_eq!(
        snapshots.get_snapshot(request).await.unwrap_err().code(),
        tonic::Code::NotFound
    );
    let request = v1::GetSnapshotRequest {
        sections: vec![99],
        ..Default::default()
    };
    assert!(
        snapshots
            .get_snapshot(request)
            .await
            .unwrap_err()
            .message()
            .contains("sections[0]")
    );
    let mut events = client::events(cluster.channel().await);
    let ahead = events
        .watch_events(v1::WatchEventsRequest { from_sequence: 1 << 40 })
        .await
        .unwrap_err();
    assert!(ahead.message().contains("from_sequence"));
    drop(session);
}
