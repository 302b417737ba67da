//! Beginning instances: each is on the list of what was begun before its supervisor is started.
//!
//! That takes a write to the disk, which the agent's own task does not wait for. Those who come meanwhile share the next write.

use std::{fs, io, process::Stdio, sync::Arc};

use tokio::{
    process::Command,
    sync::{mpsc, mpsc::error::TrySendError},
    task::spawn_blocking,
};
use wyneos_core::{
    agent::Input,
    id::NodeId,
    workload::{AssignmentId, Phase, Status},
};
use wyneos_shell::files;

use super::{
    begun::Begun,
    conversation::{Attendance, attend},
    held::Located,
    own_binary,
};
use crate::driver::ToAgent;

/// Instances that wait for the disk at most. Beyond, one fails with that as its reason, and is placed anew.
const WAITING: usize = 4_096;

/// Instances that share a write at most.
const TOGETHER: usize = 256;

/// Begins instances, in a task of its own.
#[derive(Debug)]
pub(super) struct Beginner(mpsc::Sender<Attendance>);

impl Beginner {
    pub(super) fn new(begun: Arc<Begun>) -> Beginner {
        let (sender, queue) = mpsc::channel(WAITING);
        tokio::spawn(begin(queue, begun));
        Beginner(sender)
    }

    /// Has an instance begun whose order is written down, and attended from then on.
    pub(super) fn begin(&self, attendance: Attendance) -> io::Result<()> {
        self.0.try_send(attendance).map_err(|error| {
            io::Error::other(match error {
                TrySendError::Full(_) => format!("{WAITING} others wait for its disk"),
                TrySendError::Closed(_) => "its agent is ending".to_owned(),
            })
        })
    }
}

async fn begin(mut queue: mpsc::Receiver<Attendance>, begun: Arc<Begun>) {
    let mut waiting = Vec::new();
    let mut failed = false;
    while queue.recv_many(&mut waiting, TOGETHER).await > 0 {
        let ids: Vec<AssignmentId> = waiting.iter().map(|attendance| attendance.id).collect();
        let list = Arc::clone(&begun);
        let listed = spawn_blocking(move || list.add(&ids)).await.map_err(io::Error::other);
        let failure = listed.and_then(|listed| listed).err();
        if let Some(error) = &failure
            && !failed
        {
            tracing::error!(%error, "no instance can be begun on this node: it cannot be written down that it was");
        }
        failed = failure.is_some();
        for attendance in waiting.drain(..) {
            let stop = attendance.told.borrow().stop.clone();
            if let Some(reason) = stop {
                // It was told to end before it had begun.
                let status = Status {
                    complete: true,
                    ..ended(reason)
                };
                tokio::spawn(not_begun(attendance, status));
                continue;
            }
            let started = match &failure {
                Some(error) => Err(io::Error::other(format!(
                    "it cannot be written down that it was begun: {error}"
                ))),
                None => start(&attendance.located, begun.node(), false),
            };
            match started {
                Ok(()) => drop(tokio::spawn(attend(attendance))),
                Err(error) => drop(tokio::spawn(not_begun(attendance, not_started(&error)))),
            }
        }
    }
}

async fn not_begun(attendance: Attendance, status: Status) {
    write_off(attendance.located.clone(), status.clone()).await;
    attendance.say(status).await;
}

/// How an instance is that was never started.
pub(super) fn not_started(error: &io::Error) -> Status {
    ended(format!("its node cannot start it: {error}"))
}

fn ended(detail: String) -> Status {
    Status {
        phase: Phase::Ended,
        detail,
        ..Status::default()
    }
}

/// Writes down that an instance was not started. On a full disk it is told alone; the next agent finds nothing that was started.
pub(super) async fn write_off(located: Located, status: Status) {
    drop(spawn_blocking(move || located.enter()?.home().write_status(&status)).await);
}

/// Starts the supervisor of what is written down. It gets the directory's present name, and which one it is: another one that has the name a moment later
/// is not taken for it. By the node's id its supervisors are found wherever their directories are.
pub(super) fn start(located: &Located, node: NodeId, again: bool) -> io::Result<()> {
    let held = located.enter()?;
    let log = files::create(&held.home().supervisor_log(), 0o600)?;
    let place = held.place();
    // No link has the last part of its name.
    let above = located.name().parent().map(fs::canonicalize).transpose()?;
    let name = above.unwrap_or_default().join(located.id().to_string());
    let mut child = Command::new(own_binary())
        .arg("supervise")
        .arg(name)
        .arg("--place")
        .arg(place.to_string())
        .arg("--node")
        .arg(node.to_string())
        .args(again.then_some("--again"))
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    // It goes on by itself; while this agent is its parent, its end is taken note of.
    tokio::spawn(async move { drop(child.wait().await) });
    Ok(())
}

/// A fact for the agent's logic.
pub(super) fn fact(id: AssignmentId, status: Status) -> ToAgent {
    ToAgent::Fact(Input::Instance { id, status })
}
