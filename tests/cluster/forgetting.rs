//! Forgetting of nodes that are permanently gone: readers and the store forget them, and their names become free.

use std::{collections::BTreeSet, time::Duration};

use tonic::Code;
use wyneos::{
    client, delta,
    v1::{self, session_request::Message as Up, watch_snapshots_response::State},
};

use crate::{
    harness::{Cluster, wait_until},
    raw::{RawSession, hello},
    secure::{Secure, text},
};

async fn forget(cluster: &Cluster, node: &str) -> Result<v1::ForgetNodeResponse, (Code, String)> {
    let request = v1::ForgetNodeRequest {
        node: node.to_owned(),
        ..Default::default()
    };
    let answer = client::cluster(cluster.channel().await).forget_node(request).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| (status.code(), status.message().to_owned()))
}

fn names(state: &v1::Snapshot) -> BTreeSet<String> {
    state.nodes.iter().map(|node| node.name.clone()).collect()
}

#[tokio::test]
async fn who_left_is_forgotten_once_its_lease_is_over_and_watchers_and_the_store_hear_of_it() {
    let mut cluster = Cluster::start_with(&["--max-nodes", "2"]).await;
    let _first = RawSession::welcomed(&cluster, hello(1, 1)).await;
    let second = RawSession::welcomed(&cluster, hello(2, 1)).await;
    let (code, why) = forget(&cluster, "raw-2").await.unwrap_err();
    assert_eq!(code, Code::FailedPrecondition);
    assert!(why.contains("is connected") && why.contains("wynectl revoke"), "{why}");
    let goodbye = v1::Goodbye {
        reason: "test".to_owned(),
    };
    second.say(Up::Goodbye(goodbye)).await;
    cluster.node_is("raw-2", v1::Liveness::Left).await;
    let watch = v1::WatchSnapshotsRequest::default();
    let mut watched = client::coherence(cluster.channel().await)
        .watch_snapshots(watch)
        .await
        .unwrap()
        .into_inner();
    // A minute and a few seconds; in the meantime, the refusal states the remaining time.
    let done = loop {
        match forget(&cluster, "raw-2").await {
            Ok(done) => break done,
            Err((code, why)) => {
                assert_eq!(code, Code::FailedPrecondition, "{why}");
                assert!(why.contains("may run for another"), "{why}");
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    assert!(done.applied && done.name == "raw-2" && done.event_sequence > 0);
    let mut state: Option<v1::Snapshot> = None;
    let mut removed = false;
    while state.as_ref().is_none_or(|state| names(state).contains("raw-2")) {
        match watched.message().await.unwrap().unwrap().state.unwrap() {
            State::Full(full) => state = Some(full),
            State::Delta(step) => {
                removed |= !step.removed_nodes.is_empty();
                delta::apply(state.as_mut().unwrap(), step).unwrap();
            }
        }
    }
    assert!(removed, "a delta told of it");
    assert_eq!(forget(&cluster, "raw-2").await.unwrap_err().0, Code::NotFound);
    // There is room for another node, and the next coordinator does not know the forgotten one either.
    let _third = RawSession::welcomed(&cluster, hello(3, 1)).await;
    cluster.kill().await;
    cluster.restart().await;
    let known = BTreeSet::from(["raw-1".to_owned(), "raw-3".to_owned()]);
    wait_until("the snapshot is of the new coordinator", async || {
        (names(&cluster.snapshot().await) == known).then_some(())
    })
    .await;
    let events = cluster.events().await;
    let told = events.iter().filter(|event| event.node_name == "raw-2");
    assert!(told.clone().any(|event| event.summary.starts_with("forget raw-2")));
    assert!(told.clone().any(|event| event.summary.contains("left")));
    // The retained events are still readable by the node's id; its name may be reused.
    let id = told.clone().next().unwrap().node_id.clone();
    let of = async |node: &str| {
        let request = v1::ListEventsRequest {
            node: node.to_owned(),
            ..Default::default()
        };
        let answer = client::events(cluster.channel().await).list_events(request).await;
        answer
            .map(|answer| answer.into_inner().events)
            .map_err(|status| status.code())
    };
    assert_eq!(of(&id).await.unwrap().len(), told.count());
    let decisions = v1::ListDecisionsRequest {
        node: id,
        ..Default::default()
    };
    client::decisions(cluster.channel().await)
        .list_decisions(decisions)
        .await
        .unwrap();
    for unknown in ["raw-2", "02000000-0000-0000-0000-000000000001"] {
        assert_eq!(of(unknown).await.unwrap_err(), Code::NotFound, "{unknown}");
    }
}

#[tokio::test]
async fn a_host_that_was_set_up_anew_has_its_name_to_itself() {
    let cluster = Secure::start(&[]).await;
    let (name, uses) = ("web-7".to_owned(), 2);
    let token = cluster
        .token_for(v1::CreateJoinTokenRequest {
            name,
            uses,
            ..Default::default()
        })
        .await;
    let join = |directory: &str| {
        let data_dir = cluster.path(directory).display().to_string();
        let args = [
            "join",
            "--coordinator",
            &cluster.address,
            "--token",
            &token,
            "--data-dir",
            &data_dir,
            "--name",
            "web-7",
        ];
        let joined = crate::secure::run("wyneos-agent", &args);
        assert!(joined.status.success(), "{}", text(&joined));
        std::fs::read_to_string(cluster.path(directory).join("node-id")).unwrap()
    };
    let old = join("before");
    join("after");
    wait_until("both are there", async || {
        let listed = cluster.done(&["nodes"]);
        (listed.matches("web-7").count() == 2).then_some(())
    })
    .await;
    assert_ne!(
        cluster.wynectl(&["node", "web-7"]).status.code(),
        Some(0),
        "which of the two?"
    );
    let planned = cluster.done(&["forget", old.trim(), "--plan"]);
    assert!(planned.contains("would be forgotten"), "{planned}");
    let is_forgetting = |record: &v1::AuditRecord| record.action.ends_with("ForgetNode");
    assert!(!cluster.audit().await.iter().any(is_forgetting), "a plan is no change");
    let done = cluster.done(&["forget", old.trim(), "--reason", "reinstalled"]);
    assert!(done.contains("web-7") && done.contains("is forgotten"), "{done}");
    let data_dir = cluster.path("after").display().to_string();
    let args = ["run", "--listen", "127.0.0.1:0", "--data-dir", &data_dir];
    let _agent = crate::harness::Process::start("wyneos-agent", &args, &cluster.path("after.log"));
    cluster.online("web-7").await;
    let audited = cluster
        .audited("who forgot it", |record| {
            record.action.ends_with("ForgetNode") && record.target.contains("reinstalled")
        })
        .await;
    assert_eq!(audited.code, 0);
    let blank: Vec<v1::AuditRecord> = cluster.audit().await;
    let blank: Vec<_> = blank.iter().filter(|record| record.target.is_empty()).collect();
    assert!(blank.is_empty(), "{blank:?}");
}
