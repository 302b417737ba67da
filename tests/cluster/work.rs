//! Work: real programs and real kills.

mod awaited;
mod checks;
mod commands;
mod contained;
mod declared;
pub mod disks;
mod ended;
mod followed;
mod inherited;
mod limits;
mod lost;
mod loud;
mod moved;
mod programs;
mod proxied;
mod quoted;
mod removed;
mod rights;
mod running;
mod silent;
mod singletons;
mod spoofed;
pub mod stalled;
mod stopping;
mod surviving;
mod users;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
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

/// A cluster whose work ends with it.
pub struct Site {
    agents: Vec<(String, Option<Process>)>,
    /// Additional flags of agents, used at each start.
    flags: BTreeMap<String, Vec<String>>,
    /// Dropped last, because its directory contains the agents' logs.
    pub cluster: Cluster,
}

impl Site {
    pub async fn start(nodes: &[&str]) -> Site {
        let cluster = Cluster::start().await;
        let mut agents = Vec::new();
        for name in nodes {
            agents.push(((*name).to_owned(), Some(cluster.agent(name))));
        }
        for name in nodes {
            cluster.node_is(name, Liveness::Online).await;
        }
        let flags = BTreeMap::new();
        Site { cluster, agents, flags }
    }

    /// Starts a site whose servers have this umask, with these agents and their flags.
    pub async fn under(umask: u32, nodes: &[(&str, &[&str])]) -> Site {
        let cluster = Cluster::start_under(umask).await;
        let mut agents = Vec::new();
        for (name, flags) in nodes {
            agents.push(((*name).to_owned(), Some(cluster.agent_with(name, flags))));
            cluster.node_is(name, Liveness::Online).await;
        }
        let owned = |flags: &[&str]| flags.iter().map(|flag| (*flag).to_owned()).collect();
        let flags = nodes
            .iter()
            .map(|(name, flags)| ((*name).to_owned(), owned(flags)))
            .collect();
        Site { cluster, agents, flags }
    }

    pub fn ctl(&self, args: &[&str]) -> Output {
        run("wynectl", &[&["--address", &self.cluster.address], args].concat())
    }

    /// Applies a declaration; returns the output of wynectl.
    pub fn apply(&self, declaration: &str) -> String {
        let path = self.cluster.directory.path().join("declaration.toml");
        fs::write(&path, declaration).unwrap();
        let output = self.ctl(&["apply", "-f", &path.display().to_string()]);
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    }

    pub async fn instances(&self, workload: &str) -> Vec<v1::AssignmentRow> {
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

    /// Waits until exactly `count` instances run, and no others of the workload.
    pub async fn runs(&self, workload: &str, count: usize) -> Vec<v1::AssignmentRow> {
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

    pub async fn workload(&self, name: &str) -> v1::GetWorkloadResponse {
        let request = v1::GetWorkloadRequest { name: name.to_owned() };
        let mut client = client::workloads(self.cluster.channel().await);
        client.get_workload(request).await.unwrap().into_inner()
    }

    /// Returns the supervisors of a node's instances.
    fn supervisors(&self, node: &str) -> Vec<i32> {
        let is_one = |pid: &i32| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&command).contains("supervise")
        };
        self.processes(node).into_iter().filter(is_one).collect()
    }

    /// Waits until wynectl shows this text for a workload.
    async fn shows(&self, workload: &str, what: &str) -> String {
        wait_until(&format!("{workload} shows {what:?}"), async || {
            let shown = text(&self.ctl(&["workload", workload]));
            shown.contains(what).then_some(shown)
        })
        .await
    }

    fn agent(&mut self, name: &str) -> &mut Option<Process> {
        &mut self.agents.iter_mut().find(|(known, _)| known == name).unwrap().1
    }

    pub async fn kill_agent(&mut self, name: &str) {
        self.agent(name).take().unwrap().kill().await;
    }

    pub async fn start_agent(&mut self, name: &str) {
        self.begin_agent(name);
        self.cluster.node_is(name, Liveness::Online).await;
    }

    fn begin_agent(&mut self, name: &str) {
        let flags: Vec<&str> = self.flags.get(name).into_iter().flatten().map(String::as_str).collect();
        let agent = self.cluster.agent_with(name, &flags);
        *self.agent(name) = Some(agent);
    }

    /// Returns the number of a node's newest session.
    async fn session(&self, name: &str) -> u64 {
        let nodes = self.cluster.snapshot().await.nodes;
        nodes
            .iter()
            .find(|node| node.name == name)
            .map_or(0, |node| node.session)
    }

    /// Returns how often a node's agent was started. A node that was started often counts as flapping, but is still
    /// heard.
    async fn incarnation(&self, name: &str) -> u64 {
        let nodes = self.cluster.snapshot().await.nodes;
        nodes
            .iter()
            .find(|node| node.name == name)
            .map_or(0, |node| node.incarnation)
    }

    /// Returns the processes of a node's instances: the supervisors and their descendants.
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

    pub async fn ends(mut self) {
        for (_, agent) in &mut self.agents {
            if let Some(agent) = agent.take() {
                agent.kill().await;
            }
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Processes that outlive their agent must not outlive the test.
        let names = std::mem::take(&mut self.agents).into_iter().map(|(name, _)| name);
        let mark = self.cluster.directory.path().display().to_string();
        for pid in processes_with(&mark) {
            kill(pid, Signal::TERM);
            kill(pid, Signal::CONT);
        }
        for name in names {
            let file = self.cluster.directory.path().join(name).join("node-id");
            // A test may have put a pipe there, and reading it would block.
            let is_file = fs::symlink_metadata(&file).is_ok_and(|there| there.is_file());
            if is_file && let Ok(node) = fs::read_to_string(file) {
                // A group that is not empty is removed with its supervisor.
                groups(node.trim()).iter().for_each(|group| drop(fs::remove_dir(group)));
            }
        }
    }
}

/// Returns the control groups of a node's instances.
fn groups(node: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let point = fields.next()?;
        fields
            .next()?
            .starts_with("cgroup")
            .then(|| PathBuf::from(point).join("wyneos"))
    });
    let entries = mounts.flat_map(|parent| fs::read_dir(parent).into_iter().flatten().flatten());
    let of_node = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(node));
    of_node.map(|entry| entry.path()).collect()
}

/// Returns the processes whose command line or directory contains `mark`.
pub fn processes_with(mark: &str) -> Vec<i32> {
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

pub fn kill(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

pub fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((_, rest)) = stat.rsplit_once(") ") else {
        return false;
    };
    // The first process of a namespace ends only after the host has reaped all others in it.
    let flags: u64 = rest.split(' ').nth(6).and_then(|flags| flags.parse().ok()).unwrap_or(0);
    !rest.starts_with('Z') && flags & EXITING == 0
}

/// Process flag: the process is ending, and executes no more code of its own (PF_EXITING in the kernel's sched.h).
const EXITING: u64 = 4;

fn phase(row: &v1::AssignmentRow) -> InstancePhase {
    status(row).phase()
}

pub fn status(row: &v1::AssignmentRow) -> v1::InstanceStatus {
    row.assignment.clone().and_then(|one| one.status).unwrap_or_default()
}

pub fn id(row: &v1::AssignmentRow) -> String {
    row.assignment.clone().unwrap_or_default().id
}

pub fn pids(rows: &[v1::AssignmentRow]) -> Vec<u32> {
    rows.iter().map(|row| status(row).pid).collect()
}

/// Returns the path of a program on this host that every user can execute, since work runs as another user.
fn path_of(name: &str) -> String {
    let open = |path: &Path| fs::metadata(path).is_ok_and(|there| there.permissions().mode() & 0o001 != 0);
    let found = std::env::var("PATH").unwrap_or_default();
    let found = std::env::split_paths(&found)
        .filter_map(|path| path.join(name).canonicalize().ok())
        .find(|path: &PathBuf| path.is_file() && path.ancestors().all(open));
    found.unwrap().display().to_string()
}

/// Returns the answer of a port to GET.
fn get(address: &str) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// A program that listens on its port and answers: the server in these tests.
fn server() -> String {
    let python = path_of("python3");
    format!("command = {python:?}\nargs = [\"-m\", \"http.server\", \"${{PORT_http}}\"]\nports = [\"http\"]\n")
}
