//! Connection slots: their number, in total and per source, and the choice of the connection that is closed in favour
//! of a new one.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::task::AtomicWaker;

use super::{Limits, Refused};

/// Minimum age of an unauthenticated connection before it may be displaced. A handshake and a first call take far less.
const GRACE: Duration = Duration::from_secs(1);

/// Returns the source of an address: an IPv4 address, also in IPv6 notation, or an IPv6 /64 network.
pub fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        address @ IpAddr::V4(_) => address,
    }
}

/// Values of completed responses, kept until these are written.
type Parked = Vec<Box<dyn Any + Send>>;

/// The shared state of a connection: whether its peer is authenticated, and the means to close it.
#[derive(Debug)]
pub(super) struct Line {
    number: u64,
    pub(super) address: SocketAddr,
    began: Instant,
    vouched: AtomicBool,
    /// Set when the place was given to another connection.
    displaced: AtomicBool,
    closed: AtomicBool,
    /// Set when no more data is read from the connection.
    turned_away: AtomicBool,
    /// `None` once the connection has ended.
    parked: Mutex<Option<Parked>>,
    waker: AtomicWaker,
    slots: Arc<Slots>,
}

impl Line {
    /// Marks the peer as authenticated: the connection can no longer be displaced.
    pub(super) fn vouch(&self) {
        if !self.vouched.swap(true, Ordering::Relaxed) {
            self.slots.lock().forget_stranger(self.number);
        }
    }

    pub(super) fn is_vouched(&self) -> bool {
        self.vouched.load(Ordering::Relaxed)
    }

    /// Closes the connection.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Stops reading from the connection, which is closed soon afterwards.
    pub(super) fn turn_away(&self) {
        self.turned_away.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub(super) fn is_turned_away(&self) -> bool {
        self.turned_away.load(Ordering::Acquire)
    }

    /// Keeps `kept` until the queued data was written, or the connection ended.
    pub(super) fn park(&self, kept: Box<dyn Any + Send>) {
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        let over = match parked.as_mut() {
            Some(parked) => {
                parked.push(kept);
                None
            }
            None => Some(kept),
        };
        // Dropped without holding the lock: the last reference to a value may acquire other locks when it is dropped.
        drop(parked);
        drop(over);
    }

    /// Drops the parked values.
    pub(super) fn written(&self) {
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        let written = parked.as_mut().filter(|parked| !parked.is_empty()).map(std::mem::take);
        drop(parked);
        drop(written);
    }

    /// Drops the parked values, and all that are parked later.
    pub(super) fn ended(&self) {
        let parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(parked);
    }

    /// Returns ready once the connection must be closed. Only the connection itself may poll it, because there is one
    /// waker.
    pub(super) fn poll_closed(&self, context: &mut Context<'_>) -> Poll<()> {
        self.waker.register(context.waker());
        match self.closed.load(Ordering::Acquire) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    of: HashMap<IpAddr, usize>,
    /// Connections whose peer is not authenticated so far, oldest first, and whether each completed its handshake
    /// without a certificate.
    strangers: BTreeMap<u64, (Arc<Line>, bool)>,
    nobodys: usize,
    next: u64,
}

impl Held {
    fn forget_stranger(&mut self, number: u64) {
        if let Some((_, greeted)) = self.strangers.remove(&number) {
            self.nobodys -= usize::from(greeted);
        }
    }

    fn free(&mut self, source: IpAddr) {
        self.all -= 1;
        if let Some(count) = self.of.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.of.remove(&source);
            }
        }
    }

    /// Closes the oldest unauthenticated connection for which `fits` holds, unless it is too young, and frees its
    /// place.
    fn displace(&mut self, fits: impl Fn(&Line, bool) -> bool) -> Option<Arc<Line>> {
        let mut old = self
            .strangers
            .values()
            .take_while(|(line, _)| line.began.elapsed() >= GRACE);
        let (oldest, _) = old.find(|(line, greeted)| fits(line, *greeted))?;
        let oldest = Arc::clone(oldest);
        self.forget_stranger(oldest.number);
        oldest.displaced.store(true, Ordering::Relaxed);
        self.free(source(oldest.address.ip()));
        oldest.close();
        Some(oldest)
    }
}

/// The places of a listener.
#[derive(Debug)]
pub(super) struct Slots {
    limits: Limits,
    held: Mutex<Held>,
}

/// The place of a connection, released on drop.
#[derive(Debug)]
pub(super) struct Slot(pub(super) Arc<Line>);

/// The connection that was displaced, and the limit that was reached.
pub(super) type Displaced = Option<(Arc<Line>, &'static str)>;

/// Names of the limits in the configuration.
const OF_ALL: &str = "max_connections";
const OF_ONE_SOURCE: &str = "max_connections_per_source";
const OF_NOBODYS: &str = "half of max_connections";

impl Slots {
    pub(super) fn new(limits: Limits) -> Arc<Slots> {
        let held = Mutex::default();
        Arc::new(Slots { limits, held })
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether no connection is counted.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let held = self.lock();
        held.all == 0 && held.nobodys == 0 && held.of.is_empty() && held.strangers.is_empty()
    }

    /// Takes a place for a connection from `address`. If its source, or the listener, has no free place, the oldest
    /// unauthenticated connection there is displaced.
    ///
    /// # Errors
    /// There is no free place, and no connection may be displaced.
    pub(super) fn take(self: &Arc<Self>, address: SocketAddr) -> Result<(Slot, Displaced), Refused> {
        let source = source(address.ip());
        let mut held = self.lock();
        let mut displaced = None;
        let of_source = held.of.get(&source).copied().unwrap_or(0);
        if of_source >= self.limits.of_one_source {
            let oldest = held.displace(|line, _| self::source(line.address.ip()) == source);
            displaced = oldest.map(|line| (line, OF_ONE_SOURCE));
            if displaced.is_none() {
                return Err(Refused::Source(of_source));
            }
        } else if held.all >= self.limits.connections {
            displaced = held.displace(|_, _| true).map(|line| (line, OF_ALL));
            if displaced.is_none() {
                return Err(Refused::Connections(held.all));
            }
        }
        *held.of.entry(source).or_default() += 1;
        held.all += 1;
        held.next += 1;
        let line = Arc::new(Line {
            number: held.next,
            address,
            began: Instant::now(),
            vouched: AtomicBool::new(false),
            displaced: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            turned_away: AtomicBool::new(false),
            parked: Mutex::new(Some(Vec::new())),
            waker: AtomicWaker::new(),
            slots: Arc::clone(self),
        });
        held.strangers.insert(line.number, (Arc::clone(&line), false));
        Ok((Slot(line), displaced))
    }
}

impl Slot {
    /// Counts the connection as anonymous: it completed a TLS handshake without a certificate. Anonymous connections
    /// have half of the places; beyond that, the oldest of them is displaced.
    ///
    /// # Errors
    /// There is no free place for anonymous connections, and none of them may be displaced.
    pub(super) fn as_nobodys(&self, limits: &Limits) -> Result<Displaced, Refused> {
        let mut held = self.0.slots.lock();
        let mut displaced = None;
        if held.nobodys >= limits.connections.div_ceil(2) {
            displaced = held.displace(|_, greeted| greeted).map(|line| (line, OF_NOBODYS));
            if displaced.is_none() {
                return Err(Refused::Nobodys(held.nobodys));
            }
        }
        let stranger = held.strangers.get_mut(&self.0.number);
        if let Some((_, greeted)) = stranger.filter(|(_, greeted)| !greeted) {
            *greeted = true;
            held.nobodys += 1;
        }
        Ok(displaced)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut held = self.0.slots.lock();
        held.forget_stranger(self.0.number);
        if !self.0.displaced.load(Ordering::Relaxed) {
            held.free(source(self.0.address.ip()));
        }
    }
}
