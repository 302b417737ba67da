//! Bootstrap in stages: `open` the files on the disk, `follow` until this coordinator may lead, `lead` its engine, and
//! `serve`, which ends with a drain in reverse.

mod error;
mod keys;
mod lead;
mod open;
mod serve;
mod threads;

use std::{sync::Arc, thread, time::Duration};

use tokio::runtime::{Builder, Runtime};
use wyneos_core::time::WallTime;
use wyneos_shell::{clock::wait_until_past, descriptors};

pub(crate) use error::BootError;
use lead::lead;
use open::{Opened, open};
use serve::serve;

use crate::{config::Config, reads, store::Store as _};

/// Tolerance for a clock that was set back and may be correct nevertheless.
const SET_BACK: Duration = Duration::from_secs(300);

/// Runs a coordinator until it is asked to stop, or until it fails.
pub(crate) fn run(config: Config, exit_with_stdin: bool) -> Result<(), BootError> {
    // Engine and publisher have separate threads. Sessions are mostly idle, and waking a worker for one heartbeat costs
    // more than the heartbeat: with few workers each finds more to do.
    descriptors::raise();
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let runtime = Builder::new_multi_thread()
        .worker_threads(cpus.div_ceil(2))
        .max_blocking_threads(reads::THREADS)
        .enable_all()
        .build()
        .map_err(|e| BootError::System("start threads", e))?;
    let result = boot(&runtime, config, exit_with_stdin);
    // Blocking operations that still run (a read of standard input) do not delay the exit.
    runtime.shutdown_background();
    result
}

fn boot(runtime: &Runtime, config: Config, exit_with_stdin: bool) -> Result<(), BootError> {
    let opened = open(Arc::new(config))?;
    follow(&opened)?;
    let leading = lead(opened)?;
    serve(runtime, leading, exit_with_stdin)
}

/// Returns once this coordinator may lead. It is the only coordinator, and waits only for a clock that is behind the
/// newest snapshot; whether that snapshot's clock was ahead cannot be determined, and the coordinator then starts.
fn follow(opened: &Opened) -> Result<(), BootError> {
    let Some(newest) = opened.store.history().seals(u64::MAX, 1)?.pop() else {
        return Ok(());
    };
    let least = WallTime(newest.time.0.saturating_sub(SET_BACK.as_millis() as i64));
    let bound = opened.config.clock_wait.0;
    if let Err(behind) = wait_until_past(least, "the newest snapshot was sealed, but for five minutes", bound) {
        tracing::warn!("starting anyway, as the clock may have been ahead before: {behind}");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
