//! Beginning an instance: its order is written down, it is put on the list of what was begun, and then its supervisor is started.

use std::{fs, io, process::Stdio};

use tokio::process::Command;
use wyneos_core::{
    agent::Input,
    id::NodeId,
    workload::{AssignmentId, Phase, Status},
};
use wyneos_shell::files;

use super::{
    Home, Order, Unbegun,
    conversation::Attendance,
    held::{Held, Located},
    own_binary,
};
use crate::driver::ToAgent;

/// How an instance is that was never started.
pub(super) fn not_started(error: &io::Error) -> Status {
    ended(format!("its node cannot start it: {error}"))
}

/// How an instance is that was told to end before it was started.
pub(super) fn not_wanted(reason: String) -> Status {
    Status {
        complete: true,
        ..ended(reason)
    }
}

fn ended(detail: String) -> Status {
    Status {
        phase: Phase::Ended,
        detail,
        ..Status::default()
    }
}

/// Makes the directory of an instance, in which its log can be read before it has written anything.
pub(super) fn make_home(instances: &std::path::Path, id: AssignmentId) -> io::Result<Held> {
    Home::of(instances, id).make()
}

/// Writes down what a supervisor is to run. The file is returned in order to have it on the disk, which is waited for by nobody: an order that is lost
/// with the host's power was not begun, as a supervisor has written down that it begins before it does.
pub(super) fn write_order(held: &Held, order: &Order) -> io::Result<fs::File> {
    Unbegun::write(held)?;
    files::write_whole(&held.home().order(), &serde_json::to_vec(order)?, 0o600)
}

/// Writes down that an instance was not started, and tells. On a full disk it is told alone; the next agent finds nothing that was started.
pub(super) async fn not_begun(attendance: Attendance, status: Status) {
    let (located, written) = (attendance.located.clone(), status.clone());
    let write = move || located.enter()?.home().write_status(&written);
    drop(attendance.disk.run(write).await);
    attendance.say(status).await;
}

/// Starts the supervisor of what is written down. It gets the directory's present name, and which one it is: another one that has the name a moment later
/// is not taken for it. By the node's id its supervisors are found wherever their directories are. Blocks until the supervisor's program runs.
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
