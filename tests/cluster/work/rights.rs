//! What an agent may do to existing instances, and when.

use std::{
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::Path,
    process::Command,
};

use super::*;
use crate::harness::skip;

fn log_has(process: &Process, what: &str) -> Option<()> {
    process.log_text().contains(what).then_some(())
}

#[tokio::test]
async fn a_copy_of_an_agents_directory_touches_nothing_of_the_original() {
    let mut site = Site::start(&["one"]).await;
    site.apply("name = \"app\"\nkind = \"service\"\nreplicas = 2\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n");
    site.apply(
        "name = \"only\"\nsingleton = true\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n[stop]\ngrace = \"500ms\"\n",
    );
    let (app, only) = (site.runs("app", 2).await, site.runs("only", 1).await);
    let before = [pids(&app), pids(&only)].concat();
    let supervisors = site.supervisors("one");
    let [original, copy] = ["one", "copy"].map(|name| site.cluster.directory.path().join(name));
    let copied = Command::new("cp").arg("-a").args([&original, &copy]).status().unwrap();
    assert!(copied.success());
    // A copy must not start an instance that was recorded but not started.
    let unbegun = copy.join("instances").join(id(&app[0]));
    for sign in ["status.json", "supervisor.log", "lock", "work"] {
        let path = unbegun.join(sign);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }
    let mut args = site.cluster.agent_args("one");
    let at = args
        .iter()
        .position(|arg| arg == &original.display().to_string())
        .unwrap();
    args[at] = copy.display().to_string();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let agent = Process::start("wyneos-agent", &args, &site.cluster.agent_log("copy"));
    wait_until("the coordinator refuses the copy", async || {
        log_has(&agent, "two processes with one identity")
    })
    .await;
    let untouched = || {
        assert!(before.iter().copied().all(lives), "a program of the original was ended");
        assert!(supervisors.iter().all(|pid| lives(*pid as u32)));
    };
    untouched();
    assert!(site.processes("copy").is_empty(), "the copy has begun something");
    assert_eq!(pids(&site.runs("app", 2).await), pids(&app));
    // Even when the copy replaces an agent that is gone, it leaves that agent's instances alone.
    site.kill_agent("one").await;
    wait_until("the copy is welcomed", async || log_has(&agent, "joined")).await;
    // While the original's supervisors run, their instances are not reported as ended, because they would be started a
    // second time.
    let is_copy = |rows: Vec<v1::AssignmentRow>, of: &v1::AssignmentRow| {
        let row = rows.into_iter().find(|row| id(row) == id(of))?;
        let told = status(&row)
            .detail
            .contains("this directory is a copy of one whose supervisor");
        (told && phase(&row) == InstancePhase::Stopping).then_some(())
    };
    wait_until("the copy has said what it found", async || {
        is_copy(site.instances("app").await, &app[1])?;
        is_copy(site.instances("only").await, &only[0])
    })
    .await;
    untouched();
    // The copy reports the end once the original has ended.
    for supervisor in &supervisors {
        kill(*supervisor, Signal::KILL);
    }
    wait_until("the copy says that it has ended", async || {
        let rows = site.instances("only").await;
        let row = rows.into_iter().find(|row| id(row) == id(&only[0]))?;
        (phase(&row) == InstancePhase::Ended && !lives(pids(&only)[0])).then_some(())
    })
    .await;
    agent.kill().await;
    site.ends().await;
}

/// A group of the version 1 freezer, whose processes cannot be killed while it is frozen.
struct Freezer(PathBuf);

impl Freezer {
    fn make(name: &str) -> Option<Freezer> {
        let root = Path::new("/sys/fs/cgroup/freezer");
        if !root.join("cgroup.procs").exists() || !rustix::process::geteuid().is_root() {
            skip("no freezer of cgroup v1 that may be used");
            return None;
        }
        let path = root.join(format!("wyneos-test-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Some(Freezer(path))
    }

    async fn freeze(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
        fs::write(self.0.join("freezer.state"), "FROZEN").unwrap();
        wait_until("it is frozen", async || {
            let state = fs::read_to_string(self.0.join("freezer.state")).unwrap();
            (state.trim() == "FROZEN").then_some(())
        })
        .await;
    }

    fn thaw(&self) {
        drop(fs::write(self.0.join("freezer.state"), "THAWED"));
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        self.thaw();
        drop(fs::remove_dir(&self.0));
    }
}

#[tokio::test]
async fn an_agent_joins_though_what_it_should_end_cannot_be_killed() {
    let Some(freezer) = Freezer::make("joins") else { return };
    let mut site = Site::start(&["one"]).await;
    site.apply("name = \"app\"\nkind = \"batch\"\nretries = 0\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n");
    let before = site.runs("app", 1).await;
    let pid = status(&before[0]).pid;
    freezer.freeze(pid).await;
    site.kill_agent("one").await;
    for supervisor in site.supervisors("one") {
        kill(supervisor, Signal::KILL);
        wait_until("the supervisor is gone", async || {
            (!lives(supervisor as u32)).then_some(())
        })
        .await;
    }
    site.start_agent("one").await;
    let shown = site.shows("app", "cannot be killed").await;
    assert!(shown.contains(&format!("pid {pid} ")), "{shown}");
    let rows = site.instances("app").await;
    assert_eq!(
        phase(&rows[0]),
        InstancePhase::Stopping,
        "it has not ended while a process of it lives"
    );
    freezer.thaw();
    wait_until("it has ended", async || {
        let rows = site.instances("app").await;
        let ended = phase(&rows[0]) == InstancePhase::Ended && !lives(pid);
        ended.then_some(())
    })
    .await;
    site.ends().await;
}

#[tokio::test]
async fn a_deletion_names_what_cannot_be_killed() {
    let Some(freezer) = Freezer::make("deletion") else {
        return;
    };
    let site = Site::start(&["one"]).await;
    site.apply("name = \"app\"\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n[stop]\ngrace = \"100ms\"\n");
    let before = site.runs("app", 1).await;
    let pid = status(&before[0]).pid;
    freezer.freeze(pid).await;
    assert!(site.ctl(&["delete", "app"]).status.success());
    let detail = wait_until("it says what it waits for", async || {
        let rows = site.instances("app").await;
        let detail = status(rows.first()?).detail;
        detail.contains("cannot be killed").then_some(detail)
    })
    .await;
    assert!(detail.contains(&format!("pid {pid} ")), "{detail}");
    freezer.thaw();
    wait_until("it is gone", async || {
        (!lives(pid) && site.processes("one").is_empty()).then_some(())
    })
    .await;
    site.ends().await;
}

const QUICK_STOP: &str = "command = \"/bin/sleep\"\nargs = [\"1000\"]\n[stop]\ngrace = \"200ms\"\n";

#[tokio::test]
async fn whatever_is_removed_of_an_instances_directory_it_can_be_deleted() {
    let mut site = Site::start(&["one"]).await;
    type Removal = fn(&Path);
    let removals: [(&str, Removal); 6] = [
        ("socket", |home| fs::remove_file(home.join("socket")).unwrap()),
        ("file", |home| {
            fs::remove_file(home.join("socket")).unwrap();
            fs::write(home.join("socket"), "no socket").unwrap();
        }),
        ("closed", |home| {
            fs::remove_file(home.join("socket")).unwrap();
            // Bound once, and nothing listens any more.
            drop(UnixListener::bind(home.join("socket")).unwrap());
        }),
        ("lock", |home| {
            fs::remove_file(home.join("socket")).unwrap();
            fs::remove_file(home.join("lock")).unwrap();
        }),
        ("files", |home| {
            for entry in fs::read_dir(home)
                .unwrap()
                .flatten()
                .filter(|entry| !entry.path().is_dir())
            {
                fs::remove_file(entry.path()).unwrap();
            }
        }),
        ("all", |home| fs::remove_dir_all(home).unwrap()),
    ];
    for (name, _) in &removals {
        site.apply(&format!("name = \"{name}\"\n{QUICK_STOP}"));
    }
    let mut homes = Vec::new();
    let mut programs = Vec::new();
    for (name, _) in &removals {
        let rows = site.runs(name, 1).await;
        homes.push(site.cluster.directory.path().join("one/instances").join(id(&rows[0])));
        programs.extend(pids(&rows));
    }
    site.kill_agent("one").await;
    for ((_, remove), home) in removals.iter().zip(&homes) {
        remove(home);
    }
    site.start_agent("one").await;
    // Instances with a directory continue unchanged.
    for ((name, _), pid) in removals.iter().zip(&programs).filter(|((name, _), _)| *name != "all") {
        assert_eq!(pids(&site.runs(name, 1).await), [*pid], "{name}");
    }
    for (name, _) in &removals {
        let deleted = site.ctl(&["delete", name]);
        assert!(deleted.status.success(), "{name}: {}", text(&deleted));
    }
    wait_until("nothing is left", async || {
        let left = site.processes("one").is_empty() && !programs.iter().copied().any(lives);
        left.then_some(())
    })
    .await;
    site.ends().await;
}

#[tokio::test]
async fn a_supervisor_that_stands_still_cannot_keep_a_deletion_from_its_end() {
    let site = Site::start(&["one"]).await;
    for name in ["deaf", "lost"] {
        site.apply(&format!("name = \"{name}\"\n{QUICK_STOP}"));
    }
    let lost = site.runs("lost", 1).await;
    let programs = [pids(&site.runs("deaf", 1).await), pids(&lost)].concat();
    for supervisor in site.supervisors("one") {
        kill(supervisor, Signal::STOP);
    }
    let home = site.cluster.directory.path().join("one/instances").join(id(&lost[0]));
    fs::remove_file(home.join("socket")).unwrap();
    for name in ["deaf", "lost"] {
        assert!(site.ctl(&["delete", name]).status.success());
    }
    wait_until("both are gone", async || {
        let left = site.processes("one").is_empty() && !programs.iter().copied().any(lives);
        left.then_some(())
    })
    .await;
    for name in ["deaf", "lost"] {
        wait_until("it is not there any more", async || {
            let shown = site.ctl(&["workload", name]);
            (!shown.status.success()).then_some(())
        })
        .await;
    }
    site.ends().await;
}

#[tokio::test]
async fn a_batch_whose_state_cannot_be_read_does_not_run_again() {
    let mut site = Site::start(&["one"]).await;
    // Programs run as nobody.
    let open = tempfile::tempdir().unwrap();
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let ran = open.path().join("ran");
    let script = format!("sleep 1; echo $WYNEOS_SLOT >> {}", ran.display());
    site.apply(&format!(
        "name = \"job\"\nkind = \"batch\"\nreplicas = 4\nretries = 3\ncommand = \"/bin/sh\"\nargs = [\"-c\", {script:?}]\n"
    ));
    let before = site.runs("job", 4).await;
    site.kill_agent("one").await;
    wait_until("all are done, and their supervisors are gone", async || {
        site.supervisors("one").is_empty().then_some(())
    })
    .await;
    let runs = || {
        let text = fs::read_to_string(&ran).unwrap();
        let mut runs: Vec<String> = text.lines().map(str::to_owned).collect();
        runs.sort();
        runs
    };
    assert_eq!(runs(), ["0", "1", "2", "3"]);
    // Two statuses are truncated, one is missing, and of the fourth instance the order is truncated.
    for row in &before {
        let home = site.cluster.directory.path().join("one/instances").join(id(row));
        let path = home.join("status.json");
        match row.assignment.as_ref().unwrap().slot {
            0 => fs::write(path, "").unwrap(),
            1 => {
                let whole = fs::read(&path).unwrap();
                fs::write(path, &whole[..whole.len() - 1]).unwrap();
            }
            2 => fs::remove_file(path).unwrap(),
            _ => fs::write(home.join("order.json"), "{").unwrap(),
        }
    }
    site.start_agent("one").await;
    let rows = wait_until("all have ended", async || {
        let rows = site.instances("job").await;
        let ended = rows.len() == 4 && rows.iter().all(|row| phase(row) == InstancePhase::Ended);
        ended.then_some(rows)
    })
    .await;
    for row in &rows {
        let (slot, status) = (row.assignment.as_ref().unwrap().slot, status(row));
        match slot {
            0 | 1 => assert!(
                status.outcome_unknown && status.detail.contains("its state cannot be read"),
                "{status:?}"
            ),
            2 => assert!(
                status.outcome_unknown && status.detail.contains("its supervisor never said"),
                "{status:?}"
            ),
            _ => assert!(status.complete && !status.outcome_unknown, "{status:?}"),
        }
    }
    let shown = site.shows("job", "its outcome is not known").await;
    assert!(
        shown.contains("wynectl restart job") && shown.contains("outcome unknown: "),
        "{shown}"
    );
    let why = text(&site.ctl(&["why", "job"]));
    assert!(why.contains("cannot be read"), "{why}");
    assert_eq!(runs(), ["0", "1", "2", "3"], "a part that was done was run again");
    let log = site.agent("one").as_ref().unwrap().log_text();
    assert!(log.contains("cannot read the status of an instance"), "{log}");
    // Completed parts stay complete; the others run again on request.
    let asked = site.ctl(&["restart", "job"]);
    assert!(asked.status.success(), "{}", text(&asked));
    site.shows("job", "4 of 4 done").await;
    assert_eq!(runs(), ["0", "0", "1", "1", "2", "2", "3"]);
    site.ends().await;
}
