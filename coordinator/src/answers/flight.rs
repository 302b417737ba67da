//! The answer of one call while it is sent.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::Waker,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use tokio::time::Instant;
use tonic::Status;
use wyneos_shell::listener::Peer;

use super::{Charge, Ledger, Message, Taken, WINDOW};
use crate::{board::Work, status};

/// The memory that a call's answer holds, and the progress of its client.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(super) ledger: Arc<Ledger>,
    number: u64,
    peer: Option<Peer>,
    /// Bytes in the connection's buffers.
    in_flight: AtomicUsize,
    /// Time at which the client last read, by the ledger's clock.
    moved: AtomicU64,
    waker: AtomicWaker,
    /// Time at which the answer ends, whatever remains to be sent.
    until: OnceLock<Instant>,
    holding: Mutex<Holding>,
}

#[derive(Debug, Default)]
struct Holding {
    /// A message, and the next part of it.
    message: Option<(Message, usize)>,
    /// The state that the next message is computed against.
    view: Option<Arc<Work>>,
    /// Set when the ledger reclaimed everything.
    evicted: bool,
    permits: Vec<Taken>,
    /// Charge for the end of the answer.
    end: Option<Charge>,
}

/// Estimated bytes for the end of an answer, which is its headers or its trailers, and for its stream.
const END: usize = 2 * 1024;

/// The next message to send.
pub(super) enum Next {
    Part(Bytes),
    /// No message is held: the next one is to be created.
    Nothing,
    /// The memory was reclaimed for others.
    Evicted(Status),
}

impl Flight {
    pub(super) fn new(ledger: &Arc<Ledger>, number: u64, peer: Option<Peer>) -> Flight {
        Flight {
            ledger: Arc::clone(ledger),
            number,
            peer,
            in_flight: AtomicUsize::new(0),
            moved: AtomicU64::new(ledger.now()),
            waker: AtomicWaker::new(),
            until: OnceLock::new(),
            holding: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Holding> {
        self.holding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a permit until the last byte of the answer was written.
    pub(crate) fn keep(&self, permit: Taken) {
        self.lock().permits.push(permit);
    }

    /// Sets the latest time at which the answer ends.
    pub(crate) fn end_by(&self, until: Instant) {
        // The first setting takes precedence.
        let _ = self.until.set(until);
    }

    pub(super) fn until(&self) -> Option<Instant> {
        self.until.get().copied()
    }

    /// Holds a message to be sent. An evicted flight holds nothing any more.
    pub(super) fn hold(&self, message: Message) {
        let mut holding = self.lock();
        if !holding.evicted {
            holding.message = Some((message, 0));
        }
    }

    /// Holds the view that the client has; it can be reclaimed like everything else.
    pub(crate) fn hold_view(&self, view: Arc<Work>) {
        let mut holding = self.lock();
        let before = match holding.evicted {
            true => None,
            false => holding.view.replace(view),
        };
        // Dropped outside the lock, because it may be the last reference.
        drop(holding);
        drop(before);
    }

    /// The view that the client has.
    pub(crate) fn view(&self) -> Option<Arc<Work>> {
        self.lock().view.clone()
    }

    pub(super) fn next(&self) -> Next {
        let mut holding = self.lock();
        if holding.evicted {
            drop(holding);
            return Next::Evicted(status::exhausted("ANSWER_MEMORY", self.ledger.why()));
        }
        let part = holding.message.as_mut().and_then(|(message, at)| {
            let part = message.part(*at);
            *at += 1;
            part
        });
        match part {
            Some(part) => Next::Part(part),
            None => {
                let done = holding.message.take();
                drop(holding);
                drop(done);
                Next::Nothing
            }
        }
    }

    /// Returns whether more bytes may be handed over; if not, `waker` is woken once they may.
    pub(super) fn has_room(&self, waker: &Waker) -> bool {
        self.waker.register(waker);
        self.in_flight.load(Ordering::Acquire) < WINDOW
    }

    /// Bytes that are counted until they were written.
    pub(super) fn hand_over(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        let len = bytes.len();
        self.in_flight.fetch_add(len, Ordering::AcqRel);
        let charge = self.ledger.charge(len);
        Bytes::from_owner(Handed {
            bytes,
            flight: Arc::clone(self),
            _charge: charge,
        })
    }

    /// Counts the end of the answer, which is all that remains, until it was written.
    pub(super) fn finish(self: &Arc<Self>) {
        let Some(peer) = &self.peer else { return };
        let charge = self.ledger.charge(END);
        self.in_flight.fetch_add(END, Ordering::AcqRel);
        self.lock().end = Some(charge);
        peer.park(Arc::clone(self));
    }

    /// Age of the oldest data that it holds and could release.
    pub(super) fn age(&self) -> Option<u64> {
        let holding = self.lock();
        let message = holding.message.as_ref().map(|(message, _)| message.age());
        let view = holding.view.as_ref().and_then(|view| view.superseded());
        message.into_iter().chain(view).min()
    }

    /// Releases everything that it holds; the answer ends with an error.
    pub(super) fn evict(&self) {
        let mut holding = self.lock();
        holding.evicted = true;
        let held = (holding.message.take(), holding.view.take());
        drop(holding);
        drop(held);
        self.waker.wake();
    }

    /// Time at which the client last read, and the number of bytes that it has not read of those handed over.
    pub(super) fn stalled(&self) -> (u64, usize) {
        let in_flight = self.in_flight.load(Ordering::Acquire);
        (self.moved.load(Ordering::Relaxed), in_flight)
    }

    /// Closes the whole connection; false if that is not possible.
    pub(super) fn close(&self) -> bool {
        self.peer.as_ref().inspect(|peer| peer.close()).is_some()
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.ledger.closed(self.number);
    }
}

/// Bytes in a connection's buffers.
struct Handed {
    bytes: Bytes,
    flight: Arc<Flight>,
    _charge: Charge,
}

impl AsRef<[u8]> for Handed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        let flight = &self.flight;
        flight.moved.store(flight.ledger.now(), Ordering::Relaxed);
        flight.in_flight.fetch_sub(self.bytes.len(), Ordering::AcqRel);
        flight.waker.wake();
    }
}
