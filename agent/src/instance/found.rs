//! Instances of earlier agents of this host. They are only examined: whether they belong to this agent is known once
//! the coordinator has welcomed it.

use std::{ffi::OsStr, fs, io};

use wyneos_core::{
    time::WallTime,
    workload::{AssignmentId, Phase, Status},
};

use super::{
    Begins, Home, Kept, Order,
    held::Held,
    premises::{Holder, holder},
};

#[cfg(test)]
mod tests;

/// The action for an instance that was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It was given up half-made, and nothing was ever started: its directory is removed.
    HalfMade,
    /// It may have been begun, and its directory has neither order nor status.
    Lost,
    /// It was written, and its supervisor was never started: its directory is removed, and it is begun again if the
    /// coordinator orders it.
    Unstarted,
    /// It has ended.
    Ended,
    /// It is managed: its supervisor is, may be, or was present.
    Attended,
}

/// An instance's directory.
#[derive(Debug)]
pub(super) struct Look {
    /// The instance's order; `None` if it cannot be read.
    pub(super) order: Option<Order>,
    pub(super) status: Status,
    pub(super) left: Left,
    /// Whether it may have been begun: according to the list, or because this is a copy of a directory in which it was
    /// about to be.
    pub(super) begun: bool,
}

/// The instance of a directory, by its name: sixteen hexadecimal digits, as ids are written.
pub(super) fn id_of(name: &OsStr) -> Option<AssignmentId> {
    let name = name.to_str()?;
    let id: AssignmentId = name.parse().ok()?;
    (id.to_string() == name).then_some(id)
}

/// Examines the remains of an instance, which may have been `begun`. Unreadable files are reported, and never treated
/// as unwritten.
pub(super) fn look(directory: &Held, begun: bool, now: WallTime) -> Look {
    let (home, shown) = (&directory.home(), directory.name().display());
    let held = match holder(home) {
        Ok(holder) => matches!(holder, Holder::Supervisor(_)),
        Err(error) => {
            tracing::error!(path = %shown, %error, "cannot read the lock of an instance: its supervisor counts as alive");
            true
        }
    };
    let begun = match home.unbegun_of(directory) {
        // The agent, or the supervisor, ended before the instance was begun.
        Begins::NotYet => false,
        Begins::Unsaid => begun,
        Begins::Copied => true,
    };
    let (has_signs, may_run) = (was_started(home), held || begun);
    let was_started = may_run || has_signs;
    let nothing = |left: Left| Look {
        order: None,
        status: Status::default(),
        left,
        begun,
    };
    let order = match home.kept_order() {
        Kept::Read(order) => Ok(order),
        Kept::Missing if !was_started => return nothing(Left::HalfMade),
        Kept::Missing if !held && !has_signs => return nothing(Left::Lost),
        Kept::Missing => Err(io::Error::from(io::ErrorKind::NotFound)),
        Kept::Unreadable(error, _) => Err(error),
    };
    let unknown = order.as_ref().err().map(|error| {
        tracing::error!(path = %shown, %error, "cannot read the order of an instance");
        format!("its order cannot be read: {error}")
    });
    let order = order.ok();
    let (status, left) = match home.kept_status() {
        Kept::Read(status) if status.phase == Phase::Ended => (status, Left::Ended),
        Kept::Read(status) if held => (status, Left::Attended),
        Kept::Read(status) => (gone(status, now, unknown), Left::Attended),
        Kept::Missing if !was_started && order.is_some() => (Status::default(), Left::Unstarted),
        Kept::Missing => {
            let detail = unknown.unwrap_or_default();
            let status = Status {
                since: now,
                detail,
                ..Status::default()
            };
            (status, Left::Attended)
        }
        Kept::Unreadable(error, _) => {
            tracing::error!(path = %shown, %error, "cannot read the status of an instance; this is no reason to start it again");
            let detail = format!("its state cannot be read: {error}");
            let status = Status {
                since: now,
                detail: detail.clone(),
                ..Status::default()
            };
            match held {
                true => (status, Left::Attended),
                false => (gone(status, now, Some(detail)), Left::Attended),
            }
        }
    };
    Look {
        order,
        status,
        left,
        begun,
    }
}

/// The status of an instance whose supervisor is gone, until its processes have ended.
fn gone(before: Status, now: WallTime, why: Option<String>) -> Status {
    Status {
        phase: Phase::Stopping,
        healthy: false,
        since: now,
        detail: why.unwrap_or_else(|| "its supervisor is gone; its remaining processes are being ended".to_owned()),
        ..before
    }
}

/// Returns whether a program was, or may have been, started: the first status is durable before any program starts, and
/// its working directory is created before. The files of a supervisor alone prove nothing: its agent, or it, may have
/// ended before.
pub(super) fn was_started(home: &Home) -> bool {
    let signs = [home.status(), home.work()];
    // A file that cannot be examined counts as present.
    signs
        .iter()
        .any(|sign| fs::symlink_metadata(sign).map_or_else(|error| error.kind() != io::ErrorKind::NotFound, |_| true))
}
