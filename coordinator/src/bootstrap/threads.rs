//! The threads of the engine and of the publisher: their start, and their end within a time limit.

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

/// Interval at which an ending thread is polled.
const LOOK: Duration = Duration::from_millis(5);

/// Starts the engine with a separate thread and runtime, so that a cycle of many nodes delays no connection.
pub(super) fn start_engine(engine: Engine) -> Result<thread::JoinHandle<()>, BootError> {
    let failed = |e| BootError::System("start the engine", e);
    let runtime = Builder::new_current_thread().enable_time().build().map_err(failed)?;
    let thread = thread::Builder::new().name("engine".to_owned());
    thread.spawn(move || runtime.block_on(engine.run())).map_err(failed)
}

pub(super) type PublisherThread = thread::JoinHandle<Result<(), BootError>>;

/// Starts the publisher; the receiver is notified when it ends, for example because the store fails.
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

/// Sends a thread a message, within the time limit.
pub(super) fn tell(runtime: &Runtime, until: Instant, told: impl Future<Output = ()>) {
    // A thread that is not notified does not end, which is detected.
    drop(runtime.block_on(async { timeout(until.saturating_duration_since(Instant::now()), told).await }));
}

/// The result of a thread; an error if it does not end in time.
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
