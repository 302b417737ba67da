//! Ending supervisors that are alive and do not respond.

use std::{future::pending, io, sync::atomic::Ordering, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::UnixStream,
    sync::watch,
    time::{sleep, timeout},
};
use wyneos_core::{supervisor::LEASE_MARGIN, time::Time};

use super::{
    boot_time,
    conversation::{Reach, STARTING, Wanted, connect},
    patience::awake,
    premises::{Holder, Incumbent},
};

/// Interval between two checks of a lease: the margin has room for it, and a suspend of the host is detected.
const LOOK: Duration = Duration::from_millis(250);

/// Time limit for a supervisor that could not be queried before to report something.
const BRIEFLY: Duration = Duration::from_secs(1);

/// Interval at which a supervisor is queried, from when it was first heard or told to end, and time limit of its
/// answer. An answer takes a fraction of a millisecond; a host under load may delay it for a processor, or for its
/// memory.
const ASK: Duration = Duration::from_secs(5);
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// Consecutive unanswered queries after which it is killed.
const UNANSWERED: u32 = 2;

/// Time limit for examining a program before its supervisor is killed: the disk may be stalled, and a lease does not
/// wait.
const LAST_LOOK: Duration = Duration::from_millis(250);

/// Ends a singleton's supervisor that is alive though the lease is nearly over: it was stopped, or hangs, and its
/// program may continue to run. The same applies to one that an earlier agent left and that does not report: its lease
/// is not known. The program ends with the supervisor, and its remains are killed like those of any supervisor that is
/// gone.
pub(super) async fn guard(reach: &Reach, told: watch::Receiver<Wanted>) {
    let mut silent = boot_time() + STARTING;
    let cause = |silent: Time| {
        // By then it has killed everything itself, and half of the margin has passed for it to end.
        let lease = told.borrow().lease.map(|until| Time(until) - LEASE_MARGIN / 2);
        let is_heard = reach.seen.heard.load(Ordering::Relaxed);
        if lease.is_some_and(|lease| lease <= boot_time()) {
            Some("its supervisor did not end it before its lease was over,")
        } else if !is_heard && silent <= boot_time() {
            Some("its supervisor said nothing, so that the length of its lease is not known,")
        } else {
            None
        }
    };
    loop {
        if reach.seen.connecting.load(Ordering::Relaxed) {
            // The disk prevents this agent from querying.
            silent = silent.max(boot_time() + BRIEFLY);
        }
        if cause(silent).is_some() {
            let process = process(reach).await;
            // A supervisor on a slow disk may have been heard, or lent to, meanwhile.
            if let Some(cause) = cause(silent) {
                end(reach, process, cause).await;
            }
        }
        sleep(LOOK).await;
    }
}

/// Ends a supervisor that was told to end, and neither ends nor answers: it was stopped, or hangs, and would be waited
/// for without end. A supervisor that answers reports what it waits for.
pub(super) async fn insist(reach: &Reach, mut told: watch::Receiver<Wanted>) {
    if told.wait_for(|wanted| wanted.stop.is_some()).await.is_err() {
        // The instance was discarded, which its conversation detects.
        return pending().await;
    }
    let mut unanswered = 0;
    loop {
        awake(ASK).await;
        match asked(reach).await {
            Answer::Given => unanswered = 0,
            // Not within its time, or its socket was removed while it is stopped.
            Answer::None | Answer::Unreachable => unanswered += 1,
        }
        if unanswered >= UNANSWERED {
            let process = process(reach).await;
            end(reach, process, "its supervisor was told to end, did not answer,").await;
        }
    }
}

/// Queries a supervisor that was heard, repeatedly; returns when it does not answer. A supervisor without a connection
/// recreates its socket, and counts as silent at the second query.
pub(super) async fn falls_silent(reach: &Reach) {
    let mut unreachable = 0;
    loop {
        awake(ASK).await;
        match asked(reach).await {
            Answer::Given => unreachable = 0,
            Answer::None => return,
            Answer::Unreachable => unreachable += 1,
        }
        if unreachable >= UNANSWERED {
            return;
        }
    }
}

/// Result of a query.
enum Answer {
    Given,
    /// The kernel accepted the connection, and nothing was sent on it in time.
    None,
    /// There is no connection.
    Unreachable,
}

async fn asked(reach: &Reach) -> Answer {
    // Time for which the disk keeps this agent from the socket does not count.
    let Ok(stream) = connect(reach).await else {
        return Answer::Unreachable;
    };
    tokio::select! {
        biased;
        answer = answer(stream) => match answer {
            Ok(()) => Answer::Given,
            Err(_) => Answer::Unreachable,
        },
        () = awake(ANSWER) => Answer::None,
    }
}

/// A responding supervisor sends its instance's status to every client.
async fn answer(stream: UnixStream) -> io::Result<()> {
    match BufReader::new(stream).lines().next_line().await? {
        Some(_) => Ok(()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The process that holds an instance's directory. The one that answered last is known without the disk.
async fn process(reach: &Reach) -> Option<Incumbent> {
    if let Some(process) = reach.seen.process() {
        return Some(process);
    }
    match reach.holder().await.0 {
        Holder::Supervisor(process) => process,
        _ => None,
    }
}

/// Kills the supervisor of an instance. `cause` becomes the reason for which the instance has ended.
async fn end(reach: &Reach, process: Option<Incumbent>, cause: &str) {
    let id = reach.located.id();
    let killed = match process {
        Some(process) => {
            drop(timeout(LAST_LOOK, reach.look_at_program(process.pid())).await);
            process.kill()
        }
        None => Err(io::ErrorKind::NotFound.into()),
    };
    match killed {
        Ok(()) => {
            let is_first = reach
                .seen
                .killed_for(format!("{cause} and was killed together with its program"));
            if is_first {
                tracing::error!(instance = %id, "the supervisor of this instance did not act in time: it was killed together with its program");
            }
        }
        // It may be ending already.
        Err(error) => tracing::debug!(instance = %id, %error, "its supervisor cannot be killed"),
    }
}
