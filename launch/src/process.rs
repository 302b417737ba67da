//! One process.

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

/// How long a process that is tied to its standard input may take to end by itself.
const GRACE: Duration = Duration::from_secs(20);

/// Lines of a log that a failing test shows.
const TAIL: usize = 30;

/// Ticks a second of the times in /proc (USER_HZ, the same on every architecture that we run on).
const TICKS: f64 = 100.0;

/// How a process is to be started.
#[derive(Debug)]
pub struct Launch {
    command: Command,
    log: PathBuf,
    output: Option<PathBuf>,
    tied: bool,
}

impl Launch {
    /// Both of its outputs go to the end of `log`; it has nothing to read.
    #[must_use]
    pub fn new(command: Command, log: &Path) -> Launch {
        Launch {
            command,
            log: log.to_owned(),
            output: None,
            tied: false,
        }
    }

    /// Its standard output goes to a file of its own.
    #[must_use]
    pub fn output(mut self, path: &Path) -> Launch {
        self.output = Some(path.to_owned());
        self
    }

    /// It has a standard input that ends with the [`Process`], or with this program, however that ends: for servers with `--exit-with-stdin`.
    #[must_use]
    pub fn tied(mut self) -> Launch {
        self.tied = true;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// When a file cannot be opened, or the program not started.
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
            // Nobody has waited for it yet: the number is its own.
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

/// A process that runs. When this is dropped it is ended; a test that fails shows the end of its log, and one that does not fail if the log tells of a
/// panic.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// A number may become another process's; this does not.
    handle: OwnedFd,
    log: PathBuf,
    /// Where in the log its own words begin: behind those of processes before it.
    begin: u64,
}

impl Process {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The file of its log.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its log, and that of processes before it in the same file.
    #[must_use]
    pub fn log_text(&self) -> String {
        read(&self.log)
    }

    /// What it has said itself.
    #[must_use]
    pub fn said(&self) -> String {
        let text = self.log_text();
        text.get(self.begin as usize..).unwrap_or_default().to_owned()
    }

    /// Waits for a line that it says, and returns what `wanted` makes of it; `None` once that took longer than `within`, or it has ended without saying one.
    pub fn says<T>(&self, within: Duration, mut wanted: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let told = until(within, LOOK, || {
            // Looked at before its words are: what it said last counts.
            let over = !self.is_running();
            let found = self.said().lines().find_map(&mut wanted);
            (found.is_some() || over).then_some(found)
        });
        told.flatten()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// When it has ended, or may not be signalled.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.handle, signal)?)
    }

    /// False once it has ended.
    #[must_use]
    pub fn is_running(&self) -> bool {
        // Only looked at: its end can still be waited for.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(waitid(WaitId::PidFd(self.handle.as_fd()), options), Ok(None))
    }

    /// How it ended, if it has.
    pub fn try_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end; `None` once that took longer than `within`.
    pub fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        until(within, LOOK, || self.try_ended())
    }

    /// Kills it, and waits for its end.
    ///
    /// # Errors
    ///
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        // One that has ended already is only waited for.
        drop(self.child.kill());
        self.child.wait()
    }

    fn proc(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))
    }

    /// Its resident memory, bytes.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn rss(&self) -> io::Result<u64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        let gone = || io::Error::new(io::ErrorKind::NotFound, "it has no VmRSS");
        Ok(kilobytes.ok_or_else(gone)? * 1024)
    }

    /// Threads that it has.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn threads(&self) -> io::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/task", self.child.id()))?.count())
    }

    /// CPU time that it used so far, user and system, seconds.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn cpu(&self) -> io::Result<f64> {
        let stat = self.proc("stat")?;
        // The name in brackets may hold spaces; utime and stime are fields 14 and 15 (proc(5)).
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = rest.split_whitespace().skip(11).take(2);
        Ok(ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS)
    }
}

/// A log is read while it is written: it may end within a character.
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
