//! The last published snapshot, and everything that is read from it.
//!
//! Reads never touch the engine: they take the board's newest entry and answer from it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use prost::Message;
use tokio::sync::watch;
use wyneos::{
    canonical::{Canonical, Filter, WireWatchResponse},
    encoded::Encoded,
    v1,
};
use wyneos_core::{
    coherence::{NodeRow, Snapshot},
    id::NodeId,
    integrity::Seal,
    workload::View,
};

/// Snapshots kept in memory for deltas; a reader farther behind gets its delta from the store's, or the full state.
const RECENT: usize = 8;

/// Answers kept for other readers with the same wish, until the next snapshot; beyond, each is encoded on its own.
const ANSWERS: usize = 256;

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
    /// The row of the node of that id.
    pub(crate) fn node(&self, id: NodeId) -> Option<&Arc<NodeRow>> {
        let nodes = &self.snapshot.nodes;
        let at = nodes.binary_search_by_key(&id, |row| row.record.id()).ok()?;
        nodes.get(at)
    }

    /// What a read from this says of itself.
    pub(crate) fn read_state(&self) -> v1::ReadState {
        v1::ReadState {
            epoch: self.snapshot.epoch,
            cycle: self.snapshot.cycle,
            age: Some(wyneos::convert::duration(self.at.elapsed())),
        }
    }
}

/// From which state a reader goes on: `None` for the full state.
type Step = Option<(u64, u64)>;

#[derive(Debug, Default)]
struct Answers {
    cycle: u64,
    encoded: BTreeMap<(Filter, Step), Encoded>,
}

/// The board.
#[derive(Debug)]
pub(crate) struct Board {
    newest: watch::Sender<Option<Arc<Published>>>,
    /// Workloads and instances, newer than the newest snapshot.
    work: watch::Sender<Arc<View>>,
    recent: Mutex<VecDeque<Arc<Canonical>>>,
    answers: Mutex<Answers>,
    readers: Mutex<BTreeMap<u64, Arc<AtomicU64>>>,
    next_reader: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these hold is replaced as a whole, so a panic elsewhere leaves nothing half-done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Board {
    fn default() -> Board {
        Board {
            newest: watch::Sender::new(None),
            work: watch::Sender::default(),
            recent: Mutex::default(),
            answers: Mutex::default(),
            readers: Mutex::default(),
            next_reader: AtomicU64::new(0),
        }
    }
}

impl Board {
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
        self.work.send_replace(view);
    }

    /// Workloads and instances as they are.
    pub(crate) fn work(&self) -> Arc<View> {
        Arc::clone(&self.work.borrow())
    }

    /// The same, and every change of them.
    pub(crate) fn watch_work(&self) -> watch::Receiver<Arc<View>> {
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

    /// The answer that brings a reader with `filter` from `before` (or from nothing) to `published`. Encoded once for all
    /// readers with the same wish.
    pub(crate) fn answer(&self, published: &Published, filter: &Filter, before: Option<&Canonical>) -> Encoded {
        let key = (filter.clone(), before.map(|before| (before.epoch, before.cycle)));
        let mut answers = lock(&self.answers);
        if answers.cycle != published.snapshot.cycle {
            *answers = Answers {
                cycle: published.snapshot.cycle,
                ..Answers::default()
            };
        }
        if let Some(answer) = answers.encoded.get(&key) {
            return answer.clone();
        }
        // Encoded under the lock, so that a thousand readers do not all do it.
        let answer = encode(published, filter, before);
        if answers.encoded.len() < ANSWERS {
            answers.encoded.insert(key, answer.clone());
        }
        answer
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

fn encode(published: &Published, filter: &Filter, before: Option<&Canonical>) -> Encoded {
    let canonical = &published.canonical;
    let (full, delta) = match before {
        None => (Some(canonical.view(filter)), None),
        Some(before) => (None, Some(canonical.delta(before, filter))),
    };
    let answer = WireWatchResponse {
        full,
        delta,
        seal: Some((&*published.seal).into()),
        resume_token: token(published, filter),
        reset_reason: String::new(),
    };
    Encoded(answer.encode_to_vec().into())
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
