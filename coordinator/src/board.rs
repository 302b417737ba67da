//! What readers see: the last published snapshot, and nodes, workloads and instances as they are now.
//!
//! Reads never touch the engine: they take the board's newest entry and answer from it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::watch;
use wyneos::{
    canonical::{Canonical, Filter},
    v1,
};
use wyneos_core::{
    coherence::{NodeRow, Nodes, Snapshot},
    id::NodeId,
    integrity::Seal,
    workload::View,
};

use crate::answers::{Charge, Ledger, Pieces};

/// Snapshots kept in memory for deltas; a reader farther behind gets its delta from the store's, or the full state.
const RECENT: usize = 8;

/// States and steps of the newest snapshot that are kept for further readers with the same wish, by number and bytes; the first is kept
/// whatever its size. Beyond, they are kept as long as somebody is reading them.
const KEPT: usize = 256;
const KEPT_BYTES: usize = 32 << 20;

/// What a view that is held costs, a workload or instance: its share of the tables, and of rows that changed since.
const VIEW_ROW: usize = 128;

/// A published snapshot.
#[derive(Debug)]
pub(crate) struct Published {
    /// What the engine concluded.
    pub(crate) snapshot: Arc<Snapshot>,
    /// Its rows encoded.
    pub(crate) canonical: Arc<Canonical>,
    /// Its seal.
    pub(crate) seal: Arc<Seal>,
    /// When it was published.
    pub(crate) at: Instant,
}

impl Published {
    /// The epoch and cycle.
    pub(crate) fn number(&self) -> (u64, u64) {
        (self.snapshot.epoch, self.snapshot.cycle)
    }

    /// What a read from this says of itself.
    pub(crate) fn read_state(&self) -> v1::ReadState {
        v1::ReadState {
            epoch: self.snapshot.epoch,
            cycle: self.snapshot.cycle,
            age: Some(wyneos::convert::duration(self.at.elapsed())),
            time: Some(wyneos::convert::timestamp(self.snapshot.time)),
        }
    }
}

/// The row of the node of that id.
pub(crate) fn node(nodes: &[Arc<NodeRow>], id: NodeId) -> Option<&Arc<NodeRow>> {
    let at = nodes.binary_search_by_key(&id, |row| row.record.id()).ok()?;
    nodes.get(at)
}

/// From which state a reader goes on: `None` for the full state.
pub(crate) type Step = Option<(u64, u64)>;

/// What readers share: of (epoch, cycle), what the filter leaves, from that state on.
pub(crate) type Wish = ((u64, u64), Filter, Step);

#[derive(Debug, Default)]
struct Shared {
    /// The snapshot that `kept` is of.
    newest: (u64, u64),
    kept: Vec<Arc<Pieces>>,
    kept_bytes: usize,
    /// All that somebody holds.
    read: BTreeMap<Wish, Weak<Pieces>>,
}

/// Workloads and instances at one moment, as readers hold them.
#[derive(Debug)]
pub(crate) struct Work {
    /// The workloads and instances.
    pub(crate) view: Arc<View>,
    /// 0 while there is no newer one.
    superseded: AtomicU64,
    _charge: Charge,
}

impl Work {
    fn new(ledger: &Arc<Ledger>, view: Arc<View>) -> Arc<Work> {
        let rows = view.workloads.len() + view.assignments.len();
        Arc::new(Work {
            _charge: ledger.charge(rows * VIEW_ROW),
            view,
            superseded: AtomicU64::new(0),
        })
    }

    /// A view that one reader alone has, of an answer that goes on.
    pub(crate) fn between(ledger: &Arc<Ledger>, view: View) -> Arc<Work> {
        let work = Work::new(ledger, Arc::new(view));
        work.superseded.store(ledger.age() + 1, Ordering::Relaxed);
        work
    }

    /// When a newer one came, as the ledger counts; `None` when this is the newest.
    pub(crate) fn superseded(&self) -> Option<u64> {
        let superseded = self.superseded.load(Ordering::Relaxed);
        (superseded > 0).then_some(superseded)
    }
}

/// The board.
#[derive(Debug)]
pub(crate) struct Board {
    newest: watch::Sender<Option<Arc<Published>>>,
    /// Workloads and instances, newer than the newest snapshot.
    work: watch::Sender<Arc<Work>>,
    /// Nodes, as new as the newest snapshot or newer.
    nodes: ArcSwap<Nodes>,
    recent: Mutex<VecDeque<Arc<Canonical>>>,
    shared: Mutex<Shared>,
    ledger: Arc<Ledger>,
    readers: Mutex<BTreeMap<u64, Arc<AtomicU64>>>,
    next_reader: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these hold is replaced as a whole, so a panic elsewhere leaves nothing half-done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    /// An empty board; what readers hold of it is counted in `ledger`.
    pub(crate) fn new(ledger: &Arc<Ledger>) -> Board {
        Board {
            newest: watch::Sender::new(None),
            work: watch::Sender::new(Work::new(ledger, Arc::default())),
            nodes: ArcSwap::default(),
            recent: Mutex::default(),
            shared: Mutex::default(),
            ledger: Arc::clone(ledger),
            readers: Mutex::default(),
            next_reader: AtomicU64::new(0),
        }
    }

    /// Puts up a snapshot for everybody to see.
    pub(crate) fn publish(&self, published: Published) {
        let mut recent = lock(&self.recent);
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back(Arc::clone(&published.canonical));
        drop(recent);
        self.newest.send_replace(Some(Arc::new(published)));
    }

    /// Has readers see workloads and instances as they are now.
    pub(crate) fn show_work(&self, view: Arc<View>) {
        let before = self.work.send_replace(Work::new(&self.ledger, view));
        before.superseded.store(self.ledger.age() + 1, Ordering::Relaxed);
    }

    /// Has readers see nodes as they are now.
    pub(crate) fn show_nodes(&self, nodes: Arc<Nodes>) {
        self.nodes.store(nodes);
    }

    /// Nodes as they are.
    pub(crate) fn nodes(&self) -> Arc<Nodes> {
        self.nodes.load_full()
    }

    /// Workloads and instances as they are.
    pub(crate) fn work(&self) -> Arc<View> {
        Arc::clone(&self.work.borrow().view)
    }

    /// The same, and every change of them.
    pub(crate) fn watch_work(&self) -> watch::Receiver<Arc<Work>> {
        self.work.subscribe()
    }

    /// The newest snapshot; `None` before the first.
    pub(crate) fn newest(&self) -> Option<Arc<Published>> {
        self.newest.borrow().clone()
    }

    /// Hears of every further snapshot.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.newest.subscribe()
    }

    /// The recent snapshot (`epoch`, `cycle`), if memory still has it.
    pub(crate) fn recent(&self, epoch: u64, cycle: u64) -> Option<Arc<Canonical>> {
        let recent = lock(&self.recent);
        recent
            .iter()
            .find(|canonical| (canonical.epoch, canonical.cycle) == (epoch, cycle))
            .cloned()
    }

    /// The newest snapshot, reduced by `filter`.
    pub(crate) fn full(&self, published: &Published, filter: &Filter) -> Arc<Pieces> {
        let canonical = &published.canonical;
        let wish = ((canonical.epoch, canonical.cycle), filter.clone(), None);
        self.share(wish, || canonical.view(filter))
    }

    /// The step from `before` to the newest snapshot, of what `filter` leaves of both.
    pub(crate) fn step(&self, published: &Published, filter: &Filter, before: &Canonical) -> Arc<Pieces> {
        let canonical = &published.canonical;
        let from = Some((before.epoch, before.cycle));
        let wish = ((canonical.epoch, canonical.cycle), filter.clone(), from);
        self.share(wish, || canonical.delta(before, filter))
    }

    /// The state of another subscriber with the same filter.
    pub(crate) fn shared(&self, wish: &Wish) -> Option<Arc<Pieces>> {
        lock(&self.shared).read.get(wish).and_then(Weak::upgrade)
    }

    /// The bytes that `wish` is for, made once for all who have it.
    pub(crate) fn share(&self, wish: Wish, make: impl FnOnce() -> Bytes) -> Arc<Pieces> {
        let mut shared = lock(&self.shared);
        if let Some(pieces) = shared.read.get(&wish).and_then(Weak::upgrade) {
            return pieces;
        }
        // Made under the lock, so that a thousand readers do not all do it.
        let pieces = Pieces::new(&self.ledger, make());
        if wish.0 > shared.newest {
            shared.newest = wish.0;
            shared.kept.clear();
            shared.kept_bytes = 0;
            shared.read.retain(|_, pieces| pieces.strong_count() > 0);
        }
        let fits = shared.kept.len() < KEPT && shared.kept_bytes + pieces.len() <= KEPT_BYTES;
        if wish.0 == shared.newest && (fits || shared.kept.is_empty()) {
            shared.kept.push(Arc::clone(&pieces));
            shared.kept_bytes += pieces.len();
        } else if shared.read.len() > 2 * KEPT {
            shared.read.retain(|_, pieces| pieces.strong_count() > 0);
        }
        shared.read.insert(wish, Arc::downgrade(&pieces));
        pieces
    }

    /// Counts a reader in; it is counted out when the return value is dropped.
    pub(crate) fn reader(self: &Arc<Self>) -> Reader {
        let number = self.next_reader.fetch_add(1, Ordering::Relaxed);
        let cycle = Arc::new(AtomicU64::new(
            self.newest().map_or(0, |published| published.snapshot.cycle),
        ));
        lock(&self.readers).insert(number, Arc::clone(&cycle));
        Reader {
            board: Arc::clone(self),
            number,
            cycle,
        }
    }

    /// Readers, and how many of them have not got the snapshot of `cycle`.
    pub(crate) fn readers(&self, cycle: u64) -> (u32, u32) {
        let readers = lock(&self.readers);
        let behind = readers
            .values()
            .filter(|reader| reader.load(Ordering::Relaxed) < cycle)
            .count();
        (readers.len() as u32, behind as u32)
    }
}

/// What a reader hands back to go on: cluster, epoch, cycle, and what tells its filter from others.
pub(crate) fn token(published: &Published, filter: &Filter) -> String {
    let snapshot = &published.snapshot;
    format!(
        "{}.{}.{}.{}",
        snapshot.cluster,
        snapshot.epoch,
        snapshot.cycle,
        filter_mark(filter)
    )
}

/// Tells filters apart in a resume token.
pub(crate) fn filter_mark(filter: &Filter) -> String {
    if filter.is_everything() {
        return "all".to_owned();
    }
    let mut text = format!("{:?}", filter.sections);
    if let Some((key, value)) = &filter.label {
        text.push_str(&format!("{key}={value}"));
    }
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// A reader that is counted.
#[derive(Debug)]
pub(crate) struct Reader {
    board: Arc<Board>,
    number: u64,
    cycle: Arc<AtomicU64>,
}

impl Reader {
    /// It got the snapshot of `cycle`.
    pub(crate) fn got(&self, cycle: u64) {
        self.cycle.store(cycle, Ordering::Relaxed);
    }

    /// The board it reads.
    pub(crate) fn board(&self) -> &Arc<Board> {
        &self.board
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        lock(&self.board.readers).remove(&self.number);
    }
}
