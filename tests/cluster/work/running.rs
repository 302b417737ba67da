//! Running instances: discovery, health and output.

use super::*;

#[tokio::test]
async fn what_is_declared_runs_is_found_and_ends() {
    let site = Site::start(&["one", "two"]).await;
    let mut client = client::workloads(site.cluster.channel().await);
    // A watch of all workloads: this one does not exist yet.
    let request = v1::WatchAssignmentsRequest::default();
    let mut watch = client.watch_assignments(request).await.unwrap().into_inner();
    let told = site.apply(&format!(
        "name = \"web\"\nkind = \"service\"\nreplicas = 3\n{}",
        server()
    ));
    assert!(told.contains("3 instances start"), "{told}");
    let rows = site.runs("web", 3).await;
    for row in &rows {
        let address = row.addresses.first().unwrap();
        wait_until("it answers", async || {
            get(address).filter(|answer| answer.contains("200 OK"))
        })
        .await;
    }
    // The watch reports the addresses.
    let mut addresses = std::collections::BTreeSet::new();
    while addresses.len() < 3 {
        let answer = watch.message().await.unwrap().unwrap();
        addresses.extend(answer.changed.into_iter().flat_map(|row| row.addresses));
    }
    let snapshot = wait_until("the snapshot has them", async || {
        let snapshot = site.cluster.snapshot().await;
        (snapshot.assignments.iter().filter(|one| !one.ports.is_empty()).count() == 3).then_some(snapshot)
    })
    .await;
    assert_eq!(snapshot.workloads[0].name, "web");
    // Without a difference, nothing changes.
    let again = site.apply(&format!(
        "name = \"web\"\nkind = \"service\"\nreplicas = 3\n{}",
        server()
    ));
    assert!(again.contains("nothing differs"), "{again}");
    assert!(site.ctl(&["scale", "web", "5"]).status.success());
    site.runs("web", 5).await;
    assert!(site.ctl(&["scale", "web", "1"]).status.success());
    let left = site.runs("web", 1).await;
    let pid = status(&left[0]).pid;
    assert!(site.ctl(&["delete", "web"]).status.success());
    wait_until("it is gone", async || {
        let known = site.ctl(&["workload", "web"]).status.code() != Some(5);
        (!known && !lives(pid) && site.processes("one").is_empty() && site.processes("two").is_empty()).then_some(())
    })
    .await;
    let directories = ["one", "two"].map(|node| site.cluster.directory.path().join(node).join("instances"));
    wait_until("nothing is left on the disk", async || {
        let empty = directories
            .iter()
            .all(|path| fs::read_dir(path).unwrap().next().is_none());
        empty.then_some(())
    })
    .await;
    assert_eq!(site.ctl(&["delete", "web"]).status.code(), Some(5));
    site.ends().await;
}

#[tokio::test]
async fn programs_that_cannot_run_say_why_and_disturb_nothing() {
    let site = Site::start(&["one"]).await;
    let file = site.cluster.directory.path().join("not-executable");
    fs::write(&file, "no program\n").unwrap();
    site.apply("name = \"good\"\nkind = \"service\"\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n");
    let good = site.runs("good", 1).await;
    let few = "[restart]\nattempts = 1\nbackoff = \"100ms\"\n";
    let file = file.display();
    for (name, program, reason) in [
        (
            "missing",
            "command = \"/no/such/program\"".to_owned(),
            "there is no such program",
        ),
        ("unexecutable", format!("command = \"{file}\""), "is not executable"),
        (
            "ends",
            "command = \"/bin/sh\"\nargs = [\"-c\", \"exit 7\"]".to_owned(),
            "exit status 7",
        ),
        (
            "nobody",
            "command = \"/bin/true\"\nuser = \"no-such-user\"".to_owned(),
            "does not permit its user",
        ),
        (
            "nowhere",
            "command = \"/bin/true\"\ndirectory = \"/no/such/directory\"".to_owned(),
            "cannot enter",
        ),
    ] {
        site.apply(&format!("name = \"{name}\"\nkind = \"service\"\n{program}\n{few}"));
        let began = Instant::now();
        let shown = loop {
            let shown = text(&site.ctl(&["workload", name]));
            if shown.contains(reason) {
                break shown;
            }
            assert!(
                began.elapsed() < crate::harness::PATIENCE,
                "{name} does not say why:\n{shown}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let waits = wait_until("it is tried again later", async || {
            let waiting = site.workload(name).await.workload.unwrap().waiting;
            (!waiting.is_empty()).then_some(waiting)
        })
        .await;
        assert!(waits[0].reason.contains(reason), "{shown}");
    }
    let now = site.runs("good", 1).await;
    assert_eq!(pids(&good), pids(&now), "{}", text(&site.ctl(&["why", "good"])));
    site.ends().await;
}

#[tokio::test]
async fn a_flood_takes_a_bounded_place_and_the_newest_can_be_read() {
    let site = Site::start(&["one"]).await;
    let script = "head -c 12000000 /dev/zero | tr '\\\\0' x; echo; echo the end; echo oops >&2; sleep 1000";
    site.apply(&format!(
        "name = \"flood\"\nkind = \"service\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"{script}\"]\n"
    ));
    let rows = site.runs("flood", 1).await;
    wait_until("the end is read", async || {
        let shown = text(&site.ctl(&["logs", "flood.0", "--tail", "8"]));
        (shown == "the end\n").then_some(())
    })
    .await;
    let directory = site
        .cluster
        .directory
        .path()
        .join("one/instances")
        .join(id(&rows[0]))
        .join("logs");
    let size: u64 = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(size <= 2 * (4 << 20) + (64 << 10), "{size} bytes");
    assert_eq!(text(&site.ctl(&["logs", "flood", "--stderr"])), "oops\n");
    // The output of the previous process, once there was one.
    assert_eq!(site.ctl(&["logs", "flood", "--previous"]).status.code(), Some(1));
    kill(status(&rows[0]).pid as i32, Signal::KILL);
    wait_until("the one before is read", async || {
        let shown = text(&site.ctl(&["logs", "flood", "--previous", "--tail", "8"]));
        (shown == "the end\n").then_some(())
    })
    .await;
    site.ends().await;
}

#[tokio::test]
async fn health_is_asked_for_in_every_way() {
    let site = Site::start(&["one"]).await;
    let checks = [
        ("tcp", "tcp = \"http\"", true),
        ("http", "http = { port = \"http\", path = \"/\" }", true),
        (
            "exec",
            "exec = [\"/bin/sh\", \"-c\", \"test -n \\\"$WYNEOS_ASSIGNMENT\\\"\"]",
            true,
        ),
        ("failing", "exec = [\"/bin/sh\", \"-c\", \"exit 3\"]", false),
        ("hanging", "exec = [\"/bin/sleep\", \"4715\"]", false),
        ("nowhere", "http = { port = \"http\", path = \"/no/such/path\" }", false),
        ("no-grpc", "grpc = \"http\"", false),
    ];
    for (name, check, _) in checks {
        site.apply(&format!(
            "name = \"{name}\"\nkind = \"service\"\n{}[restart]\nbackoff = \"100ms\"\n[[checks]]\n{check}\ninterval = \"200ms\"\ntimeout = \"300ms\"\nfailures = 2\n",
            server()
        ));
    }
    for (name, _, healthy) in checks {
        wait_until(&format!("{name} is healthy: {healthy}"), async || {
            let rows = site.instances(name).await;
            let status = rows.last().map(status)?;
            match healthy {
                true => status.healthy.then_some(()),
                // Restarted because of the failed check.
                false => (status.restarts > 0 && !status.healthy).then_some(()),
            }
        })
        .await;
    }
    let why = text(&site.ctl(&["why", "failing.0"]));
    // Twice 200 ms, by default.
    let reason = "health check 0 has not passed within 400ms of the start: exit status 3";
    assert!(why.contains(reason), "{why}");
    site.ends().await;
}

#[tokio::test]
async fn a_batch_is_done_once() {
    let site = Site::start(&["one", "two"]).await;
    let script = "echo part $WYNEOS_SLOT of $WYNEOS_WORKLOAD on $WYNEOS_NODE; test $WYNEOS_SLOT != 2";
    site.apply(&format!("name = \"job\"\nkind = \"batch\"\nreplicas = 4\nretries = 0\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"{script}\"]\n"));
    let workload = wait_until("three are done, and one is given up", async || {
        let workload = site.workload("job").await.workload.unwrap();
        (workload.complete == 3 && !workload.waiting.is_empty()).then_some(workload)
    })
    .await;
    assert!(
        workload.waiting[0].reason.contains("is not tried again"),
        "{:?}",
        workload.waiting
    );
    let shown = text(&site.ctl(&["logs", "job.1"]));
    assert!(shown.starts_with("part 1 of job on "), "{shown}");
    // Completed parts stay complete.
    assert_eq!(site.instances("job").await.len(), 4);
    site.ends().await;
}

/// Returns what `wynectl` writes to a terminal.
fn on_terminal(site: &Site, line: &str) -> Vec<u8> {
    let program = crate::harness::binary("wynectl");
    let command = format!(
        "NO_COLOR=1 {} --address {} {line}",
        program.display(),
        site.cluster.address
    );
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &command, "/dev/null"]);
    script.stdin(std::process::Stdio::null()).output().unwrap().stdout
}

#[tokio::test]
async fn what_a_program_writes_does_not_drive_the_terminal_and_pipes_get_it_as_it_is() {
    let site = Site::start(&["one"]).await;
    let escapes = "\\033[2J\\033]0;owned\\007\\302\\23331m\\342\\200\\256\\377";
    site.apply(&format!(
        "name = \"loud\"\nkind = \"service\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", \
         '''printf 'begin{escapes}end\\n'; exec sleep 1000''']\n"
    ));
    site.runs("loud", 1).await;
    let raw = b"begin\x1b[2J\x1b]0;owned\x07\xc2\x9b31m\xe2\x80\xae\xffend\n";
    wait_until("it has written", async || {
        (site.ctl(&["logs", "loud"]).stdout == raw).then_some(())
    })
    .await;
    let shown = on_terminal(&site, "logs loud");
    let wanted = "begin\\x1b[2J\\x1b]0;owned\\x07\\u{9b}31m\\u{202e}\\xffend\r\n";
    assert_eq!(String::from_utf8_lossy(&shown), wanted);
    let asked = on_terminal(&site, "--raw logs loud");
    assert_eq!(
        asked,
        raw.strip_suffix(b"\n").map(|raw| [raw, b"\r\n"].concat()).unwrap()
    );
}
