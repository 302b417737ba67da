//! One process of the cluster.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::{
    fs::{OFlags, fcntl_setfl},
    process::{Pid, Signal, kill_process, kill_process_group},
};
use tokio::{
    process::{ChildStdin, Command},
    sync::{mpsc, watch},
    time::timeout,
};

use super::{DevError, Stop};
use wyneos_shell::files;

/// Time limit for a process to drain.
const DRAIN: Duration = Duration::from_secs(10);

/// Number of log lines that are shown when their process dies.
const TAIL_LINES: usize = 20;

/// The flag with which a server exits together with the program that started it.
const EXIT_WITH_STDIN: &str = "--exit-with-stdin";

/// Bytes of a log that are searched for them.
const TAIL_BYTES: u64 = 16 * 1024;

/// Exit status of a process; `None` while it runs.
pub(super) type Exited = watch::Receiver<Option<ExitStatus>>;

/// The command with which a process is started.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The node's name, or `coordinator`.
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) args: Vec<String>,
    /// The `data_dir` of the process, which contains its log.
    pub(super) directory: PathBuf,
}

impl Plan {
    /// A short description of the process.
    pub(super) fn label(&self) -> String {
        match self.name.as_str() {
            "coordinator" => self.name.clone(),
            node => format!("agent of {node}"),
        }
    }

    pub(super) fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Opens the file of its log; the first start of a process truncates it, later ones append.
    fn open_log(&self, is_first: bool) -> io::Result<File> {
        let log = self.log();
        let file = if is_first {
            files::create(&log, 0o600)?
        } else {
            files::open(&log, 0o600)?
        };
        fcntl_setfl(&file, OFlags::APPEND)?;
        Ok(file)
    }

    /// The program with its arguments.
    fn command(&self, is_first: bool) -> Result<Command, DevError> {
        // Programs of workloads must be able to pass through an agent's directory.
        files::make_dir(&self.directory, 0o711)
            .map_err(DevError::system(format!("make {}", self.directory.display())))?;
        let log = self
            .open_log(is_first)
            .map_err(DevError::system(format!("write {}", self.log().display())))?;
        let mut command = Command::new(&self.program);
        command
            .args(["run", EXIT_WITH_STDIN, "--data-dir"])
            .arg(&self.directory)
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0);
        Ok(command)
    }
}

/// End of a process.
pub(super) struct Death {
    /// Index of the process.
    pub(super) number: usize,
    pub(super) pid: i32,
    pub(super) status: Option<ExitStatus>,
}

impl Death {
    /// The signal that ended it, if any.
    pub(super) fn signal(&self) -> Option<i32> {
        self.status?.signal()
    }

    /// Description of the exit status.
    pub(super) fn how(&self) -> String {
        self.status
            .map_or_else(|| "unknown".to_owned(), |status| status.to_string())
    }
}

/// A process of the cluster, in a separate process group, so that a Ctrl-C in the terminal does not reach it.
pub(super) struct Child {
    pub(super) plan: Plan,
    pid: Option<Pid>,
    exited: Exited,
    /// Standard input of the process: when this program ends for any reason, the process reads the end of it and stops.
    _stdin: Option<ChildStdin>,
}

impl Child {
    /// Starts a process by its plan; its death is sent to `deaths` with `number`.
    pub(super) fn start(
        plan: Plan,
        number: usize,
        is_first: bool,
        deaths: &mpsc::UnboundedSender<Death>,
    ) -> Result<Child, DevError> {
        if !plan.program.is_file() {
            return Err(DevError::NoBinary(plan.program));
        }
        let mut process = plan
            .command(is_first)?
            .spawn()
            .map_err(DevError::system(format!("start {}", plan.program.display())))?;
        let pid = process.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let stdin = process.stdin.take();
        let (tell, exited) = watch::channel(None);
        let deaths = deaths.clone();
        tokio::spawn(async move {
            let status = process.wait().await.ok();
            // A process whose end cannot be determined counts as ended: its pid may be reused.
            tell.send_replace(Some(status.unwrap_or_default()));
            let pid = raw(pid);
            // There is no receiver any more while the cluster is drained.
            let _ = deaths.send(Death { number, pid, status });
        });
        Ok(Child {
            plan,
            pid,
            exited,
            _stdin: stdin,
        })
    }

    /// The last lines of its log.
    pub(super) fn last_words(&self) -> String {
        tail(&self.plan.log())
    }

    /// The process id; that of the last process if it has ended.
    pub(super) fn pid(&self) -> i32 {
        raw(self.pid)
    }

    /// Returns whether the end of the process is not known yet.
    pub(super) fn is_running(&self) -> bool {
        self.running().is_some()
    }

    /// The exit status of the process.
    pub(super) fn exited(&self) -> Exited {
        self.exited.clone()
    }

    /// Sends it a signal, if it runs.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.running() {
            // The process may end by itself at this moment.
            let _ = kill_process(pid, signal);
        }
    }

    /// Requests a drain, even if the process is stopped.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
    }

    /// Waits until it ended; kills its group if that takes too long or `stop` is requested again.
    pub(super) async fn ended(&mut self, stop: &mut Stop) {
        let mut exited = self.exited.clone();
        let ended = timeout(DRAIN, exited.wait_for(Option::is_some));
        tokio::select! {
            _ = ended => {}
            () = stop.requested() => {}
        }
        if let Some(pid) = self.running() {
            let _ = kill_process_group(pid, Signal::KILL);
            drop(self.exited.wait_for(Option::is_some).await);
        }
    }

    /// The pid of the process, while no other process can have it.
    fn running(&self) -> Option<Pid> {
        self.pid.filter(|_| self.exited.borrow().is_none())
    }
}

fn raw(pid: Option<Pid>) -> i32 {
    pid.map_or(0, |pid| pid.as_raw_nonzero().get())
}

/// The last lines of a log.
pub(super) fn tail(path: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|error| format!("(cannot read {}: {error})", path.display()));
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    last.iter().map(|line| format!("  {line}\n")).collect()
}
