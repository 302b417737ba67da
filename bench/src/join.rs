//! The duration of a join, performed as a user does: with the programs, one after another.

use std::{
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use wyneos_launch::{LOOK, Launch, Process};

use crate::{Failure, output::Row, process::sibling, stats};

/// Time limit for each step.
const PATIENCE: Duration = Duration::from_secs(60);

/// The running programs, and the directory of their files.
struct Site {
    address: String,
    running: Vec<Process>,
    /// Dropped last: it contains the logs of the programs.
    dir: TempDir,
}

impl Site {
    fn new() -> Result<Site, Failure> {
        Ok(Site {
            address: wyneos_launch::free_address().map_err(Failure::of("a free port"))?,
            running: Vec::new(),
            dir: wyneos_launch::directory().map_err(Failure::of("temporary directory"))?,
        })
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn command(&self, program: &str, args: &[&str]) -> Result<Command, Failure> {
        let mut command = Command::new(sibling(program)?);
        command
            .args(args)
            .env("XDG_CONFIG_HOME", self.dir.path().join("config"));
        command.stdin(Stdio::null());
        Ok(command)
    }

    fn run(&self, program: &str, args: &[&str]) -> Result<String, Failure> {
        let output = self.command(program, args)?.output().map_err(Failure::of(program))?;
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(told);
        }
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(Failure::new(format!("{program} {}: {why}", args.join(" "))))
    }

    fn start(&mut self, program: &str, args: &[&str]) -> Result<(), Failure> {
        let log = self.dir.path().join(format!("{}.log", self.running.len()));
        let launch = Launch::new(self.command(program, args)?, &log);
        // Agents are terminated before the coordinator.
        self.running.insert(0, launch.start().map_err(Failure::of(program))?);
        Ok(())
    }

    /// Starts a coordinator with its default settings, and creates a context by which an admin connects to it.
    fn coordinator(&mut self) -> Result<(), Failure> {
        let (data, admin, address) = (self.path("coordinator"), self.path("admin"), self.address.clone());
        let any = "127.0.0.1:0";
        self.start(
            "wyneos-coordinator",
            &[
                "run",
                "--listen",
                &address,
                "--metrics-listen",
                any,
                "--data-dir",
                &data,
            ],
        )?;
        let began = Instant::now();
        let make = ["admin", "--data-dir", &data, "--out", &admin];
        while let Err(failure) = self.run("wyneos-coordinator", &make) {
            if began.elapsed() > PATIENCE {
                return Err(failure);
            }
            thread::sleep(LOOK);
        }
        let add = ["context", "add", "bench", "--coordinator", &address, "--from", &admin];
        self.run("wynectl", &add)?;
        while let Err(failure) = self.run("wynectl", &["nodes"]) {
            if began.elapsed() > PATIENCE {
                return Err(failure);
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    fn token(&self, uses: u64) -> Result<String, Failure> {
        let line = self.run("wynectl", &["token", "create", "--uses", &uses.to_string()])?;
        let token = line.split_whitespace().last();
        Ok(token.unwrap_or_default().to_owned())
    }

    /// Runs the two commands that join a host.
    fn join(&mut self, name: &str, token: &str) -> Result<(), Failure> {
        let (data, address) = (self.path(name), self.address.clone());
        let join = [
            "join",
            "--coordinator",
            &address,
            "--token",
            token,
            "--data-dir",
            &data,
            "--name",
            name,
        ];
        self.run("wyneos-agent", &join)?;
        self.start("wyneos-agent", &["run", "--listen", "127.0.0.1:0", "--data-dir", &data])
    }

    /// Waits until events report these nodes as online.
    fn online(&self, names: &[String]) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            let events = self.run("wynectl", &["events", "-o", "json"])?;
            let events: Value = serde_json::from_str(&events).map_err(Failure::of("events"))?;
            let events = events
                .get("events")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            let is_online = |name: &String| {
                events.iter().any(|event| {
                    let to = event.get("liveness").and_then(|liveness| liveness.get("to"));
                    event.get("nodeName").and_then(Value::as_str) == Some(name)
                        && to.and_then(Value::as_str) == Some("LIVENESS_ONLINE")
                })
            };
            if names.iter().all(is_online) {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                return Err(Failure::new(format!("{names:?} are not online after {PATIENCE:?}")));
            }
            thread::sleep(LOOK);
        }
    }
}

/// Measures the time from nothing to three nodes, and then the join of each of `agents` more nodes.
pub(crate) fn run(agents: u64) -> Result<Vec<Row>, Failure> {
    eprintln!("join: from nothing to three nodes …");
    let mut site = Site::new()?;
    let began = Instant::now();
    site.coordinator()?;
    let token = site.token(3)?;
    let first: Vec<String> = (1..=3).map(|number| format!("first-{number}")).collect();
    for name in &first {
        site.join(name, &token)?;
    }
    site.online(&first)?;
    let three = began.elapsed();
    let token = site.token(agents)?;
    let mut times = Vec::new();
    for number in 1..=agents {
        let name = format!("node-{number}");
        let began = Instant::now();
        site.join(&name, &token)?;
        site.online(&[name])?;
        times.push(began.elapsed().as_secs_f64());
    }
    Ok(vec![
        Row::new("join")
            .with("agents", agents)
            .number("three_nodes_s", three.as_secs_f64())
            .number("join_p50_s", stats::quantile(&times, 0.5))
            .number("join_p99_s", stats::quantile(&times, 0.99)),
    ])
}
