//! Work: real programs, real kills.

use std::{
    fs,
    path::PathBuf,
    process::Output,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use wyneos::{
    client,
    v1::{self, InstancePhase, Liveness},
};

use crate::{
    harness::{Cluster, Process, wait_until},
    secure::{run, text},
};

/// How often an agent is killed.
const KILLS: usize = 8;

/// A cluster whose work is ended with it.
struct Site {
    cluster: Cluster,
    agents: Vec<(String, Option<Process>)>,
}

impl Site {
    async fn start(nodes: &[&str]) -> Site {
        let cluster = Cluster::start().await;
        let mut agents = Vec::new();
        for name in nodes {
            agents.push(((*name).to_owned(), Some(cluster.agent(name))));
        }
        for name in nodes {
            cluster.node_is(name, Liveness::Online).await;
        }
        Site { cluster, agents }
    }

    fn ctl(&self, args: &[&str]) -> Output {
        run("wynectl", &[&["--address", &self.cluster.address], args].concat())
    }

    /// Applies a declaration; what wynectl said.
    fn apply(&self, declaration: &str) -> String {
        let path = self.cluster.directory.path().join("declaration.toml");
        fs::write(&path, declaration).unwrap();
        let output = self.ctl(&["apply", "-f", &path.display().to_string()]);
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    }

    async fn instances(&self, workload: &str) -> Vec<v1::AssignmentRow> {
        let request = v1::ListAssignmentsRequest {
            workload: workload.to_owned(),
            ended: true,
            page_size: 1_000,
            ..Default::default()
        };
        let mut client = client::workloads(self.cluster.channel().await);
        let answer = client.list_assignments(request).await;
        answer.map(|answer| answer.into_inner().assignments).unwrap_or_default()
    }

    async fn running(&self, workload: &str) -> Vec<v1::AssignmentRow> {
        let mut rows = self.instances(workload).await;
        rows.retain(|row| phase(row) == InstancePhase::Running);
        rows
    }

    /// Waits until exactly so many instances run, and nothing else of the workload does.
    async fn runs(&self, workload: &str, count: usize) -> Vec<v1::AssignmentRow> {
        wait_until(&format!("{count} of {workload} run"), async || {
            let rows = self.instances(workload).await;
            let there: Vec<v1::AssignmentRow> = rows
                .into_iter()
                .filter(|row| phase(row) != InstancePhase::Ended)
                .collect();
            let all = there.iter().all(|row| phase(row) == InstancePhase::Running);
            (all && there.len() == count).then_some(there)
        })
        .await
    }

    async fn workload(&self, name: &str) -> v1::GetWorkloadResponse {
        let request = v1::GetWorkloadRequest { name: name.to_owned() };
        let mut client = client::workloads(self.cluster.channel().await);
        client.get_workload(request).await.unwrap().into_inner()
    }

    fn agent(&mut self, name: &str) -> &mut Option<Process> {
        &mut self.agents.iter_mut().find(|(known, _)| known == name).unwrap().1
    }

    async fn kill_agent(&mut self, name: &str) {
        self.agent(name).take().unwrap().kill().await;
    }

    async fn start_agent(&mut self, name: &str) {
        let agent = self.cluster.agent(name);
        *self.agent(name) = Some(agent);
        self.cluster.node_is(name, Liveness::Online).await;
    }

    /// Processes of a node's instances: their supervisors, and what those started.
    fn processes(&self, node: &str) -> Vec<i32> {
        let mark = self
            .cluster
            .directory
            .path()
            .join(node)
            .join("instances")
            .display()
            .to_string();
        processes_with(&mark)
    }

    async fn ends(mut self) {
        for (_, agent) in &mut self.agents {
            if let Some(agent) = agent.take() {
                agent.kill().await;
            }
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // What outlives its agent must not outlive the test.
        self.agents.clear();
        let mark = self.cluster.directory.path().display().to_string();
        for pid in processes_with(&mark) {
            kill(pid, Signal::TERM);
        }
    }
}

/// Processes whose command line or directory has `mark` in it.
fn processes_with(mark: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let has = |pid: &i32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let directory = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        let own = std::process::id() as i32 == *pid;
        !own && (String::from_utf8_lossy(&command).contains(mark) || directory.starts_with(mark))
    };
    pids.filter(has).collect()
}

fn kill(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn phase(row: &v1::AssignmentRow) -> InstancePhase {
    status(row).phase()
}

fn status(row: &v1::AssignmentRow) -> v1::InstanceStatus {
    row.assignment.clone().and_then(|one| one.status).unwrap_or_default()
}

fn id(row: &v1::AssignmentRow) -> String {
    row.assignment.clone().unwrap_or_default().id
}

fn pids(rows: &[v1::AssignmentRow]) -> Vec<u32> {
    rows.iter().map(|row| status(row).pid).collect()
}

fn path_of(name: &str) -> String {
    let found = std::env::var("PATH").unwrap_or_default();
    let found = std::env::split_paths(&found)
        .map(|path| path.join(name))
        .find(|path: &PathBuf| path.is_file());
    found.unwrap().display().to_string()
}

/// What a port answers to GET.
fn get(address: &str) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// A program that listens on its port and answers: what the tests have of a server.
fn server() -> String {
    let python = path_of("python3");
    format!("command = {python:?}\nargs = [\"-m\", \"http.server\", \"${{PORT_http}}\"]\nports = [\"http\"]\n")
}

#[tokio::test]
async fn what_is_declared_runs_is_found_and_ends() {
    let site = Site::start(&["one", "two"]).await;
    let mut client = client::workloads(site.cluster.channel().await);
    let request = v1::WatchAssignmentsRequest {
        workload: "web".to_owned(),
    };
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
    // Whoever watches learns of the addresses.
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
    // Nothing differs: nothing is done.
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
async fn work_goes_on_without_its_agent_and_what_happened_is_told() {
    let mut site = Site::start(&["one"]).await;
    site.apply("name = \"app\"\nkind = \"service\"\nreplicas = 3\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n[restart]\nbackoff = \"100ms\"\n");
    let before = site.runs("app", 3).await;
    site.kill_agent("one").await;
    assert!(pids(&before).into_iter().all(lives), "work ended with its agent");
    // One ends while nobody is there to see it.
    let victim = status(&before[0]).pid;
    kill(victim as i32, Signal::KILL);
    wait_until("its supervisor starts it again", async || {
        (!lives(victim)).then_some(())
    })
    .await;
    site.start_agent("one").await;
    let after = wait_until("what happened meanwhile is told", async || {
        let rows = site.runs("app", 3).await;
        rows.iter().any(|row| status(row).restarts == 1).then_some(rows)
    })
    .await;
    let (old, new) = (pids(&before), pids(&after));
    assert_eq!(old[1..], new[1..]);
    assert_ne!(old[0], new[0]);
    assert_eq!(
        status(&after[0]).exit.unwrap().how,
        Some(v1::process_exit::How::Signal(9))
    );
    site.ends().await;
}

#[tokio::test]
async fn no_exit_status_is_lost_however_often_an_agent_is_killed() {
    let mut site = Site::start(&["one"]).await;
    site.apply("name = \"app\"\nkind = \"service\"\nreplicas = 2\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n");
    let before = site.runs("app", 2).await;
    let job = "name = \"job\"\nkind = \"batch\"\nreplicas = 12\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"sleep 0.$((WYNEOS_SLOT % 7)); exit $((WYNEOS_SLOT % 3))\"]\n";
    site.apply(job);
    let kills = std::env::var("WYNEOS_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(KILLS);
    for _ in 0..kills {
        site.kill_agent("one").await;
        site.start_agent("one").await;
    }
    let ended = wait_until("every part of the batch has ended", async || {
        let rows = site.instances("job").await;
        let ended = rows.len() == 12 && rows.iter().all(|row| phase(row) == InstancePhase::Ended);
        ended.then_some(rows)
    })
    .await;
    for row in &ended {
        let one = row.assignment.clone().unwrap();
        let status = one.status.unwrap();
        let expected = (one.slot % 3) as i32;
        assert_eq!(
            status.exit.unwrap().how,
            Some(v1::process_exit::How::Code(expected)),
            "{status:?}"
        );
        assert_eq!(status.complete, expected == 0);
    }
    assert_eq!(pids(&before), pids(&site.runs("app", 2).await));
    site.ends().await;
}

#[tokio::test]
async fn work_of_a_dead_machine_runs_elsewhere() {
    let mut site = Site::start(&["one", "two", "three"]).await;
    site.apply("name = \"app\"\nkind = \"service\"\nreplicas = 6\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\nreschedule_delay = \"0s\"\n");
    let before = site.runs("app", 6).await;
    let lost: Vec<String> = before.iter().filter(|row| row.node_name == "two").map(id).collect();
    assert_eq!(lost.len(), 2);
    // As the power would: everything on it at once.
    let processes = site.processes("two");
    let died = Instant::now();
    site.kill_agent("two").await;
    processes.into_iter().for_each(|pid| kill(pid, Signal::KILL));
    let after = wait_until("six run on what is left", async || {
        let rows = site.running("app").await;
        let elsewhere = rows.iter().filter(|row| row.node_name != "two").count();
        (elsewhere == 6).then_some(rows)
    })
    .await;
    assert!(died.elapsed() < Duration::from_secs(15), "{:?}", died.elapsed());
    let kept = before.iter().filter(|row| row.node_name != "two").map(id);
    for id_before in kept {
        assert!(after.iter().any(|row| id(row) == id_before), "{id_before} was moved");
    }
    let why = text(&site.ctl(&["why", "app"]));
    assert!(why.contains("the one before was lost"), "{why}");
    // It is back, without its work: that is known, and nothing is moved again.
    site.start_agent("two").await;
    let rows = site.runs("app", 6).await;
    assert!(rows.iter().all(|row| row.node_name != "two"));
    site.ends().await;
}

#[tokio::test]
async fn a_coordinator_that_is_killed_finds_the_work_again() {
    let mut site = Site::start(&["one", "two"]).await;
    site.apply("name = \"app\"\nkind = \"service\"\nreplicas = 4\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n");
    let before = site.runs("app", 4).await;
    site.cluster.kill().await;
    site.cluster.restart().await;
    let after = site.runs("app", 4).await;
    assert_eq!(
        before.iter().map(id).collect::<Vec<_>>(),
        after.iter().map(id).collect::<Vec<_>>()
    );
    assert_eq!(pids(&before), pids(&after));
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
            "no user \"no-such-user\"",
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
async fn nothing_is_left_of_what_does_not_want_to_end() {
    let site = Site::start(&["one"]).await;
    let script = "trap '' TERM; setsid sleep 4711 & sleep 4712 & while true; do sleep 0.1; done";
    site.apply(&format!(
        "name = \"stubborn\"\nkind = \"service\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", {script:?}]\n[stop]\ngrace = \"500ms\"\n"
    ));
    site.runs("stubborn", 1).await;
    let started = wait_until("it has started what it starts", async || {
        let all = site.processes("one");
        // Supervisor, shell, two sleeps and a short one.
        (all.len() >= 4).then_some(all)
    })
    .await;
    assert!(site.ctl(&["delete", "stubborn"]).status.success());
    wait_until("all of it is gone", async || {
        started.iter().all(|pid| !lives(*pid as u32)).then_some(())
    })
    .await;
    assert!(site.processes("one").is_empty());
    site.ends().await;
}

#[tokio::test]
async fn the_end_of_a_supervisor_is_the_end_of_its_program() {
    let site = Site::start(&["one"]).await;
    site.apply(
        "name = \"app\"\nkind = \"service\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"sleep 4713 & sleep 4714\"]\n",
    );
    let before = site.runs("app", 1).await;
    let all = wait_until("it has started what it starts", async || {
        let all = site.processes("one");
        (all.len() >= 4).then_some(all)
    })
    .await;
    let supervisor = all.iter().copied().find(|pid| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains("supervise")
    });
    kill(supervisor.unwrap(), Signal::KILL);
    wait_until("all of it is gone", async || {
        all.iter().all(|pid| !lives(*pid as u32)).then_some(())
    })
    .await;
    wait_until("another one takes its place", async || {
        let rows = site.runs("app", 1).await;
        (id(&rows[0]) != id(&before[0])).then_some(())
    })
    .await;
    let shown = text(&site.ctl(&["workload", "app"]));
    assert!(shown.contains("its supervisor ended without saying why"), "{shown}");
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
    // Of the process before, once there was one.
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
    assert!(
        workload.rolled_back.contains("before it was ever well"),
        "{}",
        workload.rolled_back
    );
    let after = site.runs("app", 4).await;
    assert_eq!(pids(&updated), pids(&after), "what was well was touched");
    site.ends().await;
}

#[tokio::test]
async fn a_node_is_drained_when_it_is_empty_and_not_before() {
    let site = Site::start(&["one", "two"]).await;
    site.apply("name = \"app\"\nkind = \"service\"\nreplicas = 4\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n[update]\nmin_healthy = \"300ms\"\n");
    site.runs("app", 4).await;
    wait_until("it has settled", async || {
        let workload = site.workload("app").await.workload.unwrap();
        (workload.stable_revision == 1).then_some(())
    })
    .await;
    let planned = text(&site.ctl(&["drain", "one", "--plan"]));
    assert!(planned.contains("2 instances would start"), "{planned}");
    assert_eq!(
        site.runs("app", 4)
            .await
            .iter()
            .filter(|row| row.node_name == "one")
            .count(),
        2
    );
    let drained = site.ctl(&["drain", "one"]);
    assert!(drained.status.success(), "{}", text(&drained));
    assert!(site.processes("one").is_empty());
    let rows = site.runs("app", 4).await;
    assert!(rows.iter().all(|row| row.node_name == "two"));
    // The last one cannot be emptied: that is said, and nothing is stopped.
    let blocked = site.ctl(&["drain", "two", "--plan"]);
    assert_eq!(blocked.status.code(), Some(1));
    assert!(text(&blocked).contains("no other node takes it"), "{}", text(&blocked));
    assert!(site.ctl(&["drain", "two", "--no-wait"]).status.success());
    let waiting = wait_until("it says what blocks it", async || {
        let waiting = site.workload("app").await.workload.unwrap().waiting;
        (!waiting.is_empty()).then_some(waiting)
    })
    .await;
    assert!(waiting[0].reason.contains("its node is to be emptied"), "{waiting:?}");
    site.runs("app", 4).await;
    // Until its time is over.
    assert!(
        site.ctl(&["drain", "two", "--no-wait", "--deadline", "500ms"])
            .status
            .success()
    );
    wait_until("both are empty", async || {
        let empty = site.processes("one").is_empty() && site.processes("two").is_empty();
        empty.then_some(())
    })
    .await;
    assert!(site.ctl(&["uncordon", "one"]).status.success());
    site.runs("app", 4).await;
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
    assert!(text(&taken).contains("is at revision 2, not 0"), "{}", text(&taken));
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
                // Started anew because of it.
                false => (status.restarts > 0 && !status.healthy).then_some(()),
            }
        })
        .await;
    }
    let why = text(&site.ctl(&["why", "failing.0"]));
    assert!(why.contains("health check 0 failed 2 times: exit status 3"), "{why}");
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
    // What is done stays done.
    assert_eq!(site.instances("job").await.len(), 4);
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

#[tokio::test]
async fn the_examples_of_the_book_can_be_applied() {
    let site = Site::start(&["one"]).await;
    let book = include_str!("../../docs/workloads.md");
    let examples: Vec<&str> = book
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(examples.len() >= 5);
    for example in examples {
        let told = site.apply(example);
        assert!(told.contains("revision 1"), "{told}");
    }
    site.runs("scheduler", 1).await;
    site.runs("collector", 1).await;
    wait_until("the batch is done", async || {
        let workload = site.workload("report").await.workload.unwrap();
        (workload.complete == 3).then_some(())
    })
    .await;
    let told = text(&site.ctl(&["logs", "scheduler"]));
    assert!(told.starts_with("my fencing number is "), "{told}");
    wait_until("the service is well", async || {
        let workload = site.workload("api").await.workload.unwrap();
        (workload.stable_revision == 1).then_some(())
    })
    .await;
    site.ends().await;
}
