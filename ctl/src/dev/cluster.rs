//! The processes of the cluster, in the order in which they were started.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
};

use tokio::sync::mpsc;

use super::{
    DevArgs, DevError, Stop,
    child::{Child, EXIT_WITH_STDIN},
    left,
};
use crate::text;

/// The cluster's processes.
pub(super) struct Cluster {
    binaries: PathBuf,
    directory: PathBuf,
    /// The coordinator first.
    children: Vec<Child>,
    deaths: mpsc::UnboundedReceiver<usize>,
    tell: mpsc::UnboundedSender<usize>,
}

fn tls_flag(args: &DevArgs) -> &'static str {
    if args.tls { "--tls=true" } else { "--tls=false" }
}

impl Cluster {
    /// A cluster of nothing yet. Fails when a binary is not there.
    pub(super) fn new(binaries: &Path, directory: &Path) -> Result<Cluster, DevError> {
        for program in ["wyneos-coordinator", "wyneos-agent"] {
            let path = binaries.join(program);
            if !path.is_file() {
                return Err(DevError::NoBinary(path));
            }
        }
        // A death is told once a process: bounded by their number.
        let (tell, deaths) = mpsc::unbounded_channel();
        Ok(Cluster {
            binaries: binaries.to_owned(),
            directory: directory.to_owned(),
            children: Vec::new(),
            deaths,
            tell,
        })
    }

    /// Where the binaries are, and its files.
    pub(super) fn places(&self) -> (PathBuf, PathBuf) {
        (self.binaries.clone(), self.directory.clone())
    }

    /// Where its files are.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts the coordinator.
    pub(super) fn start_coordinator(&mut self, args: &DevArgs) -> Result<(), DevError> {
        let listen = args.listen.to_string();
        let cycle = humantime::format_duration(args.cycle).to_string();
        let flags = [
            "--listen",
            &listen,
            "--metrics-listen",
            "127.0.0.1:0",
            "--cycle",
            &cycle,
            tls_flag(args),
        ];
        self.start("coordinator", "wyneos-coordinator", &flags)
    }

    /// Starts an agent.
    pub(super) fn start_agent(&mut self, args: &DevArgs, number: u32) -> Result<(), DevError> {
        let (coordinator, name) = (args.listen.to_string(), format!("node-{number}"));
        let flags = [
            "--coordinators",
            &coordinator,
            "--listen",
            "127.0.0.1:0",
            "--name",
            &name,
            // Work ends with the cluster.
            "--ephemeral",
            tls_flag(args),
        ];
        self.start(&format!("agent-{number}"), "wyneos-agent", &flags)
    }

    fn start(&mut self, name: &str, program: &str, flags: &[&str]) -> Result<(), DevError> {
        let directory = self.directory.join(name);
        let data_dir = directory.display().to_string();
        let mut args: Vec<String> = ["run", EXIT_WITH_STDIN, "--data-dir", &data_dir]
            .map(str::to_owned)
            .into();
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let number = self.children.len();
        let child = Child::start(
            name,
            &self.binaries.join(program),
            &args,
            &directory,
            number,
            &self.tell,
        )?;
        self.children.push(child);
        Ok(())
    }

    /// The processes by their names, the coordinator's first, with their ids.
    pub(super) fn pids(&self) -> Vec<(String, i32)> {
        self.children
            .iter()
            .map(|child| (child.name.clone(), child.pid()))
            .collect()
    }

    /// Waits until the cluster cannot go on: its coordinator died, or, before it was `up`, any process. Tells of agents that die later.
    pub(super) async fn death(&mut self, up: &Cell<bool>) -> DevError {
        loop {
            let Some(number) = self.deaths.recv().await else {
                continue;
            };
            match self.children.get(number) {
                Some(agent) if number > 0 && up.get() => text::stdout(&agent.lost()),
                Some(child) => return child.died(),
                None => {}
            }
        }
    }

    /// Ends everything: first the agents, who say goodbye, then their instances, then the coordinator. Leaves no process.
    pub(super) async fn drain(&mut self, stop: &mut Stop) {
        let Some((coordinator, agents)) = self.children.split_first_mut() else {
            return;
        };
        for agent in &*agents {
            agent.terminate();
        }
        for agent in agents {
            agent.ended(stop).await;
        }
        left::ended(&self.directory, stop).await;
        coordinator.terminate();
        coordinator.ended(stop).await;
    }
}
