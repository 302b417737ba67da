//! A store that forgets with the process: for tests.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use wyneos_core::{
    access::Access,
    autonomy::Policy,
    event::Event,
    id::{ClusterId, NodeId},
    node::NodeRecord,
    store::{Batch, Durable, Restored},
    workload::{Assignment, AssignmentId, Workload},
};

use super::{History, Retention, SealEntry, SealedSnapshot, Store, StoreError, shares::Shares};

#[derive(Default)]
struct State {
    cluster: Option<ClusterId>,
    epoch: u64,
    nodes: BTreeMap<NodeId, Arc<NodeRecord>>,
    events: BTreeMap<u64, Arc<Event>>,
    shares: Shares,
    dropped: u64,
    decisions: u64,
    access: Arc<Access>,
    policy: Policy,
    restored: Option<Restored>,
    workloads: BTreeMap<Arc<str>, Arc<Workload>>,
    assignments: BTreeMap<AssignmentId, Arc<Assignment>>,
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
        state.epoch += 1;
        let newest = state.snapshots.last_key_value().map(|(_, snapshot)| &snapshot.seal);
        Ok(Durable {
            last_snapshot: newest.map_or((0, 0, [0; 32]), |seal| (seal.epoch, seal.cycle, seal.chain)),
            cluster: *state.cluster.get_or_insert(fresh),
            epoch: state.epoch,
            nodes: state.nodes.values().cloned().collect(),
            last_event: state.events.last_key_value().map_or(0, |(&number, _)| number),
            decisions: state.decisions,
            access: Arc::clone(&state.access),
            workloads: state.workloads.values().cloned().collect(),
            assignments: state.assignments.values().cloned().collect(),
            policy: state.policy,
            restored: state.restored,
            lived: state
                .snapshots
                .last_key_value()
                .map_or_else(Default::default, |(_, snapshot)| snapshot.lived),
        })
    }

    fn commit(&mut self, epoch: u64, batches: &[Batch]) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.epoch != epoch {
            return Err(StoreError::Fenced {
                ours: epoch,
                theirs: state.epoch,
            });
        }
        for batch in batches {
            state.nodes.retain(|id, _| !batch.forgotten.contains(id));
            state
                .nodes
                .extend(batch.nodes.iter().map(|node| (node.id(), Arc::clone(node))));
            for event in &batch.events {
                state.shares.add(&event.subject(), event.sequence);
                state.events.insert(event.sequence, Arc::clone(event));
            }
            state.policy = batch.policy.unwrap_or(state.policy);
            state.restored = batch.restored.or(state.restored);
            for (name, record) in &batch.workloads {
                match record {
                    Some(record) => state.workloads.insert(Arc::clone(name), Arc::clone(record)),
                    None => state.workloads.remove(name),
                };
            }
            for (id, record) in &batch.assignments {
                match record {
                    Some(record) => state.assignments.insert(*id, Arc::clone(record)),
                    None => state.assignments.remove(id),
                };
            }
            state.decisions = state.decisions.max(batch.decisions);
            if let Some(access) = &batch.access {
                state.access = Arc::clone(access);
            }
        }
        while state.events.len() as u64 > self.retention.events {
            let Some((subject, oldest)) = state
                .shares
                .loudest()
                .map(|(subject, oldest)| (subject.to_owned(), oldest))
            else {
                break;
            };
            state.events.remove(&oldest);
            state.dropped = state.dropped.max(oldest);
            let next = state.events.values().find(|event| event.subject() == subject);
            let next = next.map(|event| event.sequence);
            state.shares.remove_oldest(&subject, next);
        }
        Ok(())
    }

    fn keep_snapshot(&mut self, snapshot: &SealedSnapshot) -> Result<(), StoreError> {
        let mut state = self.state();
        state.snapshots.insert(snapshot.seal.cycle, snapshot.clone());
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
    fn events(&self, from: u64, most: usize) -> Result<(Vec<Event>, u64), StoreError> {
        let state = self.state();
        let events = state
            .events
            .range(from..)
            .take(most)
            .map(|(_, event)| (**event).clone())
            .collect();
        let oldest = state.events.first_key_value();
        Ok((events, oldest.map_or(0, |(&number, _)| number.max(state.dropped + 1))))
    }

    fn events_of(&self, node: NodeId, before: u64, most: usize) -> Result<Vec<Event>, StoreError> {
        let state = self.state();
        let newest = state
            .events
            .range(..before)
            .rev()
            .filter(|(_, event)| event.node == Some(node));
        Ok(newest.take(most).map(|(_, event)| (**event).clone()).collect())
    }

    fn events_of_work(&self, workload: &str, before: u64, most: usize) -> Result<Vec<Event>, StoreError> {
        let state = self.state();
        let events = state.events.range(..before).rev().map(|(_, event)| event);
        let about = events.filter(|event| event.workload() == workload);
        Ok(about.take(most).map(|event| Event::clone(event)).collect())
    }

    fn events_of_from(&self, node: NodeId, from: u64, most: usize) -> Result<Vec<Event>, StoreError> {
        let state = self.state();
        let events = state.events.range(from..).filter(|(_, event)| event.node == Some(node));
        Ok(events.take(most).map(|(_, event)| (**event).clone()).collect())
    }

    fn events_before(&self, before: u64, most: usize) -> Result<Vec<Event>, StoreError> {
        Ok(self
            .state()
            .events
            .range(..before)
            .rev()
            .take(most)
            .map(|(_, event)| (**event).clone())
            .collect())
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
