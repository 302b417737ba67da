//! Work that may wait for the disk, beside the agent's one task thread, which keeps the session.
//!
//! A disk that stalls holds whoever asks it anything within the kernel, where no signal reaches and no time limit counts: opening a directory, connecting
//! to a socket by its path, and looking at a process's open files wait as a write does. So everything of that kind goes to threads of its own. Few of
//! them: the others of the runtime's are for what the session needs (host names, the certificate).

use std::{io, sync::Arc};

use tokio::{sync::Semaphore, task::spawn_blocking};

/// Threads that work, or wait, at the same time. More: instances get in each other's way less while a part of the disk is slow. Fewer: less memory while it
/// stalls.
const THREADS: usize = 16;

/// Runs what may wait for the disk; clones share its threads.
#[derive(Clone, Debug)]
pub(super) struct Disk(Arc<Semaphore>);

impl Disk {
    pub(super) fn new() -> Disk {
        Disk(Arc::new(Semaphore::new(THREADS)))
    }

    /// Runs `work` on another thread, in its turn. One whose caller waits no longer keeps its thread until it is done.
    ///
    /// # Errors
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
