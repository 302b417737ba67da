//! The process that runs a health check's program inside the instance's namespaces, and ends everything that it started.

use std::{
    ffi::OsString,
    io::{self, Read},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use clap::Args;
use rustix::process::{WaitOptions, WaitStatus, set_child_subreaper};

use super::{held::Place, namespace, own_binary, processes, program::pid_of};

/// Delay between two scans of the remains: the first one, which doubles, and the longest.
const SOON: Duration = Duration::from_millis(1);
const LATER: Duration = Duration::from_secs(1);

/// Command line of a check's runner.
#[derive(Args)]
pub(crate) struct Check {
    /// The instance's directory.
    directory: PathBuf,
    /// Identity of that directory.
    #[arg(long)]
    place: Option<Place>,
    /// The value of the mark in the check's environment.
    #[arg(long)]
    run: Option<String>,
    /// The first process of the instance's namespaces; without it, this runs in the supervisor's.
    #[arg(long)]
    init: Option<i32>,
    /// The program, with its arguments.
    #[arg(last = true, required = true)]
    program: Vec<OsString>,
}

/// Runs a check's program. The exit status becomes this process's: 128 plus the number of a signal that ended it, as in
/// shells.
///
/// The program may run while standard input is open. When that is closed, or the program has ended, everything that it
/// started is killed, and this process ends once nothing is left.
pub(crate) fn check(args: &Check) -> ExitCode {
    match run(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            super::note(&format!("a check cannot be run: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Check) -> io::Result<u8> {
    if let Some(init) = args.init {
        namespace::join_mounts(init)?;
    }
    // Orphans of the program become children of this process: once it has no children, nothing is left.
    set_child_subreaper(rustix::process::Pid::from_raw(1))?;
    let mut command = Command::new(own_binary());
    command.arg("exec").arg(&args.directory);
    command.arg("--parent").arg(std::process::id().to_string());
    if let Some(place) = args.place {
        command.arg("--place").arg(place.to_string());
    }
    if let Some(run) = &args.run {
        command.arg("--run").arg(run);
    }
    command.arg("--").args(&args.program);
    let null = Stdio::null;
    let program = pid_of(&command.stdin(null()).stdout(null()).stderr(null()).spawn()?)?;
    let (over, is_over) = mpsc::channel();
    let ended = over.clone();
    thread::spawn(move || {
        // Nothing is ever sent: this waits for the end.
        drop(io::stdin().read(&mut [0]));
        let _ = over.send(());
    });
    thread::spawn(move || {
        if is_over.recv().is_ok() {
            kill_descendants();
        }
    });
    let mut code = 1;
    // Fails once there is no child.
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::empty()) {
        if pid == program {
            code = code_of(status);
            let _ = ended.send(());
        }
    }
    Ok(code)
}

/// Kills all descendants of this process, repeatedly until this process ends.
fn kill_descendants() -> ! {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let mut wait = SOON;
    loop {
        processes::kill(&processes::descendants(own));
        thread::sleep(wait);
        wait = LATER.min(wait * 2);
    }
}

fn code_of(status: WaitStatus) -> u8 {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}
