//! Ending supervisors that are there, and do not act.

use std::{future::pending, io, sync::atomic::Ordering, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::watch,
    time::sleep,
};
use wyneos_core::{supervisor::LEASE_MARGIN, time::Time};

use super::{
    boot_time,
    conversation::{STARTING, Seen, Wanted, connect},
    held::Located,
    patience::awake,
    premises::Holder,
    trace,
};

/// Between two looks at a lease: the margin has room for it, and a host that slept is noticed.
const LOOK: Duration = Duration::from_millis(250);

/// How often a supervisor is asked whether it acts, from when it was first heard or told to end, and how long it may take to answer. It
/// takes a fraction of a millisecond; a host under load may let it wait for a processor, or for its memory.
const ASK: Duration = Duration::from_secs(5);
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// Questions in a row without an answer after which it is killed.
const UNANSWERED: u32 = 2;

/// Ends a singleton's supervisor that is there though the lease is nearly over: it was stopped, or hangs, and what it should have ended may run
/// on. So is one that an earlier agent left and that says nothing: how long its lease is nobody else knows. With the supervisor its program
/// ends, and what is left of it is killed as that of any supervisor that is gone.
pub(super) async fn guard(located: &Located, told: watch::Receiver<Wanted>, seen: &Seen) {
    let silent = boot_time() + STARTING;
    loop {
        // By then it has killed everything itself, and had half of the margin to see it gone.
        let lease = told.borrow().lease.map(|until| Time(until) - LEASE_MARGIN / 2);
        let silence = (!seen.heard.load(Ordering::Relaxed)).then_some(silent);
        let due = lease.into_iter().chain(silence).min();
        if due.is_some_and(|due| due <= boot_time()) {
            let cause = match lease.is_some_and(|lease| lease <= boot_time()) {
                true => "its supervisor did not end it before its lease was over,",
                false => "its supervisor said nothing, so that the length of its lease is not known,",
            };
            end(located, seen, cause);
        }
        sleep(LOOK).await;
    }
}

/// Ends a supervisor that was told to end, and neither does nor answers: it was stopped, or hangs, and would be waited for without end. One that
/// answers says itself what it waits for.
pub(super) async fn insist(located: &Located, mut told: watch::Receiver<Wanted>, seen: &Seen) {
    if told.wait_for(|wanted| wanted.stop.is_some()).await.is_err() {
        // The instance was discarded, which its conversation notices.
        return pending().await;
    }
    let mut unanswered = 0;
    loop {
        awake(ASK).await;
        match asked(located, seen).await {
            Answer::Given => unanswered = 0,
            // Not within its time, or its socket was removed while it stands still.
            Answer::None | Answer::Unreachable => unanswered += 1,
        }
        if unanswered >= UNANSWERED {
            end(located, seen, "its supervisor was told to end, did not answer,");
        }
    }
}

/// Asks a supervisor that was heard whether it acts, again and again; returns when it does not answer. One that cannot be connected to makes its
/// socket again, and is taken for silent at the second question.
pub(super) async fn falls_silent(located: &Located, seen: &Seen) {
    let mut unreachable = 0;
    loop {
        awake(ASK).await;
        match asked(located, seen).await {
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

async fn asked(located: &Located, seen: &Seen) -> Answer {
    tokio::select! {
        biased;
        answer = ask(located, seen) => match answer {
            Ok(()) => Answer::Given,
            Err(_) => Answer::Unreachable,
        },
        () = awake(ANSWER) => Answer::None,
    }
}

/// A supervisor that acts says how its instance is to whoever connects.
async fn ask(located: &Located, seen: &Seen) -> io::Result<()> {
    let stream = connect(located, seen).await?;
    match BufReader::new(stream).lines().next_line().await? {
        Some(_) => Ok(()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Kills the process that has an instance's directory. `cause` becomes the reason for which the instance has ended.
fn end(located: &Located, seen: &Seen, cause: &str) {
    let id = located.id();
    let killed = match seen.holder(located).0 {
        Holder::Supervisor(Some(process)) => {
            trace::look(located, process.pid());
            process.kill()
        }
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    match killed {
        Ok(()) => {
            if seen.killed_for(format!("{cause} and was killed together with its program")) {
                tracing::error!(instance = %id, "the supervisor of this instance did not act in time: it was killed together with its program");
            }
        }
        // It may be on its way out.
        Err(error) => tracing::debug!(instance = %id, %error, "its supervisor cannot be killed"),
    }
}
