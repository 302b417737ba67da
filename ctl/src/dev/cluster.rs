//! The processes of the cluster, in the order of their start.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
};

use rustix::process::Signal;
use tokio::sync::mpsc;

use super::{
    DevArgs, DevError, Stop,
    child::{Child, Death, Plan},
    control::{Action, Answer, Reply, Request},
    groups, left, show,
};
use crate::text;

/// State of the cluster for its observers.
#[derive(Default)]
pub(super) struct Progress {
    /// Whether all running agents were online.
    pub(super) up: Cell<bool>,
    /// Number of running agents.
    pub(super) agents: Cell<usize>,
}

/// The cluster's processes.
pub(super) struct Cluster {
    binaries: PathBuf,
    directory: PathBuf,
    /// The coordinator first.
    children: Vec<Child>,
    deaths: mpsc::UnboundedReceiver<Death>,
    tell: mpsc::UnboundedSender<Death>,
}

fn tls_flag(args: &DevArgs) -> &'static str {
    if args.tls { "--tls=true" } else { "--tls=false" }
}

impl Cluster {
    /// Creates a cluster without processes. Fails if a binary is missing.
    pub(super) fn new(binaries: &Path, directory: &Path) -> Result<Cluster, DevError> {
        for program in ["wyneos-coordinator", "wyneos-agent"] {
            let path = binaries.join(program);
            if !path.is_file() {
                return Err(DevError::NoBinary(path));
            }
        }
        // One death per process: bounded by the number of starts.
        let (tell, deaths) = mpsc::unbounded_channel();
        Ok(Cluster {
            binaries: binaries.to_owned(),
            directory: directory.to_owned(),
            children: Vec::new(),
            deaths,
            tell,
        })
    }

    /// The directories of the binaries and of the cluster's files.
    pub(super) fn places(&self) -> (PathBuf, PathBuf) {
        (self.binaries.clone(), self.directory.clone())
    }

    /// The directory of the cluster's files.
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
        self.start("coordinator", "coordinator", "wyneos-coordinator", &flags)
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
            "--cgroup",
            &groups::own(),
            // Work ends with the cluster.
            "--ephemeral",
            tls_flag(args),
        ];
        self.start(&name, &format!("agent-{number}"), "wyneos-agent", &flags)
    }

    fn start(&mut self, name: &str, directory: &str, program: &str, flags: &[&str]) -> Result<(), DevError> {
        let plan = Plan {
            name: name.to_owned(),
            program: self.binaries.join(program),
            args: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            directory: self.directory.join(directory),
        };
        let child = Child::start(plan, self.children.len(), true, &self.tell)?;
        self.children.push(child);
        Ok(())
    }

    /// Names and ids of the processes, the coordinator's first.
    pub(super) fn pids(&self) -> Vec<(String, i32)> {
        let pid = |child: &Child| (child.plan.name.clone(), child.pid());
        self.children.iter().map(pid).collect()
    }

    /// Number of running agents.
    pub(super) fn agents(&self) -> usize {
        self.children.iter().skip(1).filter(|child| child.is_running()).count()
    }

    /// The next death.
    pub(super) async fn death(&mut self) -> Death {
        match self.deaths.recv().await {
            Some(death) => death,
            // Unreachable, because this side holds a sender, too.
            None => std::future::pending().await,
        }
    }

    /// Reports a death, after which the cluster continues. Fails for a process that exited by itself while the cluster
    /// started, because it would do so again.
    pub(super) fn mourn(&self, death: &Death, args: &DevArgs, is_up: bool) -> Result<(), DevError> {
        let Some(child) = self.children.get(death.number) else {
            return Ok(());
        };
        if !is_up && death.signal().is_none() {
            return Err(DevError::Died {
                name: child.plan.label(),
                status: death.how(),
                log: child.last_words(),
            });
        }
        text::stdout(&show::death_lines(args, &child.plan, death));
        Ok(())
    }

    /// Carries out a request from another terminal.
    pub(super) fn obey(&mut self, request: &Request) -> Reply {
        let wanted = &request.name;
        let node = wanted.strip_prefix("agent-").map(|number| format!("node-{number}"));
        let node = node.as_ref().unwrap_or(wanted);
        match self.children.iter().position(|child| child.plan.name == *node) {
            Some(number) if request.action == Action::Start => self.start_again(number).into(),
            Some(number) => self.signal(number, request.action),
            None => Answer::Unknown(format!("no {wanted} in this cluster, which has {}", self.names())).into(),
        }
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.children.iter().map(|child| child.plan.name.as_str()).collect();
        match names.as_slice() {
            [] => "no process yet".to_owned(),
            [only] => format!("only {only} yet"),
            [coordinator, first] => format!("{coordinator} and {first}"),
            [coordinator, first, .., last] => format!("{coordinator} and {first} to {last}"),
        }
    }

    fn start_again(&mut self, number: usize) -> Answer {
        let Some(child) = self.children.get_mut(number) else {
            return Answer::Refused("there is nothing to start".to_owned());
        };
        let (name, label) = (&child.plan.name, child.plan.label());
        if child.is_running() {
            let pid = child.pid();
            return Answer::Refused(format!(
                "{name} runs already, as process {pid}; if it is stopped, `cont` continues it"
            ));
        }
        match Child::start(child.plan.clone(), number, false, &self.tell) {
            Ok(started) => *child = started,
            Err(error) => return Answer::Refused(format!("{name}: {error}")),
        }
        let pid = child.pid();
        text::stdout(&show::news(&format!("{label} started again (pid {pid})")));
        Answer::Done(format!("{label} started again (pid {pid})"))
    }

    fn signal(&self, number: usize, action: Action) -> Reply {
        let Some(child) = self.children.get(number).filter(|child| child.is_running()) else {
            let name = self.children.get(number).map_or("it", |child| &child.plan.name);
            return Answer::Refused(format!("{name} does not run; `start` starts it again")).into();
        };
        let (signal, done) = match action {
            Action::Kill => (Signal::KILL, "killed"),
            Action::Stop => (Signal::STOP, "stopped"),
            Action::Cont | Action::Start => (Signal::CONT, "continues"),
        };
        let told = format!("{} (pid {}) {done}", child.plan.label(), child.pid());
        child.signal(signal);
        let once = (action == Action::Kill).then(|| child.exited());
        if once.is_none() {
            text::stdout(&show::news(&told));
        }
        let answer = Answer::Done(told);
        Reply { answer, once }
    }

    /// Ends everything: first the agents, which say goodbye, then their instances, then the coordinator. Leaves no
    /// process and no control group.
    pub(super) async fn drain(&mut self, stop: &mut Stop) -> Result<(), DevError> {
        let Some((coordinator, agents)) = self.children.split_first_mut() else {
            return Ok(());
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
        groups::remove().await
    }
}
