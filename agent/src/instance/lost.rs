//! What becomes of an instance that was begun, and of which nothing is found any more.
//!
//! Its supervisor may be there, with a directory that was renamed or removed. It notices within seconds and ends; nothing is said to have
//! ended before.

use std::time::Duration;

use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};
use wyneos_core::workload::{Phase, Status};
use wyneos_shell::clock::Clock;

use super::{
    Kept, bury::bury, conversation::Attendance, places::supervisors_of, premises::Incumbent, processes, stuck::Waits,
};

/// Between two looks for its supervisor.
const LOOK: Duration = Duration::from_millis(500);

/// How long its supervisor may take to end it: three looks at its directory's name, and a grace of its program, which nobody knows any more.
/// Then it is killed, and the program with it.
const PATIENCE: Duration = Duration::from_secs(30);

/// How an instance is that is lost, until it is certain that nothing of it runs.
pub(super) fn ending(what: &str) -> Status {
    Status {
        phase: Phase::Stopping,
        since: Clock::default().wall(),
        detail: format!("{what}; what is left of it is being ended"),
        ..Status::default()
    }
}

/// Waits until the supervisors of an instance, and what they started, have ended, ends what is left, and tells that it has ended; how is not known.
pub(super) async fn attend(mut attendance: Attendance, what: String) {
    let (began, mut waits, mut within) = (Instant::now(), Waits::new(), Vec::<Incumbent>::new());
    loop {
        let (home, turn) = (attendance.home.clone(), attendance.looks.acquire().await);
        let look = spawn_blocking(move || {
            let alive = supervisors_of(&home);
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
            // What a supervisor started ends with it, by the kernel, unless it cannot.
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
