//! A supervisor's checks: their start, and the end of their remains.

use std::{io, process::Stdio};

use tokio::sync::oneshot;
use wyneos_core::{
    supervisor::Input,
    workload::{Exit, Probe},
};

use super::{
    super::{checks, note_soon, processes, program::pid_of, stuck::Waits, tag::Tag, with_ports},
    Happened, Process,
};

/// Consecutive scans that must find nothing of a check: one may miss a process that starts others and ends.
const SWEPT: u32 = 2;

/// A check's program, in its runner.
pub(super) struct Checking {
    pub(super) check: usize,
    pub(super) waiting: oneshot::Sender<Exit>,
    pub(super) tag: Tag,
}

impl Process {
    /// Starts a check.
    pub(super) fn check(&mut self, check: usize) {
        let spec = self.order.assigned.spec.clone();
        let program = match spec.checks.get(check).map(|check| &check.probe) {
            Some(Probe::Exec(program)) => self.start_check(check, program).map_err(|error| error.to_string()),
            _ => Err("it is no program".to_owned()),
        };
        let (sender, order) = (self.sender.clone(), self.order.clone());
        tokio::spawn(async move {
            let failure = checks::ask(&order, check, program).await;
            drop(sender.send(Happened::Fact(Input::Checked { check, failure })).await);
        });
    }

    fn start_check(&mut self, check: usize, program: &[String]) -> io::Result<checks::Program> {
        if self.left.contains(&check) || self.checking.values().any(|one| one.check == check) {
            return Err(io::Error::other("processes of the previous run cannot be ended"));
        }
        if self.order.contained && self.namespace.is_none() {
            return Err(io::Error::other("nothing runs"));
        }
        let spec = &self.order.assigned.spec;
        let parts = program
            .iter()
            .map(|part| with_ports(part, &spec.ports, &self.order.ports));
        let run = format!("{}.{}", std::process::id(), self.runs);
        let mut command = self.step_between("check")?;
        command.arg("--run").arg(&run).arg("--").args(parts);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let (tag, mut child) = Tag::start(&run, || self.start(&mut command))?;
        self.runs += 1;
        let (pid, input) = (pid_of(&child)?, child.stdin.take());
        let (waiting, exit) = oneshot::channel();
        self.checking.insert(pid, Checking { check, waiting, tag });
        let input = input.ok_or_else(|| io::Error::other("it has no standard input"))?;
        Ok(checks::Program { _input: input, exit })
    }

    /// Ends the remains of a check whose runner was killed. The check is not started again until nothing of it is left.
    pub(super) fn sweep(&mut self, check: usize, tag: Tag) {
        note_soon("the runner of a check was killed: the processes of the check are ended");
        self.left.insert(check);
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let (mut waits, mut empty) = (Waits::new(), 0);
            // Orphans are adopted by the first process of the namespaces, or by this one: all processes of a check
            // descend from it.
            let own = i32::try_from(std::process::id()).unwrap_or(0);
            while empty < SWEPT {
                let left = tag.carriers(processes::descendants(own));
                empty = match processes::kill(&left) {
                    true => 0,
                    false => empty + 1,
                };
                if let Some(what) = waits.news(&left) {
                    note_soon(&format!("{what}: it is left of a check"));
                }
                waits.wait(&left).await;
            }
            drop(sender.send(Happened::Swept(check)).await);
        });
    }
}
