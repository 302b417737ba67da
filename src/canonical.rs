//! Snapshots in their canonical bytes, and the steps between two of them.
//!
//! Rows are encoded once, when they change; a snapshot, a delta and a filtered view are put together from the same bytes.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use prost::Message;
use wyneos_core::{
    coherence::{NodeRow, Snapshot},
    id::NodeId,
    mesh::ObserverLinks,
    workload::{AssignmentId, AssignmentRow, WorkloadRow},
};

use crate::{convert, v1};

/// `wyneos.v1.Snapshot` on the wire, its rows already encoded: a repeated message and repeated bytes look the same.
#[derive(Clone, PartialEq, Message)]
struct Wire {
    #[prost(string, tag = "1")]
    cluster_id: String,
    #[prost(uint64, tag = "2")]
    epoch: u64,
    #[prost(uint64, tag = "3")]
    cycle: u64,
    #[prost(message, optional, tag = "4")]
    time: Option<prost_types::Timestamp>,
    #[prost(message, optional, tag = "5")]
    cycle_interval: Option<prost_types::Duration>,
    #[prost(string, tag = "6")]
    coordinator_version: String,
    #[prost(bytes = "bytes", repeated, tag = "7")]
    nodes: Vec<Bytes>,
    #[prost(message, optional, tag = "8")]
    telemetry: Option<v1::TelemetryOverview>,
    #[prost(message, optional, tag = "9")]
    predictive: Option<v1::PredictiveOverview>,
    #[prost(message, optional, tag = "10")]
    mesh: Option<v1::MeshTopology>,
    #[prost(bytes = "bytes", repeated, tag = "11")]
    links: Vec<Bytes>,
    #[prost(message, optional, tag = "12")]
    autonomy: Option<v1::AutonomyState>,
    #[prost(message, optional, tag = "13")]
    behaviour: Option<v1::BehaviourState>,
    #[prost(message, optional, tag = "14")]
    integrity: Option<v1::IntegrityState>,
    #[prost(message, optional, tag = "15")]
    coherence: Option<v1::CoherenceReport>,
    #[prost(bytes = "bytes", repeated, tag = "16")]
    workloads: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "17")]
    assignments: Vec<Bytes>,
}

/// `wyneos.v1.SnapshotDelta` on the wire.
#[derive(Clone, PartialEq, Message)]
struct WireDelta {
    #[prost(uint64, tag = "1")]
    from_epoch: u64,
    #[prost(uint64, tag = "2")]
    from_cycle: u64,
    #[prost(message, optional, tag = "3")]
    changed: Option<Wire>,
    #[prost(string, repeated, tag = "4")]
    removed_nodes: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    removed_links: Vec<String>,
    #[prost(string, repeated, tag = "6")]
    removed_workloads: Vec<String>,
    #[prost(string, repeated, tag = "7")]
    removed_assignments: Vec<String>,
}

/// The key of a row of any kind, and nothing else of it: kinds have other things in common fields.
#[derive(Clone, PartialEq, Message)]
struct RowKey {
    #[prost(string, tag = "1")]
    id: String,
}

/// The labels of a node's row.
#[derive(Clone, PartialEq, Message)]
struct Labels {
    #[prost(message, repeated, tag = "16")]
    labels: Vec<v1::Label>,
}

/// An encoded row and what it was encoded from.
#[derive(Clone, Debug)]
struct Row<K, T> {
    id: K,
    /// `None` when it was read back from bytes.
    source: Option<Arc<T>>,
    bytes: Bytes,
}

/// What a reader wants to see of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Filter {
    /// Only these sections; empty for all.
    pub sections: BTreeSet<i32>,
    /// Only nodes with this label.
    pub label: Option<(String, String)>,
}

impl Filter {
    /// True when it leaves nothing out.
    pub fn is_everything(&self) -> bool {
        self.sections.is_empty() && self.label.is_none()
    }

    fn wants(&self, section: v1::Section) -> bool {
        self.sections.is_empty() || self.sections.contains(&(section as i32))
    }

    fn wants_row(&self, bytes: &Bytes) -> bool {
        self.label.as_ref().is_none_or(|(key, value)| {
            let row = Labels::decode(bytes.clone()).unwrap_or_default();
            row.labels
                .iter()
                .any(|label| label.key == *key && label.value == *value)
        })
    }
}

/// A snapshot with every row encoded.
#[derive(Clone, Debug)]
pub struct Canonical {
    /// Its epoch.
    pub epoch: u64,
    /// Its cycle.
    pub cycle: u64,
    head: Wire,
    nodes: Vec<Row<NodeId, NodeRow>>,
    links: Vec<Row<NodeId, ObserverLinks>>,
    workloads: Vec<Row<String, WorkloadRow>>,
    assignments: Vec<Row<AssignmentId, AssignmentRow>>,
}

/// Bytes that are no snapshot.
#[derive(Clone, Debug, thiserror::Error)]
#[error("not the canonical bytes of a snapshot: {0}")]
pub struct NotCanonical(String);

impl Canonical {
    /// Encodes `snapshot`. Rows that are the same as in `before` are not encoded again.
    pub fn new(snapshot: &Snapshot, before: Option<&Canonical>) -> Canonical {
        let mut head = v1_head(convert::sections(snapshot));
        head.nodes.clear();
        Canonical {
            epoch: snapshot.epoch,
            cycle: snapshot.cycle,
            head,
            nodes: rows(
                snapshot.nodes.iter(),
                before.map(|before| before.nodes.as_slice()),
                |row| row.record.id(),
                |row| v1::NodeRow::from(row).encode_to_vec(),
            ),
            links: rows(
                snapshot.links.iter(),
                before.map(|before| before.links.as_slice()),
                |row| row.observer,
                |row| v1::ObserverLinks::from(row).encode_to_vec(),
            ),
            workloads: rows(
                &snapshot.work.workloads,
                before.map(|before| before.workloads.as_slice()),
                |row| row.name().to_owned(),
                |row| v1::Workload::from(row).encode_to_vec(),
            ),
            assignments: rows(
                snapshot.work.assignments.iter(),
                before.map(|before| before.assignments.as_slice()),
                |row| row.record.id,
                |row| v1::Assignment::from(row).encode_to_vec(),
            ),
        }
    }

    /// Reads a snapshot back from its canonical bytes.
    pub fn from_bytes(bytes: Bytes) -> Result<Canonical, NotCanonical> {
        let mut head = Wire::decode(bytes).map_err(|error| NotCanonical(error.to_string()))?;
        let (nodes, links) = (std::mem::take(&mut head.nodes), std::mem::take(&mut head.links));
        let workloads = std::mem::take(&mut head.workloads);
        let assignments = std::mem::take(&mut head.assignments);
        Ok(Canonical {
            epoch: head.epoch,
            cycle: head.cycle,
            head,
            nodes: read_rows(nodes)?,
            links: read_rows(links)?,
            workloads: read_rows(workloads)?,
            assignments: read_rows(assignments)?,
        })
    }

    /// The canonical bytes: what is sealed.
    pub fn bytes(&self) -> Bytes {
        self.view(&Filter::default())
    }

    /// The encoding of what `filter` leaves.
    pub fn view(&self, filter: &Filter) -> Bytes {
        let mut wire = self.selected(filter);
        wire.nodes = self.node_rows(filter).map(|row| row.bytes.clone()).collect();
        wire.links = self.link_rows(filter).map(|row| row.bytes.clone()).collect();
        wire.workloads = self.workload_rows(filter).map(|row| row.bytes.clone()).collect();
        wire.assignments = self.assignment_rows(filter).map(|row| row.bytes.clone()).collect();
        wire.encode_to_vec().into()
    }

    /// The encoding of the step from `before` to this, of what `filter` leaves of both.
    pub fn delta(&self, before: &Canonical, filter: &Filter) -> Bytes {
        let mut changed = self.selected(filter);
        forget_unchanged(&mut changed, &before.selected(filter));
        let (nodes, removed_nodes) = step(before.node_rows(filter), self.node_rows(filter));
        let (links, removed_links) = step(before.link_rows(filter), self.link_rows(filter));
        let (workloads, removed_workloads) = step(before.workload_rows(filter), self.workload_rows(filter));
        let (assignments, removed_assignments) = step(before.assignment_rows(filter), self.assignment_rows(filter));
        (changed.nodes, changed.links) = (nodes, links);
        (changed.workloads, changed.assignments) = (workloads, assignments);
        let delta = WireDelta {
            from_epoch: before.epoch,
            from_cycle: before.cycle,
            changed: Some(changed),
            removed_nodes,
            removed_links,
            removed_workloads,
            removed_assignments,
        };
        delta.encode_to_vec().into()
    }

    fn node_rows<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Row<NodeId, NodeRow>> {
        let wanted = filter.wants(v1::Section::Nodes);
        self.nodes
            .iter()
            .filter(move |row| wanted && filter.wants_row(&row.bytes))
    }

    fn link_rows<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Row<NodeId, ObserverLinks>> {
        let wanted = filter.wants(v1::Section::Mesh);
        self.links.iter().filter(move |_| wanted)
    }

    fn workload_rows<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Row<String, WorkloadRow>> {
        let wanted = filter.wants(v1::Section::Workloads);
        self.workloads.iter().filter(move |_| wanted)
    }

    fn assignment_rows<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Row<AssignmentId, AssignmentRow>> {
        let wanted = filter.wants(v1::Section::Workloads);
        self.assignments.iter().filter(move |_| wanted)
    }

    /// The head and the sections that `filter` leaves.
    fn selected(&self, filter: &Filter) -> Wire {
        let mut wire = self.head.clone();
        let wants = |section| filter.wants(section);
        wire.telemetry = wire.telemetry.filter(|_| wants(v1::Section::Telemetry));
        wire.predictive = wire.predictive.filter(|_| wants(v1::Section::Predictive));
        wire.mesh = wire.mesh.filter(|_| wants(v1::Section::Mesh));
        wire.autonomy = wire.autonomy.filter(|_| wants(v1::Section::Autonomy));
        wire.behaviour = wire.behaviour.filter(|_| wants(v1::Section::Behaviour));
        wire.integrity = wire.integrity.filter(|_| wants(v1::Section::Integrity));
        wire.coherence = wire.coherence.filter(|_| wants(v1::Section::Coherence));
        wire
    }
}

fn v1_head(snapshot: v1::Snapshot) -> Wire {
    Wire {
        cluster_id: snapshot.cluster_id,
        epoch: snapshot.epoch,
        cycle: snapshot.cycle,
        time: snapshot.time,
        cycle_interval: snapshot.cycle_interval,
        coordinator_version: snapshot.coordinator_version,
        nodes: Vec::new(),
        telemetry: snapshot.telemetry,
        predictive: snapshot.predictive,
        mesh: snapshot.mesh,
        links: Vec::new(),
        autonomy: snapshot.autonomy,
        behaviour: snapshot.behaviour,
        integrity: snapshot.integrity,
        coherence: snapshot.coherence,
        workloads: Vec::new(),
        assignments: Vec::new(),
    }
}

/// Encodes rows that are sorted by id, taking over from `before` (sorted, too) what is the same allocation.
fn rows<'a, K: Ord, T: 'a>(
    rows: impl IntoIterator<Item = &'a Arc<T>>,
    before: Option<&[Row<K, T>]>,
    id: impl Fn(&T) -> K,
    encode: impl Fn(&T) -> Vec<u8>,
) -> Vec<Row<K, T>> {
    let mut before = before.unwrap_or_default().iter().peekable();
    let encoded = rows.into_iter().map(|row| {
        let id = id(row);
        while before.next_if(|old| old.id < id).is_some() {}
        let same = before.next_if(|old| old.id == id && old.source.as_ref().is_some_and(|old| Arc::ptr_eq(old, row)));
        let bytes = same.map_or_else(|| encode(row).into(), |old| old.bytes.clone());
        Row {
            id,
            source: Some(Arc::clone(row)),
            bytes,
        }
    });
    encoded.collect()
}

fn read_rows<K: std::str::FromStr, T>(rows: Vec<Bytes>) -> Result<Vec<Row<K, T>>, NotCanonical> {
    let read = |bytes: Bytes| {
        let key = RowKey::decode(bytes.clone()).map_err(|error| NotCanonical(error.to_string()))?;
        let id = key
            .id
            .parse()
            .map_err(|_| NotCanonical(format!("a row's id {:?} is none", key.id)))?;
        Ok(Row {
            id,
            source: None,
            bytes,
        })
    };
    rows.into_iter().map(read).collect()
}

/// Rows of `after` that `before` has not or has otherwise, and ids of `before` that `after` has not. Both are sorted by id.
fn step<'a, K: Ord + std::fmt::Display + 'a, T: 'a>(
    before: impl Iterator<Item = &'a Row<K, T>>,
    after: impl Iterator<Item = &'a Row<K, T>>,
) -> (Vec<Bytes>, Vec<String>) {
    let (mut changed, mut removed) = (Vec::new(), Vec::new());
    let mut before = before.peekable();
    for row in after {
        while let Some(gone) = before.next_if(|old| old.id < row.id) {
            removed.push(gone.id.to_string());
        }
        let old = before.next_if(|old| old.id == row.id);
        // The same allocation needs no look at its bytes.
        let same = old.is_some_and(|old| old.bytes.as_ptr() == row.bytes.as_ptr() || old.bytes == row.bytes);
        if !same {
            changed.push(row.bytes.clone());
        }
    }
    removed.extend(before.map(|gone| gone.id.to_string()));
    (changed, removed)
}

/// Leaves out of `now` the sections, and the version, that are as they were.
fn forget_unchanged(now: &mut Wire, before: &Wire) {
    fn forget<T: PartialEq>(now: &mut T, before: &T, nothing: T) {
        if now == before {
            *now = nothing;
        }
    }
    forget(&mut now.coordinator_version, &before.coordinator_version, String::new());
    forget(&mut now.telemetry, &before.telemetry, None);
    forget(&mut now.predictive, &before.predictive, None);
    forget(&mut now.mesh, &before.mesh, None);
    forget(&mut now.autonomy, &before.autonomy, None);
    forget(&mut now.behaviour, &before.behaviour, None);
    forget(&mut now.integrity, &before.integrity, None);
    forget(&mut now.coherence, &before.coherence, None);
}

/// `wyneos.v1.WatchSnapshotsResponse` on the wire.
#[derive(Clone, PartialEq, Message)]
pub struct WireWatchResponse {
    /// [`Canonical::view`].
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub full: Option<Bytes>,
    /// [`Canonical::delta`].
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub delta: Option<Bytes>,
    /// The seal.
    #[prost(message, optional, tag = "3")]
    pub seal: Option<v1::Seal>,
    /// The resume token.
    #[prost(string, tag = "4")]
    pub resume_token: String,
    /// Why a resume token was answered with the full state.
    #[prost(string, tag = "5")]
    pub reset_reason: String,
}

/// `wyneos.v1.GetSnapshotResponse` on the wire.
#[derive(Clone, PartialEq, Message)]
pub struct WireGetResponse {
    /// [`Canonical::view`].
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub snapshot: Option<Bytes>,
    /// The seal.
    #[prost(message, optional, tag = "2")]
    pub seal: Option<v1::Seal>,
    /// The snapshot's age.
    #[prost(message, optional, tag = "3")]
    pub age: Option<prost_types::Duration>,
}

#[cfg(test)]
mod tests;
