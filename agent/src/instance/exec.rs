//! What becomes the program: a process of this binary that takes on what the program is to have, and then its place.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::Args;
use rustix::{
    fs::{Gid, Uid},
    process::{Signal, geteuid, getppid, set_parent_process_death_signal, setsid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use wyneos_core::workload::Spec;

use super::{Home, Order, processes, with_ports};

/// What a program finds where nothing else is said.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Command line of the step between.
#[derive(Args)]
pub(crate) struct Exec {
    /// The instance's directory.
    directory: PathBuf,
    /// The process whose end is to be this one's, too.
    #[arg(long)]
    parent: i32,
    /// Another program than the instance's, with its arguments.
    #[arg(last = true)]
    program: Vec<OsString>,
}

/// Becomes the program. Only what keeps it from that returns; it is written to what was standard input, which is closed once the
/// program runs.
pub(crate) fn exec(args: &Exec) -> ExitCode {
    let Ok(told) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3) else {
        return ExitCode::FAILURE;
    };
    let reason = match become_program(args) {
        Ok(never) => match never {},
        Err(reason) => reason,
    };
    // Whoever would read it is gone otherwise.
    drop(File::from(told).write_all(reason.as_bytes()));
    ExitCode::FAILURE
}

fn become_program(args: &Exec) -> Result<std::convert::Infallible, String> {
    let cannot = |what: &'static str| move |error: io::Error| format!("cannot {what}: {error}");
    let null = File::open("/dev/null").map_err(cannot("open /dev/null"))?;
    rustix::stdio::dup2_stdin(&null).map_err(|error| cannot("close standard input")(error.into()))?;
    setsid().map_err(|error| cannot("begin a session")(error.into()))?;
    let home = Home(args.directory.clone());
    let order = home.read_order().map_err(cannot("read its order"))?;
    if let Some(group) = &order.group {
        // Before the change of the user, who may not.
        group.join().map_err(cannot("join its control group"))?;
    }
    let directory = match order.assigned.spec.directory.as_str() {
        "" => home.work(),
        directory => PathBuf::from(directory),
    };
    std::env::set_current_dir(&directory).map_err(|error| format!("cannot enter {}: {error}", directory.display()))?;
    become_user(&order.assigned.spec)?;
    // Behind the change of the user, which would take this back.
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| cannot("bind it to its supervisor")(error.into()))?;
    if getppid().is_none_or(|parent| parent.as_raw_pid() != args.parent) {
        return Err("its supervisor is gone".to_owned());
    }
    let mut command = program(&home, &order, &args.program);
    let error = command.exec();
    let shown = command.get_program().to_string_lossy().into_owned();
    Err(match error.kind() {
        io::ErrorKind::NotFound => format!("{shown}: there is no such program"),
        io::ErrorKind::PermissionDenied => format!("{shown}: is not executable, or may not be executed"),
        _ => format!("{shown}: {error}"),
    })
}

/// Takes on the user that the declaration names, if it is another one. This process has one thread.
fn become_user(spec: &Spec) -> Result<(), String> {
    if spec.user.is_empty() {
        return Ok(());
    }
    let (uid, gid) = find_user(&spec.user)?;
    if uid == geteuid().as_raw() {
        return Ok(());
    }
    if spec.directory.is_empty() {
        // Its own directory is its own.
        let _ = std::os::unix::fs::chown(".", Some(uid), Some(gid));
    }
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let change = || {
        set_thread_groups(&[group])?;
        set_thread_res_gid(group, group, group)?;
        set_thread_res_uid(user, user, user)
    };
    change().map_err(|error: rustix::io::Errno| format!("cannot run as {:?}: the agent may not ({error})", spec.user))
}

fn program(home: &Home, order: &Order, instead: &[OsString]) -> Command {
    let spec = &order.assigned.spec;
    let filled = |text: &str| with_ports(text, &spec.ports, &order.ports);
    let mut command = match instead {
        [] => {
            let mut command = Command::new(filled(&spec.command));
            command.args(spec.args.iter().map(|arg| filled(arg)));
            command
        }
        [program, args @ ..] => {
            let mut command = Command::new(program);
            command.args(args);
            command
        }
    };
    let id = order.assigned.id;
    command
        .env_clear()
        .env("PATH", PATH)
        .env("WYNEOS_ASSIGNMENT", id.to_string())
        .env("WYNEOS_WORKLOAD", &spec.name)
        .env("WYNEOS_SLOT", order.assigned.slot.to_string())
        .env("WYNEOS_NODE", &order.node)
        // Of two instances the later one has the higher: what a singleton writes to can refuse the older.
        .env("WYNEOS_FENCE", id.0.to_string());
    for (name, port) in spec.ports.iter().zip(&order.ports) {
        command.env(format!("PORT_{name}"), port.to_string());
    }
    command.envs(spec.env.iter().map(|(name, value)| (name, filled(value))));
    command.env(processes::MARK, &home.0);
    command
}

/// A user's id and group, by name or number.
fn find_user(name: &str) -> Result<(u32, u32), String> {
    let all =
        fs::read_to_string(Path::new("/etc/passwd")).map_err(|error| format!("cannot read /etc/passwd: {error}"))?;
    let number = name.parse::<u32>().ok();
    for line in all.lines() {
        let mut fields = line.split(':');
        let (user, uid, gid) = (fields.next(), fields.nth(1), fields.next());
        let (Some(uid), Some(gid)) = (
            uid.and_then(|uid| uid.parse().ok()),
            gid.and_then(|gid| gid.parse().ok()),
        ) else {
            continue;
        };
        if user == Some(name) || number == Some(uid) {
            return Ok((uid, gid));
        }
    }
    number
        .map(|number| (number, number))
        .ok_or_else(|| format!("there is no user {name:?} on this host"))
}
