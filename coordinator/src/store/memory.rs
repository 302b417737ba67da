//! A store in memory, for tests.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use wyneos_core::{
    event::Event,
    id::{ClusterId, Epoch},
    store::{Batch, Durable},
};

use super::{
    Along, History, KeptEvent, Of, Retention, SealEntry, SealedSnapshot, Store, StoreError, Visitor,
    shares::{Shares, Size},
};

fn json(event: &Event) -> Vec<u8> {
    serde_json::to_vec(event).unwrap()
}

#[derive(Default)]
struct State {
    /// `None` before the first start.
    durable: Option<Durable>,
    events: BTreeMap<u64, Arc<Event>>,
    shares: Shares,
    dropped: u64,
    snapshots: BTreeMap<u64, SealedSnapshot>,
}

/// A store in memory; clones share it.
#[derive(Clone)]
pub(crate) struct Memory {
    state: Arc<Mutex<State>>,
    retention: Retention,
}

impl Memory {
    pub(crate) fn new(retention: Retention) -> Memory {
        Memory {
            state: Arc::default(),
            retention,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Memory {
    fn load(&mut self, fresh: ClusterId) -> Result<Durable, StoreError> {
        let mut state = self.state();
        let newest = state.snapshots.last_key_value();
        let newest = newest.map(|(_, snapshot)| (Arc::clone(&snapshot.seal), snapshot.lived));
        let mut durable = match state.durable.take() {
            Some(before) => Durable {
                epoch: before.epoch.next(),
                ..before
            },
            None => Durable::new(fresh),
        };
        if let Some((seal, lived)) = newest {
            (durable.last_snapshot, durable.lived) = ((seal.epoch, seal.cycle, seal.chain), lived);
        }
        state.durable = Some(durable.clone());
        Ok(durable)
    }

    fn commit(&mut self, epoch: Epoch, batches: &[Batch]) -> Result<(), StoreError> {
        let mut state = self.state();
        let theirs = state.durable.as_ref().map_or(Epoch(0), |durable| durable.epoch);
        if theirs != epoch {
            return Err(StoreError::Fenced { ours: epoch, theirs });
        }
        for batch in batches {
            if let Some(durable) = &mut state.durable {
                durable.apply(batch);
            }
            for event in &batch.events {
                state
                    .shares
                    .add(&event.subject(), event.sequence.0, json(event).len() as u64);
                state.events.insert(event.sequence.0, Arc::clone(event));
            }
        }
        let keep = Size {
            events: self.retention.events,
            bytes: self.retention.event_bytes,
        };
        while let Some((subject, oldest)) = state.shares.beyond(keep) {
            let removed = state.events.remove(&oldest);
            state.dropped = state.dropped.max(oldest);
            let next = state.events.values().find(|event| event.subject() == subject);
            let next = next.map(|event| event.sequence.0);
            let bytes = removed.map_or(0, |event| json(&event).len());
            state.shares.remove_oldest(&subject, bytes as u64, next);
        }
        Ok(())
    }

    fn keep_snapshot(&mut self, snapshot: &SealedSnapshot) -> Result<(), StoreError> {
        let mut state = self.state();
        state.snapshots.insert(snapshot.seal.cycle.0, snapshot.clone());
        while state.snapshots.len() as u64 > self.retention.snapshots {
            state.snapshots.pop_first();
        }
        Ok(())
    }

    fn history(&self) -> Arc<dyn History> {
        Arc::new(self.clone())
    }
}

impl History for Memory {
    fn visit(&self, of: Of<'_>, along: Along, visitor: &mut Visitor<'_>) -> Result<u64, StoreError> {
        let state = self.state();
        let (numbers, backwards) = along.range();
        let mut events: Vec<&Arc<Event>> = state.events.range(numbers).map(|(_, event)| event).collect();
        if backwards {
            events.reverse();
        }
        events.retain(|event| match of {
            Of::All => true,
            Of::Node(node) => event.node == Some(node),
            Of::Work(workload) => event.workload() == workload,
        });
        for event in events {
            let (sequence, json) = (event.sequence, &json(event));
            if visitor(KeptEvent {
                sequence: sequence.0,
                json,
            })
            .unwrap()
            .is_break()
            {
                break;
            }
        }
        let oldest = state.events.first_key_value();
        Ok(oldest.map_or(0, |(&number, _)| number.max(state.dropped + 1)))
    }

    fn snapshot(&self, cycle: u64) -> Result<Option<SealedSnapshot>, StoreError> {
        Ok(self.state().snapshots.get(&cycle).cloned())
    }

    fn snapshot_from(&self, cycle: u64) -> Result<Option<SealedSnapshot>, StoreError> {
        Ok(self
            .state()
            .snapshots
            .range(cycle..)
            .next()
            .map(|(_, snapshot)| snapshot.clone()))
    }

    fn seals(&self, before: u64, most: usize) -> Result<Vec<SealEntry>, StoreError> {
        let entry = |(_, snapshot): (&u64, &SealedSnapshot)| SealEntry {
            seal: (*snapshot.seal).clone(),
            time: snapshot.time,
            lived: snapshot.lived,
            size: snapshot.bytes.len() as u64,
        };
        Ok(self
            .state()
            .snapshots
            .range(..before)
            .rev()
            .take(most)
            .map(entry)
            .collect())
    }
}
