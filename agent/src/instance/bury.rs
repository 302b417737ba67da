//! Cleanup of an instance whose supervisor ended without reporting it.

use std::{io, sync::Arc, time::Duration};

use tokio::time::sleep;
use wyneos_core::workload::{Phase, Status};
use wyneos_shell::{clock::Clock, files};

use super::{
    Home, Kept,
    conversation::{Attendance, Word},
    found::was_started,
    held::{Held, Located},
    logs,
    premises::{Incumbent, original},
    processes::{self, Mark},
    strays,
    stuck::Waits,
    trace::{self, Trace},
};

/// Maximum number of simultaneous scans of all processes of the host: a restarted host may leave many instances.
pub(super) const LOOKS: usize = 2;

/// Interval between two checks whether the original of a copy still runs.
const COPIED: Duration = Duration::from_secs(1);

/// Attempts to remove an empty control group.
const TRIES: u32 = 8;

/// Ends the remains of a supervisor, and then records and reports that the instance has ended, however long it takes.
/// Nothing is touched before the coordinator has welcomed this agent: until then its node's instances may belong to
/// another agent. If an instance's directory is not in its place, no file is touched, because the object with its name
/// is another one.
///
/// If no coordinator welcomes this agent for the declared time, only the remains are ended, and the result is that the
/// instance is to be started again.
pub(super) async fn bury(attendance: &mut Attendance, kept: Kept<Status>, why: Option<String>) -> Word {
    let damaged = matches!(kept, Kept::Unreadable(..));
    let (located, begun, batch) = (attendance.located.clone(), attendance.begun, attendance.batch);
    let examined = attendance.disk.run(move || examine(&located, begun, batch, kept, why));
    let Ok(remains) = examined.await else {
        // The agent is ending.
        return Word::Coordinators;
    };
    let Remains {
        before,
        reason,
        complete,
        unknown,
        was_wanted,
        cut_off,
    } = remains;
    let stopping = |detail: String| Status {
        phase: Phase::Stopping,
        healthy: false,
        since: Clock::default().wall(),
        detail,
        ..before.clone()
    };
    let mut word = Word::Coordinators;
    if !*attendance.welcomed.borrow() {
        let waits = format!("{reason}; its remaining processes are ended once the coordinator has welcomed this agent");
        attendance.say(stopping(waits)).await;
        match attendance.welcome(was_wanted && cut_off && !unknown).await {
            Some(given) => word = given,
            None => return word,
        }
    }
    let mut told = None;
    // The original of a directory that was moved out of this one's place belongs to this agent.
    while let Some(original) = foreign_original(attendance).await {
        // The contents may be those of the original's instance; nothing of it is this agent's to end.
        if told.replace(original) != Some(original) {
            let pid = original.pid();
            let what = format!(
                "this directory is a copy of one whose supervisor (pid {pid}) goes on: the instance has not ended before that has; start the agent \
                 where that directory is, or end the process"
            );
            tracing::error!(instance = %attendance.id, "{what}");
            attendance.say(stopping(what)).await;
        }
        sleep(COPIED).await;
    }
    attendance
        .say(stopping(format!("{reason}; its remaining processes are being ended")))
        .await;
    let (mut waits, mut empty) = (Waits::new(), 0);
    loop {
        let (left, removed) = look(attendance).await;
        if left.is_empty() {
            empty += 1;
            if !removed && empty == TRIES {
                tracing::warn!(instance = %attendance.id, "cannot remove the control group of an instance that has ended, though it is empty");
            }
            if removed || empty == TRIES {
                break;
            }
        }
        if let Some(stuck) = waits.news(&left) {
            tracing::error!(instance = %attendance.id, "{stuck}: the instance counts as running until that has ended");
            attendance.say(stopping(format!("{stuck}; {reason}"))).await;
        }
        waits.wait(&left).await;
    }
    if word == Word::Nobodys {
        return word;
    }
    let status = Status {
        phase: Phase::Ended,
        pid: 0,
        exit: before.exit,
        complete,
        unknown,
        interrupted: cut_off && !unknown,
        ..stopping(reason)
    };
    write_down(attendance, status.clone(), damaged).await;
    attendance.say(status).await;
    word
}

/// The known state of an instance whose supervisor is gone.
struct Remains {
    /// The last status, with the exit of its program and its last output.
    before: Status,
    /// The reason for its end.
    reason: String,
    complete: bool,
    unknown: bool,
    /// Whether it was not told to end, and had not ended.
    was_wanted: bool,
    /// Whether its host interrupted it, as far as is known.
    cut_off: bool,
}

/// Examines the remains of an instance.
fn examine(located: &Located, begun: bool, batch: Option<bool>, kept: Kept<Status>, why: Option<String>) -> Remains {
    let has_status = matches!(kept, Kept::Read(_));
    // An instance that never reported anything has not run.
    let held = located.enter().ok();
    let home = held.as_ref().map(Held::home);
    let lost = || begun || home.as_ref().is_none_or(was_started);
    let unknown = match &kept {
        // Actions of the original after the copy are not recorded in the copy.
        Kept::Read(_) => home.as_ref().is_none_or(Home::is_copy),
        Kept::Missing => lost(),
        Kept::Unreadable(..) => true,
    };
    let was_wanted = matches!(&kept, Kept::Read(status) if !matches!(status.phase, Phase::Stopping | Phase::Ended));
    let (mut before, reason) = match kept {
        Kept::Read(status) => {
            let reason = "its supervisor ended without saying why: killed, or the host was restarted".to_owned();
            (status, reason)
        }
        Kept::Missing => {
            let reason = match home.as_ref().and_then(last_words) {
                Some(words) => format!("its supervisor never said how it is: {words}"),
                None => "its supervisor never said how it is: killed, or the host was restarted".to_owned(),
            };
            (Status::default(), reason)
        }
        Kept::Unreadable(error, _) => (Status::default(), format!("its state cannot be read: {error}")),
    };
    before.last_stderr = home
        .as_ref()
        .map(|home| logs::last_stderr(&home.logs()))
        .unwrap_or_default();
    let mut remains = Remains {
        before,
        reason: why.unwrap_or(reason),
        complete: false,
        unknown,
        was_wanted,
        cut_off: has_status,
    };
    if has_status && batch.unwrap_or(true) {
        remains.take_trace(home.as_ref().map_or(Trace::Unknown, trace::read));
    }
    remains
}

impl Remains {
    /// Applies the recorded end of a batch's program.
    fn take_trace(&mut self, trace: Trace) {
        match trace {
            Trace::Ended(exit) if !self.unknown => {
                (self.before.exit, self.complete, self.cut_off) = (Some(exit), exit.is_success(), false);
                self.reason = match self.complete {
                    true => format!("done; {}", self.reason),
                    false => format!("its process ended: {exit}; {}", self.reason),
                };
            }
            // It is unknown whether it has done its work, so it is not run again.
            Trace::Unknown => self.unknown = true,
            // A record that was lost with the host's power says nothing of a program that ran.
            Trace::NotStarted => self.unknown |= self.before.pid != 0,
            Trace::Ended(_) | Trace::CutOff => {}
        }
    }
}

/// The supervisor of the instance of which this directory is a copy, if that one is not in this agent's directory of
/// instances.
async fn foreign_original(attendance: &Attendance) -> Option<Incumbent> {
    let (located, supervisors) = (attendance.located.clone(), attendance.supervisors());
    let look = move || {
        let original = original(&located.enter().ok()?.home())?;
        (!supervisors().contains(&original.pid())).then_some(original)
    };
    attendance.disk.run(look).await.ok().flatten()
}

/// Records the end of an instance: in its directory, or, if that is missing, on the list of begun instances, so that
/// the next agent does not look for it again.
async fn write_down(attendance: &Attendance, status: Status, damaged: bool) {
    let (id, located, list) = (attendance.id, attendance.located.clone(), Arc::clone(&attendance.list));
    let write = move || {
        let held = match located.enter() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return list.bury(id),
            entered => entered?,
        };
        let home = held.home();
        if damaged {
            // Kept for later analysis.
            drop(std::fs::rename(home.status(), home.status().with_extension("damaged")));
        }
        home.write_status(&status)
    };
    if let Ok(Err(error)) = attendance.disk.run(write).await {
        tracing::warn!(instance = %id, %error, "cannot record that an instance has ended");
    }
}

/// Kills the remains; returns them, and whether the group is gone.
async fn look(attendance: &Attendance) -> (Vec<i32>, bool) {
    let (supervisors, group) = (attendance.supervisors(), attendance.group.clone());
    let (id, located, directory) = (attendance.id, attendance.located.clone(), attendance.directory.clone());
    let contained = attendance.contained;
    let _turn = attendance.looks.acquire().await;
    let looked = attendance.disk.run(move || {
        // A supervisor that has lost the directory would continue, and start its program again.
        let mut left = supervisors();
        processes::kill(&left);
        let held = located.enter().ok();
        left.extend(held.iter().flat_map(end_namespaces));
        // Then processes that may start others as fast as they are killed.
        left.extend(group.as_ref().map(super::cgroup::Group::kill).unwrap_or_default());
        // Without the directory, by its name: the number of a removed one may be reused.
        let mark = Mark::of(&directory, id, held.as_ref().map(Held::place));
        let strays = strays::of(held.as_ref().map(Held::home).as_ref(), &mark, contained);
        processes::kill(&strays);
        left.extend(strays);
        left.sort_unstable();
        left.dedup();
        let removed = match (&group, left.is_empty()) {
            (Some(group), true) => group.remove().is_ok(),
            _ => true,
        };
        (left, removed)
    });
    looked.await.unwrap_or((Vec::new(), false))
}

/// Ends the processes in the instance's namespaces; returns the remaining ones. The first process was killed with its
/// supervisor, and exists for as long as any other process in them.
fn end_namespaces(held: &Held) -> Vec<i32> {
    let first = match held.home().kept_first() {
        Kept::Read(first) => first,
        Kept::Missing => return Vec::new(),
        Kept::Unreadable(error, _) => {
            // Processes in them carry the instance's mark, or are in its group, unless they have removed both.
            tracing::warn!(path = %held.name().display(), %error, "cannot read which process is the first of an instance's PID namespace");
            return Vec::new();
        }
    };
    if !first.kill() {
        return Vec::new();
    }
    let within = processes::descendants(first.pid());
    match within.is_empty() {
        true => vec![first.pid()],
        false => within,
    }
}

/// The last line of a supervisor's own log.
fn last_words(home: &Home) -> Option<String> {
    const MOST: usize = 256;
    /// A supervisor that never reported a status wrote a few lines.
    const LOG: u64 = 1024 * 1024;
    let text = files::read_text(&home.supervisor_log(), LOG).ok()?;
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.chars().take(MOST).collect())
}
