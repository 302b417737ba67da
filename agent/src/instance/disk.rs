//! Work that may wait for the disk, beside the agent's single task thread, which keeps the session.
//!
//! A stalled disk blocks every process that accesses it within the kernel, where no signal and no time limit applies:
//! opening a directory, connecting to a socket by its path, and examining a process's open files block like a write.
//! All such work is done by separate threads. They are few, because the runtime's others are for the session (host
//! names, the certificate).

use std::{io, sync::Arc};

use tokio::{sync::Semaphore, task::spawn_blocking};

/// Number of threads that work, or wait, at the same time. Higher: instances delay each other less while a part of the
/// disk is slow. Lower: less memory while it stalls.
const THREADS: usize = 16;

/// Runs work that may wait for the disk; clones share its threads.
#[derive(Clone, Debug)]
pub(super) struct Disk(Arc<Semaphore>);

impl Disk {
    pub(super) fn new() -> Disk {
        Disk(Arc::new(Semaphore::new(THREADS)))
    }

    /// Runs `work` on another thread, in order. Abandoned work occupies its thread until it is done.
    ///
    /// It panicked, or the agent is ending.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let turn = Arc::clone(&self.0).acquire_owned().await.map_err(io::Error::other)?;
        let done = spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        done.await.map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests;
