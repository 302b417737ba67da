//! The state that readers see: the last published snapshot, and the present nodes, workloads and instances.
//!
//! Reads never access the engine: they take the board's newest entry and answer from it.

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

/// Number of snapshots kept in memory for deltas; a reader farther behind gets its delta from the store, or the full
/// state.
const RECENT: usize = 8;

/// Maximum number and bytes of states and deltas of the newest snapshot that are kept for further readers with the same
/// request; the first is kept regardless of its size. Others are kept as long as they are being read.
const KEPT: usize = 256;
const KEPT_BYTES: usize = 32 << 20;

/// Estimated bytes of a retained view per workload or instance: its share of the tables, and of rows that changed
/// since.
const VIEW_ROW: usize = 128;

/// A published snapshot.
#[derive(Debug)]
pub(crate) struct Published {
    /// The engine's conclusions.
    pub(crate) snapshot: Arc<Snapshot>,
    /// The encoded rows.
    pub(crate) canonical: Arc<Canonical>,
    /// The seal.
    pub(crate) seal: Arc<Seal>,
    /// Time of publication.
    pub(crate) at: Instant,
}

impl Published {
    /// The epoch and cycle.
    pub(crate) fn number(&self) -> (u64, u64) {
        (self.snapshot.epoch.0, self.snapshot.cycle.0)
    }

    /// The `ReadState` of a read from this snapshot.
    pub(crate) fn read_state(&self) -> v1::ReadState {
        v1::ReadState {
            epoch: self.snapshot.epoch.0,
            cycle: self.snapshot.cycle.0,
            age: Some(wyneos::convert::duration(self.at.elapsed())),
            time: Some(wyneos::convert::timestamp(self.snapshot.time)),
        }
    }
}

/// The row of the node with this id.
pub(crate) fn node(nodes: &[Arc<NodeRow>], id: NodeId) -> Option<&Arc<NodeRow>> {
    let at = nodes.binary_search_by_key(&id, |row| row.record.id()).ok()?;
    nodes.get(at)
}

/// The state from which a reader continues: `None` for the full state.
pub(crate) type Step = Option<(u64, u64)>;

/// The key of shared bytes: the snapshot's (epoch, cycle), the filter, and the state to continue from.
pub(crate) type Wish = ((u64, u64), Filter, Step);

#[derive(Debug, Default)]
struct Shared {
    /// The snapshot that `kept` belongs to.
    newest: (u64, u64),
    kept: Vec<Arc<Pieces>>,
    kept_bytes: usize,
    /// All bytes that are held by a reader.
    read: BTreeMap<Wish, Weak<Pieces>>,
}

/// Workloads and instances at one moment, as held by readers.
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

    /// A view that only one reader has, of an answer in progress.
    pub(crate) fn between(ledger: &Arc<Ledger>, view: View) -> Arc<Work> {
        let work = Work::new(ledger, Arc::new(view));
        work.superseded.store(ledger.age() + 1, Ordering::Relaxed);
        work
    }

    /// Creation number of the newer view, by the ledger; `None` if this is the newest.
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
    // The contents are replaced as a whole, so a panic elsewhere leaves no partial state.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    /// Creates an empty board; memory held by its readers is counted in `ledger`.
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

    /// Publishes a snapshot.
    pub(crate) fn publish(&self, published: Published) {
        let mut recent = lock(&self.recent);
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back(Arc::clone(&published.canonical));
        drop(recent);
        self.newest.send_replace(Some(Arc::new(published)));
    }

    /// Publishes the present workloads and instances.
    pub(crate) fn show_work(&self, view: Arc<View>) {
        let before = self.work.send_replace(Work::new(&self.ledger, view));
        before.superseded.store(self.ledger.age() + 1, Ordering::Relaxed);
    }

    /// Publishes the present nodes.
    pub(crate) fn show_nodes(&self, nodes: Arc<Nodes>) {
        self.nodes.store(nodes);
    }

    /// The present nodes.
    pub(crate) fn nodes(&self) -> Arc<Nodes> {
        self.nodes.load_full()
    }

    /// The present workloads and instances.
    pub(crate) fn work(&self) -> Arc<View> {
        Arc::clone(&self.work.borrow().view)
    }

    /// Watches the present workloads and instances.
    pub(crate) fn watch_work(&self) -> watch::Receiver<Arc<Work>> {
        self.work.subscribe()
    }

    /// The newest snapshot; `None` before the first.
    pub(crate) fn newest(&self) -> Option<Arc<Published>> {
        self.newest.borrow().clone()
    }

    /// Watches for further snapshots.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.newest.subscribe()
    }

    /// The recent snapshot (`epoch`, `cycle`), if it is still in memory.
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

    /// The delta from `before` to the newest snapshot, reduced by `filter`.
    pub(crate) fn step(&self, published: &Published, filter: &Filter, before: &Canonical) -> Arc<Pieces> {
        let canonical = &published.canonical;
        let from = Some((before.epoch, before.cycle));
        let wish = ((canonical.epoch, canonical.cycle), filter.clone(), from);
        self.share(wish, || canonical.delta(before, filter))
    }

    /// The bytes that another subscriber with the same request holds.
    pub(crate) fn shared(&self, wish: &Wish) -> Option<Arc<Pieces>> {
        lock(&self.shared).read.get(wish).and_then(Weak::upgrade)
    }

    /// The bytes for `wish`, created once for all readers with the same request.
    pub(crate) fn share(&self, wish: Wish, make: impl FnOnce() -> Bytes) -> Arc<Pieces> {
        let mut shared = lock(&self.shared);
        if let Some(pieces) = shared.read.get(&wish).and_then(Weak::upgrade) {
            return pieces;
        }
        // Created under the lock, so that a thousand readers do not all do it.
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

    /// Counts a reader until the return value is dropped.
    pub(crate) fn reader(self: &Arc<Self>) -> Reader {
        let number = self.next_reader.fetch_add(1, Ordering::Relaxed);
        let cycle = Arc::new(AtomicU64::new(
            self.newest().map_or(0, |published| published.snapshot.cycle.0),
        ));
        lock(&self.readers).insert(number, Arc::clone(&cycle));
        Reader {
            board: Arc::clone(self),
            number,
            cycle,
        }
    }

    /// Number of readers, and of those that do not have the snapshot of `cycle`.
    pub(crate) fn readers(&self, cycle: u64) -> (u32, u32) {
        let readers = lock(&self.readers);
        let behind = readers
            .values()
            .filter(|reader| reader.load(Ordering::Relaxed) < cycle)
            .count();
        (readers.len() as u32, behind as u32)
    }
}

/// The resume token of a reader: cluster, epoch, cycle, and a mark of its filter.
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

/// A mark that distinguishes filters in a resume token.
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

/// A counted reader.
#[derive(Debug)]
pub(crate) struct Reader {
    board: Arc<Board>,
    number: u64,
    cycle: Arc<AtomicU64>,
}

impl Reader {
    /// Records that it received the snapshot of `cycle`.
    pub(crate) fn got(&self, cycle: u64) {
        self.cycle.store(cycle, Ordering::Relaxed);
    }

    /// The board that it reads.
    pub(crate) fn board(&self) -> &Arc<Board> {
        &self.board
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        lock(&self.board.readers).remove(&self.number);
    }
}
