//! A network of namespaces with the servers in it.

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

/// How long anything may take that has no limit of its own. Far longer than it takes: machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a network is looked at: each look runs `wynectl`.
const LOOK: Duration = Duration::from_millis(50);

static NETWORKS: AtomicU32 = AtomicU32::new(0);

/// Why the tests cannot run here; `None` when they can.
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

/// A binary of this workspace.
pub(crate) fn binary(name: &str) -> PathBuf {
    wyneos_launch::program(name).unwrap()
}

/// A coordinator (host 0) and agents (hosts 1 and up), each in a namespace of its own on one bridge.
pub struct Network {
    /// Prefix of every name that is made, unique on this machine.
    prefix: String,
    directory: TempDir,
    agents: usize,
    /// The coordinator's flags and their values.
    timings: Vec<(&'static str, Duration)>,
    children: Vec<Process>,
    /// Given back once everything is gone.
    _turn: Turn,
}

/// Networks that stand at once. Each of their nodes knows most others by address, and all namespaces of a host share one table of 1,024 neighbours
/// (net.ipv4.neigh.default.gc_thresh3): beyond, links fail.
const AT_ONCE: usize = 2;

static STANDING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// A place among the networks that stand at once.
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
    /// Starts everything with these timings, and waits until every agent is online and every planned link is reported.
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

    /// Agents.
    pub fn agents(&self) -> usize {
        self.agents
    }

    /// The `data_dir` of a host's agent.
    pub(crate) fn data(&self, host: usize) -> PathBuf {
        self.directory.path().join(format!("agent{host}"))
    }

    /// The name of a host's network namespace.
    pub fn space(&self, host: usize) -> String {
        format!("{}h{host}", self.prefix)
    }

    /// A bridge in a namespace of its own, and a cable to it for every host.
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

    /// The address of a host.
    pub fn address(host: usize) -> String {
        format!("10.99.0.{}", host + 1)
    }

    /// Where the coordinator listens.
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

    /// Starts the coordinator (again).
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

    /// Starts an agent (again).
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
            // What tests run changes its user.
            "--users",
            "root",
        ];
        self.spawn(host, "wyneos-agent", &args);
    }

    /// Sends a signal to a host's server.
    pub fn signal(&self, host: usize, signal: Signal) {
        self.children[host].signal(signal).unwrap();
    }

    /// Kills a host's server, and waits for its end.
    pub fn kill(&mut self, host: usize) {
        self.children[host].kill().unwrap();
    }

    /// Has `to` drop what it receives from `from` and `which` names in the words of nftables; everything when empty. The rule
    /// bears the name of its fault.
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

    /// Takes a fault's rules back.
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

    /// Pulls a host's cable out, or puts it back.
    pub fn link(&self, host: usize, up: bool) {
        let state = if up { "up" } else { "down" };
        ip(&format!("-n {}hub link set p{host} {state}", self.prefix));
    }

    /// Takes a host's power away: nothing is sent any more, and nothing has time to say goodbye.
    pub fn power_off(&self, host: usize) {
        self.link(host, false);
        for pid in pids(&self.space(host)) {
            kill_process(pid, Signal::KILL).ok();
        }
    }

    /// Gives a host that lost its power its power and its agent back.
    pub fn power_on(&mut self, host: usize) {
        // Its power is off: it has ended.
        self.children[host].kill().unwrap();
        self.link(host, true);
        self.spawn_agent(host);
    }

    /// What `wynectl` answers from the coordinator's own host.
    pub fn wynectl(&self, args: &[&str]) -> Option<Value> {
        let address = Network::coordinator();
        let output = within(Some(&self.space(0)), binary("wynectl"))
            .args(["--address", &address, "-o", "json"])
            .args(args)
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Waits until `condition` gives something.
    pub fn until<T>(&self, what: &str, within: Duration, mut condition: impl FnMut(&Network) -> Option<T>) -> T {
        let found = wyneos_launch::until(within, LOOK, || condition(self));
        found.unwrap_or_else(|| panic!("not within {within:?}: {what}\n{}", self.lines()))
    }

    /// Everything that was concluded, a line an event.
    fn lines(&self) -> String {
        let events = self.events();
        let line = |event: &Value| format!("{} {}", event["time"].as_str().unwrap_or(""), event["summary"]);
        events.iter().map(|event| line(event) + "\n").collect()
    }

    /// All events.
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
            // What agents have started outlives them, and supervisors may start something yet.
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
        // These look at their logs, which are in the directory.
        self.children.clear();
    }
}

/// Looks at a namespace whose processes are killed, at most.
const EMPTYING: u32 = 250;

/// The processes of a network namespace, whatever other namespaces they are in.
fn pids(space: &str) -> Vec<Pid> {
    let output = Command::new("ip").args(["netns", "pids", space]).output();
    let told = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let told = told.unwrap_or_default();
    let pids = told.split_whitespace();
    pids.filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}
