//! Exec shim: applies the control group, user and environment, then executes the program.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::Args;
use rustix::process::{Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit, setsid};

use super::{
    Order, PATH,
    held::{Held, Place},
    namespace, processes, tag,
    user::Identity,
    with_ports,
};

/// Command line of the exec shim.
#[derive(Args)]
pub(crate) struct Exec {
    /// The instance's directory.
    directory: PathBuf,
    /// Identity of that directory, as DEVICE:NUMBER: a different one with its name is refused.
    #[arg(long)]
    place: Option<Place>,
    /// The run of a check, which is put into the environment.
    #[arg(long)]
    run: Option<String>,
    /// The process whose end also ends this one: without namespaces, and for checks.
    #[arg(long)]
    parent: Option<i32>,
    /// The first process of the instance's namespaces, whose end is the end of everything in them.
    #[arg(long)]
    init: Option<i32>,
    /// A program other than the instance's, with its arguments.
    #[arg(last = true)]
    program: Vec<OsString>,
}

/// Becomes the program. Returns only if that fails; the reason is written to the original standard input, which is
/// closed once the program runs.
pub(crate) fn exec(args: &Exec) -> ExitCode {
    let Ok(told) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3) else {
        return ExitCode::FAILURE;
    };
    let reason = match become_program(args) {
        Ok(never) => match never {},
        Err(reason) => reason,
    };
    // Otherwise the reader is gone.
    drop(File::from(told).write_all(reason.as_bytes()));
    ExitCode::FAILURE
}

fn become_program(args: &Exec) -> Result<std::convert::Infallible, String> {
    let cannot = |what: &'static str| move |error: io::Error| format!("cannot {what}: {error}");
    let null = File::open("/dev/null").map_err(cannot("open /dev/null"))?;
    rustix::stdio::dup2_stdin(&null).map_err(|error| cannot("close standard input")(error.into()))?;
    setsid().map_err(|error| cannot("begin a session")(error.into()))?;
    let open = || Held::open(&args.directory, args.place).map_err(|error| error.to_string());
    let mut held = open()?;
    let order = held.home().read_order().map_err(cannot("read its order"))?;
    let spec = &order.assigned.spec;
    // Before it joins the group: resources of the host's name service are not the instance's.
    let user = match args.program.is_empty() {
        true => Identity::of_program(&held, &spec.user)?,
        false => Identity::of_check(&held, &spec.user)?,
    };
    if let Some(group) = &order.group {
        // Before the change of the user, who is not permitted to.
        group.join().map_err(cannot("join its control group"))?;
    }
    if spec.limits.nofile > 0 {
        let limit = Some(u64::from(spec.limits.nofile));
        let (current, maximum) = (limit, limit);
        // Before the change of the user, who may not raise it.
        setrlimit(Resource::Nofile, Rlimit { current, maximum })
            .map_err(|error| cannot("set limits.nofile")(error.into()))?;
    }
    if let Some(init) = args.init {
        // After the control group, whose files may not be visible there.
        namespace::join_mounts(init).map_err(cannot("join its mount namespace"))?;
        // The held directory is the host's: its parent leads past what the instance must not see.
        held = open()?;
    }
    if args.program.is_empty() {
        user.own(&held.home().work())?;
    }
    let work = Place::at(&held.home().work()).map_err(cannot("find its directory"))?;
    user.become_it()?;
    match spec.directory.as_str() {
        "" => {
            user.enter(&held.name().join("work"))?;
            if Place::at(Path::new(".")).ok() != Some(work) {
                return Err("its directory was moved as it was to be started in it".to_owned());
            }
        }
        directory => user.enter(&PathBuf::from(directory))?,
    }
    if let Some(parent) = args.parent {
        // After the change of the user, which would reset this.
        set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(|error| cannot("bind it to its supervisor")(error.into()))?;
        if getppid().is_none_or(|now| now.as_raw_pid() != parent) {
            return Err("its supervisor is gone".to_owned());
        }
    }
    // The program has the usual umask of a login, however strict this process is about its own files.
    wyneos_shell::files::set_umask(0o022);
    let mut command = program(&held, &order, args);
    let error = command.exec();
    let shown = command.get_program().to_string_lossy().into_owned();
    Err(match error.kind() {
        io::ErrorKind::NotFound => format!("{shown}: there is no such program"),
        io::ErrorKind::PermissionDenied => {
            let user = user.name();
            format!("{shown}: is not executable, or the user {user:?} may not execute or reach it")
        }
        _ => format!("{shown}: {error}"),
    })
}

fn program(held: &Held, order: &Order, args: &Exec) -> Command {
    let spec = &order.assigned.spec;
    let filled = |text: &str| with_ports(text, &spec.ports, &order.ports);
    let mut command = match args.program.as_slice() {
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
        .envs(spec.env.iter().map(|(name, value)| (name, filled(value.reveal()))))
        // After the declared variables, which never replace them.
        .env("WYNEOS_ASSIGNMENT", id.to_string())
        .env("WYNEOS_WORKLOAD", &spec.name)
        .env("WYNEOS_SLOT", order.assigned.slot.to_string())
        .env("WYNEOS_NODE", &order.node)
        // Of two instances the later one has the higher number: storage that a singleton writes to can refuse the older
        // one.
        .env("WYNEOS_FENCE", id.0.to_string())
        .env(processes::DIRECTORY, held.name().join("work"))
        .env(processes::PLACE, held.place().to_string());
    if let Some(run) = &args.run {
        command.env(tag::CHECK, run);
    }
    for (name, port) in spec.ports.iter().zip(&order.ports) {
        command.env(format!("PORT_{name}"), port.to_string());
    }
    command
}
