use wyneos::{
    client, delta,
    v1::{self, Liveness, watch_snapshots_response::State},
};

use crate::harness::{Cluster, wait_until};

type Watch = tonic::Streaming<v1::WatchSnapshotsResponse>;

async fn watch(cluster: &Cluster, request: v1::WatchSnapshotsRequest) -> Watch {
    client::coherence(cluster.channel().await)
        .watch_snapshots(request)
        .await
        .unwrap()
        .into_inner()
}

/// Processes one message; panics if it does not follow from the previous ones.
async fn step(
    watch: &mut Watch,
    state: &mut Option<v1::Snapshot>,
) -> Result<v1::WatchSnapshotsResponse, tonic::Status> {
    let message = watch.message().await?.expect("the stream goes on");
    match message.state.clone().expect("a state") {
        State::Full(full) => *state = Some(full),
        State::Delta(step) => delta::apply(state.as_mut().expect("a full state first"), step).expect("no gap"),
    }
    Ok(message)
}

async fn get(cluster: &Cluster, cycle: u64) -> v1::Snapshot {
    let request = v1::GetSnapshotRequest {
        cycle,
        ..Default::default()
    };
    client::coherence(cluster.channel().await)
        .get_snapshot(request)
        .await
        .unwrap()
        .into_inner()
        .snapshot
        .unwrap()
}

#[tokio::test]
async fn a_watch_is_resumed_across_a_restart_without_gap_or_duplicate() {
    let mut cluster = Cluster::start().await;
    let agent = cluster.agent("one");
    cluster.node_is("one", Liveness::Online).await;
    let mut state = None;
    let mut stream = watch(&cluster, v1::WatchSnapshotsRequest::default()).await;
    let first = step(&mut stream, &mut state).await.unwrap();
    assert!(matches!(first.state, Some(State::Full(_))));
    let mut last = first;
    let mut seen = vec![(last.seal.clone().unwrap().epoch, last.seal.clone().unwrap().cycle)];
    for _ in 0..3 {
        last = step(&mut stream, &mut state).await.unwrap();
        assert!(matches!(last.state, Some(State::Delta(_))));
        let seal = last.seal.clone().unwrap();
        seen.push((seal.epoch, seal.cycle));
    }
    cluster.kill().await;
    // Messages in transit still count.
    while let Ok(message) = step(&mut stream, &mut state).await {
        last = message;
        let seal = last.seal.clone().unwrap();
        seen.push((seal.epoch, seal.cycle));
    }
    cluster.restart().await;
    let request = v1::WatchSnapshotsRequest {
        resume_token: last.resume_token,
        ..Default::default()
    };
    let mut stream = watch(&cluster, request).await;
    for number in 0..4 {
        let message = step(&mut stream, &mut state).await.unwrap();
        assert_eq!(message.reset_reason, "");
        // A delta from exactly the last observed state: `step` refuses any other.
        assert!(matches!(message.state, Some(State::Delta(_))), "message {number}");
        let seal = message.seal.unwrap();
        seen.push((seal.epoch, seal.cycle));
    }
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "{seen:?}");
    let state = state.unwrap();
    assert_eq!(get(&cluster, state.cycle).await, state);
    drop(agent);
}

#[tokio::test]
async fn a_token_that_cannot_be_honoured_says_why_and_begins_anew() {
    let cluster = Cluster::start().await;
    let foreign = "00000000-0000-0000-0000-000000000001.1.1.all";
    let old = format!("{}.1.999999.all", cluster.snapshot().await.cluster_id);
    for (token, reason) in [(foreign, "another cluster"), (old.as_str(), "no longer retained")] {
        let request = v1::WatchSnapshotsRequest {
            resume_token: token.to_owned(),
            ..Default::default()
        };
        let message = watch(&cluster, request).await.message().await.unwrap().unwrap();
        assert!(matches!(message.state, Some(State::Full(_))));
        assert!(message.reset_reason.contains(reason), "{}", message.reset_reason);
    }
    let request = v1::WatchSnapshotsRequest {
        resume_token: "nonsense".to_owned(),
        ..Default::default()
    };
    let refused = client::coherence(cluster.channel().await)
        .watch_snapshots(request)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().contains("resume_token"));
}

#[tokio::test]
async fn sections_and_labels_are_filtered_and_full_states_come_when_asked() {
    let cluster = Cluster::start().await;
    let agents = [cluster.agent("one"), cluster.agent("two")];
    cluster.node_is("one", Liveness::Online).await;
    cluster.node_is("two", Liveness::Online).await;
    let set = vec![v1::Label {
        key: "zone".to_owned(),
        value: "a".to_owned(),
    }];
    let label = v1::LabelNodeRequest {
        node: "one".to_owned(),
        set,
        remove: Vec::new(),
    };
    client::cluster(cluster.channel().await)
        .label_node(label.clone())
        .await
        .unwrap();
    let request = v1::WatchSnapshotsRequest {
        sections: vec![v1::Section::Nodes.into()],
        node_label: "zone=a".to_owned(),
        ..Default::default()
    };
    let mut stream = watch(&cluster, request).await;
    let mut state = None;
    wait_until("the labelled node alone", async || {
        step(&mut stream, &mut state).await.unwrap();
        let names: Vec<String> = state.as_ref()?.nodes.iter().map(|node| node.name.clone()).collect();
        (names == ["one"]).then_some(())
    })
    .await;
    assert!(state.as_ref().unwrap().telemetry.is_none() && state.as_ref().unwrap().links.is_empty());
    // A node that no longer matches is removed by a delta.
    let remove = v1::LabelNodeRequest {
        set: Vec::new(),
        remove: vec!["zone".to_owned()],
        ..label
    };
    client::cluster(cluster.channel().await)
        .label_node(remove)
        .await
        .unwrap();
    wait_until("it is removed", async || {
        step(&mut stream, &mut state).await.unwrap();
        state.as_ref()?.nodes.is_empty().then_some(())
    })
    .await;
    let request = v1::WatchSnapshotsRequest {
        always_full: true,
        ..Default::default()
    };
    let mut stream = watch(&cluster, request).await;
    for _ in 0..3 {
        assert!(matches!(
            step(&mut stream, &mut None).await.unwrap().state,
            Some(State::Full(_))
        ));
    }
    drop(agents);
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_holds_up_nobody_and_ends_at_the_newest_state() {
    let cluster = Cluster::start().await;
    let agent = cluster.agent("one");
    cluster.node_is("one", Liveness::Online).await;
    let full = || v1::WatchSnapshotsRequest {
        always_full: true,
        ..Default::default()
    };
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let mut stream = watch(&cluster, full()).await;
        stream.message().await.unwrap();
        stalled.push(stream);
    }
    let before = cluster.coordinator.as_ref().unwrap().rss();
    let mut reading = watch(&cluster, v1::WatchSnapshotsRequest::default()).await;
    let mut state = None;
    let mut cycles = Vec::new();
    for _ in 0..30 {
        cycles.push(step(&mut reading, &mut state).await.unwrap().seal.unwrap().cycle);
    }
    assert!(
        cycles.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "a reader missed a cycle: {cycles:?}"
    );
    let after = cluster.coordinator.as_ref().unwrap().rss();
    assert!(after < before + 16 * 1024 * 1024, "{before} → {after} bytes");
    let newest = cluster.snapshot().await.cycle;
    for mut stream in stalled {
        let mut cycle = 0;
        while cycle < newest {
            cycle = stream.message().await.unwrap().unwrap().seal.unwrap().cycle;
        }
    }
    drop(agent);
}

#[tokio::test]
async fn every_event_comes_once_across_a_restart() {
    let mut cluster = Cluster::start().await;
    let agent = cluster.agent("one");
    cluster.node_is("one", Liveness::Online).await;
    let mut seen = Vec::new();
    for round in 0..2 {
        let request = v1::WatchEventsRequest {
            from_sequence: seen.last().map_or(1, |last: &u64| last + 1),
        };
        let mut stream = client::events(cluster.channel().await)
            .watch_events(request)
            .await
            .unwrap()
            .into_inner();
        let refresh = v1::RefreshNodeRequest { node: "one".to_owned() };
        let directive = client::cluster(cluster.channel().await)
            .refresh_node(refresh)
            .await
            .unwrap()
            .into_inner();
        loop {
            let event = stream.message().await.unwrap().unwrap().event.unwrap();
            seen.push(event.sequence);
            let done = matches!(event.body, Some(v1::event::Body::Directive(record))
                if record.id == directive.directive_id && record.state() == v1::DirectiveState::Done);
            if done {
                break;
            }
        }
        if round == 0 {
            cluster.kill().await;
            cluster.restart().await;
            cluster.node_is("one", Liveness::Online).await;
        }
    }
    assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<u64>>());
    drop(agent);
}
