//! Usage of the host's disks, queried by a separate thread: a file system with a stalled device may not answer, and
//! blocks the process that queries it, or resolves a path to it, within the kernel.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use super::{mounts, paced::Paced, sampler::read_text};

/// Time after which a lookup counts as stalled, and the last result is no longer reported.
const LATE: Duration = Duration::from_secs(1);

/// The newest lookup of the host's disks.
#[derive(Debug)]
pub(super) struct Usage {
    ask: SyncSender<()>,
    looked: Arc<Mutex<Looked>>,
}

#[derive(Debug, Default)]
struct Looked {
    used: Option<f64>,
    /// Start of the lookup in progress.
    since: Option<Instant>,
}

fn held(looked: &Mutex<Looked>) -> MutexGuard<'_, Looked> {
    looked.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Usage {
    /// Starts with a lookup of the file systems in this list of mounts.
    pub(super) fn new(mountinfo: PathBuf) -> Usage {
        let (ask, asked) = sync_channel(1);
        let looked = Arc::new(Mutex::new(Looked::default()));
        let to = Arc::clone(&looked);
        // Without a thread requests are not processed, and the usage is unknown.
        drop(
            thread::Builder::new()
                .name("disks".to_owned())
                .spawn(move || look(&mountinfo, &asked, &to)),
        );
        let usage = Usage { ask, looked };
        usage.used();
        usage
    }

    /// Usage of the fullest of them at the last lookup, 0 to 1; requests another lookup, without waiting. `None` if it
    /// is unknown, and while a disk stalls.
    pub(super) fn used(&self) -> Option<f64> {
        let mut looked = held(&self.looked);
        match looked.since {
            Some(since) => looked.used.filter(|_| since.elapsed() < LATE),
            None => {
                looked.since = self.ask.try_send(()).is_ok().then(Instant::now);
                looked.used
            }
        }
    }
}

/// Performs requested lookups, until all senders are dropped.
fn look(mountinfo: &Path, asked: &Receiver<()>, looked: &Mutex<Looked>) {
    let mut points = Paced::new();
    while asked.recv().is_ok() {
        let points = points.get(Instant::now(), || Some(mounts::storage(&read_text(mountinfo)?)));
        let used = points.and_then(|points| mounts::fullest(points));
        *held(looked) = Looked {
            used: used.map(|usage| usage.used),
            since: None,
        };
    }
}

/// The result of `work`, if it ends within this time; otherwise it continues unattended.
pub(super) fn within<T: Send + 'static>(patience: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, done) = sync_channel(1);
    let work = move || drop(sender.send(work()));
    thread::Builder::new().name("disks".to_owned()).spawn(work).ok()?;
    done.recv_timeout(patience).ok()
}
