//! Supervisors of a host's agent: killed, or stopped, whether their agent is there or not.

use std::{fs, os::fd::OwnedFd, path::Path};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::net::Network;

/// Supervisors that were stopped. A number may become another process's; these do not.
#[derive(Debug, Default)]
pub struct Stopped(Vec<OwnedFd>);

impl Stopped {
    /// Lets those go on that are still there.
    pub fn go_on(self) {
        for process in self.0 {
            // The kernel may have ended it meanwhile.
            let _ = pidfd_send_signal(process, Signal::CONT);
        }
    }
}

/// Whether a process is a supervisor of an instance below this directory.
fn is_supervisor(pid: Pid, below: &Path) -> bool {
    let command = fs::read(format!("/proc/{}/cmdline", pid.as_raw_pid())).unwrap_or_default();
    let mut words = command.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let supervises = words.by_ref().nth(1).is_some_and(|word| word == "supervise");
    supervises && words.any(|word| Path::new(&*word).starts_with(below))
}

impl Network {
    /// The supervisors of a host's agent, whether that is there or not.
    fn supervisors(&self, host: usize) -> Vec<OwnedFd> {
        let below = self.data(host);
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
        let found = pids.filter(|pid| is_supervisor(*pid, &below));
        let opened = found.filter_map(|pid| {
            let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
            // From here on the number is its own.
            is_supervisor(pid, &below).then_some(process)
        });
        opened.collect()
    }

    /// Kills the supervisors of a host's agent; returns how many there were.
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

    /// Kills a host's agent and its supervisors at once: nobody has time to end anything.
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
