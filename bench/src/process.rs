//! The measured processes.

use std::{
    env,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use wyneos_launch::{Launch, Process, directory};

use crate::{
    Failure,
    tls::{self, Ca},
};

/// Time limit for a server to start listening.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server in its own process, which is terminated when this value is dropped.
pub(crate) struct Server {
    name: &'static str,
    process: Process,
    /// Deleted together with the server.
    dir: TempDir,
}

/// Returns the path of a program in the directory of this one.
pub(crate) fn sibling(name: &str) -> Result<PathBuf, Failure> {
    wyneos_launch::program(name).map_err(Failure::of("a program"))
}

fn arguments<'a>(cycle: &'a str, data: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let any = "127.0.0.1:0";
    let mut arguments = vec!["run", "--exit-with-stdin", "--metrics-listen", any, "--data-dir", data];
    arguments.extend(["--max-connections-per-source", "20000", "--cycle", cycle]);
    // All subscribers connect from one address.
    arguments.extend(["--max-subscribers", "10000", "--max-subscribers-per-identity", "10000"]);
    arguments.extend(["--log", "info", "--log-format", "json"]);
    if !more.contains(&"--listen") {
        arguments.extend(["--listen", any]);
    }
    arguments.extend(more);
    arguments
}

/// Starts a program that exits when its standard input ends, so that it does not outlive this process.
fn spawn(name: &str, program: &Path, arguments: &[&str], dir: &TempDir) -> Result<Process, Failure> {
    let mut command = Command::new(program);
    command.args(arguments);
    let launch = Launch::new(command, &dir.path().join("log")).tied();
    launch.start().map_err(Failure::of(format!("cannot start {name}")))
}

impl Server {
    fn start(name: &'static str, program: &Path, arguments: &[&str], dir: TempDir) -> Result<Server, Failure> {
        let process = spawn(name, program, arguments, &dir)?;
        Ok(Server { name, process, dir })
    }

    /// Starts the coordinator with a cycle every `cycle` (in the syntax of the flag).
    pub(crate) fn coordinator(cycle: &str) -> Result<Server, Failure> {
        Server::coordinator_with(cycle, &["--tls=false"])
    }

    /// Starts the coordinator with TLS and its own CA, which [`ca`](Self::ca) returns.
    pub(crate) fn secure_coordinator(cycle: &str, listen: &str) -> Result<Server, Failure> {
        let server = Server::coordinator_with(cycle, &["--listen", listen])?;
        // The CA exists once the coordinator listens.
        server.address("address")?;
        Ok(server)
    }

    /// Returns the CA of a coordinator with TLS, or of a null server.
    pub(crate) fn ca(&self) -> Result<Ca, Failure> {
        let cluster = self.field("cluster").ok();
        match cluster {
            Some(cluster) => {
                let folder = self.dir.path().join("data").join("ca").join("1");
                Ca::read(&folder, Some(cluster.parse().map_err(Failure::of("cluster"))?))
            }
            None => Ca::read(self.dir.path(), None),
        }
    }

    /// Kills the server, and restarts it with the same files and address.
    pub(crate) fn kill_and_restart(&mut self) -> Result<(), Failure> {
        let address = self.address("address")?.to_string();
        self.process.kill().map_err(Failure::of("kill"))?;
        let data = self.dir.path().join("data").display().to_string();
        let arguments = arguments("6s", &data, &["--listen", &address]);
        let program = sibling("wyneos-coordinator")?;
        self.process = spawn(self.name, &program, &arguments, &self.dir)?;
        Ok(())
    }

    fn coordinator_with(cycle: &str, more: &[&str]) -> Result<Server, Failure> {
        let dir = directory().map_err(Failure::of("temporary directory"))?;
        let data = dir.path().join("data").display().to_string();
        let program = sibling("wyneos-coordinator")?;
        Server::start("wyneos-coordinator", &program, &arguments(cycle, &data, more), dir)
    }

    /// Starts an agent of the coordinator at `coordinator`.
    pub(crate) fn agent(coordinator: SocketAddr, name: &str) -> Result<Server, Failure> {
        let dir = directory().map_err(Failure::of("temporary directory"))?;
        let data = dir.path().join("data").display().to_string();
        let coordinator = coordinator.to_string();
        let arguments = [
            "run",
            "--tls=false",
            "--exit-with-stdin",
            "--listen",
            "127.0.0.1:0",
            "--name",
            name,
            "--coordinators",
            &coordinator,
            "--data-dir",
            &data,
        ];
        let program = sibling("wyneos-agent")?;
        Server::start("wyneos-agent", &program, &arguments, dir)
    }

    /// Starts a null server: this program with the hidden command `arguments`.
    pub(crate) fn null(arguments: &[&str]) -> Result<Server, Failure> {
        let dir = directory().map_err(Failure::of("temporary directory"))?;
        let own = env::current_exe().map_err(Failure::of("own path"))?;
        Server::start("null server", &own, arguments, dir)
    }

    /// Starts the null server of sessions, with TLS and its own CA, which [`ca`](Self::ca) returns.
    pub(crate) fn secure_null() -> Result<Server, Failure> {
        let dir = directory().map_err(Failure::of("temporary directory"))?;
        tls::write(dir.path())?;
        let own = env::current_exe().map_err(Failure::of("own path"))?;
        let folder = dir.path().display().to_string();
        Server::start("null server", &own, &["null-server", "--ca", &folder], dir)
    }

    /// Returns a field of the log line that reports that the server listens, as an address.
    pub(crate) fn address(&self, field: &str) -> Result<SocketAddr, Failure> {
        self.field(field)?.parse().map_err(Failure::of(field))
    }

    /// Returns a field of the log line that reports that the server listens, as text.
    fn field(&self, field: &str) -> Result<String, Failure> {
        let listens = |line: &str| {
            let line = serde_json::from_str::<Value>(line).ok()?;
            line.to_string().contains("listening").then_some(line)
        };
        let Some(line) = self.process.says(PATIENCE, listens) else {
            let log = self.process.said();
            return Err(Failure::new(format!("{} does not listen; its log:\n{log}", self.name)));
        };
        find(&line, field).ok_or_else(|| Failure::new(format!("{} says no {field}", self.name)))
    }

    /// Returns the CPU time used so far, user and system, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64, Failure> {
        self.process.cpu().map_err(Failure::of(format!("{} ended", self.name)))
    }

    /// Returns the resident memory in bytes.
    pub(crate) fn rss(&self) -> Result<f64, Failure> {
        let bytes = self.process.rss();
        bytes
            .map(|bytes| bytes as f64)
            .map_err(Failure::of(format!("{} ended", self.name)))
    }
}

/// Returns a field, at whichever level the log format places it.
fn find(line: &Value, field: &str) -> Option<String> {
    let value = line.get(field).or_else(|| line.get("fields")?.get(field))?;
    value.as_str().map(str::to_owned)
}

/// Returns the coordinator's metrics as text.
pub(crate) fn metrics(address: SocketAddr) -> Result<String, Failure> {
    let failed = || Failure::of(format!("metrics at {address}"));
    let mut stream = TcpStream::connect(address).map_err(failed())?;
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .map_err(failed())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(failed())?;
    Ok(text)
}

/// Returns the value of the metric `name` without labels.
pub(crate) fn value(metrics: &str, name: &str) -> Option<f64> {
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line?.trim().parse().ok()
}
