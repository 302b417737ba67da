//! `wynectl dev`, as a new user runs it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Process, binary, directory, free_address, wait_until};

pub struct Dev {
    process: Process,
    /// The directory for its files.
    pub directory: tempfile::TempDir,
    pub address: String,
}

impl Dev {
    pub fn start(agents: &str) -> Dev {
        Dev::start_with(agents, &[])
    }

    fn start_with(agents: &str, more: &[&str]) -> Dev {
        let mut command = Command::new(binary("wynectl"));
        command.args(["dev", "--agents", agents]).args(more);
        Dev::of(command)
    }

    /// Runs `wynectl dev` with the given command, to which arguments are added.
    pub fn of(mut command: Command) -> Dev {
        let directory = directory();
        let address = free_address();
        let temporary = directory.path().join("tmp");
        fs::create_dir(&temporary).unwrap();
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o711)).unwrap();
        command
            .args(["--cycle", "300ms", "--listen", &address])
            .env("TMPDIR", temporary);
        Dev {
            process: Process::of(command, &directory.path().join("output")),
            directory,
            address,
        }
    }

    pub fn output(&self) -> String {
        self.process.log_text()
    }

    pub async fn says(&self, what: &str) {
        wait_until(&format!("dev says {what:?}"), async || {
            self.output().contains(what).then_some(())
        })
        .await;
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    pub async fn ended(&mut self) -> Option<i32> {
        self.process.ended().await.code()
    }

    /// Returns the command lines of processes that work below its directory.
    pub fn processes(&self) -> Vec<String> {
        let below = self.directory.path().display().to_string();
        let command_line = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("cmdline")).ok();
        let all = fs::read_dir("/proc").unwrap().flatten().filter_map(command_line);
        all.filter(|line| line.contains(&below))
            .map(|line| line.replace('\0', " "))
            .collect()
    }

    pub fn files(&self) -> usize {
        fs::read_dir(self.directory.path().join("tmp")).unwrap().count()
    }

    /// Returns the process id of a node's agent, from the table.
    pub fn printed_pid(&self, node: &str) -> u32 {
        let output = self.output();
        let mut rows = output.lines().filter(|line| line.starts_with(&format!("{node} ")));
        let pid = rows.next().and_then(|row| row.split_whitespace().nth(2));
        pid.and_then(|pid| pid.parse().ok())
            .unwrap_or_else(|| panic!("{output}"))
    }

    /// Returns the suggested commands in order, with the variables that they need.
    fn suggested(&self) -> Vec<String> {
        let output = self.output().replace(" \\\n     ", "");
        let (_, after) = output.split_once("to try next, in another terminal:\n").unwrap();
        let (block, _) = after.split_once("\n\n").unwrap();
        block.lines().map(|line| line.trim().to_owned()).collect()
    }

    /// Returns the command to restart a process, from the last report of an end.
    pub fn printed_command(&self) -> String {
        let output = self.output().replace(" \\\n     ", "");
        let (_, command) = output.rsplit_once("start it again:").unwrap();
        let command = command.trim_start().lines().next();
        command.unwrap_or_else(|| panic!("{output}")).trim().to_owned()
    }

    /// Runs `wynectl dev ACTION NODE` in another terminal.
    fn act(&self, action: &str, node: &str) -> (Option<i32>, String) {
        let mut command = Command::new(binary("wynectl"));
        command.args(["dev", action, node, "--listen", &self.address]);
        told(command)
    }

    fn done(&self, action: &str, node: &str) {
        let (code, said) = self.act(action, node);
        assert_eq!(code, Some(0), "{said}");
    }

    /// Waits for another cycle's line with this text.
    async fn says_anew(&self, what: &str) {
        let lines = || self.output().matches(what).count();
        let before = lines();
        wait_until(&format!("dev says {what:?} again"), async || {
            (lines() > before).then_some(())
        })
        .await;
    }

    /// Returns the control groups of its instances, and those above them.
    fn groups(&self) -> Vec<PathBuf> {
        let own = format!("wyneos-dev-{}", self.process.id());
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let hierarchies = hierarchies.map(|entry| entry.path());
        let all = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]);
        all.map(|hierarchy| hierarchy.join(&own))
            .filter(|group| group.exists())
            .collect()
    }

    /// Asserts that nothing is left behind.
    pub fn left_nothing(&self) {
        assert_eq!(
            (self.processes(), self.files(), self.groups()),
            (Vec::new(), 0, Vec::new())
        );
    }

    /// Returns the coordinator's process id, from the first line.
    fn printed_coordinator(&self) -> u32 {
        let output = self.output();
        let mut lines = output
            .lines()
            .filter(|line| line.contains("its coordinator is process "));
        let pid = lines.next().and_then(|line| line.rsplit(' ').next());
        pid.and_then(|pid| pid.parse().ok())
            .unwrap_or_else(|| panic!("{output}"))
    }
}

/// Runs a command; returns its status and output.
fn told(mut command: Command) -> (Option<i32>, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test]
async fn one_command_makes_a_cluster_and_an_interrupt_leaves_nothing() {
    lives_and_leaves_nothing(Dev::start("3")).await;
}

#[tokio::test]
async fn the_same_with_tls() {
    lives_and_leaves_nothing(Dev::start_with("3", &["--tls"])).await;
}

async fn lives_and_leaves_nothing(mut dev: Dev) {
    dev.says("cycle ").await;
    assert_eq!(dev.processes().len(), 4);
    let output = dev.output();
    for name in ["node-1", "node-2", "node-3"] {
        assert!(output.contains(&format!("{name} ")), "{output}");
    }
    assert!(
        output.starts_with("starting a coordinator and 3 agents in "),
        "{output}"
    );
    let suggested = dev.suggested();
    let needed: Vec<&String> = suggested.iter().filter(|line| line.starts_with("export ")).collect();
    let needed = needed.iter().map(|line| format!("{line}; ")).collect::<String>();
    for what in [" apply -f ", " dev kill node-2", " dev start node-2", "grpcurl "] {
        assert!(suggested.iter().any(|line| line.contains(what)), "{output}");
    }
    // All suggestions work as printed. grpcurl may not be installed, and following events does not end.
    let runs = |line: &&String| !line.contains("--follow") && !line.starts_with("grpcurl ");
    for line in suggested.iter().filter(runs) {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{needed}{line}")]);
        let (code, said) = told(shell);
        assert_eq!(code, Some(0), "{line}: {said}");
    }
    dev.says_anew("online 3/3").await;
    dev.signal(Signal::INT);
    assert_eq!(dev.ended().await, Some(0));
    dev.left_nothing();
}

#[tokio::test]
async fn it_goes_on_when_an_agent_dies_and_the_printed_command_starts_that_again() {
    let mut dev = Dev::start("2");
    dev.says("cycle ").await;
    let pid = dev.printed_pid("node-2");
    kill(pid);
    dev.says(&format!("agent of node-2 (pid {pid}) ended: signal: 9")).await;
    dev.says("online 1/2").await;
    let command = dev.printed_command();
    assert!(command.contains(" dev start node-2"), "{command}");
    let mut shell = Command::new("sh");
    shell.args(["-c", &command]);
    let (code, said) = told(shell);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("agent of node-2 started again"), "{said}");
    dev.says_anew("online 2/2").await;
    // Restarted processes are ended too.
    dev.signal(Signal::INT);
    assert_eq!(dev.ended().await, Some(0));
    dev.left_nothing();
}

#[tokio::test]
async fn it_goes_on_when_the_coordinator_dies() {
    let mut dev = Dev::start("2");
    dev.says("cycle ").await;
    let pid = dev.printed_coordinator();
    kill(pid);
    dev.says(&format!("coordinator (pid {pid}) ended: signal: 9")).await;
    assert!(dev.printed_command().contains(" dev start coordinator"));
    dev.done("start", "coordinator");
    dev.says_anew("online 2/2").await;
    // It also ends without a coordinator.
    dev.done("kill", "coordinator");
    dev.signal(Signal::TERM);
    assert_eq!(dev.ended().await, Some(0));
    dev.left_nothing();
}

#[tokio::test]
async fn agents_are_stopped_continued_and_killed_from_another_terminal() {
    let mut dev = Dev::start("2");
    dev.says("cycle ").await;
    let pid = dev.printed_pid("node-1");
    dev.done("stop", "node-1");
    let state = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
    };
    // Each thread stops at its own next step.
    wait_until("it stands still", async || (state(pid) == 'T').then_some(())).await;
    dev.says("online 1/2").await;
    let (code, said) = dev.act("start", "node-1");
    assert!(code == Some(1) && said.contains("runs already"), "{said}");
    dev.done("cont", "agent-1");
    dev.says_anew("online 2/2").await;
    assert_eq!(dev.printed_pid("node-1"), pid);
    dev.done("kill", "agent-2");
    let (code, said) = dev.act("stop", "node-2");
    assert!(code == Some(1) && said.contains("node-2 does not run"), "{said}");
    let (code, said) = dev.act("kill", "node-3");
    assert!(
        code == Some(5) && said.contains("coordinator and node-1 to node-2"),
        "{said}"
    );
    // Stopped processes are ended as well.
    dev.done("stop", "node-1");
    dev.signal(Signal::TERM);
    assert_eq!(dev.ended().await, Some(0));
    dev.left_nothing();
    let (code, said) = dev.act("kill", "node-1");
    assert!(
        code == Some(3) && said.contains("no `wynectl dev` of yours runs at"),
        "{said}"
    );
}

#[tokio::test]
async fn its_end_leaves_neither_instances_nor_control_groups() {
    let mut dev = Dev::start("2");
    dev.says("cycle ").await;
    let apply = dev
        .suggested()
        .into_iter()
        .find(|line| line.contains(" apply -f "))
        .unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", &apply]);
    assert_eq!(told(shell).0, Some(0));
    dev.says("work 3/3").await;
    let supervised = || {
        dev.processes()
            .iter()
            .filter(|line| line.contains(" supervise "))
            .count()
    };
    assert_eq!(supervised(), 3);
    let mut node = Command::new(binary("wynectl"));
    node.args(["node", "node-1", "--format", "json", "--address", &dev.address]);
    let (_, node) = told(node);
    assert!(node.contains("\"cgroups\""), "{node}");
    assert_eq!(
        dev.groups().is_empty(),
        node.contains("\"cgroups\": \"none\""),
        "{node}"
    );
    // Instances of a killed agent are ended with the others.
    dev.done("kill", "node-1");
    dev.signal(Signal::TERM);
    assert_eq!(dev.ended().await, Some(0));
    dev.left_nothing();
}

#[tokio::test]
async fn a_signal_while_it_starts_leaves_nothing_either() {
    let mut dev = Dev::start("3");
    wait_until("something runs", async || (!dev.processes().is_empty()).then_some(())).await;
    dev.signal(Signal::TERM);
    assert_eq!(dev.ended().await, Some(0));
    dev.left_nothing();
}

#[tokio::test]
async fn killed_itself_it_leaves_no_process() {
    let mut dev = Dev::start("2");
    dev.says("cycle ").await;
    // A stopped process cannot notice the end by itself.
    dev.done("stop", "node-1");
    dev.signal(Signal::KILL);
    dev.ended().await;
    wait_until("its children end", async || dev.processes().is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_port_in_use_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = Command::new(binary("wynectl"));
    let address = taken.local_addr().unwrap().to_string();
    command.args(["dev", "--agents", "1", "--listen", &address]);
    let (code, said) = told(command);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("coordinator ended") && said.contains("cannot listen there"),
        "{said}"
    );
}

#[tokio::test]
async fn a_second_one_at_the_same_address_is_refused() {
    let first = Dev::start("1");
    first.says("starting").await;
    let mut command = Command::new(binary("wynectl"));
    command.args(["dev", "--agents", "1", "--listen", &first.address]);
    let (code, said) = told(command);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("runs at") && said.contains("--listen selects another"),
        "{said}"
    );
}
