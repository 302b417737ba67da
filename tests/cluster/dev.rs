//! `wynectl dev`, as a stranger uses it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{binary, directory, free_address, wait_until};

pub struct Dev {
    child: Child,
    /// Where it may make files.
    pub directory: tempfile::TempDir,
    pub address: String,
}

impl Dev {
    pub fn start(agents: &str) -> Dev {
        Dev::start_with(agents, &[])
    }

    fn start_with(agents: &str, more: &[&str]) -> Dev {
        let directory = directory();
        let address = free_address();
        let output = fs::File::create(directory.path().join("output")).unwrap();
        let temporary = directory.path().join("tmp");
        fs::create_dir(&temporary).unwrap();
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o711)).unwrap();
        let child = Command::new(binary("wynectl"))
            .args(["dev", "--agents", agents, "--cycle", "300ms", "--listen", &address])
            .args(more)
            .env("TMPDIR", directory.path().join("tmp"))
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Dev {
            child,
            directory,
            address,
        }
    }

    pub fn output(&self) -> String {
        fs::read_to_string(self.directory.path().join("output")).unwrap()
    }

    pub async fn says(&self, what: &str) {
        wait_until(&format!("dev says {what:?}"), async || {
            self.output().contains(what).then_some(())
        })
        .await;
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap(), signal).unwrap();
    }

    pub async fn ended(&mut self) -> Option<i32> {
        wait_until("dev ends", async || self.child.try_wait().unwrap())
            .await
            .code()
    }

    /// Command lines of processes that work below its directory.
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

    /// The process of a node's agent, as the table has it.
    pub fn printed_pid(&self, node: &str) -> u32 {
        let output = self.output();
        let mut rows = output.lines().filter(|line| line.starts_with(&format!("{node} ")));
        let pid = rows.next().and_then(|row| row.split_whitespace().nth(2));
        pid.and_then(|pid| pid.parse().ok())
            .unwrap_or_else(|| panic!("{output}"))
    }

    /// The command that starts a node's agent again.
    pub fn printed_command(&self, node: &str) -> String {
        let output = self.output();
        let is_it = |line: &&str| line.contains("wyneos-agent run ") && line.contains(&format!("--name {node} "));
        let command = output.lines().find(is_it);
        command.unwrap_or_else(|| panic!("{output}")).trim().to_owned()
    }

    /// The coordinator's process, as the first line has it.
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

fn kill(pid: u32) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
}

impl Drop for Dev {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("== output of dev\n{}", self.output());
        }
    }
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
    // What is printed works as printed.
    let suggested: Vec<&str> = output
        .lines()
        .map(str::trim)
        .filter(|line| line.contains(" --address "))
        .collect();
    assert!(suggested.len() >= 5, "{output}");
    for line in suggested.iter().filter(|line| !line.contains("--follow")) {
        let mut words = line.split(' ');
        let ran = Command::new(words.next().unwrap()).args(words).output().unwrap();
        assert!(ran.status.success(), "{line}: {}", String::from_utf8_lossy(&ran.stderr));
    }
    dev.says("online 3/3").await;
    dev.signal(Signal::INT);
    assert_eq!(dev.ended().await, Some(0));
    assert_eq!((dev.processes(), dev.files()), (Vec::new(), 0));
}

#[tokio::test]
async fn it_goes_on_when_an_agent_dies_and_the_printed_command_starts_that_again() {
    let mut dev = Dev::start("2");
    dev.says("cycle ").await;
    let pid = dev.printed_pid("node-2");
    kill(pid);
    dev.says(&format!("agent-2 (pid {pid}) ended: signal: 9")).await;
    dev.says("online 1/2").await;
    let cycles = || dev.output().matches("online 2/2").count();
    let before = cycles();
    let log = fs::File::create(dev.directory.path().join("again")).unwrap();
    let mut again = Command::new("sh")
        .args(["-c", &format!("exec {}", dev.printed_command("node-2"))])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    wait_until("both are online again", async || (cycles() > before).then_some(())).await;
    again.kill().unwrap();
    again.wait().unwrap();
    dev.signal(Signal::INT);
    assert_eq!(dev.ended().await, Some(0));
    assert_eq!((dev.processes(), dev.files()), (Vec::new(), 0));
}

#[tokio::test]
async fn the_coordinators_death_ends_it_with_the_reason() {
    let mut dev = Dev::start("2");
    dev.says("cycle ").await;
    kill(dev.printed_coordinator());
    assert_eq!(dev.ended().await, Some(1));
    let output = dev.output();
    assert!(output.contains("coordinator ended (signal: 9"), "{output}");
    assert_eq!((dev.processes(), dev.files()), (Vec::new(), 0));
}

#[tokio::test]
async fn a_signal_while_it_starts_leaves_nothing_either() {
    let mut dev = Dev::start("3");
    wait_until("something runs", async || (!dev.processes().is_empty()).then_some(())).await;
    dev.signal(Signal::TERM);
    assert_eq!(dev.ended().await, Some(0));
    assert_eq!((dev.processes(), dev.files()), (Vec::new(), 0));
}

#[tokio::test]
async fn killed_itself_it_leaves_no_process() {
    let mut dev = Dev::start("2");
    dev.says("cycle ").await;
    dev.signal(Signal::KILL);
    dev.ended().await;
    wait_until("its children end", async || dev.processes().is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_port_in_use_is_told() {
    let first = Dev::start("1");
    first.says("cycle ").await;
    let mut second = Command::new(binary("wynectl"));
    let output = second
        .args(["dev", "--agents", "1", "--listen", &first.address])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("coordinator ended") && told.contains("cannot listen there"),
        "{told}"
    );
}
