//! Reads of the disk for callers: a few at once of each sort, shared out between identities, and none for a caller who has gone.
//!
//! A read waits for its permit as a future, which ends with its call: what was given up costs nothing. Once it has a thread it holds the
//! permit and the call's place until it ends, and looks on its way whether anybody still waits for it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

use crate::{
    answers::{Flight, Who},
    gate::Caller,
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
    pages: Arc<Pool>,
    looks: Arc<Pool>,
    catch_ups: Arc<Pool>,
    audit: Arc<Pool>,
    snapshots: Arc<Pool>,
}

impl Default for Reads {
    fn default() -> Reads {
        Reads {
            pages: Pool::new(PAGES),
            looks: Pool::new(LOOKS),
            catch_ups: Pool::new(CATCH_UPS),
            audit: Pool::new(AUDIT),
            snapshots: Pool::new(SNAPSHOTS),
        }
    }
}

impl Reads {
    fn pool(&self, sort: Sort) -> &Arc<Pool> {
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
        let permit = Pool::permit(self.pool(sort), &asker.who).await?;
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

/// Permits of one sort.
#[derive(Debug)]
struct Pool {
    of_one: usize,
    all: Arc<Semaphore>,
    /// Permits of each identity that reads or waits, and how many of its reads do.
    of: Mutex<HashMap<Who, (Arc<Semaphore>, usize)>>,
}

/// A permit; the fields are dropped in this order.
#[derive(Debug)]
struct Permit {
    _of_all: OwnedSemaphorePermit,
    _of_one: OwnedSemaphorePermit,
    _entry: Entry,
}

/// An identity's entry in its pool.
#[derive(Debug)]
struct Entry {
    pool: Arc<Pool>,
    who: Who,
}

impl Pool {
    fn new((of_one, of_all): (usize, usize)) -> Arc<Pool> {
        Arc::new(Pool {
            of_one,
            all: Arc::new(Semaphore::new(of_all)),
            of: Mutex::default(),
        })
    }

    fn of(&self) -> MutexGuard<'_, HashMap<Who, (Arc<Semaphore>, usize)>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a permit of one's own, and then for one of all: whoever asks for much waits for oneself, and the queue of all has a few of
    /// each identity. Calls that wait are bounded by the calls that an identity may have, and by their time.
    async fn permit(pool: &Arc<Pool>, who: &Who) -> Option<Permit> {
        let own = {
            let mut of = pool.of();
            let new = || (Arc::new(Semaphore::new(pool.of_one)), 0);
            let (own, reads) = of.entry(who.clone()).or_insert_with(new);
            *reads += 1;
            Arc::clone(own)
        };
        let entry = Entry {
            pool: Arc::clone(pool),
            who: who.clone(),
        };
        let of_one = own.acquire_owned().await.ok()?;
        let of_all = Arc::clone(&pool.all).acquire_owned().await.ok()?;
        Some(Permit {
            _of_all: of_all,
            _of_one: of_one,
            _entry: entry,
        })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut of = self.pool.of();
        if let Some((_, reads)) = of.get_mut(&self.who) {
            *reads -= 1;
            if *reads == 0 {
                of.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests;
