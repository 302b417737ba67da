//! Tests of the binary against a coordinator that the test controls.

// The lint's exemption for tests does not apply to helpers of an integration test.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod fake;

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    sync::atomic::Ordering,
};

use fake::{State, command, run, serve};
use prost::Message as _;
use serde_json::Value;
use wyneos::v1;
use wyneos_core::{
    id::{Cycle, Epoch, Uuid},
    integrity::{Sealer, ZERO_DIGEST},
};

fn node(number: u8, liveness: v1::Liveness) -> v1::NodeRow {
    v1::NodeRow {
        id: Uuid([number; 16]).to_string(),
        name: format!("n{number}"),
        liveness: liveness.into(),
        ..v1::NodeRow::default()
    }
}

fn snapshot(cycle: u64) -> v1::Snapshot {
    let invariant = v1::Invariant {
        id: "heartbeats-fresh".to_owned(),
        meaning: "heartbeats arrive".to_owned(),
        severity: v1::Severity::Warning.into(),
        checked: 2,
        broken: 1,
        detail: "n2 is silent".to_owned(),
        ..v1::Invariant::default()
    };
    let link = v1::Link {
        subject_id: Uuid([2; 16]).to_string(),
        state: v1::LinkState::Down.into(),
        loss_percent: 100,
        ..v1::Link::default()
    };
    v1::Snapshot {
        cluster_id: Uuid([9; 16]).to_string(),
        epoch: 1,
        cycle,
        nodes: vec![node(1, v1::Liveness::Online), node(2, v1::Liveness::Offline)],
        mesh: Some(v1::MeshTopology {
            nodes: 2,
            planned_links: 2,
            down_links: 1,
            findings: vec![v1::Finding {
                kind: v1::FindingKind::PeersCut.into(),
                near: vec![Uuid([2; 16]).to_string()],
                detail: "all of zone=\u{1b}[2Ja".to_owned(),
                ..v1::Finding::default()
            }],
            ..v1::MeshTopology::default()
        }),
        links: vec![v1::ObserverLinks {
            observer_id: Uuid([1; 16]).to_string(),
            links: vec![link],
        }],
        coherence: Some(v1::CoherenceReport {
            score: 75.0,
            invariants: vec![invariant],
        }),
        ..v1::Snapshot::default()
    }
}

fn state() -> State {
    let mut sealer = Sealer::new(Uuid([9; 16]), &[7; 32], ZERO_DIGEST);
    let record = |cycle| {
        let bytes = snapshot(cycle).encode_to_vec();
        let seal = sealer.seal(Epoch(1), Cycle(cycle), &bytes);
        v1::ReadSnapshotsResponse {
            snapshot: bytes.into(),
            seal: Some((&seal).into()),
        }
    };
    let records: Vec<_> = (4..8).map(record).collect();
    State {
        snapshot: snapshot(7),
        records,
        public_key: sealer.public_key().0.to_vec(),
        events: 10,
        break_after: 3,
        ..State::default()
    }
}

#[tokio::test]
async fn following_survives_breaks_without_gap_or_duplicate() {
    let (address, state) = serve(state()).await;
    let mut command = command(address, "-o json events --follow");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let sequences = tokio::task::spawn_blocking(move || {
        let lines = output.lines().take(10);
        let sequence = |line: String| serde_json::from_str::<Value>(&line).unwrap()["sequence"].clone();
        lines.map(|line| sequence(line.unwrap())).collect::<Vec<_>>()
    });
    let sequences = sequences.await.unwrap();
    child.kill().unwrap();
    let told = child.wait_with_output().unwrap().stderr;
    let told = String::from_utf8_lossy(&told);
    let expected: Vec<Value> = (1..=10).map(|sequence: u64| sequence.to_string().into()).collect();
    assert_eq!(sequences, expected, "{told}");
    assert!(state.watches.load(Ordering::SeqCst) >= 4);
}

#[tokio::test]
async fn pages_are_merged() {
    let (address, _) = serve(state()).await;
    let (code, json, _) = run(address, "-o json nodes").await;
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, value["nodes"].as_array().unwrap().len()), (0, 2));
    let (_, json, _) = run(address, "-o json events").await;
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["events"].as_array().unwrap().len(), 10);
    let (_, table, _) = run(address, "nodes").await;
    assert_eq!(table.lines().count(), 3, "{table}");
    let (_, lines, _) = run(address, "events").await;
    assert_eq!(lines.lines().count(), 10, "{lines}");
}

#[tokio::test]
async fn a_node_that_is_not_there_is_5() {
    let (address, _) = serve(state()).await;
    for line in ["node n3", "why n3", "cordon n3", "events --follow --node n3"] {
        let (code, _, stderr) = run(address, line).await;
        assert_eq!(code, 5, "{line}: {stderr}");
        assert!(
            stderr.contains("wynectl nodes") && stderr.contains("NODE_UNKNOWN"),
            "{stderr}"
        );
    }
    let (code, _, stderr) = run(address, "refresh n1").await;
    assert_eq!(code, 1, "{stderr}");
}

#[tokio::test]
async fn a_node_says_what_its_kernel_contains() {
    let mut state = state();
    let attributes = |containment: &str, reason: &str| v1::Attributes {
        containment: containment.to_owned(),
        containment_reason: reason.to_owned(),
        ..v1::Attributes::default()
    };
    let told = [
        ("pid-namespace", "", "pid-namespace"),
        (
            "none",
            "not permitted",
            "none: no singletons here (not permitted); run its agent as root with CAP_SYS_ADMIN",
        ),
        (
            "none",
            "",
            "none: no singletons here; run its agent as root with CAP_SYS_ADMIN",
        ),
        ("", "", "not reported by its agent: no singletons here"),
    ];
    let row = |(number, (containment, reason, _)): (usize, &(&str, &str, &str))| v1::NodeRow {
        attributes: Some(attributes(containment, reason)),
        ..node(u8::try_from(number).unwrap(), v1::Liveness::Online)
    };
    state.snapshot.nodes = told.iter().enumerate().map(row).collect();
    let (address, _) = serve(state).await;
    for (number, &(.., shown)) in told.iter().enumerate() {
        let (code, stdout, stderr) = run(address, &format!("node n{number}")).await;
        assert_eq!(code, 0, "{stderr}");
        let line = stdout.lines().find_map(|line| line.strip_prefix("Containment:"));
        let line = line.map(str::trim).unwrap_or_default();
        assert_eq!(line, shown);
    }
}

#[tokio::test]
async fn verbs_say_what_changed() {
    let (address, _) = serve(state()).await;
    assert_eq!(run(address, "cordon n1").await.1, "n1: cordoned (event 9)\n");
    assert_eq!(run(address, "label n1 a=b c-").await.1, "n1: a=b (event 9)\n");
}

#[tokio::test]
async fn exports_verify_and_forgeries_do_not() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("out");
    let (export, verify) = (
        format!("snapshot export --output {}", file.display()),
        format!("snapshot verify --file {}", file.display()),
    );
    let mut forged = state();
    forged.records.remove(2);
    let (address, _) = serve(forged).await;
    for line in ["snapshot verify", &export] {
        let (code, _, stderr) = run(address, line).await;
        assert_eq!(code, 4, "{line}: {stderr}");
        assert!(stderr.contains("cycle 7") && stderr.contains("previous"), "{stderr}");
    }
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);

    let (address, state) = serve(state()).await;
    for line in ["snapshot verify", &export, &verify] {
        let (code, stdout, stderr) = run(address, line).await;
        assert_eq!(code, 0, "{line}: {stderr}");
        assert!(stdout.contains("4 snapshots, cycles 4 to 7"), "{line}: {stdout}");
    }
    let key: String = state.public_key.iter().map(|byte| format!("{byte:02x}")).collect();
    let (code, _, _) = run(address, &format!("{verify} --public-key {key}")).await;
    assert_eq!(code, 0);
    let other = "1".repeat(64);
    let (code, _, stderr) = run(address, &format!("{verify} --public-key {other}")).await;
    assert_eq!(code, 4, "{stderr}");
}

#[tokio::test]
async fn snapshots_and_the_mesh_are_shown() {
    let (address, _) = serve(state()).await;
    let (code, text, stderr) = run(address, "snapshot").await;
    assert_eq!(code, 0, "{stderr}");
    for shown in [
        "Cycle:",
        "1 online, 1 offline",
        "heartbeats-fresh",
        "n2 is silent",
        "75.0",
    ] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    let (_, text, _) = run(address, "mesh").await;
    let found = "heard by the coordinator and by no peer (all of zone=\u{1b}[2Ja)";
    for shown in ["1 down", "Worst links (1 of 1)", "n1", "100%", "peers-cut", found] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    let (code, text, _) = run(address, "mesh rtt n1 n2").await;
    assert_eq!(code, 0);
    for shown in [
        "1.250 ms",
        "neither probes the other",
        "median 8%, 90th percentile 31%, over 2 pairs",
    ] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    let (code, _, stderr) = run(address, "mesh rtt n1 n3").await;
    assert_ne!(code, 0, "{stderr}");
}

#[tokio::test]
async fn watching_tells_who_changed() {
    use v1::watch_snapshots_response::State as Step;
    let mut state = state();
    let message = |step| v1::WatchSnapshotsResponse {
        state: Some(step),
        ..v1::WatchSnapshotsResponse::default()
    };
    let changed = v1::Snapshot {
        nodes: vec![node(2, v1::Liveness::Online)],
        coherence: None,
        ..snapshot(8)
    };
    let delta = v1::SnapshotDelta {
        from_epoch: 1,
        from_cycle: 7,
        changed: Some(changed),
        ..v1::SnapshotDelta::default()
    };
    state.watched = vec![message(Step::Full(snapshot(7))), message(Step::Delta(delta))];
    let (address, _) = serve(state).await;
    let (code, text, stderr) = run(address, "snapshot watch").await;
    assert_eq!(code, 1, "{stderr}");
    assert!(text.contains("full state, 2 nodes"), "{text}");
    assert!(
        text.contains("score  75.0   1 node changed: n2 offline → online"),
        "{text}"
    );
}

#[tokio::test]
async fn why_shows_the_evidence() {
    let mut state = state();
    let evidence = v1::Evidence {
        source: "session".to_owned(),
        fact: "silent\u{1b}[2J\nfor 3 s".to_owned(),
        ..v1::Evidence::default()
    };
    let decision = v1::Decision {
        id: 4,
        rule: "silence".to_owned(),
        action: "call it offline".to_owned(),
        evidence: vec![evidence],
        alternatives: vec![v1::Alternative {
            action: "wait".to_owned(),
            rejected_because: "the grace period is over".to_owned(),
        }],
        ..v1::Decision::default()
    };
    state.explained = v1::ExplainNodeResponse {
        node: Some(node(2, v1::Liveness::Offline)),
        liveness: Some(decision.clone()),
        recent: vec![decision],
        broken_invariants: vec!["heartbeats-fresh".to_owned()],
        seen_by: vec![v1::SeenBy {
            observer_name: "n1".to_owned(),
            link: snapshot(1).links[0].links.first().cloned(),
            ..v1::SeenBy::default()
        }],
        ..v1::ExplainNodeResponse::default()
    };
    let (address, _) = serve(state).await;
    let (code, text, stderr) = run(address, "why n2").await;
    assert_eq!(code, 0, "{stderr}");
    for shown in [
        "offline",
        "call it offline",
        "silent\u{1b}[2J\\nfor 3 s",
        "the grace period is over",
        "n2 is silent",
        "Its peers",
    ] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    let (_, json, _) = run(address, "-o json why n2").await;
    assert!(!json.contains('\u{1b}'));
}
