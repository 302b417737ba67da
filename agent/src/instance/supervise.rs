//! The supervisor: a separate process for one instance, which continues when its agent ends and is found by the next
//! one.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    os::{fd::OwnedFd, unix::net::UnixStream as Pair},
    path::PathBuf,
    process::{ExitCode, Stdio},
    time::Duration,
};

use clap::Args;
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, set_child_subreaper, setsid};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use wyneos_core::{
    id::NodeId,
    supervisor::{DEADLINE, Effect, Input, Supervisor},
    time::Time,
    workload::{Exit, LastLine, Status, log::Stream},
};
use wyneos_shell::clock::Clock;

use super::{
    Kept, Order, Told,
    attend::attend,
    boot_time, cgroup,
    deadline::Deadline,
    held::{Held, Place},
    logs,
    namespace::{First, Namespace},
    note, note_soon, own_binary,
    premises::Premises,
    processes,
    program::{become_known, keep, last_line, pid_of},
    record,
    stuck::Waits,
    trace,
};

mod checking;

use checking::Checking;

/// Maximum sleep, after which a suspend of the host, or a change of the clock, is detected.
const IDLE: Duration = Duration::from_secs(1);

/// Time for connected agents to read the last status.
const FAREWELL: Duration = Duration::from_millis(50);

/// Time for which an ephemeral supervisor continues after its agent is gone.
const ORPHANED: Duration = Duration::from_secs(5);

/// Maximum number of facts that wait for the supervisor's logic.
const INPUTS: usize = 64;

/// Command line of a supervisor.
#[derive(Args)]
pub(crate) struct Supervise {
    /// The instance's directory.
    directory: PathBuf,
    /// Identity of that directory, as DEVICE:NUMBER: a different one with its name is refused.
    #[arg(long)]
    place: Option<Place>,
    /// The node that the instance was assigned to.
    #[arg(long)]
    node: Option<NodeId>,
    /// Whether its host ended it, and its agent starts it again without a coordinator.
    #[arg(long)]
    again: bool,
}

/// Runs a supervisor until its instance has ended permanently.
pub(crate) fn supervise(args: &Supervise) -> ExitCode {
    // The agent no longer waits for it, and its terminal's signals do not concern it.
    let _ = setsid();
    let result = Held::open(&args.directory, args.place).and_then(|held| {
        // Nothing is accessed relative to its agent's directory.
        std::env::set_current_dir("/")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(run(held, args.node, args.again))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

pub(super) enum Happened {
    Fact(Input),
    /// The program runs, or has failed to start.
    Known(Input),
    Told(Told),
    /// Nothing that the instance started is left; with the last line of its standard error.
    Cleared(String),
    /// An agent is connected, or none any more.
    Attended(bool),
    /// Nothing is left of a check whose runner was killed.
    Swept(usize),
}

struct Process {
    order: Order,
    core: Supervisor,
    clock: Clock,
    sender: mpsc::Sender<Happened>,
    status: watch::Sender<Status>,
    /// The namespaces of the present life, if the node can contain instances, until nothing of them is left.
    namespace: Option<Namespace>,
    /// Reports the processes that delay their end.
    watching: Option<tokio::task::JoinHandle<()>>,
    /// The time at which the kernel ends a singleton whose supervisor does not.
    deadline: Deadline,
    /// The program's process, while it exists.
    main: Option<Pid>,
    /// Whether the start of the program is still unconfirmed.
    starting: bool,
    /// Exit of the program in the meantime.
    early: Option<Exit>,
    /// Runners of checks' programs.
    checking: HashMap<Pid, Checking>,
    /// Checks with remaining processes, whose runners are gone.
    left: BTreeSet<usize>,
    /// Number of runs of checks so far.
    runs: u64,
    /// Number of processes of its group that the kernel had killed for lack of memory at the last check.
    out_of_memory: u64,
    clearing: bool,
    /// The last line that the present program wrote to its standard error.
    stderr: Option<watch::Receiver<LastLine>>,
    premises: Premises,
}

async fn run(held: Held, node: Option<NodeId>, again: bool) -> io::Result<()> {
    let Some((mut premises, listener)) = Premises::take(held).await? else {
        return Err(io::Error::other("another supervisor has this instance"));
    };
    let home = premises.within();
    set_child_subreaper(rustix::process::Pid::from_raw(1))?;
    let order = home.read_order()?;
    if let (Some(node), Some(of)) = (node, order.of)
        && node != of
    {
        return Err(io::Error::other(format!(
            "its order is for node {of}, and not for {node}"
        )));
    }
    home.begin()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot record that it begins: {error}")))?;
    home.write_first(None)?;
    trace::make_room(&home)?;
    premises.remember(&order)?;
    let clock = Clock::default();
    let mut core = Supervisor::new(boot_time(), clock.wall(), &order.assigned, order.ports.clone());
    if let (true, Kept::Read(before)) = (again, home.kept_status()) {
        core = core.resumed(&before);
    }
    // Before anything runs: a recorded instance is not started a second time.
    if let Err(error) = premises.within().write_status(core.status()) {
        note(&format!("cannot write the status: {error}"));
    }
    let (sender, mut happened) = mpsc::channel(INPUTS);
    let (status, news) = watch::channel(core.status().clone());
    let (tell, told) = watch::channel(core.status().clone());
    let mut kept = tokio::spawn(record::keep(premises.within(), news, tell));
    let mut answering = tokio::spawn(attend(listener, told.clone(), sender.clone()));
    let mut children = signal(SignalKind::child())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut process = Process {
        order,
        core,
        clock,
        sender,
        status,
        namespace: None,
        watching: None,
        deadline: Deadline::default(),
        main: None,
        starting: false,
        early: None,
        checking: HashMap::new(),
        left: BTreeSet::new(),
        runs: 0,
        out_of_memory: 0,
        clearing: false,
        stderr: None,
        premises,
    };
    let mut agents = 0u32;
    let mut alone_since = Instant::now();
    let mut looked = Instant::now();
    process.effects();
    loop {
        let now = boot_time();
        let due = process.core.poll_timeout().map_or(IDLE, |due| due.since(now).min(IDLE));
        tokio::select! {
            biased;
            _ = children.recv() => process.reap(),
            // It has ended, and that is on the disk.
            _ = &mut kept => break,
            Some(happened) = happened.recv() => match happened {
                Happened::Known(input) => process.known(input),
                Happened::Fact(input) => process.core.handle(boot_time(), input),
                Happened::Told(Told::Stop { reason }) => process.core.handle(boot_time(), Input::Stop { reason }),
                Happened::Told(Told::Lease { until }) => process.lease(Time(until)),
                Happened::Cleared(line) => {
                    process.clearing = false;
                    process.core.handle(boot_time(), Input::Wrote(line));
                    process.core.handle(boot_time(), Input::Cleared);
                }
                Happened::Swept(check) => drop(process.left.remove(&check)),
                Happened::Attended(true) => agents += 1,
                Happened::Attended(false) => (agents, alone_since) = (agents.saturating_sub(1), Instant::now()),
            },
            _ = terminate.recv() => {
                let reason = "its supervisor was told to end".to_owned();
                process.core.handle(boot_time(), Input::Quit { reason });
            }
            () = sleep_until(Instant::now() + due) => {}
        }
        if process.order.ephemeral && agents == 0 && alone_since.elapsed() >= ORPHANED {
            let reason = "its agent is gone".to_owned();
            process.core.handle(boot_time(), Input::Quit { reason });
        }
        if looked.elapsed() >= IDLE {
            looked = Instant::now();
            process.look_for_kills();
            match process.premises.keep(note_soon) {
                Ok(None) => {}
                Ok(Some(listener)) => {
                    // Existing connections continue.
                    answering.abort();
                    answering = tokio::spawn(attend(listener, told.clone(), process.sender.clone()));
                }
                Err(lost) => {
                    let reason = lost.reason().to_owned();
                    process.core.handle(boot_time(), Input::Lost { reason });
                }
            }
        }
        let wall = process.clock.wall();
        process.core.handle(boot_time(), Input::WallClock(wall));
        process.core.handle_timeout(boot_time());
        process.effects();
    }
    let group = process.order.group.as_ref().filter(|_| process.premises.has_its_name());
    if let Some(Err(error)) = group.map(cgroup::Group::end) {
        note(&format!("cannot remove its control group: {error}"));
    }
    process.premises.leave();
    // Connected clients get the last status before the end.
    tokio::time::sleep(FAREWELL).await;
    Ok(())
}

impl Process {
    fn effects(&mut self) {
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Spawn => self.spawn(),
                Effect::Signal(signal) => self.signal(signal),
                Effect::Clear => self.clear(),
                Effect::Check(check) => self.check(check),
                Effect::Changed => self.tell(),
                Effect::Ended => {
                    self.deadline.lift();
                    self.tell();
                }
            }
        }
    }

    /// Recorded first, and then reported: see [`record`].
    fn tell(&self) {
        let status = self.core.status();
        self.status.send_if_modified(|kept| {
            let news = kept != status;
            kept.clone_from(status);
            news
        });
    }

    /// Extends a singleton's lease. The logic ends it a margin before; if this process was stopped, or hangs, the
    /// kernel ends it a little later, and with it everything that it started: a host under load needs a moment for
    /// that.
    fn lease(&mut self, until: Time) {
        if self.order.assigned.spec.singleton
            && let Err(error) = self.deadline.extend(until - DEADLINE)
        {
            let reason = format!("the kernel accepts no deadline for it: {error}");
            self.core.handle(boot_time(), Input::Quit { reason });
            return;
        }
        self.core.handle(boot_time(), Input::Lease(until));
    }

    fn spawn(&mut self) {
        match self.try_spawn() {
            Ok(pid) => (self.main, self.starting) = (Some(pid), true),
            Err(error) => {
                self.end_namespace();
                let reason = error.to_string();
                self.core.handle(boot_time(), Input::NotStarted { reason });
            }
        }
    }

    fn try_spawn(&mut self) -> io::Result<Pid> {
        if let Some(group) = &self.order.group {
            group.make(&self.order.assigned.spec)?;
            self.out_of_memory = group.out_of_memory();
        }
        let home = self.premises.within();
        let logs = home.logs();
        home.make_logs()?;
        let life = logs::next_life(&logs);
        if self.order.contained {
            let name = self.premises.name()?;
            let namespace = Namespace::make(Some((&name, self.premises.place())))?;
            // Before any other process is in them: later processes must know what to wait for.
            let first = First::of(namespace.init(), &home.0);
            self.namespace = Some(namespace);
            home.write_first(Some(&first?))
                .map_err(|error| cannot("record the first process", error))?;
        }
        trace::starts(&home).map_err(|error| cannot("record the start of its program", error))?;
        let (ours, theirs) = Pair::pair()?;
        let mut command = self.step_between("exec")?;
        if self.namespace.is_none() {
            command.arg("--parent").arg(std::process::id().to_string());
        }
        command.stdin(OwnedFd::from(theirs));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.start(&mut command)?;
        // It holds the other end of the pair.
        drop(command);
        if let Some(namespace) = &self.namespace
            && let Err(error) = namespace.watch(child.id())
        {
            note_soon(&format!(
                "its first process cannot be told to watch the program: {error}"
            ));
        }
        if let Some(stdout) = child.stdout.take() {
            keep(stdout.into(), logs::Writer::new(&logs, Stream::Stdout, life))?;
        }
        if let Some(stderr) = child.stderr.take() {
            self.stderr = Some(keep(stderr.into(), logs::Writer::new(&logs, Stream::Stderr, life))?);
        }
        tokio::spawn(become_known(ours, child.id(), self.sender.clone()));
        // It is reaped with the other children of this process.
        pid_of(&child)
    }

    fn signal(&self, number: i32) {
        let signal = Signal::from_named_raw(number);
        if let (Some(pid), Some(signal)) = (self.main, signal) {
            // It may have ended by itself.
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Kills the remains, repeatedly until nothing is left.
    fn clear(&mut self) {
        if std::mem::replace(&mut self.clearing, true) {
            return;
        }
        match self.namespace {
            // Continues when the first process is reaped: nothing is left of the namespaces then.
            Some(_) => {
                self.end_namespace();
                self.watch_namespace();
            }
            None => self.clear_rest(),
        }
    }

    fn end_namespace(&self) {
        if let Some(namespace) = &self.namespace {
            namespace.kill();
        }
    }

    /// Reports the processes that delay the end of the namespaces, for as long as they do.
    fn watch_namespace(&mut self) {
        let Some(init) = self.namespace.as_ref().map(|namespace| namespace.init().as_raw_pid()) else {
            return;
        };
        let (sender, own) = (self.sender.clone(), i32::try_from(std::process::id()).unwrap_or(0));
        let watch = tokio::spawn(async move {
            let mut waits = Waits::new();
            tokio::time::sleep(IDLE).await;
            loop {
                let mut left = processes::descendants(own);
                // The first process waits for the others, and ends with them; unless a stalled disk blocks it.
                left.retain(|pid| *pid != init);
                processes::kill(&left);
                if let Some(what) = waits.news(&left) {
                    note_soon(&what);
                    drop(sender.send(Happened::Fact(Input::Stuck { what })).await);
                }
                waits.wait(&left).await;
            }
        });
        if let Some(before) = self.watching.replace(watch) {
            before.abort();
        }
    }

    /// Processes outside the namespace: with one, only those that other programs of the host started on the instance's
    /// behalf. Without one, all processes that the program started descend from this process, which adopts orphans; the
    /// instance's mark alone proves nothing.
    fn clear_rest(&mut self) {
        let stderr = self.stderr.take();
        let contained = self.order.contained;
        let (sender, own) = (self.sender.clone(), std::process::id());
        // Objects that are identified by a name belong to another instance if the name does.
        let group = self.order.group.clone().filter(|_| self.premises.has_its_name());
        tokio::spawn(async move {
            let mut waits = Waits::new();
            loop {
                let mut left = Vec::new();
                if !contained {
                    left.extend(processes::descendants(i32::try_from(own).unwrap_or(0)));
                }
                left.extend(group.iter().flat_map(cgroup::Group::kill));
                left.sort_unstable();
                left.dedup();
                if !processes::kill(&left) {
                    break;
                }
                if let Some(what) = waits.news(&left) {
                    note_soon(&what);
                    drop(sender.send(Happened::Fact(Input::Stuck { what })).await);
                }
                waits.wait(&left).await;
            }
            let line = match stderr {
                Some(stderr) => last_line(stderr).await,
                None => String::new(),
            };
            drop(sender.send(Happened::Cleared(line)).await);
        });
    }

    /// The exec shim of a program: a process of this binary with the identity of the instance.
    fn step_between(&self, step: &str) -> io::Result<std::process::Command> {
        let mut command = std::process::Command::new(own_binary());
        command.arg(step).arg(self.premises.name()?);
        command.arg("--place").arg(self.premises.place().to_string());
        if let Some(namespace) = &self.namespace {
            command.arg("--init").arg(namespace.init().as_raw_pid().to_string());
        }
        Ok(command)
    }

    fn start(&self, command: &mut std::process::Command) -> io::Result<std::process::Child> {
        match &self.namespace {
            Some(namespace) => namespace.spawn(command),
            None => command.spawn(),
        }
    }

    /// Collects children that ended: the program, a check's, and their orphans.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let exit = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, Some(signal)) => Exit::Signal(signal),
                (None, None) => continue,
            };
            if self.namespace.as_ref().is_some_and(|namespace| namespace.init() == pid) {
                self.namespace = None;
                if let Some(watch) = self.watching.take() {
                    watch.abort();
                }
                if self.clearing {
                    self.clear_rest();
                }
            }
            if let Some(Checking { check, waiting, tag }) = self.checking.remove(&pid) {
                // A runner that ends by itself has ended the rest.
                if let Exit::Signal(_) = exit {
                    self.sweep(check, tag);
                }
                // The check may have been given up.
                let _ = waiting.send(exit);
            }
            if self.main == Some(pid) {
                self.main = None;
                // Immediately: this process may be killed before the status is on the disk.
                let home = self.premises.within();
                let write = move || {
                    if let Err(error) = trace::ended(&home, exit) {
                        note(&format!("cannot record how its program ended: {error}"));
                    }
                };
                // A stalled disk is not waited for.
                drop(tokio::task::spawn_blocking(write));
                match self.starting {
                    // Whether it was the program, or the exec shim, is known in a moment.
                    true => self.early = Some(exit),
                    false => self.exited(exit),
                }
            }
        }
    }

    /// Handles the report that the program runs, or has failed to start.
    fn known(&mut self, input: Input) {
        self.starting = false;
        let early = self.early.take();
        let started = matches!(input, Input::Started { .. });
        if !started {
            // The exec shim ends by itself; that is not the end of the program.
            self.main = None;
            self.end_namespace();
        }
        self.core.handle(boot_time(), input);
        if let Some(exit) = early.filter(|_| started) {
            self.exited(exit);
        }
    }

    fn exited(&mut self, exit: Exit) {
        self.look_for_kills();
        self.core.handle(boot_time(), Input::Exited(exit));
    }
}

impl Process {
    /// Checks whether the kernel has killed its processes for lack of memory since the last check. The first process
    /// may continue without them.
    fn look_for_kills(&mut self) {
        let Some(group) = &self.order.group else { return };
        let killed = group.out_of_memory();
        let kills = killed.saturating_sub(self.out_of_memory);
        if kills > 0 {
            self.out_of_memory = killed;
            let kills = u32::try_from(kills).unwrap_or(u32::MAX);
            self.core.handle(boot_time(), Input::OutOfMemory { kills });
        }
    }
}

fn cannot(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what}: {error}"))
}
