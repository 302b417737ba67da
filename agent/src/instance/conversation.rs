//! What the agent and one supervisor say to one another, and what becomes of a supervisor that is gone, or does not act.

use std::{
    future::pending,
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::{mpsc, watch},
    time::sleep,
};
use wyneos_core::{
    agent::Input,
    supervisor::LEASE_MARGIN,
    time::{Time, WallTime},
    workload::{AssignmentId, Phase, Status},
};

use super::{Home, Told, boot_time, processes};
use crate::driver::ToAgent;

/// Between two attempts to reach a supervisor.
const AGAIN: Duration = Duration::from_millis(20);

/// How long a supervisor that was started may take to be there.
const STARTING: Duration = Duration::from_secs(10);

/// Between two looks at a lease: the margin has room for it, and a host that slept is noticed.
const LOOK: Duration = Duration::from_millis(250);

/// What a supervisor is to know, whenever it can be reached.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) stop: Option<String>,
    pub(super) lease: Option<u64>,
}

/// A supervisor ended without having said so: what it left behind is ended, too.
pub(super) fn died(home: &Home, before: Status, now: WallTime) -> Status {
    if let Some(first) = home.read_first() {
        // It was killed with its supervisor, and takes a moment to be gone with all that is in its namespaces.
        while first.kill() {
            std::thread::sleep(AGAIN);
        }
    }
    // First what may start others as fast as they are killed.
    let group = home.read_order().ok().and_then(|order| order.group);
    if let Some(Err(error)) = group.map(|group| group.end()) {
        tracing::warn!(path = %home.0.display(), %error, "cannot remove the control group of an instance that ended");
    }
    while processes::kill(&processes::marked(home)) {
        std::thread::sleep(AGAIN);
    }
    let status = Status {
        phase: Phase::Ended,
        healthy: false,
        since: now,
        pid: 0,
        complete: false,
        detail: "its supervisor ended without saying why: killed, or the host was restarted".to_owned(),
        ..before
    };
    drop(home.write_status(&status));
    status
}

/// Passes on what a supervisor and the agent say to one another, until the instance has ended, and ends a supervisor that does not act.
pub(super) async fn attend(
    id: AssignmentId,
    home: Home,
    singleton: bool,
    told: watch::Receiver<Wanted>,
    driver: mpsc::Sender<ToAgent>,
) {
    let heard = AtomicBool::new(false);
    let lease = told.clone();
    let guarded = async {
        match singleton {
            true => guard(id, &home, lease, &heard).await,
            false => pending().await,
        }
    };
    tokio::select! {
        () = converse(id, home.clone(), told, driver, &heard) => {}
        () = guarded => {}
    }
}

async fn converse(
    id: AssignmentId,
    home: Home,
    mut told: watch::Receiver<Wanted>,
    driver: mpsc::Sender<ToAgent>,
    heard: &AtomicBool,
) {
    let mut waited = Duration::ZERO;
    loop {
        let connected = async {
            let (_directory, path) = home.socket()?;
            UnixStream::connect(path).await
        };
        if let Ok(stream) = connected.await {
            waited = Duration::ZERO;
            if pass_on(id, stream, &mut told, &driver, heard).await {
                return;
            }
        }
        if driver.is_closed() || told.has_changed().is_err() {
            return;
        }
        let status = home.read_status().ok();
        // One that has said nothing yet may be about to take the lock: it is left to it.
        let said = status.is_some() || waited >= STARTING;
        let gone = said && matches!(home.take_lock(), Ok(Some(_)));
        let ended = status.as_ref().is_some_and(|status| status.phase == Phase::Ended);
        if gone {
            let status = status.unwrap_or_default();
            let status = match ended {
                true => status,
                false => {
                    let home = home.clone();
                    let now = wyneos_shell::clock::Clock::default().wall();
                    let died = tokio::task::spawn_blocking(move || died(&home, status, now));
                    died.await.unwrap_or_default()
                }
            };
            drop(driver.send(ToAgent::Fact(Input::Instance { id, status })).await);
            return;
        }
        waited += AGAIN;
        sleep(AGAIN).await;
    }
}

/// True when the instance has ended.
async fn pass_on(
    id: AssignmentId,
    stream: UnixStream,
    told: &mut watch::Receiver<Wanted>,
    driver: &mpsc::Sender<ToAgent>,
    heard: &AtomicBool,
) -> bool {
    let (from, mut to) = stream.into_split();
    let mut lines = BufReader::new(from).lines();
    told.mark_changed();
    loop {
        tokio::select! {
            line = lines.next_line() => {
                let Ok(Some(line)) = line else { return false };
                let Ok(status) = serde_json::from_str::<Status>(&line) else { continue };
                heard.store(true, Ordering::Relaxed);
                let ended = status.phase == Phase::Ended;
                if driver.send(ToAgent::Fact(Input::Instance { id, status })).await.is_err() || ended {
                    return true;
                }
            }
            changed = told.changed() => {
                if changed.is_err() {
                    // The instance was discarded.
                    return true;
                }
                let wanted = told.borrow_and_update().clone();
                let lease = wanted.lease.map(|until| Told::Lease { until });
                let stop = wanted.stop.map(|reason| Told::Stop { reason });
                for told in lease.into_iter().chain(stop) {
                    let Ok(mut line) = serde_json::to_vec(&told) else { continue };
                    line.push(b'\n');
                    if to.write_all(&line).await.is_err() {
                        return false;
                    }
                }
            }
        }
    }
}

/// Ends a singleton's supervisor that is there though the lease is nearly over: it was stopped, or hangs, and what it should have ended may run
/// on. So is one that an earlier agent left and that says nothing: how long its lease is nobody else knows. With the supervisor its program
/// ends, and what is left of it is killed as that of any supervisor that is gone.
async fn guard(id: AssignmentId, home: &Home, told: watch::Receiver<Wanted>, heard: &AtomicBool) {
    let silent = boot_time() + STARTING;
    loop {
        // By then it has killed everything itself, and had half of the margin to see it gone.
        let lease = told.borrow().lease.map(|until| Time(until) - LEASE_MARGIN / 2);
        let silence = (!heard.load(Ordering::Relaxed)).then_some(silent);
        let due = lease.into_iter().chain(silence).min();
        if due.is_some_and(|due| due <= boot_time()) {
            match end_supervisor(home).await {
                Ok(()) => {
                    tracing::error!(instance = %id, "its supervisor does not act: it was killed, and the program with it")
                }
                // It may be on its way out.
                Err(error) => tracing::debug!(instance = %id, %error, "its supervisor cannot be killed"),
            }
        }
        sleep(LOOK).await;
    }
}

/// Kills the process that answers, or should answer, on an instance's socket.
async fn end_supervisor(home: &Home) -> io::Result<()> {
    let (_directory, path) = home.socket()?;
    let listener = UnixStream::connect(path).await?.peer_cred()?.pid();
    let pid = listener.and_then(Pid::from_raw);
    let process = pidfd_open(pid.ok_or(io::ErrorKind::NotFound)?, PidfdFlags::empty())?;
    if home.take_lock()?.is_some() {
        // It is gone, and its number may be another one's.
        return Err(io::ErrorKind::NotFound.into());
    }
    pidfd_send_signal(process, Signal::KILL)?;
    Ok(())
}
