//! Reads of the disk for callers: a few at once per kind, distributed fairly between identities, and none for a caller
//! that is gone.
//!
//! A read waits for its permit as a future, which ends with its call: an abandoned read costs nothing. Once it has a
//! thread it holds the permit and the call's place until it ends, and checks periodically whether its caller still
//! waits.

use std::sync::{Arc, Weak};

use tokio::task::spawn_blocking;

use crate::{
    answers::{Flight, Who},
    gate::Caller,
    turns::{Most, Turns},
};

/// Kinds of reads. Each kind has separate permits, so that none waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// A page of a list.
    Page,
    /// A short read: an explanation, or whether something is known.
    Look,
    /// The events or audit entries that a subscriber missed.
    CatchUp,
    /// A page of the audit.
    Audit,
    /// One or two whole snapshots; each occupies its memory meanwhile.
    Snapshot,
}

/// Maximum number of simultaneous reads: of one identity, and in total. Higher: more of them at once on hosts with many
/// processors, each holding a page of 1 MiB.
const PAGES: (usize, usize) = (2, 4);
const LOOKS: (usize, usize) = (2, 4);
const CATCH_UPS: (usize, usize) = (2, 4);
const AUDIT: (usize, usize) = (1, 2);
const SNAPSHOTS: (usize, usize) = (1, 2);

/// Threads for blocking operations other than reads: a backup, standard input, and files of the CA.
const BESIDE: usize = 8;

/// Maximum number of blocking threads, so that every permit has a thread.
pub(crate) const THREADS: usize = PAGES.1 + LOOKS.1 + CATCH_UPS.1 + AUDIT.1 + SNAPSHOTS.1 + BESIDE;

/// The caller that waits for a read.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    who: Who,
    /// The call's place.
    flight: Option<Arc<Flight>>,
}

impl Asker {
    /// The caller of a request.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Asker {
        let extensions = request.extensions();
        Asker {
            who: extensions.get::<Caller>().cloned().unwrap_or_default().who(),
            flight: extensions.get::<Arc<Flight>>().cloned(),
        }
    }
}

/// Whether a read's caller still waits for it.
#[derive(Debug)]
pub(crate) struct Still(Weak<()>);

impl Still {
    /// Creates the handle of a read whose caller waits for as long as `waits` is held.
    pub(crate) fn of(waits: &Arc<()>) -> Still {
        Still(Arc::downgrade(waits))
    }

    /// Returns whether the caller is gone, and the result is dropped.
    pub(crate) fn is_over(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// The permits of all kinds.
#[derive(Debug)]
pub(crate) struct Reads {
    pages: Arc<Turns>,
    looks: Arc<Turns>,
    catch_ups: Arc<Turns>,
    audit: Arc<Turns>,
    snapshots: Arc<Turns>,
}

impl Default for Reads {
    fn default() -> Reads {
        Reads {
            pages: turns(PAGES),
            looks: turns(LOOKS),
            catch_ups: turns(CATCH_UPS),
            audit: turns(AUDIT),
            snapshots: turns(SNAPSHOTS),
        }
    }
}

/// Waiting calls are bounded by the calls of an identity, and by their time limit.
fn turns((of_one, of_all): (usize, usize)) -> Arc<Turns> {
    Turns::new(Most {
        of_one,
        of_all,
        waiting_of_one: usize::MAX,
        waiting: usize::MAX,
    })
}

impl Reads {
    fn turns(&self, sort: Sort) -> &Arc<Turns> {
        match sort {
            Sort::Page => &self.pages,
            Sort::Look => &self.looks,
            Sort::CatchUp => &self.catch_ups,
            Sort::Audit => &self.audit,
            Sort::Snapshot => &self.snapshots,
        }
    }

    /// Runs `read` on a blocking thread, once there is a permit for it. Dropping the future drops a waiting read, and
    /// ends a running one at its next check. `None` if it was cut off.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        sort: Sort,
        asker: &Asker,
        read: impl FnOnce(&Still) -> T + Send + 'static,
    ) -> Option<T> {
        let permit = self.turns(sort).take(asker.who.clone()).await.ok()?;
        let waits = Arc::new(());
        let (still, place) = (Still::of(&waits), asker.flight.clone());
        let run = spawn_blocking(move || {
            let result = (!still.is_over()).then(|| read(&still));
            drop(place);
            // Held until the result was taken, which bounds the results that wait.
            (result, permit)
        });
        let (result, permit) = run.await.ok()?;
        drop((waits, permit));
        result
    }
}

#[cfg(test)]
mod tests;
