//! The end of an instance that was begun and is no longer found.
//!
//! The supervisor may be alive, with a directory that was renamed or removed. It detects this within seconds and ends;
//! the instance is not reported as ended before.

use std::{path::Path, time::Duration};

use tokio::time::{Instant, sleep};
use wyneos_core::workload::{AssignmentId, Phase, Status};
use wyneos_shell::clock::Clock;

use super::{
    Kept,
    bury::bury,
    conversation::{self, Attendance},
    held::{Held, Located, Place},
    places::Astray,
    premises::{Incumbent, holds},
    processes,
    stuck::Waits,
};

/// Interval between two searches for its supervisor.
const LOOK: Duration = Duration::from_millis(500);

/// Interval between two checks of supervisors that are not this agent's to end.
const ASTRAY: Duration = Duration::from_secs(1);

/// Time limit for its supervisor to end it: three checks of its directory's name, and the grace of its program, which
/// is no longer known. After that it is killed, and the program with it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The status of a lost instance, until it is certain that nothing of it runs.
pub(super) fn ending(what: &str) -> Status {
    Status {
        phase: Phase::Stopping,
        since: Clock::default().wall(),
        detail: format!("{what}; what is left of it is being ended"),
        ..Status::default()
    }
}

/// Waits until the supervisors of an instance, and the processes that they started, have ended, ends the remains, and
/// reports that the instance has ended with an unknown outcome.
pub(super) async fn attend(mut attendance: Attendance, what: String) {
    let (began, mut waits, mut within) = (Instant::now(), Waits::new(), Vec::<Incumbent>::new());
    loop {
        let (supervisors, turn) = (attendance.supervisors(), attendance.looks.acquire().await);
        let look = attendance.disk.run(move || {
            let alive = supervisors();
            let started = alive.iter().flat_map(|pid| processes::descendants(*pid));
            let started: Vec<Incumbent> = started.filter_map(Incumbent::of).collect();
            (alive, started)
        });
        let (alive, started) = look.await.unwrap_or_default();
        drop(turn);
        for process in started {
            if !within.contains(&process) {
                within.push(process);
            }
        }
        within.retain(|process| process.lives());
        if alive.is_empty() && within.is_empty() {
            break;
        }
        if attendance.driver.is_closed() || attendance.told.has_changed().is_err() {
            return;
        }
        let over = alive.is_empty() || began.elapsed() >= PATIENCE;
        if over && *attendance.welcomed.borrow() {
            // The processes that a supervisor started end with it, by the kernel, unless it cannot contain them.
            processes::kill(&alive);
            within.iter().for_each(|process| drop(process.kill()));
            let left: Vec<i32> = alive
                .into_iter()
                .chain(within.iter().map(|process| process.pid()))
                .collect();
            if let Some(stuck) = waits.news(&left) {
                tracing::error!(instance = %attendance.id, "{what}: {stuck}, and it has not ended before");
                attendance.say(ending(&format!("{stuck}; {what}"))).await;
            }
        }
        sleep(LOOK).await;
    }
    bury(&mut attendance, Kept::Missing, Some(what)).await;
}

/// The status of an instance whose supervisor is alive and holds none of this agent's directories, with the directory
/// and the remedy.
pub(super) fn astray(others: &[Astray], is_copied: bool) -> Status {
    let Some(Astray { process, home, .. }) = others.first() else {
        return Status::default();
    };
    let (pid, home) = (process.pid(), home.display());
    let detail = match is_copied {
        true => format!(
            "this directory is a copy of one whose supervisor (pid {pid}) goes on, in {home}: the instance has not ended before that has; start the \
             agent where that directory is, or end the process"
        ),
        false => format!(
            "its supervisor (pid {pid}) goes on in {home}, which is not in this agent's directory of instances: it is not ended, and nothing takes \
             its place; put that directory back and start the agent again, or end the process"
        ),
    };
    Status {
        phase: Phase::Stopping,
        since: Clock::default().wall(),
        detail,
        ..Status::default()
    }
}

/// The location of the directory if one of these supervisors holds the present directory of all instances again; `None`
/// otherwise.
fn put_back(id: AssignmentId, directory: &Path, others: &[Astray]) -> Option<Located> {
    let own = Place::at(directory).ok()?;
    let other = others.iter().find(|other| holds(other.process.pid(), own))?;
    Some(match Held::open(&directory.join(id.to_string()), Some(other.place)) {
        Ok(held) => Located::of(id, &held),
        // The supervisor has detected that, too.
        Err(_) => Located::nowhere(directory, id),
    })
}

/// Waits until supervisors that hold none of this agent's directories have ended, and reports that the instance has;
/// they are not this agent's to end. An instance whose directory is put back is managed like any other.
pub(super) async fn attend_astray(mut attendance: Attendance, mut others: Vec<Astray>, is_copied: bool) {
    let mut within = Vec::<Incumbent>::new();
    let mut told = others.first().map(|other| other.process);
    loop {
        others.retain(|other| other.process.lives());
        let (id, directory, all) = (attendance.id, attendance.directory.clone(), others.clone());
        let back = attendance.disk.run(move || put_back(id, &directory, &all)).await;
        if let Some(located) = back.ok().flatten() {
            attendance.located = located;
            return conversation::attend(attendance).await;
        }
        let (pids, turn): (Vec<i32>, _) = (
            others.iter().map(|other| other.process.pid()).collect(),
            attendance.looks.acquire().await,
        );
        // Without containment, processes that they started outlive a killed one.
        let look = attendance.disk.run(move || {
            let started = pids.into_iter().flat_map(processes::descendants);
            started.filter_map(Incumbent::of).collect::<Vec<_>>()
        });
        let started = look.await.unwrap_or_default();
        drop(turn);
        for process in started {
            if !within.contains(&process) {
                within.push(process);
            }
        }
        within.retain(|process| process.lives());
        if others.is_empty() && within.is_empty() {
            break;
        }
        if attendance.driver.is_closed() || attendance.told.has_changed().is_err() {
            return;
        }
        let first = others.first().map(|other| other.process).or(within.first().copied());
        if told != first {
            told = first;
            let mut status = astray(&others, is_copied);
            if let (true, Some(left)) = (others.is_empty(), first) {
                status = ending(&format!(
                    "its supervisor has ended, and what it started (pid {}) has not: end that",
                    left.pid()
                ));
            }
            tracing::error!(instance = %attendance.id, "{}", status.detail);
            attendance.say(status).await;
        }
        sleep(ASTRAY).await;
    }
    match attendance.kept_status().await {
        Kept::Read(status) if status.phase == Phase::Ended => drop(attendance.say(status).await),
        _ => {
            let what =
                "its supervisor has ended in a directory that is not this agent's, and how is not known".to_owned();
            bury(&mut attendance, Kept::Missing, Some(what)).await;
        }
    }
}
