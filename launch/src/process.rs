//! A single process.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};

use crate::{LOOK, until};

/// Time limit for a process that is tied to its standard input to exit by itself.
const GRACE: Duration = Duration::from_secs(20);

/// Number of log lines that a failing test prints.
const TAIL: usize = 30;

/// Ticks per second of the times in `/proc` (USER_HZ, the same on every supported architecture).
const TICKS: f64 = 100.0;

/// Parameters with which a process is started.
#[derive(Debug)]
pub struct Launch {
    command: Command,
    log: PathBuf,
    output: Option<PathBuf>,
    tied: bool,
}

impl Launch {
    /// Returns a launch of `command`. Both outputs are appended to `log`; standard input is empty.
    #[must_use]
    pub fn new(command: Command, log: &Path) -> Launch {
        Launch {
            command,
            log: log.to_owned(),
            output: None,
            tied: false,
        }
    }

    /// Redirects standard output to a separate file.
    #[must_use]
    pub fn output(mut self, path: &Path) -> Launch {
        self.output = Some(path.to_owned());
        self
    }

    /// Gives the process a standard input that closes when the [`Process`] is dropped, or when this program ends for
    /// any reason. Intended for servers with `--exit-with-stdin`.
    #[must_use]
    pub fn tied(mut self) -> Launch {
        self.tied = true;
        self
    }

    /// Starts the process.
    ///
    /// # Errors
    ///
    /// When a file cannot be opened, or the program cannot be started.
    pub fn start(self) -> io::Result<Process> {
        let log = append(&self.log)?;
        let begin = log.metadata()?.len();
        let output = match &self.output {
            Some(path) => append(path)?,
            None => log.try_clone()?,
        };
        let input = match self.tied {
            true => Stdio::piped(),
            false => Stdio::null(),
        };
        let mut command = self.command;
        let child = command.stdin(input).stdout(output).stderr(log).spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::NotFound)?;
        Ok(Process {
            // The child has not been waited for yet, so its process id cannot have been reused.
            handle: pidfd_open(pid, PidfdFlags::empty())?,
            child,
            log: self.log,
            begin,
        })
    }
}

fn append(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

/// A running process. It is terminated when this value is dropped. A failing test prints the end of the log; a passing
/// test fails if the log contains a panic.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Refers to this process even after its process id was reused.
    handle: OwnedFd,
    log: PathBuf,
    /// Offset in the log at which the output of this process begins, after the output of earlier processes.
    begin: u64,
}

impl Process {
    /// Returns the process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the path of the log.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Returns the text of the log, including the output of earlier processes in the same file.
    #[must_use]
    pub fn log_text(&self) -> String {
        read(&self.log)
    }

    /// Returns the output of this process alone.
    #[must_use]
    pub fn said(&self) -> String {
        let text = self.log_text();
        text.get(self.begin as usize..).unwrap_or_default().to_owned()
    }

    /// Waits for a line of output for which `wanted` returns a value, and returns that value; returns `None` after
    /// `within`, or when the process exited without such a line.
    pub fn says<T>(&self, within: Duration, mut wanted: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let told = until(within, LOOK, || {
            // Checked before the output is read, so that the last lines of the process are not missed.
            let over = !self.is_running();
            let found = self.said().lines().find_map(&mut wanted);
            (found.is_some() || over).then_some(found)
        });
        told.flatten()
    }

    /// Sends a signal to the process.
    ///
    /// # Errors
    ///
    /// When the process has ended, or may not be signalled.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.handle, signal)?)
    }

    /// Returns whether the process has not ended yet.
    #[must_use]
    pub fn is_running(&self) -> bool {
        // Only peeks at the state: the process can still be waited for.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(waitid(WaitId::PidFd(self.handle.as_fd()), options), Ok(None))
    }

    /// Returns the exit status, if the process has ended.
    pub fn try_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until the process ends and returns its exit status; returns `None` after `within`.
    pub fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        until(within, LOOK, || self.try_ended())
    }

    /// Kills the process and waits until it ends.
    ///
    /// # Errors
    ///
    /// When the process cannot be waited for.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        // A process that has already ended is only waited for.
        drop(self.child.kill());
        self.child.wait()
    }

    fn proc(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))
    }

    /// Returns the resident memory in bytes.
    ///
    /// # Errors
    ///
    /// When the process has ended.
    pub fn rss(&self) -> io::Result<u64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        let gone = || io::Error::new(io::ErrorKind::NotFound, "it has no VmRSS");
        Ok(kilobytes.ok_or_else(gone)? * 1024)
    }

    /// Returns the number of threads.
    ///
    /// # Errors
    ///
    /// When the process has ended.
    pub fn threads(&self) -> io::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/task", self.child.id()))?.count())
    }

    /// Returns the CPU time used so far, user and system, in seconds.
    ///
    /// # Errors
    ///
    /// When the process has ended.
    pub fn cpu(&self) -> io::Result<f64> {
        let stat = self.proc("stat")?;
        // The name in parentheses may contain spaces; `utime` and `stime` are fields 14 and 15 (proc(5)).
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = rest.split_whitespace().skip(11).take(2);
        Ok(ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS)
    }
}

/// Reads a log that may still be written: it may end within a UTF-8 sequence.
fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

impl Drop for Process {
    fn drop(&mut self) {
        let tied = self.child.stdin.take().is_some();
        if !(tied && self.ended(GRACE).is_some()) {
            drop(self.kill());
        }
        let log = self.log_text();
        if thread::panicking() {
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default();
            eprintln!("== end of {}\n{}", self.log.display(), tail.join("\n"));
        } else {
            assert!(!log.contains("panicked"), "a panic in {}:\n{log}", self.log.display());
        }
    }
}
