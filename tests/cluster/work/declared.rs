//! Declared ports, update order and results of host shutdowns, with real processes.

use std::{os::unix::fs::FileTypeExt as _, process};

use super::{limits::limited, *};

/// Returns a port that is not assigned by chance: below those of connections, and above those of instances.
fn free_port() -> u16 {
    let drawn = (process::id() ^ Instant::now().elapsed().subsec_nanos()) as u16;
    let ports = (0..2_000).map(|at| 30_000 + (drawn.wrapping_add(at * 7)) % 2_000);
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.into_iter().find(is_free).unwrap()
}

fn assignment(row: &v1::AssignmentRow) -> v1::Assignment {
    row.assignment.clone().unwrap()
}

#[tokio::test]
async fn a_fixed_port_is_the_programs_and_is_freed_first_by_an_update() {
    let site = Site::start(&["one"]).await;
    let port = free_port();
    let python = path_of("python3");
    let declaration = |name: &str, args: &str| {
        format!(
            "name = \"{name}\"\ncommand = {python:?}\nargs = [\"-m\", \"http.server\", \"${{PORT_web}}\"{args}]\n\
             ports = [{{ name = \"web\", port = {port} }}]\n[[checks]]\nhttp = {{ port = \"web\", path = \"/\" }}\n\
             interval = \"200ms\"\n[update]\nmin_healthy = \"200ms\"\n"
        )
    };
    site.apply(&declaration("web", ""));
    let first = site.runs("web", 1).await;
    wait_until("it answers at its port", async || {
        let rows = site.instances("web").await;
        let address = rows[0].addresses.first()?.clone();
        assert!(address.ends_with(&format!(":{port}")), "{address}");
        get(&address)
    })
    .await;
    // No other workload gets it.
    site.apply(&declaration("other", ""));
    site.shows("other", "has its port taken").await;
    assert!(site.instances("other").await.is_empty());
    assert!(site.ctl(&["delete", "other"]).status.success());
    site.apply(&declaration("web", ", \"--protocol\", \"HTTP/1.1\""));
    let second = wait_until("its successor has the port", async || {
        let rows = site.runs("web", 1).await;
        (id(&rows[0]) != id(&first[0]) && status(&rows[0]).healthy).then_some(rows)
    })
    .await;
    assert_eq!(status(&second[0]).restarts, 0, "{second:?}");
    // A process that is not an instance has the port, which is reported.
    let foreign = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let taken = foreign.local_addr().unwrap().port();
    let python = format!(
        "name = \"late\"\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\nports = [{{ name = \"web\", port = {taken} }}]\n"
    );
    site.apply(&python);
    site.shows("late", "is in use on this host by a process that is not an instance")
        .await;
    drop(foreign);
    site.ends().await;
}

#[tokio::test]
async fn a_program_may_write_where_it_is_told_that_its_directory_is() {
    let site = Site::start(&["one"]).await;
    let script = "touch \"$WYNEOS_DIRECTORY/mine\" && cd \"$WYNEOS_DIRECTORY\" && pwd && ls && exec sleep 1000";
    for (name, more) in [("own", ""), ("other", "directory = \"/tmp\"\n")] {
        site.apply(&format!(
            "name = \"{name}\"\n{more}command = \"/bin/sh\"\nargs = [\"-c\", {script:?}]\n"
        ));
        let rows = site.runs(name, 1).await;
        let work = site
            .cluster
            .directory
            .path()
            .join("one/instances")
            .join(id(&rows[0]))
            .join("work");
        let wanted = format!("{}\nmine\n", work.display());
        wait_until("it has written there", async || {
            (text(&site.ctl(&["logs", name])) == wanted).then_some(())
        })
        .await;
        assert_eq!(status(&site.runs(name, 1).await[0]).restarts, 0);
    }
    site.ends().await;
}

#[tokio::test]
async fn with_stop_first_the_next_one_finds_the_lock_of_the_one_before_free() {
    let site = Site::start(&["one", "two"]).await;
    let lock = site.cluster.directory.path().join("lock");
    fs::write(&lock, "").unwrap();
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(site.cluster.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // The program takes a while to end, and fails if it does not get the lock.
    let script = format!(
        "import fcntl, signal, sys, time\nlock = open({lock:?}, 'w')\nfcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)\n\
         signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), sys.exit(0)))\nwhile True: time.sleep(1)"
    );
    let declaration = |version: u32| {
        format!(
            "name = \"db\"\ncommand = {:?}\nargs = [\"-c\", {script:?}, \"{version}\"]\n[update]\norder = \"stop-first\"\n\
             min_healthy = \"500ms\"\n",
            path_of("python3")
        )
    };
    site.apply(&declaration(1));
    site.runs("db", 1).await;
    site.shows("db", "well").await;
    for version in 2..4 {
        let before = site.runs("db", 1).await;
        site.apply(&declaration(version));
        wait_until("its successor runs", async || {
            let rows = site.runs("db", 1).await;
            (id(&rows[0]) != id(&before[0])).then_some(())
        })
        .await;
    }
    let node = site.runs("db", 1).await[0].node_name.clone();
    assert!(site.ctl(&["drain", &node]).status.success());
    wait_until("it runs on the other node", async || {
        let rows = site.runs("db", 1).await;
        (rows[0].node_name != node).then_some(())
    })
    .await;
    for row in site.instances("db").await {
        let status = status(&row);
        assert_eq!((status.restarts, assignment(&row).attempt), (0, 0), "{status:?}");
    }
    site.ends().await;
}

/// Ends an agent and all processes of its node at the same time, as a power failure would.
async fn loses_its_host(site: &mut Site, node: &str) {
    for pid in site.processes(node) {
        kill(pid, Signal::STOP);
    }
    site.kill_agent(node).await;
    wait_until("nothing of it is left", async || {
        let left = site.processes(node);
        left.iter().for_each(|pid| kill(*pid, Signal::KILL));
        left.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_batch_that_its_host_cut_off_is_run_again_or_has_failed_as_declared() {
    let mut site = Site::start(&["one"]).await;
    for (name, more) in [("again", ""), ("once", "on_interruption = \"fail\"\n")] {
        site.apply(&format!(
            "name = \"{name}\"\nkind = \"batch\"\nretries = 0\n{more}command = \"/bin/sleep\"\nargs = [\"1000\"]\n"
        ));
    }
    let again = site.runs("again", 1).await;
    let once = site.runs("once", 1).await;
    for row in again.iter().chain(&once) {
        let trace = site
            .cluster
            .directory
            .path()
            .join("one/instances")
            .join(id(row))
            .join("exit");
        wait_until("its program is watched", async || {
            fs::read_to_string(&trace).ok().filter(|text| text.contains("watched"))
        })
        .await;
    }
    for round in 0..2 {
        let before = site.runs("again", 1).await;
        if round == 0 {
            loses_its_host(&mut site, "one").await;
        } else {
            // An orderly shutdown of the host: the supervisors are told to end.
            site.kill_agent("one").await;
            site.supervisors("one")
                .into_iter()
                .for_each(|pid| kill(pid, Signal::TERM));
            wait_until("all has ended", async || site.processes("one").is_empty().then_some(())).await;
        }
        site.start_agent("one").await;
        wait_until("another one runs", async || {
            let rows = site.running("again").await;
            rows.iter().any(|row| id(row) != id(&before[0])).then_some(())
        })
        .await;
        let all = site.instances("again").await;
        let first = all.iter().find(|row| id(row) == id(&before[0])).unwrap();
        let status = status(first);
        assert!(
            status.interrupted && !status.complete && !status.outcome_unknown,
            "{status:?}"
        );
        assert!(all.iter().all(|row| assignment(row).attempt == 0), "{all:?}");
    }
    site.shows("once", "not tried again").await;
    assert_eq!(site.instances("once").await.len(), 1);
    site.ends().await;
}

#[tokio::test]
async fn a_node_without_a_coordinator_starts_again_what_it_was_told_to_run() {
    let mut site = Site::start(&["one"]).await;
    let declaration = |name: &str, more: &str| {
        format!("name = \"{name}\"\n{more}command = \"/bin/sh\"\nargs = [\"-c\", \"echo {name}; exec sleep 1000\"]\n")
    };
    site.apply(&declaration("edge", "offline_start = \"1s\"\n"));
    site.apply(&declaration("job", "offline_start = \"1s\"\nkind = \"batch\"\n"));
    site.apply(&declaration("not", ""));
    site.apply(&declaration("gone", "offline_start = \"1s\"\n"));
    let mut before = BTreeMap::new();
    for name in ["edge", "job", "not", "gone"] {
        before.insert(name, site.runs(name, 1).await[0].clone());
    }
    let home = |name: &str| {
        let instances = site.cluster.directory.path().join("one/instances");
        instances.join(id(&before[name]))
    };
    let (edge, job, gone) = (home("edge"), home("job"), home("gone"));
    wait_until("its program is watched", async || {
        fs::read_to_string(job.join("exit"))
            .ok()
            .filter(|text| text.contains("watched"))
    })
    .await;
    // The instance was told to end, and has not ended when the power fails: its supervisor is stopped.
    let supervisor = site.supervisors("one").into_iter().find(|pid| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(&id(&before["gone"]))
    });
    kill(status(&before["gone"]).pid.try_into().unwrap(), Signal::STOP);
    assert!(site.ctl(&["delete", "gone", "--no-wait"]).status.success());
    wait_until("it is told to end", async || {
        let text = fs::read_to_string(gone.join("status.json")).ok()?;
        text.contains("stopping").then_some(())
    })
    .await;
    assert!(supervisor.is_some());
    site.cluster.kill().await;
    loses_its_host(&mut site, "one").await;
    site.begin_agent("one");
    let starts = |home: &Path| {
        let logs = fs::read_dir(home.join("logs")).into_iter().flatten().flatten();
        logs.filter(|log| log.file_name().to_string_lossy().contains("stdout"))
            .count()
    };
    for home in [&edge, &job] {
        wait_until("it runs again", async || {
            let there = fs::metadata(home.join("socket")).is_ok_and(|there| there.file_type().is_socket());
            let status: serde_json::Value = serde_json::from_slice(&fs::read(home.join("status.json")).ok()?).ok()?;
            (there && status["phase"] == "running" && status["started_alone"] == 1).then_some(())
        })
        .await;
        assert!(starts(home) >= 1);
    }
    // Neither instances without the setting, nor those that were told to end.
    assert_eq!(site.supervisors("one").len(), 2);
    site.cluster.restart().await;
    site.cluster.node_is("one", Liveness::Online).await;
    for name in ["edge", "job"] {
        let rows = site.runs(name, 1).await;
        assert_eq!(id(&rows[0]), id(&before[name]), "moved");
        assert_eq!((status(&rows[0]).restarts, status(&rows[0]).started_alone), (1, 1));
        assert_eq!(assignment(&rows[0]).revision, assignment(&before[name]).revision);
        let why = text(&site.ctl(&["why", &format!("{name}.0")]));
        assert!(
            why.contains("started by its agent while no coordinator was there"),
            "{why}"
        );
        assert_eq!(site.instances(name).await.len(), 1);
    }
    let rows = site.runs("not", 1).await;
    assert_ne!(id(&rows[0]), id(&before["not"]));
    site.ends().await;
}

#[tokio::test]
async fn processes_that_are_killed_for_memory_are_told_and_counted_while_the_first_one_lives() {
    let Some((site, _)) = limited().await else { return };
    let script = "import subprocess, sys, time\n\
                  while True:\n  subprocess.call([sys.executable, '-c', 'hog = bytearray(512 << 20)'])\n  time.sleep(0.2)";
    site.apply(&format!(
        "name = \"parent\"\ncommand = {:?}\nargs = [\"-c\", {script:?}]\n[resources]\nmemory = \"32MiB\"\n",
        path_of("python3")
    ));
    let row = wait_until("kills are counted", async || {
        let rows = site.running("parent").await;
        rows.into_iter().find(|row| status(row).oom_kills >= 3)
    })
    .await;
    assert_eq!(status(&row).restarts, 0);
    site.shows("parent", "processes were killed: out of memory").await;
    let listed = text(&site.ctl(&["assignments"]));
    assert!(listed.contains("processes were killed: out of memory"), "{listed}");
    let why = text(&site.ctl(&["why", "parent.0"]));
    assert!(why.contains("killed for want of memory"), "{why}");
    site.ends().await;
}

#[tokio::test]
async fn waiting_for_a_change_ends_with_its_reason_or_once_its_canaries_have_stayed_well() {
    let site = Site::start(&["one"]).await;
    let declaration = |args: &str, more: &str| {
        format!(
            "name = \"web\"\nreplicas = 3\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"{args}\"]\n{more}\n[restart]\nbackoff = \"50ms\"\n\
             [update]\nmin_healthy = \"1s\"\ndeadline = \"2s\"\ncanary = 1\n"
        )
    };
    let path = site.cluster.directory.path().join("waited.toml");
    let apply = |text: &str| {
        fs::write(&path, text).unwrap();
        site.ctl(&[
            "apply",
            "-f",
            &path.display().to_string(),
            "--wait",
            "--wait-timeout",
            "25s",
        ])
    };
    let first = apply(&declaration("exec sleep 1000", ""));
    assert!(first.status.success(), "{}", text(&first));
    // Instances that stayed are healthy again immediately; the reason for the failed change is still reported.
    let unfit = apply(&declaration("exec sleep 1001", "[resources]\nmemory = \"900GiB\""));
    assert_eq!(unfit.status.code(), Some(1), "{}", text(&unfit));
    assert!(text(&unfit).contains("too little memory left"), "{}", text(&unfit));
    let bad = apply(&declaration("sleep 0.2; exit 1", ""));
    assert_eq!(bad.status.code(), Some(1), "{}", text(&bad));
    assert!(
        text(&bad).contains("ended") || text(&bad).contains("failed"),
        "{}",
        text(&bad)
    );
    let began = Instant::now();
    let good = apply(&declaration("exec sleep 1002", ""));
    assert!(
        good.status.success() && text(&good).contains("the canaries are healthy"),
        "{}",
        text(&good)
    );
    assert!(began.elapsed() >= Duration::from_secs(1));
    let canaries = site.running("web").await;
    let newest = canaries.iter().map(|row| assignment(row).revision).max().unwrap();
    assert_eq!(
        canaries.iter().filter(|row| assignment(row).revision == newest).count(),
        1
    );
    site.ends().await;
}

#[tokio::test]
async fn a_node_that_its_coordinator_refuses_starts_nothing_by_itself() {
    let mut site = Site::start(&["one", "two"]).await;
    site.apply(
        "name = \"edge\"\noffline_start = \"1s\"\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n\
         constraints = [{ key = \"node.name\", operator = \"in\", values = [\"one\"] }]\n",
    );
    site.runs("edge", 1).await;
    loses_its_host(&mut site, "one").await;
    let revoked = site.ctl(&["revoke", "one"]);
    assert!(revoked.status.success(), "{}", text(&revoked));
    site.begin_agent("one");
    wait_until("it was refused, after its time to start alone", async || {
        let log = site.agents[0].1.as_ref().unwrap().log_text();
        let refusals = log.matches("the coordinator refused this agent").count();
        (refusals >= 2).then_some(())
    })
    .await;
    let since = Instant::now();
    wait_until("its time to start alone is over", async || {
        assert!(site.supervisors("one").is_empty());
        (since.elapsed() > Duration::from_secs(3)).then_some(())
    })
    .await;
    site.ends().await;
}
