//! The conversation of the agent and one supervisor, and the handling of a supervisor that is gone or unreachable.

use std::{
    io,
    path::PathBuf,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    runtime::Handle,
    sync::{Semaphore, mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use wyneos_core::{
    agent::Input,
    workload::{AssignmentId, Phase, Status},
};

use super::{
    Begun, Kept, Told,
    begin::{not_started, start},
    bury::bury,
    cgroup::Group,
    disk::Disk,
    guard::{ANSWER, falls_silent, guard, insist},
    held::Located,
    namespace,
    patience::awake,
    places::{supervised_by, supervisors_of},
    premises::{Holder, Incumbent, holder, holder_by_process, is_elsewhere},
    stuck, trace,
};
use crate::driver::ToAgent;

/// The first delay between two attempts to reach a supervisor, for as long as one may take to start; then it doubles,
/// up to the longest.
const AGAIN: Duration = Duration::from_millis(20);
const AGAIN_MOST: Duration = Duration::from_secs(1);

/// Time limit for a started supervisor to be reachable, and for an unreadable state file to become readable.
pub(super) const STARTING: Duration = Duration::from_secs(10);

/// Wait for a missing lock: a live supervisor recreates it.
const LOCKLESS: Duration = Duration::from_secs(3);

/// Time after which an unreachable live supervisor is reported; and, beyond the grace of its program, after which it is
/// ended.
const TOLD_AFTER: Duration = Duration::from_secs(3);
const ENDED_AFTER: Duration = Duration::from_secs(15);

/// Factor of that time for a supervisor that waits for a processor or a disk, which would answer if its host permitted
/// it.
const HELD_UP: u32 = 4;

/// Duration of a conversation that ends an outage. A conversation that ends immediately does not.
const LASTING: Duration = Duration::from_secs(1);

/// The orders that a supervisor must receive whenever it can be reached.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) stop: Option<String>,
    pub(super) lease: Option<u64>,
}

/// The task that manages one instance.
pub(super) struct Attendance {
    pub(super) id: AssignmentId,
    /// Directory of the instance, through which alone all operations on it are done.
    pub(super) located: Located,
    /// The directory of all instances.
    pub(super) directory: PathBuf,
    /// The list of begun instances.
    pub(super) list: Arc<Begun>,
    /// Whether an earlier agent had begun it, or may have: its missing parts were lost.
    pub(super) begun: bool,
    /// Whether the lease of the instance is watched.
    pub(super) singleton: bool,
    /// The grace period of the program.
    pub(super) grace: Duration,
    /// Whether it runs once; unknown if its order cannot be read.
    pub(super) batch: Option<bool>,
    /// Whether it has its own namespaces, by which the kernel ends it; unknown if its order cannot be read.
    pub(super) contained: Option<bool>,
    /// The instance's control group, if its name is one of this agent's.
    pub(super) group: Option<Group>,
    pub(super) told: watch::Receiver<Wanted>,
    /// Whether the coordinator has welcomed this agent.
    pub(super) welcomed: watch::Receiver<bool>,
    /// Whether a coordinator refused this agent.
    pub(super) refused: watch::Receiver<bool>,
    /// Time from which it is started again without a coordinator, if its host ended it; `None` for never.
    pub(super) alone_from: Option<Instant>,
    /// Bounds the simultaneous scans of all processes.
    pub(super) looks: Arc<Semaphore>,
    pub(super) disk: Disk,
    pub(super) driver: mpsc::Sender<ToAgent>,
}

/// The authority that decides about an instance that its host ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The coordinator, which has welcomed this agent.
    Coordinators,
    /// None: there was no coordinator for long enough, and the instance is started again.
    Nobodys,
}

impl Attendance {
    /// Waits for the coordinator's welcome, for as long as the instance does; `None` when the agent ends.
    pub(super) async fn welcome(&mut self, may_start: bool) -> Option<Word> {
        let (alone, refused) = (self.alone_from.filter(|_| may_start), &self.refused);
        let waits = async {
            match alone {
                Some(from) => sleep_until(from).await,
                None => std::future::pending().await,
            }
            // A refusal is an answer, and the coordinator decides.
            if *refused.borrow() {
                std::future::pending().await
            }
        };
        tokio::select! {
            biased;
            welcomed = self.welcomed.wait_for(|welcomed| *welcomed) => welcomed.ok().map(|_| Word::Coordinators),
            () = waits => Some(Word::Nobodys),
        }
    }

    /// Reports the instance's status to the agent's logic.
    pub(super) async fn say(&self, status: Status) -> bool {
        let id = self.id;
        let sent = self.driver.send(ToAgent::Fact(Input::Instance { id, status })).await;
        sent.is_ok()
    }

    /// The last status in the instance's directory; missing if the directory is missing.
    pub(super) async fn kept_status(&self) -> Kept<Status> {
        let located = self.located.clone();
        let look = move || match located.enter() {
            Ok(held) => held.home().kept_status(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::Missing,
            Err(error) => Kept::Unreadable(error, true),
        };
        let looked = self.disk.run(look).await;
        looked.unwrap_or_else(|error| Kept::Unreadable(error, true))
    }

    /// The instance's supervisors, wherever they are.
    pub(super) fn supervisors(&self) -> impl FnOnce() -> Vec<i32> + Send + use<> {
        let (directory, id) = (self.directory.clone(), self.id);
        move || supervisors_of(&directory, id)
    }
}

/// The means to reach one instance's supervisor, and the known state of it; clones share them.
#[derive(Clone)]
pub(super) struct Reach {
    pub(super) located: Located,
    pub(super) disk: Disk,
    pub(super) seen: Arc<Seen>,
}

/// Known state of an instance's supervisor.
#[derive(Default)]
pub(super) struct Seen {
    /// Whether it has sent something to this agent.
    pub(super) heard: AtomicBool,
    /// Whether a connection to it is being made: if that takes long, the disk delays it.
    pub(super) connecting: AtomicBool,
    /// The process that answered last.
    process: Mutex<Option<Incumbent>>,
    /// The reason for which this agent killed it.
    cause: Mutex<Option<String>>,
}

impl Seen {
    /// The process that answered last, if it lives.
    pub(super) fn process(&self) -> Option<Incumbent> {
        let process = *self.process.lock().unwrap_or_else(PoisonError::into_inner);
        process.filter(|process| process.lives())
    }

    /// Records why the supervisor was killed; true for the first time.
    pub(super) fn killed_for(&self, cause: String) -> bool {
        let mut known = self.cause.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = known.is_none();
        known.get_or_insert(cause);
        is_first
    }

    fn cause(&self) -> Option<String> {
        self.cause.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Reach {
    /// The process that holds the instance's directory: according to its lock, or because it answered once and lives.
    /// If the lock cannot be examined, for the returned reason, the processes of this host are searched.
    pub(super) async fn holder(&self) -> (Holder, Option<io::Error>) {
        let (located, seen) = (self.located.clone(), Arc::clone(&self.seen));
        let look = move || holder_of(&located, seen.process());
        let looked = self.disk.run(look).await;
        looked.unwrap_or_else(|error| (Holder::Unknown, Some(error)))
    }

    /// The process that holds the instance's directory, from the processes of this host.
    async fn holder_by_process(&self) -> io::Result<Holder> {
        let located = self.located.clone();
        self.disk.run(move || by_process(&located)).await
    }

    /// Checks whether the program of a supervisor has ended without the supervisor's having collected it.
    pub(super) async fn look_at_program(&self, supervisor: i32) {
        let located = self.located.clone();
        drop(self.disk.run(move || trace::look(&located, supervisor)).await);
    }
}

fn holder_of(located: &Located, alive: Option<Incumbent>) -> (Holder, Option<io::Error>) {
    let looked = match located.enter() {
        Ok(held) => holder(&held.home()),
        // The object with its name is not queried.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Holder::Unknown),
        Err(error) => Err(error),
    };
    match (looked, alive) {
        (Ok(Holder::Supervisor(named)), alive) => (Holder::Supervisor(named.or(alive)), None),
        (looked, Some(alive)) => (Holder::Supervisor(Some(alive)), looked.err()),
        (Ok(without), None) => (without, None),
        (Err(error), None) => (by_process(located), Some(error)),
    }
}

fn by_process(located: &Located) -> Holder {
    let holder = |place| holder_by_process(located.id(), place);
    located.place().map_or(Holder::Nobody, holder)
}

/// Passes messages between a supervisor and the agent, until the instance has ended, and ends a supervisor that does
/// not respond.
pub(super) async fn attend(mut attendance: Attendance) {
    let reach = Reach {
        located: attendance.located.clone(),
        disk: attendance.disk.clone(),
        seen: Arc::default(),
    };
    let singleton = attendance.singleton;
    let (lease, stop) = (attendance.told.clone(), attendance.told.clone());
    tokio::select! {
        () = converse(&mut attendance, &reach) => {}
        () = guard(&reach, lease), if singleton => {}
        () = insist(&reach, stop) => {}
    }
}

/// A period in which a supervisor cannot be reached.
struct Outage {
    /// Time for which the agent itself has waited: time in which it, its disk or its host was stalled does not count.
    waited: Duration,
    wait: Duration,
    told: bool,
    /// Number of attempts to kill it for that.
    kills: u32,
}

impl Outage {
    fn new() -> Outage {
        Outage {
            waited: Duration::ZERO,
            wait: AGAIN,
            told: false,
            kills: 0,
        }
    }

    async fn wait(&mut self) {
        sleep(self.wait).await;
        self.waited += self.wait;
        if self.waited > STARTING / 4 {
            self.wait = (self.wait * 2).min(AGAIN_MOST);
        }
    }
}

async fn converse(attendance: &mut Attendance, reach: &Reach) {
    let mut outage = Outage::new();
    let mut last = None;
    let mut why = None;
    // Status when it was started again, until its new supervisor reports another one.
    let mut again: Option<Status> = None;
    loop {
        reach.seen.connecting.store(true, Ordering::Relaxed);
        let connected = connect(reach).await;
        reach.seen.connecting.store(false, Ordering::Relaxed);
        let failure = match connected {
            Ok(stream) => {
                let (before, began) = (last.clone(), Instant::now());
                let silence = match pass_on(attendance, stream, reach, &mut last).await {
                    Talk::Over => return,
                    Talk::Broken { heard } => {
                        let lasted = heard && began.elapsed() >= LASTING;
                        (lasted || last != before).then(|| outage = Outage::new());
                        false
                    }
                    Talk::Silent { heard } => {
                        heard.then(|| outage = Outage::new());
                        outage.waited += ANSWER;
                        true
                    }
                };
                match silence {
                    true => "it does not answer: it was stopped, or hangs".to_owned(),
                    false => "it ended the connection".to_owned(),
                }
            }
            Err(error) => error.to_string(),
        };
        if attendance.driver.is_closed() || attendance.told.has_changed().is_err() {
            return;
        }
        let kept = attendance.kept_status().await;
        let patience = match &kept {
            // A supervisor that has not reported anything may be about to take the lock.
            Kept::Missing | Kept::Unreadable(_, true) => STARTING,
            Kept::Read(status) if again.as_ref() == Some(status) => STARTING,
            _ => Duration::ZERO,
        };
        // Time for which the disk delayed this agent does not count, since the supervisor could not have been found.
        let waited = outage.waited;
        let (mut holder, mut blind) = reach.holder().await;
        let patience = match (&holder, &blind) {
            (Holder::Unknown, _) | (_, Some(_)) => patience.max(LOCKLESS),
            _ => patience,
        };
        let nobody = matches!(holder, Holder::Nobody | Holder::Unknown);
        if nobody && waited >= patience && blind.is_none() {
            // Whatever the state of its lock: its program has not ended while the supervisor lives.
            match reach.holder_by_process().await {
                Ok(found) => holder = found,
                Err(error) => blind = Some(error),
            }
        }
        let blind = blind.map(|error| format!("its lock cannot be looked at: {error}"));
        match holder {
            Holder::Nobody | Holder::Unknown if waited >= patience => {
                let missing = missing(attendance).await;
                let gone = || blind.map(|blind| format!("{blind}; no process of this host is its supervisor"));
                let why = why.take().or_else(|| reach.seen.cause()).or(missing).or_else(gone);
                if !over(attendance, why).await {
                    return;
                }
                // The supervisor's own agent has started it again.
                (outage, last) = (Outage::new(), None);
                again = match attendance.kept_status().await {
                    Kept::Read(status) => Some(status),
                    _ => None,
                };
                continue;
            }
            Holder::Nobody | Holder::Unknown => {}
            Holder::Supervisor(process) => {
                let failure = blind.map_or(failure.clone(), |blind| format!("{failure}; {blind}"));
                let before = last.clone().or(match kept {
                    Kept::Read(status) => Some(status),
                    _ => None,
                });
                unreachable(
                    attendance,
                    reach,
                    process,
                    &failure,
                    &mut outage,
                    before.unwrap_or_default(),
                    &mut why,
                )
                .await;
            }
        }
        outage.wait().await;
    }
}

/// The reason for which an instance is lost whose directory is not in its place.
async fn missing(attendance: &Attendance) -> Option<String> {
    let located = attendance.located.clone();
    let look = move || {
        let is_there = std::fs::symlink_metadata(located.name()).is_ok();
        let what = match is_there {
            true => "its directory was renamed or replaced",
            false => "its directory was removed",
        };
        located
            .is_gone()
            .then(|| format!("{what}: {}", located.name().display()))
    };
    attendance.disk.run(look).await.ok().flatten()
}

/// Handles the absence of a supervisor, which may have written its last status since it was read. True if the instance
/// was started again.
async fn over(attendance: &mut Attendance, why: Option<String>) -> bool {
    match attendance.kept_status().await {
        Kept::Read(status) if status.phase == Phase::Ended => {
            let word = match status.interrupted {
                true => attendance.welcome(true).await,
                false => Some(Word::Coordinators),
            };
            if word == Some(Word::Nobodys) {
                return start_again(attendance).await;
            }
            attendance.say(status).await;
            false
        }
        kept => bury(attendance, kept, why).await == Word::Nobodys && start_again(attendance).await,
    }
}

/// Starts the supervisor of an instance that its host ended; true on success.
async fn start_again(attendance: &Attendance) -> bool {
    let id = attendance.id;
    tracing::warn!(instance = %id, "its host ended it, and no coordinator is there: it is started again (offline_start)");
    let (located, node) = (attendance.located.clone(), attendance.list.node());
    let started = attendance.disk.run(move || start(&located, node, true)).await;
    match started.flatten() {
        Ok(()) => true,
        Err(error) => {
            attendance.say(not_started(&error)).await;
            false
        }
    }
}

/// Handles a live supervisor that does not answer on its socket: it is reported, and eventually the supervisor is
/// ended.
async fn unreachable(
    attendance: &Attendance,
    reach: &Reach,
    process: Option<Incumbent>,
    failure: &str,
    outage: &mut Outage,
    before: Status,
    why: &mut Option<String>,
) {
    let id = attendance.id;
    let named = process.map_or_else(String::new, |process| format!(" (pid {})", process.pid()));
    let shown = |detail: String| Status {
        healthy: false,
        detail,
        ..before.clone()
    };
    let waited = outage.waited;
    // Otherwise the exit of a program that ended meanwhile is lost with the supervisor, whatever ends that.
    if let Some(process) = process.filter(|_| waited >= TOLD_AFTER) {
        reach.look_at_program(process.pid()).await;
    }
    if waited >= TOLD_AFTER && !outage.told {
        outage.told = true;
        tracing::warn!(instance = %id, failure, "the supervisor{named} of this instance cannot be reached; it is tried again, and killed if that goes on");
        let detail = format!("its supervisor{named} cannot be reached: {failure}");
        attendance.say(shown(detail)).await;
    }
    let held_up = process.is_some_and(|process| is_held_up(process.pid()));
    let limit = (ENDED_AFTER + attendance.grace) * if held_up { HELD_UP } else { 1 };
    if waited < limit * (outage.kills + 1) {
        return;
    }
    outage.kills += 1;
    match process.map(Incumbent::kill) {
        Some(Ok(())) if outage.kills == 1 => {
            tracing::error!(instance = %id, "the supervisor{named} of this instance could not be reached for {limit:?}: it was killed together with its program");
            *why = Some(format!(
                "its supervisor could not be reached for {limit:?} ({failure}) and was ended"
            ));
        }
        Some(Ok(())) => {
            let stuck = process.map(|process| stuck::describe(&[process.pid()]));
            let detail = format!(
                "{}; its supervisor cannot be reached: {failure}",
                stuck.unwrap_or_default()
            );
            tracing::error!(instance = %id, "{detail}");
            attendance.say(shown(detail)).await;
        }
        // It is already ending.
        Some(Err(error)) => tracing::debug!(instance = %id, %error, "its supervisor cannot be killed"),
        None => {
            let detail =
                format!("its supervisor cannot be reached ({failure}), and is not known by its lock: end it by hand");
            tracing::error!(instance = %id, "{detail}");
            attendance.say(shown(detail)).await;
        }
    }
}

/// Connects to the supervisor that holds the instance's directory, and supervises this very instance.
pub(super) async fn connect(reach: &Reach) -> io::Result<UnixStream> {
    let (located, runtime) = (reach.located.clone(), Handle::current());
    // Resolving a path accesses the disk, whatever is at its end.
    let connected = reach.disk.run(move || {
        let held = located.enter()?;
        // By the held directory: however long the path is, this one is short enough for a socket's address.
        let stream = runtime.block_on(UnixStream::connect(held.home().socket()))?;
        let peer = stream.peer_cred()?.pid().and_then(Incumbent::of);
        let is_own = |peer: Incumbent| !is_elsewhere(peer, &held.home()) && supervised_by(peer) == Some(located.id());
        match peer.filter(|peer| !is_own(*peer) && peer.lives()) {
            Some(peer) => Err(io::Error::other(format!(
                "its socket is that of another directory's supervisor (pid {})",
                peer.pid()
            ))),
            None => Ok((stream, peer)),
        }
    });
    let (stream, peer) = connected.await.flatten()?;
    *reach.seen.process.lock().unwrap_or_else(PoisonError::into_inner) = peer;
    Ok(stream)
}

/// Returns whether a process waits for its host: for a processor, or for a disk. A process that was stopped, or waits
/// for something else, does not.
fn is_held_up(pid: i32) -> bool {
    namespace::state(pid).is_ok_and(|(state, _)| matches!(state, 'R' | 'D'))
}

/// The end of a conversation.
enum Talk {
    /// The instance has ended, or was discarded.
    Over,
    /// The supervisor ended it; whether it sent anything.
    Broken { heard: bool },
    /// The supervisor does not answer. The kernel accepts connections for a stopped one, too.
    Silent { heard: bool },
}

async fn pass_on(attendance: &mut Attendance, stream: UnixStream, reach: &Reach, last: &mut Option<Status>) -> Talk {
    let (from, mut to) = stream.into_split();
    let mut lines = BufReader::new(from).lines();
    attendance.told.mark_changed();
    let (mut heard, mut silence) = (false, pin!(awake(ANSWER)));
    let mut falls_silent = pin!(falls_silent(reach));
    loop {
        tokio::select! {
            biased;
            line = lines.next_line() => {
                let Ok(Some(line)) = line else { return Talk::Broken { heard } };
                let Ok(status) = serde_json::from_str::<Status>(&line) else { continue };
                heard = true;
                reach.seen.heard.store(true, Ordering::Relaxed);
                *last = Some(status.clone());
                let ended = status.phase == Phase::Ended;
                if !attendance.say(status).await || ended {
                    return Talk::Over;
                }
            }
            changed = attendance.told.changed() => {
                if changed.is_err() {
                    // The instance was discarded.
                    return Talk::Over;
                }
                let wanted = attendance.told.borrow_and_update().clone();
                let lease = wanted.lease.map(|until| Told::Lease { until });
                let stop = wanted.stop.map(|reason| Told::Stop { reason });
                for told in lease.into_iter().chain(stop) {
                    let Ok(mut line) = serde_json::to_vec(&told) else { continue };
                    line.push(b'\n');
                    if to.write_all(&line).await.is_err() {
                        return Talk::Broken { heard };
                    }
                }
            }
            () = &mut silence, if !heard => return Talk::Silent { heard },
            () = &mut falls_silent, if heard => return Talk::Silent { heard },
        }
    }
}
