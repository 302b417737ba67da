//! A network of namespaces that contains the servers.

use std::{
    path::PathBuf,
    process::Command,
    sync::{
        Condvar, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use wyneos_launch::{Launch, Process, within};

/// Default time limit of an operation. It is far longer than any operation takes, because machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Polling interval of conditions on a network: each poll runs `wynectl`.
const LOOK: Duration = Duration::from_millis(50);

static NETWORKS: AtomicU32 = AtomicU32::new(0);

/// Returns the unmet requirement of the tests on this machine, or `None` if they can run.
pub fn missing() -> Option<String> {
    let has = |tool: &str| Command::new(tool).arg("-V").output().is_ok();
    if !geteuid().is_root() {
        return Some("this wants root".to_owned());
    }
    let missing: Vec<&str> = ["ip", "nft"].into_iter().filter(|tool| !has(tool)).collect();
    (!missing.is_empty()).then(|| format!("{} not on this machine", missing.join(" and ")))
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {told}", args.join(" "));
}

fn ip(line: &str) {
    run("ip", &line.split_whitespace().collect::<Vec<_>>());
}

/// Returns the path of a program of this workspace.
pub(crate) fn binary(name: &str) -> PathBuf {
    wyneos_launch::program(name).unwrap()
}

/// A coordinator (host 0) and agents (hosts 1 and up), each in a namespace of its own, connected by one bridge.
pub struct Network {
    /// Prefix of all created names, unique on this machine.
    prefix: String,
    directory: TempDir,
    agents: usize,
    /// Flags of the coordinator and their values.
    timings: Vec<(&'static str, Duration)>,
    children: Vec<Process>,
    /// Released after everything else is torn down.
    _turn: Turn,
}

/// Maximum number of concurrent networks. Each node knows most other nodes by address, and all namespaces of a host
/// share one neighbour table with 1,024 entries (`net.ipv4.neigh.default.gc_thresh3`): when it overflows, links fail. More
/// of them also disturb each other where a test measures time.
const AT_ONCE: usize = 2;

static STANDING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// A permit for one of the concurrent networks.
struct Turn;

impl Turn {
    fn take() -> Turn {
        let (standing, ended) = &STANDING;
        let standing = standing.lock().unwrap();
        *ended.wait_while(standing, |standing| *standing >= AT_ONCE).unwrap() += 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (standing, ended) = &STANDING;
        *standing.lock().unwrap() -= 1;
        ended.notify_one();
    }
}

impl Network {
    /// Starts all servers with these timings, and waits until every agent is online and every planned link is reported.
    pub fn start(agents: usize, timings: &[(&'static str, Duration)]) -> Network {
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let mut network = Network {
            prefix: format!("w{}x{number}", std::process::id()),
            directory: wyneos_launch::directory().unwrap(),
            agents,
            timings: timings.to_vec(),
            children: Vec::new(),
            _turn: Turn::take(),
        };
        network.wire();
        network.spawn_coordinator();
        for agent in 1..=agents {
            network.spawn_agent(agent);
        }
        network.settle();
        network
    }

    /// Waits until every agent is online and every planned link is up.
    pub fn settle(&self) {
        self.until("every agent is online and every link is up", PATIENCE, |network| {
            let mesh = network.wynectl(&["snapshot"])?["snapshot"]["mesh"].clone();
            let (nodes, planned) = (mesh["nodes"].as_u64()?, mesh["plannedLinks"].as_u64()?);
            let links = mesh["liveLinks"].as_u64()?;
            (nodes == network.agents as u64 && links == planned).then_some(())
        });
    }

    /// Returns the number of agents.
    pub fn agents(&self) -> usize {
        self.agents
    }

    /// Returns the `data_dir` of a host's agent.
    pub(crate) fn data(&self, host: usize) -> PathBuf {
        self.directory.path().join(format!("agent{host}"))
    }

    /// Returns the name of a host's network namespace.
    pub fn space(&self, host: usize) -> String {
        format!("{}h{host}", self.prefix)
    }

    /// Creates a bridge in its own namespace, and a virtual cable to it for every host.
    fn wire(&self) {
        let hub = format!("{}hub", self.prefix);
        ip(&format!("netns add {hub}"));
        ip(&format!("-n {hub} link add br0 type bridge"));
        ip(&format!("-n {hub} link set br0 up"));
        for host in 0..=self.agents {
            let space = self.space(host);
            ip(&format!("netns add {space}"));
            ip(&format!("-n {space} link set lo up"));
            ip(&format!(
                "-n {hub} link add p{host} type veth peer name eth0 netns {space}"
            ));
            ip(&format!("-n {hub} link set p{host} master br0 up"));
            ip(&format!("-n {space} addr add {}/24 dev eth0", Network::address(host)));
            ip(&format!("-n {space} link set eth0 up"));
        }
    }

    /// Returns the address of a host.
    pub fn address(host: usize) -> String {
        format!("10.99.0.{}", host + 1)
    }

    /// Returns the address on which the coordinator listens.
    pub fn coordinator() -> String {
        format!("{}:7400", Network::address(0))
    }

    fn spawn(&mut self, host: usize, program: &str, args: &[&str]) {
        let log = self.directory.path().join(format!("host{host}.log"));
        let mut command = within(Some(&self.space(host)), binary(program));
        command.args(args);
        let child = Launch::new(command, &log).start().unwrap();
        if host < self.children.len() {
            self.children[host] = child;
        } else {
            self.children.push(child);
        }
    }

    /// Starts or restarts the coordinator.
    pub fn spawn_coordinator(&mut self) {
        let data = self.directory.path().join("coordinator").display().to_string();
        let listen = Network::coordinator();
        let mut args = vec![
            "run",
            "--tls=false",
            "--insecure",
            "--listen",
            &listen,
            "--data-dir",
            &data,
        ];
        let timings: Vec<(&str, String)> = self
            .timings
            .iter()
            .map(|(flag, span)| (*flag, format!("{}ms", span.as_millis())))
            .collect();
        args.extend(timings.iter().flat_map(|(flag, span)| [*flag, span.as_str()]));
        self.spawn(0, "wyneos-coordinator", &args);
    }

    /// Starts or restarts an agent.
    pub fn spawn_agent(&mut self, host: usize) {
        let data = self.data(host).display().to_string();
        let listen = format!("{}:7402", Network::address(host));
        let coordinator = Network::coordinator();
        let name = format!("node-{host}");
        let args = [
            "run",
            "--tls=false",
            "--insecure",
            "--listen",
            &listen,
            "--coordinators",
            &coordinator,
            "--data-dir",
            &data,
            "--name",
            &name,
            // The programs run by tests change their user.
            "--users",
            "root",
        ];
        self.spawn(host, "wyneos-agent", &args);
    }

    /// Sends a signal to a host's server.
    pub fn signal(&self, host: usize, signal: Signal) {
        self.children[host].signal(signal).unwrap();
    }

    /// Kills a host's server, and waits until it ends.
    pub fn kill(&mut self, host: usize) {
        self.children[host].kill().unwrap();
    }

    /// Makes `to` drop packets from `from` that match `which`, an nftables expression; all packets if it is empty. The
    /// rule is named after its fault.
    pub fn drop_packets(&self, fault: usize, from: usize, to: usize, which: &str) {
        let address = Network::address(from);
        self.nft(to, &format!("add table inet fault{fault}"));
        let chain = "{ type filter hook input priority 0 ; }";
        self.nft(to, &format!("add chain inet fault{fault} in {chain}"));
        self.nft(
            to,
            &format!("add rule inet fault{fault} in ip saddr {address} {which} drop"),
        );
    }

    /// Removes the rules of a fault.
    pub fn heal(&self, fault: usize, to: usize) {
        self.nft(to, &format!("add table inet fault{fault}"));
        self.nft(to, &format!("delete table inet fault{fault}"));
    }

    fn nft(&self, host: usize, line: &str) {
        let space = self.space(host);
        let mut args = vec!["netns", "exec", &space, "nft"];
        args.extend(line.split_whitespace());
        run("ip", &args);
    }

    /// Disconnects or reconnects a host's network cable.
    pub fn link(&self, host: usize, up: bool) {
        let state = if up { "up" } else { "down" };
        ip(&format!("-n {}hub link set p{host} {state}", self.prefix));
    }

    /// Powers a host off: it sends nothing from then on, and no process can shut down gracefully.
    pub fn power_off(&self, host: usize) {
        self.link(host, false);
        for pid in pids(&self.space(host)) {
            kill_process(pid, Signal::KILL).ok();
        }
    }

    /// Powers a host on again and starts its agent.
    pub fn power_on(&mut self, host: usize) {
        // The agent ended when the power was cut; this only waits for it.
        self.children[host].kill().unwrap();
        self.link(host, true);
        self.spawn_agent(host);
    }

    /// Runs `wynectl` on the coordinator's host and returns its JSON answer; `None` if it fails.
    pub fn wynectl(&self, args: &[&str]) -> Option<Value> {
        let address = Network::coordinator();
        let output = within(Some(&self.space(0)), binary("wynectl"))
            .args(["--address", &address, "-o", "json"])
            .args(args)
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Waits until `condition` returns a value; panics after `within`.
    pub fn until<T>(&self, what: &str, within: Duration, mut condition: impl FnMut(&Network) -> Option<T>) -> T {
        let found = wyneos_launch::until(within, LOOK, || condition(self));
        found.unwrap_or_else(|| panic!("not within {within:?}: {what}\n{}", self.lines()))
    }

    /// Returns all events as text, one line per event.
    fn lines(&self) -> String {
        let events = self.events();
        let line = |event: &Value| format!("{} {}", event["time"].as_str().unwrap_or(""), event["summary"]);
        events.iter().map(|event| line(event) + "\n").collect()
    }

    /// Returns all events.
    pub fn events(&self) -> Vec<Value> {
        let address = Network::coordinator();
        let output = within(Some(&self.space(0)), binary("wynectl"))
            .args(["--address", &address, "-o", "json", "events"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let values = serde_json::Deserializer::from_str(&text).into_iter::<Value>().flatten();
        values
            .flat_map(|value| match value.get("events").and_then(Value::as_array) {
                Some(events) => events.clone(),
                None => vec![value],
            })
            .collect()
    }

    /// Waits until a node has this liveness.
    pub fn becomes(&self, host: usize, liveness: &str, within: Duration) {
        let (name, wanted) = (format!("node-{host}"), format!("LIVENESS_{liveness}"));
        self.until(&format!("{name} becomes {liveness}"), within, |network| {
            let nodes = network.wynectl(&["nodes"])?;
            let nodes = nodes["nodes"].as_array()?.clone();
            let row = nodes.into_iter().find(|node| node["name"] == name.as_str())?;
            (row["liveness"] == wanted.as_str()).then_some(())
        });
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.kill());
        }
        let spaces = (0..=self.agents).map(|host| self.space(host));
        for space in spaces.chain([format!("{}hub", self.prefix)]) {
            // Processes started by agents outlive them, and supervisors may still start new ones.
            for _ in 0..EMPTYING {
                let pids = pids(&space);
                if pids.is_empty() {
                    break;
                }
                for pid in pids {
                    kill_process(pid, Signal::KILL).ok();
                }
                thread::sleep(Duration::from_millis(20));
            }
            drop(Command::new("ip").args(["netns", "del", &space]).output());
        }
        // Dropping the processes reads their logs, which are in the directory.
        self.children.clear();
    }
}

/// Maximum number of attempts to empty a namespace whose processes are being killed.
const EMPTYING: u32 = 250;

/// Returns the processes of a network namespace, regardless of their other namespaces.
fn pids(space: &str) -> Vec<Pid> {
    let output = Command::new("ip").args(["netns", "pids", space]).output();
    let told = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let told = told.unwrap_or_default();
    let pids = told.split_whitespace();
    pids.filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}
