//! Ending supervisors that are there, and do not act.

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

/// Between two looks at a lease: the margin has room for it, and a host that slept is noticed.
const LOOK: Duration = Duration::from_millis(250);

/// How long a supervisor that could not be asked before may take to say something.
const BRIEFLY: Duration = Duration::from_secs(1);

/// How often a supervisor is asked whether it acts, from when it was first heard or told to end, and how long it may take to answer. It
/// takes a fraction of a millisecond; a host under load may let it wait for a processor, or for its memory.
const ASK: Duration = Duration::from_secs(5);
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// Questions in a row without an answer after which it is killed.
const UNANSWERED: u32 = 2;

/// How long the look at a program may take that is made before its supervisor is killed: the disk may be what keeps it, and a lease does not wait.
const LAST_LOOK: Duration = Duration::from_millis(250);

/// Ends a singleton's supervisor that is there though the lease is nearly over: it was stopped, or hangs, and what it should have ended may run
/// on. So is one that an earlier agent left and that says nothing: how long its lease is nobody else knows. With the supervisor its program
/// ends, and what is left of it is killed as that of any supervisor that is gone.
pub(super) async fn guard(reach: &Reach, told: watch::Receiver<Wanted>) {
    let mut silent = boot_time() + STARTING;
    let cause = |silent: Time| {
        // By then it has killed everything itself, and had half of the margin to see it gone.
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
            // The disk keeps this agent from asking.
            silent = silent.max(boot_time() + BRIEFLY);
        }
        if cause(silent).is_some() {
            let process = process(reach).await;
            // Whoever had to be looked for on a disk that is slow may have been heard, or lent to, meanwhile.
            if let Some(cause) = cause(silent) {
                end(reach, process, cause).await;
            }
        }
        sleep(LOOK).await;
    }
}

/// Ends a supervisor that was told to end, and neither does nor answers: it was stopped, or hangs, and would be waited for without end. One that
/// answers says itself what it waits for.
pub(super) async fn insist(reach: &Reach, mut told: watch::Receiver<Wanted>) {
    if told.wait_for(|wanted| wanted.stop.is_some()).await.is_err() {
        // The instance was discarded, which its conversation notices.
        return pending().await;
    }
    let mut unanswered = 0;
    loop {
        awake(ASK).await;
        match asked(reach).await {
            Answer::Given => unanswered = 0,
            // Not within its time, or its socket was removed while it stands still.
            Answer::None | Answer::Unreachable => unanswered += 1,
        }
        if unanswered >= UNANSWERED {
            let process = process(reach).await;
            end(reach, process, "its supervisor was told to end, did not answer,").await;
        }
    }
}

/// Asks a supervisor that was heard whether it acts, again and again; returns when it does not answer. One that cannot be connected to makes its
/// socket again, and is taken for silent at the second question.
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

/// What came of a question.
enum Answer {
    Given,
    /// The kernel took the connection, and nothing was said on it in time.
    None,
    /// There is no connection.
    Unreachable,
}

async fn asked(reach: &Reach) -> Answer {
    // Time for which the disk keeps this agent from the socket is none in which the supervisor did not answer.
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

/// A supervisor that acts says how its instance is to whoever connects.
async fn answer(stream: UnixStream) -> io::Result<()> {
    match BufReader::new(stream).lines().next_line().await? {
        Some(_) => Ok(()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The process that has an instance's directory. The one that answered last is known without the disk.
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
        // It may be on its way out.
        Err(error) => tracing::debug!(instance = %id, %error, "its supervisor cannot be killed"),
    }
}
