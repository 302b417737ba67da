//! Ending supervisors that are there, and do not act.

use std::{future::pending, io, sync::atomic::Ordering, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::watch,
    time::{sleep, timeout},
};
use wyneos_core::{supervisor::LEASE_MARGIN, time::Time};

use super::{
    boot_time,
    conversation::{STARTING, Seen, Wanted, connect},
    held::Located,
    premises::Holder,
};

/// Between two looks at a lease: the margin has room for it, and a host that slept is noticed.
const LOOK: Duration = Duration::from_millis(250);

/// How long a supervisor that was told to end may go on before it is asked whether it acts; how often it is asked, and how long it may take to
/// answer.
const ASK: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(5);

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
        sleep(ASK).await;
        match timeout(ANSWER, ask(located, seen)).await {
            Ok(Ok(())) => unanswered = 0,
            // Not within its time, or its socket was removed while it stands still.
            Ok(Err(_)) | Err(_) => unanswered += 1,
        }
        if unanswered >= UNANSWERED {
            end(located, seen, "its supervisor was told to end, did not answer,");
        }
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
        Holder::Supervisor(Some(process)) => process.kill(),
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
