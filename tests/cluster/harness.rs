//! Starts, kills, pauses and restarts the servers, and keeps a log of each.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;
use tonic::transport::Channel;
use wyneos::{client, v1};
use wyneos_launch::{LOOK, Launch};

/// Timeout of every wait. It is far longer than any operation takes, because machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` returns a value; panics with `what` after [`PATIENCE`].
pub async fn wait_until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Returns a binary of this workspace, in the directory of the test's own.
pub fn binary(name: &str) -> PathBuf {
    wyneos_launch::program(name).unwrap()
}

/// Returns an unused address.
pub fn free_address() -> String {
    wyneos_launch::free_address().unwrap()
}

/// Skips a test because the machine lacks something; fails under .ci/run, where it must exist.
pub fn skip(what: &str) {
    assert!(std::env::var_os("WYNEOS_TOOLS_REQUIRED").is_none(), "not there: {what}");
    // Not with a macro of the test harness, which hides the output of passing tests.
    drop(std::io::stderr().write_all(format!("skipped: {what}\n").as_bytes()));
}

/// A running server; killed when dropped.
pub struct Process(wyneos_launch::Process);

impl Process {
    pub fn start(program: &str, args: &[&str], log: &Path) -> Process {
        let mut command = Command::new(binary(program));
        command.args(args);
        Process::of(command, log)
    }

    /// Starts a server.
    pub fn of(command: Command, log: &Path) -> Process {
        Process(Launch::new(command, log).start().unwrap())
    }

    /// Starts a process with standard output in a separate file.
    pub fn with_output(command: Command, output: &Path, log: &Path) -> Process {
        Process(Launch::new(command, log).output(output).start().unwrap())
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn signal(&self, signal: Signal) {
        self.0.signal(signal).unwrap();
    }

    pub fn is_running(&self) -> bool {
        self.0.is_running()
    }

    /// Waits for the end of the process.
    pub async fn ended(&mut self) -> ExitStatus {
        wait_until("a process ends", async || self.0.try_ended()).await
    }

    pub async fn kill(mut self) {
        self.signal(Signal::KILL);
        self.ended().await;
    }

    pub async fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    pub fn log_text(&self) -> String {
        self.0.log_text()
    }

    /// Returns the resident memory in bytes.
    pub fn rss(&self) -> u64 {
        self.0.rss().unwrap()
    }

    /// Returns the current number of threads.
    pub fn threads(&self) -> usize {
        self.0.threads().unwrap()
    }
}

/// Returns a temporary directory that programs of any user can traverse, like /var/lib.
pub fn directory() -> TempDir {
    wyneos_launch::directory().unwrap()
}

/// Short intervals that speed up tests.
pub const QUICK: [&str; 8] = [
    "--cycle",
    "300ms",
    "--heartbeat",
    "200ms",
    "--suspect-grace",
    "1s",
    "--restart-grace",
    "3s",
];

/// A coordinator and its files. The address stays the same across restarts.
pub struct Cluster {
    pub address: String,
    pub coordinator: Option<Process>,
    extra: &'static [&'static str],
    /// Umask of the servers; the test's own if `None`.
    umask: Option<u32>,
    /// Dropped last, because it contains the coordinator's log.
    pub directory: TempDir,
}

impl Cluster {
    pub async fn start() -> Cluster {
        Cluster::start_with(&[]).await
    }

    /// Starts a cluster whose coordinator has additional or different flags.
    pub async fn start_with(extra: &'static [&'static str]) -> Cluster {
        Cluster::begin(extra, None).await
    }

    /// Starts a cluster whose servers have this umask.
    pub async fn start_under(umask: u32) -> Cluster {
        Cluster::begin(&[], Some(umask)).await
    }

    async fn begin(extra: &'static [&'static str], umask: Option<u32>) -> Cluster {
        let mut cluster = Cluster {
            directory: directory(),
            address: free_address(),
            coordinator: None,
            extra,
            umask,
        };
        cluster.restart().await;
        cluster
    }

    /// Returns the command of a server.
    fn server(&self, name: &str) -> Command {
        match self.umask {
            None => Command::new(binary(name)),
            Some(umask) => {
                let mut command = Command::new("/bin/sh");
                let script = format!("umask {umask:04o}; exec \"$0\" \"$@\"");
                command.arg("-c").arg(script).arg(binary(name));
                command
            }
        }
    }

    pub fn data_dir(&self) -> String {
        self.directory.path().join("coordinator").display().to_string()
    }

    /// Starts or restarts the coordinator, and waits until it answers.
    pub async fn restart(&mut self) {
        let data_dir = self.data_dir();
        let mut args = vec!["run", "--tls=false", "--listen", &self.address, "--data-dir", &data_dir];
        let defaults = ["--metrics-listen", "127.0.0.1:0"];
        let quick = QUICK
            .chunks(2)
            .chain([&defaults[..]])
            .filter(|pair| !self.extra.contains(&pair[0]));
        args.extend(quick.flatten());
        args.extend(self.extra);
        let log = self.directory.path().join("coordinator.log");
        let mut command = self.server("wyneos-coordinator");
        command.args(args);
        self.coordinator = Some(Process::of(command, &log));
        wait_until("the coordinator answers", async || self.try_nodes().await).await;
    }

    pub async fn kill(&mut self) {
        self.coordinator.take().unwrap().kill().await;
    }

    pub async fn terminate(&mut self) -> ExitStatus {
        self.coordinator.take().unwrap().terminate().await
    }

    pub fn agent(&self, name: &str) -> Process {
        self.agent_with(name, &[])
    }

    /// Starts an agent with additional flags.
    pub fn agent_with(&self, name: &str, extra: &[&str]) -> Process {
        let mut command = self.server("wyneos-agent");
        command.args(self.agent_args(name)).args(extra);
        Process::of(command, &self.agent_log(name))
    }

    pub fn agent_log(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.log"))
    }

    /// Returns the arguments of an agent's command line.
    pub fn agent_args(&self, name: &str) -> Vec<String> {
        let data_dir = self.directory.path().join(name).display().to_string();
        let args = [
            "run",
            "--tls=false",
            "--coordinators",
            &self.address,
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            &data_dir,
            "--name",
            name,
        ];
        args.map(str::to_owned).to_vec()
    }

    pub async fn channel(&self) -> Channel {
        client::connect(&self.address).await.unwrap()
    }

    async fn try_nodes(&self) -> Option<Vec<v1::NodeRow>> {
        let channel = client::connect(&self.address).await.ok()?;
        let answer = client::cluster(channel)
            .list_nodes(v1::ListNodesRequest::default())
            .await;
        answer.ok().map(|answer| answer.into_inner().nodes)
    }

    pub async fn snapshot(&self) -> v1::Snapshot {
        let request = v1::GetSnapshotRequest::default();
        client::coherence(self.channel().await)
            .get_snapshot(request)
            .await
            .unwrap()
            .into_inner()
            .snapshot
            .unwrap()
    }

    /// Waits until a snapshot shows a node with this liveness.
    pub async fn node_is(&self, name: &str, liveness: v1::Liveness) -> v1::NodeRow {
        wait_until(&format!("{name} is {liveness:?}"), async || {
            let nodes = self.snapshot().await.nodes;
            nodes
                .into_iter()
                .find(|node| node.name == name && node.liveness() == liveness)
        })
        .await
    }

    /// Returns all retained events.
    pub async fn events(&self) -> Vec<v1::Event> {
        let mut events = Vec::new();
        let mut request = v1::ListEventsRequest {
            page_size: 1_000,
            ..Default::default()
        };
        let mut client = client::events(self.channel().await);
        loop {
            let page = client.list_events(request.clone()).await.unwrap().into_inner();
            events.extend(page.events);
            if page.next_sequence == 0 {
                return events;
            }
            request.from_sequence = page.next_sequence;
        }
    }

    /// Returns the successive liveness values of a node.
    pub async fn transitions(&self, name: &str) -> Vec<v1::Liveness> {
        let events = self.events().await;
        let of_node = events.into_iter().filter(|event| event.node_name == name);
        of_node
            .filter_map(|event| match event.body {
                Some(v1::event::Body::Liveness(transition)) => Some(transition.to()),
                _ => None,
            })
            .collect()
    }
}
