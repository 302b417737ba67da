//! Operator commands.

use std::{path::Path, process::Command};

use super::*;
use crate::harness::{binary, skip};

/// A running wynectl that follows something, and its output.
struct Follower {
    out: PathBuf,
    _process: Process,
}

impl Follower {
    fn start(site: &Site, args: &[&str]) -> Follower {
        let mut command = Command::new(binary("wynectl"));
        command.args(["--address", &site.cluster.address]).args(args);
        let place = site.cluster.directory.path();
        let (out, log) = (place.join(args.join(" ")), place.join("follower.log"));
        let _process = Process::with_output(command, &out, &log);
        Follower { out, _process }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }

    /// Waits until it has printed a line with all of these parts.
    async fn says(&self, parts: &[&str]) {
        wait_until(&format!("a line with {parts:?}"), async || {
            let has = |line: &str| parts.iter().all(|part| line.contains(part));
            self.said().lines().any(has).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn restarts_promotions_watches_and_logs_that_go_on() {
    let site = Site::start(&["one", "two"]).await;
    let go = site.cluster.directory.path().join("go");
    let declaration = |word: &str| {
        let script = format!(
            "echo first {word}; while ! test -e {}; do sleep 0.05; done; echo second; exec sleep 1000",
            go.display()
        );
        format!(
            "name = \"app\"\nkind = \"service\"\nreplicas = 3\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"{script}\"]\n\
             [update]\nmax_parallel = 3\nmin_healthy = \"200ms\"\ncanary = 1\n"
        )
    };
    let stable = async |revision: u64| {
        wait_until(&format!("revision {revision} is well"), async || {
            let workload = site.workload("app").await.workload.unwrap();
            (workload.stable_revision == revision).then_some(())
        })
        .await;
        site.runs("app", 3).await
    };
    // There is nothing to watch yet, which is reported without waiting.
    let early = Command::new(binary("wynectl"))
        .args([
            "--address",
            &site.cluster.address,
            "assignments",
            "-w",
            "--workload",
            "app",
        ])
        .output()
        .unwrap();
    assert!(
        !early.status.success() && text(&early).contains("no workload \"app\""),
        "{}",
        text(&early)
    );
    site.apply(&declaration("one"));
    let watch = Follower::start(&site, &["assignments", "-w", "--workload", "app"]);
    let first = stable(1).await;
    for row in &first {
        watch.says(&[&id(row), "app.", &row.node_name, "running"]).await;
    }

    // Existing output, and output written later.
    let logs = Follower::start(&site, &["logs", "app.0", "-f"]);
    logs.says(&["first one"]).await;
    fs::write(&go, "").unwrap();
    logs.says(&["second"]).await;
    assert_eq!(logs.said(), "first one\nsecond\n");

    // A restart replaces all instances without a change.
    let planned = text(&site.ctl(&["restart", "app", "--plan"]));
    assert!(planned.contains("3 instances would start"), "{planned}");
    assert_eq!(pids(&first), pids(&site.runs("app", 3).await));
    let restarted = site.ctl(&["restart", "app"]);
    assert!(restarted.status.success(), "{}", text(&restarted));
    let second = stable(2).await;
    let new = |rows: &[v1::AssignmentRow], old: &[v1::AssignmentRow]| {
        rows.iter()
            .filter(|row| old.iter().all(|old| id(old) != id(row)))
            .count()
    };
    assert_eq!(new(&second, &first), 3);
    for (old, new) in first.iter().zip(&second) {
        watch.says(&[&id(old), "ended"]).await;
        watch.says(&[&id(new), "running"]).await;
    }

    // One instance is updated first, and the others wait.
    site.apply(&declaration("two"));
    let mixed = wait_until("one is new and well", async || {
        let rows = site.runs("app", 3).await;
        (new(&rows, &second) == 1).then_some(rows)
    })
    .await;
    let promoted = site.ctl(&["promote", "app"]);
    assert!(promoted.status.success(), "{}", text(&promoted));
    let third = stable(3).await;
    assert_eq!((new(&third, &second), new(&third, &mixed)), (3, 2));
    // Nothing is left to promote.
    let again = text(&site.ctl(&["promote", "app"]));
    assert!(again.contains("nothing differs"), "{again}");
    drop((watch, logs));
    site.ends().await;
}

/// Starts an agent that measures this load on its host, in hundredths.
fn agent_with_load(site: &Site, name: &str, percent: u32) -> Process {
    let made = site.cluster.directory.path().join(format!("{name}-proc"));
    fs::create_dir_all(&made).unwrap();
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let is_cpu = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
    let cpus = stat.lines().filter(is_cpu).count() as u32;
    // The load average counts half.
    let average = f64::from(cpus * percent) / 50.0;
    let calm = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
    let mut script = String::new();
    for (file, text) in [
        ("stat", stat),
        ("loadavg", format!("{average:.2} {average:.2} {average:.2} 1/100 100\n")),
        (
            "meminfo",
            "MemTotal: 8388608 kB\nMemFree: 8000000 kB\nMemAvailable: 8000000 kB\n".to_owned(),
        ),
        ("pressure/cpu", calm.to_owned()),
        ("pressure/memory", calm.to_owned()),
        ("pressure/io", calm.to_owned()),
    ] {
        let path = made.join(file.replace('/', "-"));
        fs::write(&path, text).unwrap();
        if Path::new("/proc").join(file).exists() {
            script += &format!("mount --bind {} /proc/{file} && ", path.display());
        }
    }
    script += "exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", &script])
        .arg(binary("wyneos-agent"));
    command.args(site.cluster.agent_args(name));
    Process::of(command, &site.cluster.agent_log(name))
}

#[tokio::test]
async fn load_is_evened_out_when_it_is_asked_for() {
    let may = Command::new("unshare").args(["--mount", "true"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        match rustix::process::geteuid().is_root() {
            true => skip("unshare --mount is not there, or not allowed"),
            false => eprintln!("skipped: only root may have mounts of its own"),
        }
        return;
    }
    let mut site = Site::start(&[]).await;
    let agent = agent_with_load(&site, "busy", 70);
    site.agents.push(("busy".to_owned(), Some(agent)));
    site.cluster.node_is("busy", Liveness::Online).await;
    site.apply("name = \"app\"\nkind = \"service\"\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n[update]\nmin_healthy = \"200ms\"\n");
    let before = site.runs("app", 1).await;
    wait_until("it is well", async || {
        (site.workload("app").await.workload.unwrap().stable_revision == 1).then_some(())
    })
    .await;
    let alone = text(&site.ctl(&["rebalance"]));
    assert!(alone.contains("no move would improve the balance enough"), "{alone}");
    let agent = agent_with_load(&site, "calm", 10);
    site.agents.push(("calm".to_owned(), Some(agent)));
    site.cluster.node_is("calm", Liveness::Online).await;
    let planned = wait_until("a plan moves it", async || {
        let planned = text(&site.ctl(&["rebalance", "--plan"]));
        planned.contains("app.0").then_some(planned)
    })
    .await;
    assert!(planned.contains("busy has a load of 70%"), "{planned}");
    assert_eq!(pids(&before), pids(&site.runs("app", 1).await));
    let done = site.ctl(&["rebalance"]);
    assert!(done.status.success() && text(&done).contains("calm"), "{}", text(&done));
    wait_until("it runs elsewhere", async || {
        let rows = site.running("app").await;
        (rows.len() == 1 && rows[0].node_name == "calm").then_some(())
    })
    .await;
    let why = text(&site.ctl(&["why", "app"]));
    assert!(why.contains("load is evened out"), "{why}");
    site.ends().await;
}

#[tokio::test]
async fn a_release_that_fails_is_taken_back() {
    let site = Site::start(&["one", "two"]).await;
    let declaration = |args: &str| {
        format!(
            "name = \"app\"\nkind = \"service\"\nreplicas = 4\ncommand = \"/bin/sleep\"\nargs = [\"{args}\"]\n\
             [restart]\nbackoff = \"50ms\"\n[update]\nmax_parallel = 2\nmin_healthy = \"500ms\"\n"
        )
    };
    let stable = async |revision: u64| {
        wait_until(&format!("revision {revision} is well"), async || {
            let workload = site.workload("app").await.workload.unwrap();
            (workload.stable_revision == revision).then_some(workload)
        })
        .await
    };
    site.apply(&declaration("1001"));
    stable(1).await;
    let before = site.runs("app", 4).await;
    let planned = text(
        &site.ctl(&[
            "apply",
            "--plan",
            "-f",
            &site
                .cluster
                .directory
                .path()
                .join("declaration.toml")
                .display()
                .to_string(),
        ]),
    );
    assert!(planned.contains("nothing differs"), "{planned}");
    let told = site.apply(&declaration("1002"));
    assert!(
        told.contains("2 instances start") && told.contains("2 follow"),
        "{told}"
    );
    stable(2).await;
    let updated = site.runs("app", 4).await;
    assert!(updated.iter().all(|row| before.iter().all(|old| id(old) != id(row))));
    site.apply(&declaration("nonsense"));
    let workload = stable(4).await;
    assert_eq!(workload.rolled_back, "", "all is well again");
    let told = String::from_utf8(site.ctl(&["events", "-o", "json"]).stdout).unwrap();
    assert!(told.contains("failed and is taken back to 2, as revision 4"), "{told}");
    let after = site.runs("app", 4).await;
    assert_eq!(pids(&updated), pids(&after), "what was well was touched");
    site.ends().await;
}

#[tokio::test]
async fn of_two_changes_at_once_one_is_refused() {
    let site = Site::start(&["one"]).await;
    site.apply("name = \"app\"\nkind = \"service\"\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n");
    let planned = site.ctl(&["scale", "app", "2", "--plan"]);
    assert!(text(&planned).contains("planned at revision 1"), "{}", text(&planned));
    assert!(site.ctl(&["scale", "app", "2", "--revision", "1"]).status.success());
    let late = site.ctl(&["scale", "app", "3", "--revision", "1"]);
    assert_eq!(late.status.code(), Some(1));
    assert!(text(&late).contains("is at revision 2, not 1"), "{}", text(&late));
    let taken = site
        .cluster
        .directory
        .path()
        .join("declaration.toml")
        .display()
        .to_string();
    let taken = site.ctl(&["apply", "-f", &taken, "--revision", "0"]);
    assert!(
        text(&taken).contains("exists already, at revision 2"),
        "{}",
        text(&taken)
    );
    site.runs("app", 2).await;
    for missing in [
        &["scale", "nothing", "3"][..],
        &["restart", "nothing"],
        &["workload", "nothing"],
        &["logs", "nothing"],
        &["why", "nothing"],
    ] {
        assert_eq!(site.ctl(missing).status.code(), Some(5), "{missing:?}");
    }
    site.ends().await;
}

#[tokio::test]
async fn what_if_says_what_would_happen_and_advice_is_waited_for() {
    let mut site = Site::start(&["one", "two", "three"]).await;
    let told = text(&site.ctl(&["autonomy", "--heal", "advise"]));
    assert!(told.contains("heal:        advise"), "{told}");
    site.apply("name = \"app\"\nkind = \"service\"\nreplicas = 6\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\nreschedule_delay = \"0s\"\n");
    let before = site.runs("app", 6).await;
    let what_if = text(&site.ctl(&["whatif", "two down"]));
    assert!(
        what_if.contains("2 instances would start elsewhere, 0 would wait"),
        "{what_if}"
    );
    let drained = text(&site.ctl(&["whatif", "two", "drained"]));
    assert!(drained.contains("2 instances would start elsewhere"), "{drained}");
    assert_eq!(site.ctl(&["whatif", "zone=nowhere down"]).status.code(), Some(5));
    assert_eq!(site.ctl(&["whatif", "two", "sad"]).status.code(), Some(2));
    assert_eq!(pids(&before), pids(&site.runs("app", 6).await));

    let processes = site.processes("two");
    site.kill_agent("two").await;
    processes.into_iter().for_each(|pid| kill(pid, Signal::KILL));
    let waiting = wait_until("a decision waits", async || {
        let answer = site.ctl(&["decisions", "--pending", "-o", "json"]);
        let answer: serde_json::Value = serde_json::from_slice(&answer.stdout).ok()?;
        answer["decisions"].get(0).cloned()
    })
    .await;
    assert_eq!(waiting["action"], "app: place 2 elsewhere");
    let elsewhere = async || {
        site.running("app")
            .await
            .iter()
            .filter(|row| row.node_name != "two")
            .count()
    };
    assert_eq!(elsewhere().await, 4);
    let id = waiting["id"].as_str().unwrap();
    assert!(site.ctl(&["decisions", "approve", id]).status.success());
    wait_until("it is done", async || (elsewhere().await == 6).then_some(())).await;
    assert_eq!(site.ctl(&["decisions", "reject", id]).status.code(), Some(5));
    site.ends().await;
}
