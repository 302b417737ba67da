//! One process of the cluster.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::{
    process::{ChildStdin, Command},
    sync::{mpsc, watch},
    time::timeout,
};

use super::{DevError, Stop};
use wyneos_shell::files;

/// How long a process may take to drain.
const DRAIN: Duration = Duration::from_secs(10);

/// Lines of a log that are shown when its process dies.
const TAIL_LINES: usize = 20;

/// The flag by which a server ends with the program that started it.
pub(super) const EXIT_WITH_STDIN: &str = "--exit-with-stdin";

/// Bytes of a log that are looked at for them.
const TAIL_BYTES: u64 = 16 * 1024;

/// A process of the cluster, in a process group of its own: a Ctrl-C in the terminal does not reach it.
pub(super) struct Child {
    pub(super) name: String,
    log: PathBuf,
    pid: Option<Pid>,
    /// The command that starts it in a terminal.
    again: Vec<String>,
    exited: watch::Receiver<Option<ExitStatus>>,
    /// Its standard input: when this program is gone, however it went, the process reads the end of it and stops.
    _stdin: Option<ChildStdin>,
}

impl Child {
    /// Starts `program` with its files in `directory`; its death is told to `deaths` as `number`.
    pub(super) fn start(
        name: &str,
        program: &Path,
        args: &[String],
        directory: &Path,
        number: usize,
        deaths: &mpsc::UnboundedSender<usize>,
    ) -> Result<Child, DevError> {
        if !program.is_file() {
            return Err(DevError::NoBinary(program.to_owned()));
        }
        // Programs of work pass through an agent's.
        files::make_dir(directory, 0o711).map_err(DevError::system(format!("make {}", directory.display())))?;
        let log = directory.join("log");
        let file = files::create(&log, 0o600).map_err(DevError::system(format!("write {}", log.display())))?;
        let mut command = Command::new(program);
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(file)
            .process_group(0);
        let mut process = command
            .spawn()
            .map_err(DevError::system(format!("start {}", program.display())))?;
        let pid = process.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let stdin = process.stdin.take();
        let (tell, exited) = watch::channel(None);
        let deaths = deaths.clone();
        tokio::spawn(async move {
            let status = process.wait().await.ok();
            tell.send_replace(status);
            // Nobody listens any more while the cluster is drained.
            let _ = deaths.send(number);
        });
        Ok(Child {
            name: name.to_owned(),
            log,
            pid,
            again: once_more(program, args),
            exited,
            _stdin: stdin,
        })
    }

    /// How it died, with the end of its log.
    pub(super) fn died(&self) -> DevError {
        DevError::Died {
            name: self.name.clone(),
            status: self.status(),
            log: tail(&self.log),
        }
    }

    /// The exit status.
    fn status(&self) -> String {
        let status = *self.exited.borrow();
        status.map_or_else(|| "unknown".to_owned(), |status| status.to_string())
    }

    /// A message about its end while the cluster goes on, with the command that starts it again.
    pub(super) fn lost(&self) -> String {
        let words: Vec<String> = self.again.iter().map(|word| quoted(word)).collect();
        format!(
            "{} (pid {}) ended: {}. The cluster goes on without it.\nIts log: {}\nTo start it again, in another terminal:\n  {}",
            self.name,
            self.pid(),
            self.status(),
            self.log.display(),
            words.join(" ")
        )
    }

    /// The process id.
    pub(super) fn pid(&self) -> i32 {
        self.pid.map_or(0, |pid| pid.as_raw_nonzero().get())
    }

    /// Asks it to drain.
    pub(super) fn terminate(&self) {
        if let Some(pid) = self.running() {
            // It may end by itself at this moment.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Waits until it ended; kills its group when that takes too long or `stop` asks again.
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

    /// Its pid, while nobody else can have it.
    fn running(&self) -> Option<Pid> {
        self.pid.filter(|_| self.exited.borrow().is_none())
    }
}

/// The command line of a process, without the tie to this program's life.
fn once_more(program: &Path, args: &[String]) -> Vec<String> {
    let args = args.iter().filter(|arg| *arg != EXIT_WITH_STDIN).cloned();
    std::iter::once(program.display().to_string()).chain(args).collect()
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+[]".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// The last lines of a log.
pub(super) fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<String> {
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
