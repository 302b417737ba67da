//! Behaviour at configured limits, and the release of what occupied them.

use rustix::process::Signal;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use wyneos::{
    client,
    v1::{self, RefusalReason, session_request::Message as Up},
};

use crate::{
    harness::{Cluster, wait_until},
    raw::{RawSession, hello},
};

#[tokio::test]
async fn a_full_cluster_takes_no_further_node_and_keeps_those_it_has() {
    let cluster = Cluster::start_with(&["--max-nodes", "2"]).await;
    let first = RawSession::welcomed(&cluster, hello(1, 1)).await;
    let second = RawSession::welcomed(&cluster, hello(2, 1)).await;
    let mut third = RawSession::open(&cluster).await;
    third.say(Up::Hello(hello(3, 1))).await;
    let (refused, status) = third.refused().await;
    assert_eq!(
        (refused.reason(), status.code()),
        (RefusalReason::Overloaded, Code::Unavailable)
    );
    assert!(refused.detail.contains("max_nodes"), "{}", refused.detail);
    assert!(refused.retry_after.is_some());
    // A known node may return even if the limit is reached.
    drop(second);
    let _second = RawSession::welcomed(&cluster, hello(2, 2)).await;
    drop(first);
}

#[tokio::test]
async fn one_subscriber_too_many_is_told_so_until_another_goes() {
    let cluster = Cluster::start_with(&["--max-subscribers", "1"]).await;
    let watch = async || {
        let mut client = client::coherence(cluster.channel().await);
        client
            .watch_snapshots(v1::WatchSnapshotsRequest::default())
            .await
            .map(tonic::Response::into_inner)
    };
    let mut first = watch().await.unwrap();
    first.message().await.unwrap().unwrap();
    let refused = watch().await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("max_subscribers"), "{refused:?}");
    let events = client::events(cluster.channel().await)
        .watch_events(v1::WatchEventsRequest::default())
        .await;
    assert_eq!(events.unwrap_err().code(), Code::ResourceExhausted);
    drop(first);
    wait_until("there is room again", async || watch().await.ok()).await;
}

#[tokio::test]
async fn events_that_are_no_longer_kept_are_not_passed_over_in_silence() {
    let cluster = Cluster::start_with(&["--events-max-count", "1000"]).await;
    let _session = RawSession::welcomed(&cluster, hello(1, 1)).await;
    let mut client = client::cluster(cluster.channel().await);
    for number in 0..1_100 {
        let label = v1::Label {
            key: "n".to_owned(),
            value: number.to_string(),
        };
        let request = v1::LabelNodeRequest {
            node: "raw-1".to_owned(),
            set: vec![label],
            remove: Vec::new(),
        };
        client.label_node(request).await.unwrap();
    }
    let mut events = client::events(cluster.channel().await);
    let page = events
        .list_events(v1::ListEventsRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert!(page.oldest_sequence > 1, "{}", page.oldest_sequence);
    let request = v1::WatchEventsRequest { from_sequence: 1 };
    let told = match events.watch_events(request).await {
        Ok(stream) => stream.into_inner().message().await.unwrap_err(),
        Err(told) => told,
    };
    assert_eq!(told.code(), Code::OutOfRange, "{told:?}");
    assert!(told.message().contains(&page.oldest_sequence.to_string()), "{told:?}");
}

#[tokio::test]
async fn health_says_that_it_drains_and_holds_nothing_up() {
    let mut cluster = Cluster::start().await;
    let mut health = HealthClient::new(cluster.channel().await);
    let request = HealthCheckRequest {
        service: "wyneos.v1.CoherenceService".to_owned(),
    };
    let mut watch = health.watch(request).await.unwrap().into_inner();
    let status = watch.message().await.unwrap().unwrap().status();
    assert_eq!(status, ServingStatus::Serving);
    let coordinator = cluster.coordinator.as_mut().unwrap();
    coordinator.signal(Signal::TERM);
    let status = watch.message().await.unwrap().unwrap().status();
    assert_eq!(status, ServingStatus::NotServing);
    assert!(coordinator.ended().await.success());
    assert!(
        !coordinator.log_text().contains("cut off"),
        "{}",
        coordinator.log_text()
    );
    cluster.coordinator = None;
}
