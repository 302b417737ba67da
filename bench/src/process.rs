//! The processes that are measured.

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Failure,
    tls::{self, Ca},
};

/// How long a server may take to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Ticks a second of the times in /proc (USER_HZ, the same on every architecture that we run on).
const TICKS: f64 = 100.0;

/// A server in a process of its own; it is ended when this is dropped.
pub(crate) struct Server {
    name: &'static str,
    child: std::process::Child,
    log: PathBuf,
    /// Deleted with it.
    dir: TempDir,
}

/// A program beside this one.
pub(crate) fn sibling(name: &str) -> Result<PathBuf, Failure> {
    let own = env::current_exe().map_err(Failure::of("own path"))?;
    let path = own.with_file_name(name);
    if !path.exists() {
        return Err(Failure::new(format!(
            "{name} is not beside {}; build it",
            own.display()
        )));
    }
    Ok(path)
}

fn arguments<'a>(cycle: &'a str, data: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let any = "127.0.0.1:0";
    let mut arguments = vec!["run", "--exit-with-stdin", "--metrics-listen", any, "--data-dir", data];
    arguments.extend(["--max-connections-per-source", "20000", "--cycle", cycle]);
    // All subscribers come from one address.
    arguments.extend(["--max-subscribers", "10000", "--max-subscribers-per-identity", "10000"]);
    arguments.extend(["--log", "info", "--log-format", "json"]);
    if !more.contains(&"--listen") {
        arguments.extend(["--listen", any]);
    }
    arguments.extend(more);
    arguments
}

impl Server {
    fn start(name: &'static str, program: &Path, arguments: &[&str], dir: TempDir) -> Result<Server, Failure> {
        let log = dir.path().join("log");
        let failed = || Failure::of(format!("cannot start {name}"));
        let out = fs::File::create(&log).map_err(failed())?;
        let errors = out.try_clone().map_err(failed())?;
        let child = Command::new(program)
            .args(arguments)
            // It ends with its standard input: nothing is left behind when this process is killed.
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(errors)
            .spawn()
            .map_err(failed())?;
        Ok(Server { name, child, log, dir })
    }

    /// Starts the coordinator with a cycle every `cycle` (as the flag takes it).
    pub(crate) fn coordinator(cycle: &str) -> Result<Server, Failure> {
        Server::coordinator_with(cycle, &["--tls=false"])
    }

    /// Starts the coordinator with TLS by a CA of its own, which [`ca`](Self::ca) knows.
    pub(crate) fn secure_coordinator(cycle: &str, listen: &str) -> Result<Server, Failure> {
        let server = Server::coordinator_with(cycle, &["--listen", listen])?;
        // It is there once the coordinator listens.
        server.address("address")?;
        Ok(server)
    }

    /// The CA of a coordinator with TLS, or of a null server.
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

    /// Ends it at once, and starts it again with the same files and address.
    pub(crate) fn kill_and_restart(&mut self) -> Result<(), Failure> {
        let address = self.address("address")?.to_string();
        self.child.kill().map_err(Failure::of("kill"))?;
        self.child.wait().map_err(Failure::of("kill"))?;
        let data = self.dir.path().join("data").display().to_string();
        let log = fs::File::create(&self.log).map_err(Failure::of("log"))?;
        let errors = log.try_clone().map_err(Failure::of("log"))?;
        let program = sibling("wyneos-coordinator")?;
        let child = Command::new(program)
            .args(arguments("6s", &data, &["--listen", &address]))
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            .spawn();
        self.child = child.map_err(Failure::of("cannot start it again"))?;
        Ok(())
    }

    fn coordinator_with(cycle: &str, more: &[&str]) -> Result<Server, Failure> {
        let dir = TempDir::new().map_err(Failure::of("temporary directory"))?;
        let data = dir.path().join("data").display().to_string();
        let program = sibling("wyneos-coordinator")?;
        Server::start("wyneos-coordinator", &program, &arguments(cycle, &data, more), dir)
    }

    /// Starts an agent of the coordinator at `coordinator`.
    pub(crate) fn agent(coordinator: SocketAddr, name: &str) -> Result<Server, Failure> {
        let dir = TempDir::new().map_err(Failure::of("temporary directory"))?;
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
        let dir = TempDir::new().map_err(Failure::of("temporary directory"))?;
        let own = env::current_exe().map_err(Failure::of("own path"))?;
        Server::start("null server", &own, arguments, dir)
    }

    /// Starts the null server of sessions, with TLS by a CA of its own, which [`ca`](Self::ca) knows.
    pub(crate) fn secure_null() -> Result<Server, Failure> {
        let dir = TempDir::new().map_err(Failure::of("temporary directory"))?;
        tls::write(dir.path())?;
        let own = env::current_exe().map_err(Failure::of("own path"))?;
        let folder = dir.path().display().to_string();
        Server::start("null server", &own, &["null-server", "--ca", &folder], dir)
    }

    /// A field of the line with which it says that it listens.
    pub(crate) fn address(&self, field: &str) -> Result<SocketAddr, Failure> {
        self.field(field)?.parse().map_err(Failure::of(field))
    }

    /// A field of the line with which it says that it listens, as text.
    fn field(&self, field: &str) -> Result<String, Failure> {
        let until = Instant::now() + PATIENCE;
        loop {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let lines: Vec<Value> = lines.filter(|line| line.to_string().contains("listening")).collect();
            match lines.first().map(|line| find(line, field)) {
                Some(Some(value)) => return Ok(value),
                Some(None) => return Err(Failure::new(format!("{} says no {field}", self.name))),
                None if Instant::now() < until => thread::sleep(Duration::from_millis(20)),
                None => return Err(Failure::new(format!("{} does not listen; its log:\n{log}", self.name))),
            }
        }
    }

    fn proc(&self, file: &str) -> Result<String, Failure> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).map_err(Failure::of(format!("{} ended, {path}", self.name)))
    }

    /// CPU time that it used so far, user and system, seconds.
    pub(crate) fn cpu(&self) -> Result<f64, Failure> {
        let stat = self.proc("stat")?;
        // The name in brackets may hold spaces; utime and stime are fields 14 and 15 (proc(5)).
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = rest.split_whitespace().skip(11).take(2);
        Ok(ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS)
    }

    /// Its resident memory, bytes.
    pub(crate) fn rss(&self) -> Result<f64, Failure> {
        let status = self.proc("status")?;
        let kilobytes = status.lines().find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix(" kB")?
                .parse::<f64>()
                .ok()
        });
        kilobytes
            .map(|kilobytes| kilobytes * 1024.0)
            .ok_or_else(|| Failure::new(format!("{} has no VmRSS", self.name)))
    }
}

/// A field, wherever the log's format puts it.
fn find(line: &Value, field: &str) -> Option<String> {
    let value = line.get(field).or_else(|| line.get("fields")?.get(field))?;
    value.as_str().map(str::to_owned)
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let until = Instant::now() + PATIENCE;
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() > until {
                drop(self.child.kill());
                drop(self.child.wait());
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The coordinator's metrics, as text.
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

/// The value of the metric `name` without labels.
pub(crate) fn value(metrics: &str, name: &str) -> Option<f64> {
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line?.trim().parse().ok()
}
