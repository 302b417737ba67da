//! Connection slots: their number, in total and for each source, and which connection gives way to a new one.

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

/// Age before an unauthenticated connection may have to give way. A handshake and a first call take far less.
const GRACE: Duration = Duration::from_secs(1);

/// A source: an IPv4 address, also in IPv6 notation, or an IPv6 network of 64 bits.
pub fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        address @ IpAddr::V4(_) => address,
    }
}

/// What belongs to answers that are finished, until they are written.
type Parked = Vec<Box<dyn Any + Send>>;

/// A connection as others see it: whether its other end proved something, and how to end it.
#[derive(Debug)]
pub(super) struct Line {
    number: u64,
    pub(super) address: SocketAddr,
    began: Instant,
    vouched: AtomicBool,
    /// Set when its place was given to another connection.
    displaced: AtomicBool,
    closed: AtomicBool,
    /// Set when nothing more is read of it.
    turned_away: AtomicBool,
    /// `None` once the connection has ended.
    parked: Mutex<Option<Parked>>,
    waker: AtomicWaker,
    slots: Arc<Slots>,
}

impl Line {
    /// Notes that the other end proved something: the connection is no stranger's any more.
    pub(super) fn vouch(&self) {
        if !self.vouched.swap(true, Ordering::Relaxed) {
            self.slots.lock().forget_stranger(self.number);
        }
    }

    pub(super) fn is_vouched(&self) -> bool {
        self.vouched.load(Ordering::Relaxed)
    }

    /// Ends the connection.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Stops reading from the connection, which ends soon.
    pub(super) fn turn_away(&self) {
        self.turned_away.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub(super) fn is_turned_away(&self) -> bool {
        self.turned_away.load(Ordering::Acquire)
    }

    /// Keeps `kept` until what is queued was written, or the connection has ended.
    pub(super) fn park(&self, kept: Box<dyn Any + Send>) {
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        let over = match parked.as_mut() {
            Some(parked) => {
                parked.push(kept);
                None
            }
            None => Some(kept),
        };
        // Dropped without the lock: it may be the last to hold something that takes others.
        drop(parked);
        drop(over);
    }

    /// Drops what is parked.
    pub(super) fn written(&self) {
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        let written = parked.as_mut().filter(|parked| !parked.is_empty()).map(std::mem::take);
        drop(parked);
        drop(written);
    }

    /// Drops what is parked, now and later.
    pub(super) fn ended(&self) {
        let parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(parked);
    }

    /// Ready once the connection is to end. Only the connection itself may wait for it.
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
    /// Connections whose other end proved nothing so far, oldest first; true: it finished its handshake.
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

    /// Ends the oldest stranger that `fits`, unless it is too young, and frees its place.
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

/// The places of one listener.
#[derive(Debug)]
pub(super) struct Slots {
    limits: Limits,
    held: Mutex<Held>,
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot(pub(super) Arc<Line>);

/// The connection that gave way to another one, and the limit that was reached.
pub(super) type Displaced = Option<(Arc<Line>, &'static str)>;

/// The limits, as they are configured.
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

    /// True when no connection is counted anywhere.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let held = self.lock();
        held.all == 0 && held.nobodys == 0 && held.of.is_empty() && held.strangers.is_empty()
    }

    /// A place for a connection of `address`. When there is none left, of its source or of all, the oldest stranger there gives way.
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
    /// Counts the connection as nobody's: it finished a TLS handshake and showed no certificate. Nobody's connections have half
    /// of the places; beyond that, the oldest of them gives way.
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
