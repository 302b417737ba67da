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

/// Looks at all processes of the host that go on at once: many instances may be left by a host that was restarted.
pub(super) const LOOKS: usize = 2;

/// Between two looks whether the original of a copy goes on.
const COPIED: Duration = Duration::from_secs(1);

/// Attempts to remove a control group in which nothing is left.
const TRIES: u32 = 8;

/// Ends what a supervisor left, and writes down and tells that the instance has ended; not before, and for as long as it takes. Nothing is
/// touched before the coordinator has welcomed this agent: until then its node's instances may be another agent's. Of an instance whose directory is
/// not where it was, no file is touched: what has its name is another's.
///
/// Where nobody welcomes this agent for as long as the declaration says, only what is left is ended, and it is said that the instance is to be started
/// again.
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
    // That of a directory which was moved out of this one's place is this agent's.
    while let Some(original) = foreign_original(attendance).await {
        // What is written here may be what that one runs; nothing of it is this agent's to end.
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

/// What is known of an instance whose supervisor is gone.
struct Remains {
    /// The last status, with how its program ended and what it wrote last.
    before: Status,
    /// Why it has ended.
    reason: String,
    complete: bool,
    unknown: bool,
    /// It was not told to end, and had not ended.
    was_wanted: bool,
    /// Its host cut it off, as far as is known.
    cut_off: bool,
}

/// Looks at what an instance left.
fn examine(located: &Located, begun: bool, batch: Option<bool>, kept: Kept<Status>, why: Option<String>) -> Remains {
    let has_status = matches!(kept, Kept::Read(_));
    // What only never came to say anything has not run.
    let held = located.enter().ok();
    let home = held.as_ref().map(Held::home);
    let lost = || begun || home.as_ref().is_none_or(was_started);
    let unknown = match &kept {
        // What the original has done since the copy was made is not said in it.
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
    /// Takes what was written down of the end of a batch's program.
    fn take_trace(&mut self, trace: Trace) {
        match trace {
            Trace::Ended(exit) if !self.unknown => {
                (self.before.exit, self.complete, self.cut_off) = (Some(exit), exit.is_success(), false);
                self.reason = match self.complete {
                    true => format!("done; {}", self.reason),
                    false => format!("its process ended: {exit}; {}", self.reason),
                };
            }
            // Whether it has done its work, nobody can say: it is not run again for that.
            Trace::Unknown => self.unknown = true,
            // What the host's power took with it says nothing of a program that ran.
            Trace::NotStarted => self.unknown |= self.before.pid != 0,
            Trace::Ended(_) | Trace::CutOff => {}
        }
    }
}

/// The supervisor of the instance of which this directory is a copy, if that one is none of this agent's directory of instances.
async fn foreign_original(attendance: &Attendance) -> Option<Incumbent> {
    let (located, supervisors) = (attendance.located.clone(), attendance.supervisors());
    let look = move || {
        let original = original(&located.enter().ok()?.home())?;
        (!supervisors().contains(&original.pid())).then_some(original)
    };
    attendance.disk.run(look).await.ok().flatten()
}

/// Writes down how an instance has ended: in its directory; and, where that is not there, on the list of what was begun, so that the next agent does not
/// look for it again.
async fn write_down(attendance: &Attendance, status: Status, damaged: bool) {
    let (id, located, list) = (attendance.id, attendance.located.clone(), Arc::clone(&attendance.list));
    let write = move || {
        let held = match located.enter() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return list.bury(id),
            entered => entered?,
        };
        let home = held.home();
        if damaged {
            // Kept for whoever wants to know what it was.
            drop(std::fs::rename(home.status(), home.status().with_extension("damaged")));
        }
        home.write_status(&status)
    };
    if let Ok(Err(error)) = attendance.disk.run(write).await {
        tracing::warn!(instance = %id, %error, "cannot record that an instance has ended");
    }
}

/// Kills what is left; what that was, and whether its group is gone.
async fn look(attendance: &Attendance) -> (Vec<i32>, bool) {
    let (supervisors, group) = (attendance.supervisors(), attendance.group.clone());
    let (id, located, directory) = (attendance.id, attendance.located.clone(), attendance.directory.clone());
    let contained = attendance.contained;
    let _turn = attendance.looks.acquire().await;
    let looked = attendance.disk.run(move || {
        // One that has lost the directory would go on, and start its program again.
        let mut left = supervisors();
        processes::kill(&left);
        let held = located.enter().ok();
        left.extend(held.iter().flat_map(end_namespaces));
        // Then what may start others as fast as they are killed.
        left.extend(group.as_ref().map(super::cgroup::Group::kill).unwrap_or_default());
        // Without it by its name: the number of one that was removed is another's.
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

/// Ends what is in the instance's namespaces; what is left of that. The first process was killed with its supervisor, and is there for as long as
/// anything else in them is.
fn end_namespaces(held: &Held) -> Vec<i32> {
    let first = match held.home().kept_first() {
        Kept::Read(first) => first,
        Kept::Missing => return Vec::new(),
        Kept::Unreadable(error, _) => {
            // What was in them carries the instance's mark, or is in its group, unless it has got rid of both.
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

/// The last line of what a supervisor said in its own log.
fn last_words(home: &Home) -> Option<String> {
    const MOST: usize = 256;
    /// A supervisor that never said how it is wrote a few lines.
    const LOG: u64 = 1024 * 1024;
    let text = files::read_text(&home.supervisor_log(), LOG).ok()?;
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.chars().take(MOST).collect())
}
