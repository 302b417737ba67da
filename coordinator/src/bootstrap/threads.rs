//! The threads of the engine and of the publisher: how they begin, and that they end in time.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Builder, Runtime},
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::BootError;
use crate::{
    engine::Engine,
    publisher::{Publisher, Work},
};

/// How often a thread that is to end is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Starts the engine: a thread and a runtime of its own, so that a cycle of many nodes holds up nobody's connection.
pub(super) fn start_engine(engine: Engine) -> Result<thread::JoinHandle<()>, BootError> {
    let failed = |e| BootError::System("start the engine", e);
    let runtime = Builder::new_current_thread().enable_time().build().map_err(failed)?;
    let thread = thread::Builder::new().name("engine".to_owned());
    thread.spawn(move || runtime.block_on(engine.run())).map_err(failed)
}

pub(super) type PublisherThread = thread::JoinHandle<Result<(), BootError>>;

/// Starts the publisher; the receiver hears when it ends, as it does when the store fails.
pub(super) fn start_publisher(
    publisher: Publisher,
    work: mpsc::UnboundedReceiver<Work>,
) -> Result<(PublisherThread, oneshot::Receiver<()>), BootError> {
    let (ended, failed) = oneshot::channel::<()>();
    let run = move || {
        let result = publisher.run(work).map_err(BootError::Store);
        drop(ended);
        result
    };
    let thread = thread::Builder::new().name("publisher".to_owned()).spawn(run);
    Ok((thread.map_err(|e| BootError::System("start the publisher", e))?, failed))
}

/// Tells a thread something, if it can be told in time.
pub(super) fn tell(runtime: &Runtime, until: Instant, told: impl Future<Output = ()>) {
    // Whoever is not told does not end, which is noticed.
    drop(runtime.block_on(async { timeout(until.saturating_duration_since(Instant::now()), told).await }));
}

/// What a thread ends with; an error if it does not end in time.
pub(super) fn joined<T>(name: &'static str, thread: thread::JoinHandle<T>, until: Instant) -> Result<T, BootError> {
    while !thread.is_finished() {
        if Instant::now() >= until {
            return Err(BootError::Stuck(name));
        }
        thread::sleep(LOOK);
    }
    let panicked = |_| BootError::System("end a thread", io::Error::other(format!("the {name} thread panicked")));
    thread.join().map_err(panicked)
}
