//! The bytes of all answers, and the eviction of answers beyond the limit.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use wyneos_shell::listener::Peer;

use super::Flight;
use crate::metrics::Metrics;

/// Time without reading after which a client's connection may be closed to free memory.
const STALLED: Duration = Duration::from_secs(1);

/// After too little could be released, reclaiming is tried again when this fraction of the limit was added.
const AGAIN: usize = 64;

/// Minimum interval between log lines about ended answers.
const TOLD: Duration = Duration::from_secs(10);

/// The bytes of all answers in transmission.
#[derive(Debug)]
pub(crate) struct Ledger {
    budget: usize,
    /// In addition to the budget: the two newest states, which are always available.
    newest: AtomicUsize,
    bytes: AtomicUsize,
    /// Reclaiming is futile below this number of bytes; 0 if it may succeed.
    futile: AtomicUsize,
    ages: AtomicU64,
    flights: Mutex<Flights>,
    /// Serialises the reclaiming of memory.
    relieving: Mutex<Relief>,
    began: Instant,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Relief {
    /// Time of the last log line.
    told: Option<u64>,
}

#[derive(Debug, Default)]
struct Flights {
    next: u64,
    open: BTreeMap<u64, Weak<Flight>>,
}

/// Bytes that are counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    ledger: Arc<Ledger>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.ledger.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl Ledger {
    /// Creates a ledger with a budget of `budget` bytes in addition to the newest states.
    pub(crate) fn new(budget: usize, metrics: Arc<Metrics>) -> Arc<Ledger> {
        Arc::new(Ledger {
            budget,
            newest: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            futile: AtomicUsize::new(0),
            ages: AtomicU64::new(0),
            flights: Mutex::default(),
            relieving: Mutex::default(),
            began: Instant::now(),
            metrics,
        })
    }

    /// Records that a state of `bytes` was published.
    pub(crate) fn published(&self, bytes: usize) {
        self.newest.store(bytes.saturating_mul(2), Ordering::Relaxed);
        self.metrics.answer_bytes.set(self.bytes() as i64);
    }

    /// All bytes that are counted at present.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    fn limit(&self) -> usize {
        self.budget + self.newest.load(Ordering::Relaxed)
    }

    pub(super) fn why(&self) -> String {
        format!(
            "answers that clients have not read exceed {} MiB, the limit (answer_memory_mib), and this one was among the oldest; continue where it ended, and read faster",
            self.budget >> 20
        )
    }

    /// Creation number: objects created later have a higher one.
    pub(crate) fn age(&self) -> u64 {
        self.ages.fetch_add(1, Ordering::Relaxed)
    }

    /// Milliseconds since the ledger was created.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Counts `bytes`. Beyond the limit, other answers release theirs. The caller must not hold a flight's lock.
    pub(crate) fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        let all = self.bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
        let charge = Charge {
            ledger: Arc::clone(self),
            bytes,
        };
        if all <= self.limit() {
            self.futile.store(0, Ordering::Relaxed);
        } else if all > self.futile.load(Ordering::Relaxed) {
            self.relieve();
        }
        charge
    }

    /// Opens an answer to a call of `peer`.
    pub(crate) fn open(self: &Arc<Self>, peer: Option<Peer>) -> Arc<Flight> {
        let mut flights = self.flights();
        flights.next += 1;
        let number = flights.next;
        let flight = Arc::new(Flight::new(self, number, peer));
        flights.open.insert(number, Arc::downgrade(&flight));
        flight
    }

    pub(super) fn closed(&self, number: u64) {
        self.flights().open.remove(&number);
    }

    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends answers, those that hold the oldest data first, until an eighth of the limit is free. If that is not
    /// sufficient, the rest is in the buffers of connections, and the connections that have been stalled for longest
    /// are closed.
    fn relieve(&self) {
        let Ok(mut relief) = self.relieving.try_lock() else {
            return;
        };
        let now = self.now();
        let (limit, before) = (self.limit(), self.bytes());
        let enough = limit - limit / 8;
        // The lock is released first: a flight that is dropped acquires it.
        let open: Vec<Weak<Flight>> = self.flights().open.values().cloned().collect();
        let open: Vec<Arc<Flight>> = open.iter().filter_map(Weak::upgrade).collect();
        let mut holders: Vec<(u64, &Arc<Flight>)> = open.iter().filter_map(|one| Some((one.age()?, one))).collect();
        holders.sort_unstable_by_key(|(age, _)| *age);
        let mut ended = 0;
        for (_, flight) in holders {
            if self.bytes() <= enough {
                break;
            }
            flight.evict();
            ended += 1;
        }
        let closed = self.close_stalled(&open, self.bytes().saturating_sub(enough));
        self.metrics.answers_ended(ended, closed);
        let left = self.bytes();
        let futile = if left > limit { left + limit / AGAIN } else { 0 };
        self.futile.store(futile, Ordering::Relaxed);
        if ended + closed > 0 && relief.told.is_none_or(|told| now > told + TOLD.as_millis() as u64) {
            relief.told = Some(now);
            tracing::warn!(
                ended,
                connections_closed = closed,
                before,
                limit,
                "clients do not read their answers: the oldest were ended to bound their memory"
            );
        }
    }

    /// Closes connections until `excess` bytes will be released; returns the number of closed connections.
    fn close_stalled(&self, open: &[Arc<Flight>], mut excess: usize) -> u64 {
        let until = self.now().saturating_sub(STALLED.as_millis() as u64);
        let mut stalled: Vec<(u64, usize, &Arc<Flight>)> = open
            .iter()
            .map(|flight| (flight.stalled(), flight))
            .filter(|((moved, bytes), _)| *moved < until && *bytes > 0)
            .map(|((moved, bytes), flight)| (moved, bytes, flight))
            .collect();
        stalled.sort_unstable_by_key(|(moved, ..)| *moved);
        let mut closed = 0;
        for (_, bytes, flight) in stalled {
            if excess == 0 {
                break;
            }
            if flight.close() {
                closed += 1;
                excess = excess.saturating_sub(bytes);
            }
        }
        closed
    }
}
