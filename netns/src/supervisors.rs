//! Supervisors of a host's agent: these functions kill or stop them, whether or not the agent is running.

use std::{fs, os::fd::OwnedFd, path::Path};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::net::Network;

/// Stopped supervisors. They are held by descriptor, because a process id may be reused.
#[derive(Debug, Default)]
pub struct Stopped(Vec<OwnedFd>);

impl Stopped {
    /// Resumes the supervisors that still exist.
    pub fn go_on(self) {
        for process in self.0 {
            // The kernel may have terminated it in the meantime.
            let _ = pidfd_send_signal(process, Signal::CONT);
        }
    }
}

/// Returns whether a process is the supervisor of an instance below this directory.
fn is_supervisor(pid: Pid, below: &Path) -> bool {
    let command = fs::read(format!("/proc/{}/cmdline", pid.as_raw_pid())).unwrap_or_default();
    let mut words = command.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let supervises = words.by_ref().nth(1).is_some_and(|word| word == "supervise");
    supervises && words.any(|word| Path::new(&*word).starts_with(below))
}

impl Network {
    /// Returns the supervisors of a host's agent, whether or not the agent is running.
    fn supervisors(&self, host: usize) -> Vec<OwnedFd> {
        let below = self.data(host);
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
        let found = pids.filter(|pid| is_supervisor(*pid, &below));
        let opened = found.filter_map(|pid| {
            let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
            // Checked again, because the process id could have been reused before the descriptor was opened.
            is_supervisor(pid, &below).then_some(process)
        });
        opened.collect()
    }

    /// Kills the supervisors of a host's agent; returns their number.
    pub fn kill_supervisors(&self, host: usize) -> usize {
        let found = self.supervisors(host);
        for process in &found {
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
        found.len()
    }

    /// Stops the supervisors of a host's agent.
    pub fn stop_supervisors(&self, host: usize) -> Stopped {
        let found = self.supervisors(host);
        for process in &found {
            let _ = pidfd_send_signal(process, Signal::STOP);
        }
        Stopped(found)
    }

    /// Kills a host's agent and its supervisors at the same time, so that none of them can terminate anything.
    pub fn kill_all(&mut self, host: usize) -> usize {
        let found = self.supervisors(host);
        self.signal(host, Signal::STOP);
        for process in &found {
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
        self.kill(host);
        found.len()
    }
}
