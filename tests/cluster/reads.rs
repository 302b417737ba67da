//! Reads of the history: many at once, abandoned ones, and large ones.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prost::Message as _;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tonic::{Code, transport::Channel};
use tonic_types::StatusExt as _;
use wyneos::{client, v1};

use crate::secure::{Secure, tls};

const MIB: u64 = 1 << 20;

/// Maximum time for answers to operators, whatever others read. The machine that runs the tests may be slow.
const ANSWERED: Duration = Duration::from_secs(10);

/// Number of labels per command, and bytes of each: the maximum.
const LABELS: usize = 40;
const VALUE: usize = 245;

/// Creates a history of `count` commands with about 10 KB each.
async fn commands(channel: &Channel, count: u64) {
    let next = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..64 {
        let (channel, next) = (channel.clone(), Arc::clone(&next));
        workers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return;
                }
                let label = |key| v1::Label {
                    key: format!("k{key}"),
                    value: format!("{number:05}{}", "v".repeat(VALUE - 5)),
                };
                let request = v1::LabelNodeRequest {
                    node: "one".to_owned(),
                    set: (0..LABELS).map(label).collect(),
                    ..Default::default()
                };
                // The disk may not keep up with this many.
                while let Err(status) = client::cluster(channel.clone()).label_node(request.clone()).await {
                    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                    let wait = status
                        .get_error_details()
                        .retry_info()
                        .and_then(|retry| retry.retry_delay);
                    sleep(wait.unwrap()).await;
                }
            }
        });
    }
    while let Some(done) = workers.join_next().await {
        done.unwrap();
    }
}

/// Opens a viewer's connection.
async fn viewer(cluster: &Secure) -> Channel {
    cluster.connect(&tls(&cluster.path("viewer"))).await
}

async fn with_viewer(extra: &[&'static str]) -> Secure {
    let cluster = Secure::start(extra).await;
    let out = cluster.path("viewer").display().to_string();
    cluster.done(&["operator", "create", "viewer", "--role", "viewer", "--out", &out]);
    cluster
}

/// Makes the requests of an operator with a cluster in trouble; returns the longest response time.
async fn asks(channel: &Channel) -> Duration {
    let mut longest = Duration::ZERO;
    let node = "one".to_owned();
    let began = Instant::now();
    let why = v1::ExplainNodeRequest { node };
    let answer = timeout(ANSWERED, client::decisions(channel.clone()).explain_node(why)).await;
    answer.expect("`why` is answered").unwrap();
    longest = longest.max(began.elapsed());
    let began = Instant::now();
    let events = v1::ListEventsRequest {
        page_size: 20,
        ..Default::default()
    };
    let answer = timeout(ANSWERED, client::events(channel.clone()).list_events(events)).await;
    answer.expect("`events` is answered").unwrap();
    longest.max(began.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_are_given_up_cost_nothing_and_operators_are_answered_meanwhile() {
    let cluster = with_viewer(&[]).await;
    let _agent = cluster.joined("one").await;
    let admin = cluster.admin().await;
    commands(&admin, 1_500).await;
    asks(&admin).await;
    let coordinator = cluster.coordinator.as_ref().unwrap();
    let (threads, before) = (coordinator.threads(), coordinator.rss());
    let (mut most, mut grown) = (threads, before);
    for _ in 0..6 {
        let channel = viewer(&cluster).await;
        let mut calls = JoinSet::new();
        for _ in 0..250 {
            let channel = channel.clone();
            calls.spawn(async move {
                let request = v1::ListDecisionsRequest::default();
                drop(client::decisions(channel).list_decisions(request).await);
            });
        }
        drop(channel);
        // Long enough for all of them to be in progress, while the operator makes requests.
        let (longest, ()) = tokio::join!(asks(&admin), sleep(Duration::from_millis(700)));
        assert!(longest < ANSWERED, "{longest:?}");
        most = most.max(coordinator.threads());
        grown = grown.max(coordinator.rss());
        // The connection is closed with its calls.
        calls.shutdown().await;
    }
    asks(&admin).await;
    let why = cluster.done(&["why", "one"]);
    assert!(why.contains("one"), "{why}");
    most = most.max(coordinator.threads());
    // At most 16 reads have a permit, and 8 threads are for other work.
    assert!(most <= threads + 24, "{most} threads, of {threads} before");
    let grown = grown.max(coordinator.rss()) - before;
    assert!(grown < 64 * MIB, "{} MiB", grown / MIB);
    // Nothing is left behind: another read proceeds normally.
    let mut decisions = client::decisions(viewer(&cluster).await);
    let answer = timeout(ANSWERED, decisions.list_decisions(v1::ListDecisionsRequest::default()));
    answer.await.expect("the backlog is gone").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_and_pages_of_them_are_bounded_in_bytes() {
    let cluster = with_viewer(&["--events-max-mib", "1"]).await;
    let _agent = cluster.joined("one").await;
    let admin = cluster.admin().await;
    let list = async |page: v1::ListEventsRequest| {
        let answer = client::events(admin.clone()).list_events(page).await;
        answer.unwrap().into_inner()
    };
    let first = list(v1::ListEventsRequest::default()).await;
    let started = |event: &v1::Event| event.node_id.is_empty();
    let quiet = first.events.iter().find(|event| started(event)).cloned().unwrap();
    commands(&admin, 1_200).await;
    let (mut kept, mut from) = (Vec::new(), 1);
    while from > 0 {
        let page = list(v1::ListEventsRequest {
            from_sequence: from,
            page_size: 1_000,
            ..Default::default()
        })
        .await;
        assert!(page.encoded_len() as u64 <= MIB + 64 * 1024, "{}", page.encoded_len());
        (kept, from) = ([kept, page.events].concat(), page.next_sequence);
    }
    let commands = kept.iter().filter(|event| event.summary.starts_with("label one: k0="));
    let longest = commands.clone().map(prost::Message::encoded_len).max().unwrap();
    assert!(longest < 2_048, "{longest}: 10 KB were said");
    assert!(
        commands.clone().all(|event| event.summary.ends_with('…')),
        "what was cut off shows it"
    );
    assert!(commands.count() < 1_200, "the node's oldest are gone");
    let bytes: usize = kept.iter().map(prost::Message::encoded_len).sum();
    assert!((bytes as u64) < MIB, "{bytes}");
    assert!(kept.contains(&quiet), "others keep theirs: {quiet:?}");
    // Pages are read as they are sent, so many concurrent ones hold little memory.
    let coordinator = cluster.coordinator.as_ref().unwrap();
    let before = coordinator.rss();
    let channel = viewer(&cluster).await;
    let mut calls = JoinSet::new();
    for _ in 0..40 {
        let channel = channel.clone();
        calls.spawn(async move {
            let request = v1::ListDecisionsRequest::default();
            client::decisions(channel).list_decisions(request).await.unwrap();
        });
    }
    let mut grown = before;
    while !calls.is_empty() {
        let done = timeout(Duration::from_millis(20), calls.join_next()).await;
        if let Ok(Some(done)) = done {
            done.unwrap();
        }
        grown = grown.max(coordinator.rss());
    }
    let grown = grown - before;
    assert!(grown < 48 * MIB, "{} MiB", grown / MIB);
    // The node's record contains what the event left out.
    let whole = |label: &&v1::Label| label.value.len() == VALUE;
    let is_whole = |row: &v1::NodeRow| row.labels.iter().filter(whole).count() == LABELS;
    cluster.node("one", is_whole).await;
}
