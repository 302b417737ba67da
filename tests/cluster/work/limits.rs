//! Resource limits of instances, with the control groups of this host.

use rustix::process::geteuid;

use super::*;
use crate::harness::skip;

/// Starts a site of one node whose host limits instances, and returns it with the node's id; `None`, with a message, on
/// a host that cannot.
pub(super) async fn limited() -> Option<(Site, String)> {
    let site = Site::start(&["one"]).await;
    let node = site.cluster.node_is("one", Liveness::Online).await;
    match cgroups(&site, "one").as_str() {
        "v1" | "v2" => Some((site, node.id)),
        _ => {
            let mounts = fs::read_to_string("/proc/mounts").unwrap();
            let there = mounts.lines().any(|line| {
                let mut fields = line.split(' ').skip(2);
                let (kind, options) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
                kind.starts_with("cgroup")
                    && options.starts_with("rw")
                    && (kind == "cgroup2" || options.contains("memory"))
            });
            let why = site.agents[0].1.as_ref().unwrap().log_text();
            match there && geteuid().is_root() {
                true => skip(&format!("control groups are mounted, and cannot be used:\n{why}")),
                // No package could provide this.
                false => eprintln!("skipped: this host has no control groups for us:\n{why}"),
            }
            site.ends().await;
            None
        }
    }
}

/// Returns the control groups of a node, as wynectl shows them.
fn cgroups(site: &Site, node: &str) -> String {
    let shown = text(&site.ctl(&["node", node]));
    let line = shown.lines().find_map(|line| line.strip_prefix("Cgroups:"));
    line.unwrap_or_default().trim().to_owned()
}

fn python(script: &str) -> String {
    format!("command = {:?}\nargs = [\"-c\", {script:?}]\n", path_of("python3"))
}

#[tokio::test]
async fn what_takes_more_memory_than_it_was_promised_is_killed_and_that_is_said() {
    let Some((site, node)) = limited().await else { return };
    let few = "[restart]\nattempts = 1\nbackoff = \"100ms\"\n[resources]\nmemory = \"32MiB\"\n";
    let hog = python("hog = bytearray(512 << 20)");
    site.apply(&format!("name = \"hog\"\nkind = \"batch\"\n{hog}{few}"));
    site.shows("hog", "killed: out of memory (limit 32 MiB)").await;
    let ended = site.instances("hog").await;
    assert_eq!(
        status(&ended[0]).exit.unwrap().how,
        Some(v1::process_exit::How::Signal(9))
    );
    // A child process counts too.
    let child = python(
        "import subprocess, sys\nsys.exit(subprocess.call([sys.executable, '-c', 'hog = bytearray(512 << 20)']) != 0)",
    );
    site.apply(&format!("name = \"parent\"\nkind = \"batch\"\n{child}{few}"));
    let shown = site.shows("parent", "out of memory (limit 32 MiB)").await;
    assert!(
        shown.contains("exit status 1; the kernel had killed one that it started"),
        "{shown}"
    );
    // Other instances are not affected, and ended instances leave no group.
    site.apply("name = \"good\"\nkind = \"service\"\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n");
    let good = site.runs("good", 1).await;
    wait_until("only the group of what runs is there", async || {
        let groups = groups(&node);
        let good = id(&good[0]);
        (!groups.is_empty() && groups.iter().all(|group| group.to_string_lossy().ends_with(&good))).then_some(())
    })
    .await;
    assert!(site.ctl(&["delete", "good"]).status.success());
    wait_until("no group is left", async || groups(&node).is_empty().then_some(())).await;
    site.ends().await;
}

#[tokio::test]
async fn what_starts_processes_without_end_is_bounded_and_ended() {
    let Some((site, node)) = limited().await else { return };
    let count = "import os, time\nstarted = 0\ntry:\n  while True:\n    if os.fork() == 0: time.sleep(1000)\n    started += 1\n\
                 except OSError as error:\n  print(started, error, flush=True)\n  time.sleep(1000)";
    site.apply(&format!(
        "name = \"many\"\nkind = \"service\"\n{}[limits]\npids = 20\n",
        python(count)
    ));
    wait_until("it could start no more", async || {
        // The program itself is the twentieth process.
        let shown = text(&site.ctl(&["logs", "many"]));
        shown.starts_with("19 ").then_some(())
    })
    .await;
    let bomb = python("import os\nwhile True:\n  try: os.fork()\n  except OSError: pass");
    let few = "[limits]\npids = 30\ncpu = \"200m\"\n[stop]\ngrace = \"100ms\"\n";
    site.apply(&format!("name = \"bomb\"\nkind = \"service\"\n{bomb}{few}"));
    let rows = site.runs("bomb", 1).await;
    let procs = |group: &PathBuf| {
        fs::read_to_string(group.join("cgroup.procs"))
            .unwrap_or_default()
            .lines()
            .count()
    };
    let of_bomb = || {
        groups(&node)
            .into_iter()
            .filter(|group| group.to_string_lossy().ends_with(&id(&rows[0])))
    };
    wait_until("it has multiplied", async || {
        of_bomb().any(|group| procs(&group) > 20).then_some(())
    })
    .await;
    assert!(of_bomb().all(|group| procs(&group) <= 30));
    for name in ["bomb", "many"] {
        assert!(site.ctl(&["delete", name]).status.success());
    }
    wait_until("all of it is gone", async || {
        (site.processes("one").is_empty() && groups(&node).is_empty()).then_some(())
    })
    .await;
    site.ends().await;
}

#[tokio::test]
async fn a_quota_of_cpu_is_kept_to_and_what_is_not_limited_says_so() {
    let Some((mut site, _)) = limited().await else { return };
    let spin = python(
        "import time\nbegan = time.monotonic()\nwhile time.monotonic() < began + 2: pass\nprint(int(50 * time.process_time()))",
    );
    site.apply(&format!(
        "name = \"spin\"\nkind = \"batch\"\n{spin}[limits]\ncpu = \"200m\"\n"
    ));
    let percent = wait_until("it has measured itself", async || {
        text(&site.ctl(&["logs", "spin"])).trim().parse::<u32>().ok()
    })
    .await;
    // A quota of 20%, plus the CPU time of its start.
    assert!(percent <= 40, "{percent}% of a CPU");
    // Work that requires limits is placed nowhere else.
    let constraint = "constraints = [{ key = \"node.cgroups\", operator = \"in\", values = [\"v1\", \"v2\"] }]\n";
    let sleep = "kind = \"service\"\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n";
    site.apply(&format!("name = \"limited\"\n{sleep}{constraint}"));
    site.runs("limited", 1).await;
    let agent = site.cluster.agent_with("two", &["--cgroup", "off"]);
    site.agents.push(("two".to_owned(), Some(agent)));
    site.cluster.node_is("two", Liveness::Online).await;
    assert_eq!(cgroups(&site, "two"), "none");
    let log = site.agents[1].1.as_ref().unwrap().log_text();
    assert_eq!(log.matches("instances run without limits").count(), 1, "{log}");
    let refused = text(&site.ctl(&["scale", "limited", "2", "--plan"]));
    assert!(
        refused.contains("constraint on \"node.cgroups\" is not met"),
        "{refused}"
    );
    site.apply(&format!(
        "name = \"free\"\n{sleep}constraints = [{{ key = \"node.cgroups\", operator = \"in\", values = [\"none\"] }}]\n"
    ));
    let rows = site.runs("free", 1).await;
    assert_eq!(rows[0].node_name, "two");
    site.ends().await;
}

#[tokio::test]
async fn limits_stay_while_the_agent_is_gone_and_the_next_one_clears_away() {
    let Some((mut site, node)) = limited().await else {
        return;
    };
    let flag = site.cluster.directory.path().join("go");
    let hog = python(&format!(
        "import os, time\nwhile not os.path.exists({:?}): time.sleep(0.02)\nhog = bytearray(512 << 20)",
        flag.display().to_string()
    ));
    site.apply(&format!(
        "name = \"hog\"\nkind = \"batch\"\n{hog}[resources]\nmemory = \"32MiB\"\n"
    ));
    site.apply("name = \"good\"\nkind = \"service\"\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n");
    let rows = site.runs("hog", 1).await;
    let good = site.runs("good", 1).await;
    site.kill_agent("one").await;
    fs::write(&flag, "").unwrap();
    let pid = status(&rows[0]).pid;
    wait_until("it is killed all the same", async || (!lives(pid)).then_some(())).await;
    // A group that no supervisor is left to remove.
    let left: Vec<PathBuf> = groups(&node)
        .iter()
        .map(|group| group.with_extension("00000000deadbeef"))
        .collect();
    left.iter().for_each(|group| drop(fs::create_dir(group)));
    assert!(!left.is_empty() && left.iter().all(|group| group.exists()));
    site.start_agent("one").await;
    site.shows("hog", "killed: out of memory (limit 32 MiB)").await;
    wait_until("what was left is removed", async || {
        left.iter().all(|group| !group.exists()).then_some(())
    })
    .await;
    assert_eq!(pids(&good), pids(&site.runs("good", 1).await));
    // A killed supervisor leaves no group either.
    let there = groups(&node);
    assert!(
        there
            .iter()
            .all(|group| group.to_string_lossy().ends_with(&id(&good[0]))),
        "{there:?}"
    );
    kill(site.supervisors("one")[0], Signal::KILL);
    wait_until("its group is gone", async || {
        there.iter().all(|group| !group.exists()).then_some(())
    })
    .await;
    site.ends().await;
}
