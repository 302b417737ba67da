//! What the agent and one supervisor say to one another, and what becomes of a supervisor that is gone.

use std::time::Duration;

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::{mpsc, watch},
    time::sleep,
};
use wyneos_core::{
    agent::Input,
    time::WallTime,
    workload::{AssignmentId, Phase, Status},
};

use super::{Home, Told, processes};
use crate::driver::ToAgent;

/// Between two attempts to reach a supervisor.
const AGAIN: Duration = Duration::from_millis(20);

/// How long a supervisor that was started may take to be there.
const STARTING: Duration = Duration::from_secs(10);

/// What a supervisor is to know, whenever it can be reached.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) stop: Option<String>,
    pub(super) lease: Option<u64>,
}

/// A supervisor ended without having said so: what it left behind is ended, too.
pub(super) fn died(home: &Home, before: Status, now: WallTime) -> Status {
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

/// Passes on what a supervisor and the agent say to one another, until the instance has ended.
pub(super) async fn attend(
    id: AssignmentId,
    home: Home,
    mut told: watch::Receiver<Wanted>,
    driver: mpsc::Sender<ToAgent>,
) {
    let mut waited = Duration::ZERO;
    loop {
        let connected = async {
            let (_directory, path) = home.socket()?;
            UnixStream::connect(path).await
        };
        if let Ok(stream) = connected.await {
            waited = Duration::ZERO;
            if pass_on(id, stream, &mut told, &driver).await {
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
) -> bool {
    let (from, mut to) = stream.into_split();
    let mut lines = BufReader::new(from).lines();
    told.mark_changed();
    loop {
        tokio::select! {
            line = lines.next_line() => {
                let Ok(Some(line)) = line else { return false };
                let Ok(status) = serde_json::from_str::<Status>(&line) else { continue };
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
