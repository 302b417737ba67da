//! The thread that makes changes durable: it groups commits, seals snapshots and publishes them on the board.

use std::{sync::Arc, time::Instant};

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, mpsc};
use wyneos::canonical::Canonical;
use wyneos_core::{
    access::Access,
    coherence::{Nodes, Snapshot},
    coordinator::{Input, Published as Told},
    event::Event,
    id::Epoch,
    integrity::Sealer,
    recycled::Recycled,
    store::Batch,
    workload::View,
};

use crate::{
    answers::Ledger,
    board::{Board, Published},
    engine::{EngineSender, ToEngine},
    metrics::Metrics,
    store::{SealedSnapshot, Store, StoreError},
};

/// Requests to the publisher, in order.
#[derive(Debug)]
pub(crate) enum Work {
    /// Make a batch durable.
    Commit(Batch),
    /// Seal a snapshot, make it durable, and publish it.
    Publish(Arc<Snapshot>),
    /// Publish the present workloads and instances.
    View(Arc<View>),
    /// Publish the present nodes.
    Nodes(Arc<Nodes>),
}

/// Maximum number of events that a subscriber may lag behind; one farther behind reads from the store.
pub(crate) const EVENTS_BEHIND: usize = 1_024;

/// Maximum number of batches in one transaction.
const GROUP: usize = 256;

/// State of the publisher.
pub(crate) struct Publisher {
    pub(crate) store: Box<dyn Store>,
    pub(crate) sealer: Sealer,
    pub(crate) epoch: Epoch,
    pub(crate) board: Arc<Board>,
    pub(crate) events: broadcast::Sender<Arc<Event>>,
    /// Durable tokens and operators.
    pub(crate) access: Arc<ArcSwap<Access>>,
    pub(crate) engine: EngineSender,
    /// The ledger of memory that answers hold.
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) metrics: Arc<Metrics>,
    /// Memory of the canonical bytes, which are of the same size cycle by cycle.
    pub(crate) memory: Recycled<u8>,
}

impl Publisher {
    /// Runs until the engine is gone, or until the store fails: the state in memory could then no longer be stored, and
    /// the process must end.
    pub(crate) fn run(mut self, mut work: mpsc::UnboundedReceiver<Work>) -> Result<(), StoreError> {
        let mut group = Vec::new();
        while let Some(first) = work.blocking_recv() {
            let mut next = Some(first);
            while let Some(item) = next {
                match item {
                    Work::Commit(batch) => group.push(batch),
                    Work::Publish(snapshot) => {
                        self.commit(&mut group)?;
                        self.publish(snapshot)?;
                    }
                    Work::View(view) => {
                        self.commit(&mut group)?;
                        self.board.show_work(view);
                    }
                    Work::Nodes(nodes) => {
                        self.commit(&mut group)?;
                        self.board.show_nodes(nodes);
                    }
                }
                next = if group.len() < GROUP {
                    work.try_recv().ok()
                } else {
                    None
                };
            }
            self.commit(&mut group)?;
        }
        Ok(())
    }

    fn commit(&mut self, group: &mut Vec<Batch>) -> Result<(), StoreError> {
        if group.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        self.store.commit(self.epoch, group)?;
        self.metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
        for batch in group.drain(..) {
            if let Some(access) = batch.access {
                self.access.store(access);
            }
            for event in batch.events {
                self.metrics.events.inc();
                tracing::info!(sequence = event.sequence.0, node = event.node_name, "{}", event.summary);
                // There may be no watchers.
                drop(self.events.send(event));
            }
            self.tell(Input::Committed);
        }
        Ok(())
    }

    fn publish(&mut self, snapshot: Arc<Snapshot>) -> Result<(), StoreError> {
        let began = Instant::now();
        let before = self.board.newest();
        let canonical = Arc::new(Canonical::new(
            &snapshot,
            before.as_ref().map(|before| &*before.canonical),
        ));
        let bytes = canonical.bytes_in(&mut self.memory);
        let seal = Arc::new(self.sealer.seal(snapshot.epoch, snapshot.cycle, &bytes));
        self.metrics.snapshot_bytes.set(bytes.len() as i64);
        self.ledger.published(bytes.len());
        let sealed = SealedSnapshot {
            seal: Arc::clone(&seal),
            time: snapshot.time,
            lived: snapshot.lived,
            bytes,
        };
        self.store.keep_snapshot(&sealed)?;
        let (subscribers, lagging) = self.board.readers(before.map_or(0, |before| before.snapshot.cycle.0));
        self.metrics.subscribers.set(i64::from(subscribers));
        self.metrics.observe_snapshot(&snapshot);
        self.board.publish(Published {
            snapshot,
            canonical,
            seal: Arc::clone(&seal),
            at: Instant::now(),
        });
        self.metrics.publish_seconds.observe(began.elapsed().as_secs_f64());
        self.tell(Input::Published(Told {
            seal,
            subscribers,
            lagging,
        }));
        Ok(())
    }

    fn tell(&self, input: Input) {
        // Waits if the queue is full; the engine empties it without waiting for this thread. Without an engine the
        // process is ending.
        drop(self.engine.blocking_send(ToEngine::Fact(input)));
    }
}
