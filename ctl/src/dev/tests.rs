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

/// Scripts in place of the two servers.
fn binaries(directory: &Path, coordinator: &str, agent: &str) {
    for (name, body) in [("wyneos-coordinator", coordinator), ("wyneos-agent", agent)] {
        let path = directory.join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// A script that runs until SIGTERM, and then writes its name into a common file.
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
    let mut args = args(directory.path());
    args.listen = control::tests::free_address();
    let error = cluster_life(&args, directory.path()).await.unwrap_err();
    assert!(
        error.to_string().contains("wyneos-coordinator does not exist"),
        "{error}"
    );
}

#[tokio::test]
async fn a_child_that_dies_is_reported_with_its_log_and_the_rest_is_drained() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = obedient(directory.path(), "coordinator");
    binaries(directory.path(), &coordinator, "echo the disk is full >&2; exit 7");
    let mut args = args(directory.path());
    args.listen = control::tests::free_address();
    let error = cluster_life(&args, directory.path()).await.unwrap_err();
    let told = error.to_string();
    assert!(
        told.contains("agent of node-") && told.contains("exit status: 7") && told.contains("the disk is full"),
        "{told}"
    );
    // The files in --data-dir are kept.
    assert!(directory.path().join("data/coordinator/log").is_file());
}

#[tokio::test]
async fn agents_are_drained_before_the_coordinator() {
    let directory = tempfile::tempdir().unwrap();
    let (args, mut stop) = (args(directory.path()), Stop::new().unwrap());
    let data = directory.path().join("data");
    let mut cluster = cluster(directory.path(), &args);
    // Each has set its trap before it reports its start.
    for name in ["coordinator", "agent-1", "agent-2"] {
        let log = data.join(name).join("log");
        while !fs::read_to_string(&log).unwrap_or_default().contains("started") {
            tokio::task::yield_now().await;
        }
    }
    cluster.drain(&mut stop).await.unwrap();
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

/// Commands as a shell reads them: the name of this program is a path that may be long.
fn unbroken(text: &str) -> String {
    text.replace(" \\\n     ", "")
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
            pids: vec![("coordinator".to_owned(), 41), ("node-1".to_owned(), 42)],
            is_root,
            example: "/d/demo.toml".into(),
        };
        unbroken(&show::introduction(&view, state))
    };
    let text = introduction(&args, true, &state);
    assert!(text.contains("its coordinator is process 41\n"), "{text}");
    let row = text.lines().find(|line| line.starts_with("node-1 ")).unwrap();
    assert_eq!(row.split_whitespace().nth(2), Some("42"), "{text}");
    assert!(!text.contains("root") && !text.contains("singleton"), "{text}");
    let plain = introduction(&args, false, &state);
    assert!(
        plain.contains("not root") && plain.contains("singleton is placed"),
        "{plain}"
    );
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
    assert!(text.contains(" apply -f /d/demo.toml\n"), "{text}");
    assert!(text.contains(" dev kill node-2 --listen 127.0.0.1:1\n"), "{text}");
    args.listen = LISTEN;
    let usual = introduction(&args, true, &state);
    assert!(!usual.contains("--address") && !usual.contains("--listen"), "{usual}");
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

/// A line of more than 80 columns that is not a single word, such as a path.
fn wide(text: &str) -> Option<&str> {
    let is_wide = |line: &&str| line.chars().count() > 80 && line.trim_end_matches(" \\").trim().contains(' ');
    text.lines().find(is_wide)
}

#[test]
fn what_is_printed_fits_80_columns() {
    let mut args = args(Path::new("/d"));
    args.listen = "[::1]:65535".parse().unwrap();
    args.tls = true;
    let mut node = v1_node();
    node.name = "node-50".to_owned();
    node.id = "6f1c5f3e-1a8a-4a57-8d8b-0f3d1b0b1c55".to_owned();
    node.agent_version = "0.1.0".to_owned();
    node.probe_address = "127.0.0.1:65535".to_owned();
    let state = wyneos::v1::Snapshot {
        cluster_id: "c5403203-75be-409b-b42c-5b95eb08a8e3".to_owned(),
        nodes: vec![node],
        ..Default::default()
    };
    let directory = Path::new("/tmp/some-directory-of-a-user/wyneos-dev-abcdef");
    let view = show::View {
        args: &args,
        directory: directory.to_owned(),
        pids: vec![("coordinator".to_owned(), 4_194_304), ("node-50".to_owned(), 4_194_304)],
        is_root: false,
        example: directory.join("demo.toml"),
    };
    let introduction = show::introduction(&view, &state);
    assert_eq!(wide(&introduction), None);
    let starting = show::starting(&args, directory);
    assert_eq!(wide(&starting), None);
    assert!(
        starting.starts_with("starting a coordinator and 2 agents in"),
        "{starting}"
    );
}

#[test]
fn a_death_is_told_with_the_command_that_starts_it_again() {
    let args = args(Path::new("/d"));
    let plan = child::Plan {
        name: "node-2".to_owned(),
        program: "/bin/false".into(),
        args: Vec::new(),
        directory: "/tmp/some-directory-of-a-user/wyneos-dev-abcdef/agent-2".into(),
    };
    let told = |raw: i32| {
        let status = Some(std::os::unix::process::ExitStatusExt::from_raw(raw));
        let death = child::Death {
            number: 2,
            pid: 4_194_304,
            status,
        };
        unbroken(&show::death_lines(&args, &plan, &death))
    };
    let (killed, failed) = (told(9), told(7 << 8));
    for (text, how) in [(&killed, "signal: 9 (SIGKILL)"), (&failed, "exit status: 7")] {
        assert!(
            text.contains(&format!("agent of node-2 (pid 4194304) ended: {how}")),
            "{text}"
        );
        assert!(text.ends_with(" dev start node-2 --listen 127.0.0.1:1"), "{text}");
    }
    assert!(!killed.contains("log") && failed.contains("agent-2/log"), "{failed}");
}

#[test]
fn long_commands_go_on_in_further_lines() {
    let words = ["wynectl", "apply", "-f", "/tmp/demo.toml"].map(str::to_owned);
    assert_eq!(hints::command_lines(&words, 80), "  wynectl apply -f /tmp/demo.toml");
    assert_eq!(
        hints::command_lines(&words, 24),
        "  wynectl apply -f \\\n      /tmp/demo.toml"
    );
    assert_eq!(hints::behind("so:", &words, 80), "so: wynectl apply -f /tmp/demo.toml");
    assert_eq!(
        hints::behind("so:", &words, 34),
        "so:\n  wynectl apply -f /tmp/demo.toml"
    );
}

#[test]
fn the_example_is_a_declaration_and_is_not_written_twice() {
    let directory = tempfile::tempdir().unwrap();
    let path = hints::write_example(directory.path()).unwrap();
    assert!(crate::declaration::read(&path).is_ok());
    fs::write(&path, "mine").unwrap();
    hints::write_example(directory.path()).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

/// A coordinator and two agents, with scripts in place of the servers.
fn cluster(directory: &Path, args: &DevArgs) -> Cluster {
    let (coordinator, agent) = (obedient(directory, "coordinator"), obedient(directory, "agent"));
    binaries(directory, &coordinator, &agent);
    let mut cluster = Cluster::new(directory, &directory.join("data")).unwrap();
    cluster.start_coordinator(args).unwrap();
    cluster.start_agent(args, 1).unwrap();
    cluster.start_agent(args, 2).unwrap();
    cluster
}

#[tokio::test]
async fn each_action_is_done_or_refused_with_the_reason() {
    use control::Answer;

    let directory = tempfile::tempdir().unwrap();
    let (args, mut stop) = (args(directory.path()), Stop::new().unwrap());
    let mut cluster = cluster(directory.path(), &args);
    let ask = |cluster: &mut Cluster, action, name: &str| {
        let name = name.to_owned();
        cluster.obey(&Request { action, name })
    };
    let Answer::Unknown(why) = ask(&mut cluster, Action::Kill, "node-3").answer else {
        panic!("there is a node-3")
    };
    assert!(why.contains("has coordinator and node-1 to node-2"), "{why}");
    assert!(
        matches!(ask(&mut cluster, Action::Start, "node-1").answer, Answer::Refused(why) if why.contains("runs already"))
    );
    let killed = ask(&mut cluster, Action::Kill, "agent-1");
    assert!(matches!(&killed.answer, Answer::Done(what) if what.contains("node-1")));
    killed.once.unwrap().wait_for(Option::is_some).await.unwrap();
    let death = cluster.death().await;
    assert_eq!((death.number, death.signal()), (1, Some(9)));
    // The cluster continues, even before it is up.
    cluster.mourn(&death, &args, false).unwrap();
    assert_eq!(cluster.agents(), 1);
    for action in [Action::Kill, Action::Stop, Action::Cont] {
        let answer = ask(&mut cluster, action, "node-1").answer;
        assert!(
            matches!(&answer, Answer::Refused(why) if why.contains("does not run")),
            "{answer:?}"
        );
    }
    assert!(matches!(
        ask(&mut cluster, Action::Start, "node-1").answer,
        Answer::Done(_)
    ));
    assert_eq!(cluster.agents(), 2);
    // A stopped one is drained like the others.
    assert!(matches!(
        ask(&mut cluster, Action::Stop, "coordinator").answer,
        Answer::Done(_)
    ));
    cluster.drain(&mut stop).await.unwrap();
    assert_eq!(cluster.agents(), 0);
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
