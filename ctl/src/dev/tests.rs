use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use super::{child::tail, *};

fn args(directory: &Path) -> DevArgs {
    DevArgs {
        agents: 2,
        cycle: Duration::from_secs(1),
        listen: SocketAddr::from(([127, 0, 0, 1], 1)),
        data_dir: Some(directory.join("data")),
        tls: false,
    }
}

/// Scripts that stand for the two servers.
fn binaries(directory: &Path, coordinator: &str, agent: &str) {
    for (name, body) in [("wyneos-coordinator", coordinator), ("wyneos-agent", agent)] {
        let path = directory.join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// Goes on until SIGTERM, and then notes its name in a common file.
fn obedient(directory: &Path, name: &str) -> String {
    let noted = directory.join("ended");
    format!(
        "trap 'echo {name} >> {}; exit 0' TERM\necho started >&2\nwhile :; do sleep 0.05; done",
        noted.display()
    )
}

#[test]
fn only_loopback_with_a_port_is_listened_on() {
    assert!(loopback("127.0.0.1:7400").is_ok());
    assert!(loopback("[::1]:7400").is_ok());
    for wrong in ["0.0.0.0:7400", "192.0.2.1:7400", "127.0.0.1:0", "localhost", ""] {
        assert!(loopback(wrong).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_missing_binary_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let error = cluster_life(&args(directory.path()), directory.path())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("wyneos-coordinator is not there"), "{error}");
}

#[tokio::test]
async fn a_child_that_dies_is_reported_with_its_log_and_the_rest_is_drained() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = obedient(directory.path(), "coordinator");
    binaries(directory.path(), &coordinator, "echo the disk is full >&2; exit 7");
    let error = cluster_life(&args(directory.path()), directory.path())
        .await
        .unwrap_err();
    let told = error.to_string();
    assert!(
        told.contains("agent-") && told.contains("exit status: 7") && told.contains("the disk is full"),
        "{told}"
    );
    // What --data-dir keeps is there.
    assert!(directory.path().join("data/coordinator/log").is_file());
}

#[tokio::test]
async fn agents_are_drained_before_the_coordinator() {
    let directory = tempfile::tempdir().unwrap();
    let (coordinator, agent) = (
        obedient(directory.path(), "coordinator"),
        obedient(directory.path(), "agent"),
    );
    binaries(directory.path(), &coordinator, &agent);
    let (args, mut stop) = (args(directory.path()), Stop::new().unwrap());
    let data = directory.path().join("data");
    let mut cluster = Cluster::new(directory.path(), &data).unwrap();
    cluster.start_coordinator(&args).unwrap();
    cluster.start_agent(&args, 1).unwrap();
    cluster.start_agent(&args, 2).unwrap();
    // Each has set its trap before it says that it started.
    for name in ["coordinator", "agent-1", "agent-2"] {
        let log = data.join(name).join("log");
        while !fs::read_to_string(&log).unwrap_or_default().contains("started") {
            tokio::task::yield_now().await;
        }
    }
    cluster.drain(&mut stop).await;
    assert_eq!(
        fs::read_to_string(directory.path().join("ended")).unwrap(),
        "agent\nagent\ncoordinator\n"
    );
}

#[test]
fn the_end_of_a_log_is_its_last_lines() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let lines: Vec<String> = (1..=5_000).map(|line| format!("line {line}")).collect();
    fs::write(&log, lines.join("\n")).unwrap();
    let shown = tail(&log);
    assert_eq!(shown.lines().count(), 20);
    assert!(
        shown.starts_with("  line 4981\n") && shown.ends_with("  line 5000\n"),
        "{shown}"
    );
    assert!(tail(&directory.path().join("none")).contains("cannot read"));
}

#[test]
fn what_is_printed_works_as_printed() {
    let mut args = args(Path::new("/d"));
    let mut state = wyneos::v1::Snapshot {
        nodes: vec![v1_node()],
        ..Default::default()
    };
    let introduction = |args: &DevArgs, is_root: bool, state: &wyneos::v1::Snapshot| {
        let view = show::View {
            args,
            directory: "/d".into(),
            pids: vec![("coordinator".to_owned(), 41), ("agent-1".to_owned(), 42)],
            is_root,
        };
        show::introduction(&view, state)
    };
    let text = introduction(&args, true, &state);
    assert!(text.contains("its coordinator is process 41\n"), "{text}");
    let row = text.lines().find(|line| line.starts_with("node-1 ")).unwrap();
    assert_eq!(row.split_whitespace().nth(2), Some("42"), "{text}");
    assert!(!text.contains("root") && !text.contains("singleton"), "{text}");
    let plain = introduction(&args, false, &state);
    assert!(plain.contains("not root") && plain.contains("no singleton"), "{plain}");
    state.nodes[0].attributes = Some(wyneos::v1::Attributes {
        containment: wyneos_core::node::NOT_CONTAINED.to_owned(),
        containment_reason: "not permitted".to_owned(),
        ..Default::default()
    });
    let held = introduction(&args, true, &state);
    assert!(held.contains("(not permitted)") && held.contains("singleton"), "{held}");
    assert!(text.contains(" --address 127.0.0.1:1 nodes"), "{text}");
    assert!(text.contains("grpcurl -plaintext 127.0.0.1:1 list"), "{text}");
    assert!(text.contains("node-1") && text.contains("online"), "{text}");
    args.listen = LISTEN.parse().unwrap();
    assert!(!introduction(&args, true, &state).contains("--address"));
    let line = show::cycle_line(&state, &wyneos::v1::Seal::default());
    assert!(line.contains("online 1/1"), "{line}");
    let mut crowded = state.clone();
    crowded.cycle = 123_456;
    crowded.nodes = vec![v1_node(); 10];
    crowded.autonomy = Some(wyneos::v1::AutonomyState {
        open: 12,
        ..Default::default()
    });
    crowded.mesh = Some(wyneos::v1::MeshTopology {
        live_links: 90,
        planned_links: 90,
        ..Default::default()
    });
    let seal = wyneos::v1::Seal {
        digest: vec![0xab; 32].into(),
        ..Default::default()
    };
    let line = show::cycle_line(&crowded, &seal);
    assert!(line.len() <= 80, "{} columns: {line}", line.len());
}

fn v1_node() -> wyneos::v1::NodeRow {
    let mut node = wyneos::v1::NodeRow {
        name: "node-1".to_owned(),
        id: "abc".to_owned(),
        ..Default::default()
    };
    node.set_liveness(wyneos::v1::Liveness::Online);
    node
}
