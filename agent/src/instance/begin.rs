//! Beginning an instance: its order is written, it is added to the list of begun instances, and then its supervisor is
//! started.

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

/// The status of an instance that was never started.
pub(super) fn not_started(error: &io::Error) -> Status {
    ended(format!("its node cannot start it: {error}"))
}

/// The status of an instance that was told to end before it was started.
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

/// Creates the directory of an instance, in which its log can be read before it has written anything.
pub(super) fn make_home(instances: &std::path::Path, id: AssignmentId) -> io::Result<Held> {
    Home::of(instances, id).make()
}

/// Writes the order of a supervisor. The file is returned so that it can be synced, which nothing waits for: an order
/// that is lost with the host's power was not begun, since a supervisor records the beginning before it begins.
pub(super) fn write_order(held: &Held, order: &Order) -> io::Result<fs::File> {
    Unbegun::write(held)?;
    files::write_whole(&held.home().order(), &serde_json::to_vec(order)?, 0o600)
}

/// Records that an instance was not started, and reports it. On a full disk it is only reported; the next agent finds
/// no instance that was started.
pub(super) async fn not_begun(attendance: Attendance, status: Status) {
    let (located, written) = (attendance.located.clone(), status.clone());
    let write = move || located.enter()?.home().write_status(&written);
    drop(attendance.disk.run(write).await);
    attendance.say(status).await;
}

/// Starts the supervisor of a written order. It receives the directory's present name and identity, so that another
/// directory that gets the name a moment later is not mistaken for it. The node's id identifies its supervisors
/// wherever their directories are. Blocks until the supervisor's program runs.
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
    // It runs independently; while this agent is its parent, its end is collected.
    tokio::spawn(async move { drop(child.wait().await) });
    Ok(())
}

/// A fact for the agent's logic.
pub(super) fn fact(id: AssignmentId, status: Status) -> ToAgent {
    ToAgent::Fact(Input::Instance { id, status })
}
