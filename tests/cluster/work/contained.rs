//! Containment by the kernel: everything ends without the agent, whatever a program did with its user, session,
//! environment and parents.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::process::geteuid;

use super::*;

/// Maximum time for the kernel on a host under load.
const KERNEL: Duration = Duration::from_secs(5);

/// Programs that change everything by which anything but the kernel could find them.
const WANDERERS: [(&str, &str); 5] = [
    (
        "a loop in a shell that waits",
        "(while true; do sleep TOKEN; done) & wait",
    ),
    (
        "another session, without an environment",
        "env -i setsid -f sleep TOKEN; sleep 1000",
    ),
    (
        "another user, session and no environment",
        "setpriv --reuid 65534 --clear-groups env -i setsid -f sleep TOKEN; sleep 1000",
    ),
    (
        "orphaned twice, without output",
        "setsid sh -c 'env -i setsid -f sh -c \"sleep TOKEN\" </dev/null >/dev/null 2>&1' & sleep 1000",
    ),
    (
        "without the signal that its parent's end would send",
        "setpriv --pdeathsig clear setsid -f sleep TOKEN; trap '' TERM HUP; sleep 1000",
    ),
];

/// Applies singletons, each with a script in which `TOKEN` is replaced by a number that no other process has.
fn singletons(site: &Site, scripts: &[&str]) -> Vec<(String, String)> {
    // Several tests run at the same time.
    static SITES: AtomicU32 = AtomicU32::new(10);
    let sites = SITES.fetch_add(1, Ordering::Relaxed);
    let tokens = scripts.iter().enumerate().map(|(number, script)| {
        let (name, token) = (
            format!("only-{number}"),
            format!("{}{sites}{number}", 70_000_000 + std::process::id()),
        );
        let script = script.replace("TOKEN", &token);
        site.apply(&format!(
            "name = \"{name}\"\nsingleton = true\ncommand = \"/bin/sh\"\nargs = [\"-c\", {script:?}]\nuser = \"root\"\n\
             [resources]\nmemory = \"32MiB\"\n[stop]\ngrace = \"1s\"\n"
        ));
        (name, token)
    });
    tokens.collect()
}

fn with_token(token: &str) -> Vec<i32> {
    processes_with(token)
        .into_iter()
        .filter(|pid| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.starts_with(b"sleep\0")
        })
        .collect()
}

/// Waits until each singleton has started its descendants.
async fn wander(site: &Site, all: &[(String, String)]) {
    for (name, token) in all {
        site.runs(name, 1).await;
        wait_until(&format!("{name} has started what it starts"), async || {
            (with_token(token).len() == 1).then_some(())
        })
        .await;
    }
}

async fn are_gone(all: &[(String, String)], since: Instant, within: Duration) {
    for (name, token) in all {
        while !with_token(token).is_empty() {
            assert!(since.elapsed() < within, "what {name} started runs on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn scripts() -> Vec<&'static str> {
    WANDERERS.iter().map(|(_, script)| *script).collect()
}

#[tokio::test]
async fn everything_ends_with_agent_and_supervisor() {
    if !geteuid().is_root() {
        return eprintln!("skipped: only root starts programs of other users");
    }
    let mut site = Site::under(0o022, &[("one", &["--users", "root"])]).await;
    let all = singletons(&site, &scripts());
    wander(&site, &all).await;
    let supervisors = site.supervisors("one");
    assert_eq!(supervisors.len(), all.len());
    let killed = Instant::now();
    site.kill_agent("one").await;
    supervisors.into_iter().for_each(|pid| kill(pid, Signal::KILL));
    are_gone(&all, killed, KERNEL).await;
    // The next agent reports how they ended, and one replacement of each follows.
    site.start_agent("one").await;
    wander(&site, &all).await;
    site.ends().await;
}

#[tokio::test]
async fn everything_ends_with_its_supervisor_and_when_it_is_deleted() {
    if !geteuid().is_root() {
        return eprintln!("skipped: only root starts programs of other users");
    }
    let site = Site::under(0o022, &[("one", &["--users", "root"])]).await;
    let all = singletons(&site, &scripts());
    wander(&site, &all).await;
    let before: BTreeSet<i32> = all.iter().flat_map(|(_, token)| with_token(token)).collect();
    for pid in site.supervisors("one") {
        kill(pid, Signal::KILL);
    }
    wait_until("what they started is gone", async || {
        before.iter().all(|pid| !lives(*pid as u32)).then_some(())
    })
    .await;
    wander(&site, &all).await;
    for (name, _) in &all {
        assert!(site.ctl(&["delete", name]).status.success());
    }
    wait_until("nothing of them is left", async || {
        let none = all.iter().all(|(_, token)| with_token(token).is_empty());
        (none && site.processes("one").is_empty()).then_some(())
    })
    .await;
    site.ends().await;
}

#[tokio::test]
async fn a_check_leaves_nothing_behind_and_sees_what_it_checks() {
    let site = Site::start(&["one"]).await;
    let token = format!("{}1", 80_000_000 + std::process::id());
    // One check never ends and one succeeds, both with descendants that leave them; the third one checks the program by
    // its process id.
    site.apply(&format!(
        "name = \"app\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"echo $$ > number; exec sleep 1000\"]\n\
         [limits]\npids = 12\n\
         [[checks]]\nexec = [\"/bin/sh\", \"-c\", \"setsid sleep {token} & wait\"]\ninterval = \"1s\"\ntimeout = \"500ms\"\nfailures = 1000\n\
         [[checks]]\nexec = [\"/bin/sh\", \"-c\", \"setsid -f sleep {token}; exit 0\"]\ninterval = \"1s\"\n\
         [[checks]]\nexec = [\"/bin/sh\", \"-c\", \"kill -0 $(cat number) && ps -p $(cat number)\"]\ninterval = \"1s\"\nfailures = 1\n"
    ));
    let rows = site.runs("app", 1).await;
    // Enough checks to exhaust the process limit if any were left.
    let mut seen = BTreeSet::new();
    wait_until("checks have run again and again", async || {
        let now = with_token(&token);
        assert!(now.len() <= 2, "{now:?} are left of checks");
        seen.extend(now);
        (seen.len() > 16).then_some(())
    })
    .await;
    let after = site.runs("app", 1).await;
    assert_eq!(pids(&rows), pids(&after), "it was replaced: {:?}", status(&after[0]));
    assert!(site.ctl(&["delete", "app"]).status.success());
    wait_until("nothing is left", async || {
        (with_token(&token).is_empty() && site.processes("one").is_empty()).then_some(())
    })
    .await;
    site.ends().await;
}

#[tokio::test]
async fn a_program_does_not_notice_where_it_runs() {
    let site = Site::start(&["one"]).await;
    // The instance has its own /proc, no zombies, process ids that no earlier life had, and its own signals and
    // statuses.
    let script = "[ -d /proc/$$ ] || exit 11; [ \\\"$(cat /proc/$$/comm)\\\" = sh ] || exit 12; \
         n=0; while [ $n -lt 20 ]; do sh -c 'sleep 0 &'; n=$((n+1)); done; sleep 0.2; \
         for s in /proc/[0-9]*/stat; do read -r line < $s || continue; case \\\"$line\\\" in *') Z '*) exit 13;; esac; done; \
         [ -f number ] && [ \\\"$(cat number)\\\" = $$ ] && exit 14; echo $$ > number; \
         trap 'echo trapped; exit 3' TERM; echo ready; while true; do sleep 0.1; done";
    site.apply(&format!(
        "name = \"app\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"{script}\"]\n[restart]\nbackoff = \"100ms\"\n"
    ));
    let said = |what: &'static str| {
        let site = &site;
        async move {
            wait_until(what, async || {
                let shown = text(&site.ctl(&["logs", "app.0"]));
                shown.contains(what).then_some(())
            })
            .await;
        }
    };
    said("ready").await;
    let first = site.runs("app", 1).await;
    kill(status(&first[0]).pid as i32, Signal::TERM);
    let second = wait_until("its status is its own, and another one runs", async || {
        let rows = site.runs("app", 1).await;
        (status(&rows[0]).restarts == 1).then_some(rows)
    })
    .await;
    assert_eq!(
        status(&second[0]).exit.unwrap().how,
        Some(v1::process_exit::How::Code(3))
    );
    said("ready").await;
    kill(status(&second[0]).pid as i32, Signal::KILL);
    let third = wait_until("it was killed, and another one runs", async || {
        let rows = site.runs("app", 1).await;
        (status(&rows[0]).restarts == 2).then_some(rows)
    })
    .await;
    assert_eq!(
        status(&third[0]).exit.unwrap().how,
        Some(v1::process_exit::How::Signal(9))
    );
    said("ready").await;
    site.ends().await;
}

/// Root without `CAP_SYS_ADMIN`, as in most containers and in strict units.
#[tokio::test]
async fn where_nothing_is_contained_singletons_are_refused_and_that_is_said() {
    if !geteuid().is_root() {
        return eprintln!("skipped: only root gives up what root may");
    }
    let mut site = Site::start(&[]).await;
    let mut command = std::process::Command::new("setpriv");
    command
        .args(["--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"])
        .arg(crate::harness::binary("wyneos-agent"))
        .args(site.cluster.agent_args("one"));
    let agent = Process::of(command, &site.cluster.agent_log("one"));
    site.agents.push(("one".to_owned(), Some(agent)));
    site.cluster.node_is("one", Liveness::Online).await;
    let node = text(&site.ctl(&["node", "one"]));
    assert!(node.contains("none"), "{node}");
    site.apply("name = \"only\"\nsingleton = true\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n");
    wait_until("the reason is told", async || {
        let shown = text(&site.ctl(&["workload", "only"]));
        let told = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        told.contains("it cannot contain what it runs").then_some(())
    })
    .await;
    // Other workloads run.
    site.apply("name = \"any\"\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n");
    site.runs("any", 1).await;
    let shown = text(&site.ctl(&["workload", "only"]));
    assert!(shown.contains("0 running"), "{shown}");
    for name in ["only", "any"] {
        assert!(site.ctl(&["delete", name]).status.success());
    }
    wait_until("nothing is left", async || {
        site.processes("one").is_empty().then_some(())
    })
    .await;
    site.ends().await;
}
