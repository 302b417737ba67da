//! How full the host's disks are, asked by a thread of its own: a file system whose device stalls may answer nothing, and holds whoever asks it, or looks for
//! the path to it, within the kernel.

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

/// A look that takes longer has stalled, and what the last one found is not told any more.
const LATE: Duration = Duration::from_secs(1);

/// The newest look at the host's disks.
#[derive(Debug)]
pub(super) struct Usage {
    ask: SyncSender<()>,
    looked: Arc<Mutex<Looked>>,
}

#[derive(Debug, Default)]
struct Looked {
    used: Option<f64>,
    /// Since when a look is under way.
    since: Option<Instant>,
}

fn held(looked: &Mutex<Looked>) -> MutexGuard<'_, Looked> {
    looked.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Usage {
    /// Begins with a look at the file systems that this list of mounts has.
    pub(super) fn new(mountinfo: PathBuf) -> Usage {
        let (ask, asked) = sync_channel(1);
        let looked = Arc::new(Mutex::new(Looked::default()));
        let to = Arc::clone(&looked);
        // Without a thread nobody takes what is asked, and nothing is known.
        drop(
            thread::Builder::new()
                .name("disks".to_owned())
                .spawn(move || look(&mountinfo, &asked, &to)),
        );
        let usage = Usage { ask, looked };
        usage.used();
        usage
    }

    /// How full the fullest of them was at the last look, 0 to 1; has another one made, and waits for none. `None` where nothing is known, and while a
    /// disk stalls.
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

/// Looks whenever that is asked for, until nobody can ask any more.
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

/// What `work` gives, if it does within this time; it is left to itself otherwise.
pub(super) fn within<T: Send + 'static>(patience: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, done) = sync_channel(1);
    let work = move || drop(sender.send(work()));
    thread::Builder::new().name("disks".to_owned()).spawn(work).ok()?;
    done.recv_timeout(patience).ok()
}
