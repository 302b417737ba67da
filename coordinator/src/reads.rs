//! Reads of the disk for callers: a few at once of each sort, shared out between identities, and none for a caller who has gone.
//!
//! A read waits for its permit as a future, which ends with its call: what was given up costs nothing. Once it has a thread it holds the
//! permit and the call's place until it ends, and looks on its way whether anybody still waits for it.

use std::sync::{Arc, Weak};

use tokio::task::spawn_blocking;

use crate::{
    answers::{Flight, Who},
    gate::Caller,
    turns::{Most, Turns},
};

/// What is read. Each sort has permits of its own, so that none waits behind another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// A page of a list.
    Page,
    /// A short look: an explanation, or whether something is known.
    Look,
    /// What a subscriber of events or of the audit missed.
    CatchUp,
    /// A page of the audit.
    Audit,
    /// A whole snapshot or two; each takes its memory meanwhile.
    Snapshot,
}

/// Reads at once: of one identity, and of all. More: more of them at once on hosts with many processors, which hold a page of 1 MiB each.
const PAGES: (usize, usize) = (2, 4);
const LOOKS: (usize, usize) = (2, 4);
const CATCH_UPS: (usize, usize) = (2, 4);
const AUDIT: (usize, usize) = (1, 2);
const SNAPSHOTS: (usize, usize) = (1, 2);

/// Threads for what blocks beside reads: a backup, standard input, and files of the CA.
const BESIDE: usize = 8;

/// Threads that block at most, so that whatever has a permit has a thread.
pub(crate) const THREADS: usize = PAGES.1 + LOOKS.1 + CATCH_UPS.1 + AUDIT.1 + SNAPSHOTS.1 + BESIDE;

/// Who waits for a read.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    who: Who,
    /// Has the call's place.
    flight: Option<Arc<Flight>>,
}

impl Asker {
    /// Whoever makes the call.
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
    /// As long as `waits` is held.
    pub(crate) fn of(waits: &Arc<()>) -> Still {
        Still(Arc::downgrade(waits))
    }

    /// True once the caller has gone: the result is dropped, whatever it is.
    pub(crate) fn is_over(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// The permits of all sorts.
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

/// Calls that wait are bounded by the calls that an identity may have, and by their time.
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

    /// Runs `read` on a thread that may block, once there is a permit for it. Dropping the future drops a read that waits, and ends one
    /// that runs when it next looks. `None` when it was cut off.
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
            // Until the result was taken: what was read and waits to be taken is bounded, too.
            (result, permit)
        });
        let (result, permit) = run.await.ok()?;
        drop((waits, permit));
        result
    }
}

#[cfg(test)]
mod tests;
