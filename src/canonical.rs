//! Canonical encoding of snapshots, and deltas between them.
//!
//! Rows are encoded once, when they change. Snapshots, deltas and filtered views are assembled from the same bytes.

mod rows;

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use prost::Message;
use wyneos_core::{
    coherence::{NodeRow, Snapshot},
    id::NodeId,
    mesh::ObserverLinks,
    recycled::Recycled,
    workload::{AssignmentId, AssignmentRow, WorkloadRow},
};

use self::rows::Rows;
use crate::{convert, v1};

/// Field numbers of the rows in `wyneos.v1.Snapshot`.
const NODES: u32 = 7;
const LINKS: u32 = 11;
const WORKLOADS: u32 = 16;
const ASSIGNMENTS: u32 = 17;

/// `wyneos.v1.Snapshot` on the wire, with rows already encoded: repeated messages and repeated bytes have the same
/// encoding.
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
    #[prost(bytes = "bytes", optional, tag = "3")]
    changed: Option<Bytes>,
    #[prost(string, repeated, tag = "4")]
    removed_nodes: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    removed_links: Vec<String>,
    #[prost(string, repeated, tag = "6")]
    removed_workloads: Vec<String>,
    #[prost(string, repeated, tag = "7")]
    removed_assignments: Vec<String>,
}

/// The key of any kind of row; other fields differ between kinds.
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

/// Selection of a snapshot's contents.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Filter {
    /// Sections to include; empty for all.
    pub sections: BTreeSet<i32>,
    /// Label that nodes must have.
    pub label: Option<(String, String)>,
}

impl Filter {
    /// Whether the selection includes everything.
    pub fn is_everything(&self) -> bool {
        self.sections.is_empty() && self.label.is_none()
    }

    fn wants(&self, section: v1::Section) -> bool {
        self.sections.is_empty() || self.sections.contains(&(section as i32))
    }

    fn wants_row(&self, row: &[u8]) -> bool {
        self.label.as_ref().is_none_or(|(key, value)| {
            let row = Labels::decode(row).unwrap_or_default();
            row.labels
                .iter()
                .any(|label| label.key == *key && label.value == *value)
        })
    }
}

/// A snapshot with encoded rows.
#[derive(Clone, Debug)]
pub struct Canonical {
    /// Epoch of the snapshot.
    pub epoch: u64,
    /// Cycle of the snapshot.
    pub cycle: u64,
    head: Wire,
    nodes: Rows<NodeId, NodeRow>,
    links: Rows<NodeId, ObserverLinks>,
    workloads: Rows<String, WorkloadRow>,
    assignments: Rows<AssignmentId, AssignmentRow>,
}

/// Error for bytes that are not a snapshot.
#[derive(Clone, Debug, thiserror::Error)]
#[error("not the canonical bytes of a snapshot: {0}")]
pub struct NotCanonical(String);

impl Canonical {
    /// Encodes `snapshot`. Rows unchanged since `before` are not encoded again.
    pub fn new(snapshot: &Snapshot, before: Option<&Canonical>) -> Canonical {
        let mut head = v1_head(convert::sections(snapshot));
        head.nodes.clear();
        Canonical {
            epoch: snapshot.epoch.0,
            cycle: snapshot.cycle.0,
            head,
            nodes: Rows::new(
                NODES,
                snapshot.nodes.iter(),
                before.map(|before| &before.nodes),
                |row| row.record.id(),
                |row| v1::NodeRow::from(row).encode_to_vec(),
            ),
            links: Rows::new(
                LINKS,
                snapshot.links.iter(),
                before.map(|before| &before.links),
                |row| row.observer,
                |row| v1::ObserverLinks::from(row).encode_to_vec(),
            ),
            workloads: Rows::new(
                WORKLOADS,
                &snapshot.work.workloads,
                before.map(|before| &before.workloads),
                |row| row.name().to_owned(),
                |row| v1::Workload::from(row).encode_to_vec(),
            ),
            assignments: Rows::new(
                ASSIGNMENTS,
                snapshot.work.assignments.iter(),
                before.map(|before| &before.assignments),
                |row| row.record.id,
                |row| v1::Assignment::from(row).encode_to_vec(),
            ),
        }
    }

    /// Decodes a snapshot from its canonical bytes.
    pub fn from_bytes(bytes: Bytes) -> Result<Canonical, NotCanonical> {
        let mut head = Wire::decode(bytes).map_err(|error| NotCanonical(error.to_string()))?;
        let (nodes, links) = (std::mem::take(&mut head.nodes), std::mem::take(&mut head.links));
        let workloads = std::mem::take(&mut head.workloads);
        let assignments = std::mem::take(&mut head.assignments);
        Ok(Canonical {
            epoch: head.epoch,
            cycle: head.cycle,
            head,
            nodes: Rows::read(NODES, nodes, read_key)?,
            links: Rows::read(LINKS, links, read_key)?,
            workloads: Rows::read(WORKLOADS, workloads, read_key)?,
            assignments: Rows::read(ASSIGNMENTS, assignments, read_key)?,
        })
    }

    /// Returns the canonical bytes, which are sealed.
    pub fn bytes(&self) -> Bytes {
        self.view(&Filter::default())
    }

    /// Returns the canonical bytes, in the allocation of earlier ones that have no readers any more.
    pub fn bytes_in(&self, memory: &mut Recycled<u8>) -> Bytes {
        struct Shared(Arc<Vec<u8>>);
        impl AsRef<[u8]> for Shared {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        let mut bytes = memory.take();
        self.write_view(&Filter::default(), &mut bytes);
        Bytes::from_owner(Shared(memory.share(bytes)))
    }

    /// Encodes the contents that `filter` selects.
    pub fn view(&self, filter: &Filter) -> Bytes {
        let mut bytes = Vec::new();
        self.write_view(filter, &mut bytes);
        bytes.into()
    }

    fn write_view(&self, filter: &Filter, into: &mut Vec<u8>) {
        let wants = |section| filter.wants(section);
        let nodes = match (&filter.label, wants(v1::Section::Nodes)) {
            (_, false) => Vec::new(),
            (None, true) => self.nodes.all(),
            (Some(_), true) => self.nodes.some(|row| filter.wants_row(row)),
        };
        let all_if = |wanted, rows| if wanted { rows } else { Vec::new() };
        write(
            self.selected(filter),
            into,
            FramedRows {
                nodes,
                links: all_if(wants(v1::Section::Mesh), self.links.all()),
                workloads: all_if(wants(v1::Section::Workloads), self.workloads.all()),
                assignments: all_if(wants(v1::Section::Workloads), self.assignments.all()),
            },
        );
    }

    /// Encodes the delta from `before` to this snapshot, of the contents that `filter` selects.
    pub fn delta(&self, before: &Canonical, filter: &Filter) -> Bytes {
        let mut head = self.selected(filter);
        forget_unchanged(&mut head, &before.selected(filter));
        let wants = |section| filter.wants(section);
        let node = |row: &[u8]| wants(v1::Section::Nodes) && filter.wants_row(row);
        let (nodes, removed_nodes) = self.nodes.since(&before.nodes, node);
        let (links, removed_links) = self.links.since(&before.links, |_| wants(v1::Section::Mesh));
        let work = |_: &[u8]| wants(v1::Section::Workloads);
        let (workloads, removed_workloads) = self.workloads.since(&before.workloads, work);
        let (assignments, removed_assignments) = self.assignments.since(&before.assignments, work);
        let mut changed = Vec::new();
        write(
            head,
            &mut changed,
            FramedRows {
                nodes,
                links,
                workloads,
                assignments,
            },
        );
        let delta = WireDelta {
            from_epoch: before.epoch,
            from_cycle: before.cycle,
            changed: Some(changed.into()),
            removed_nodes,
            removed_links,
            removed_workloads,
            removed_assignments,
        };
        delta.encode_to_vec().into()
    }

    /// Returns the head and the sections that `filter` selects.
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

/// Rows as encoded in a snapshot, each with the field's tag and length.
struct FramedRows<'a> {
    nodes: Vec<&'a [u8]>,
    links: Vec<&'a [u8]>,
    workloads: Vec<&'a [u8]>,
    assignments: Vec<&'a [u8]>,
}

/// Writes a snapshot's fields in the order of their numbers. `head` contains all fields except the rows.
fn write(head: Wire, into: &mut Vec<u8>, rows: FramedRows<'_>) {
    let opening = Wire {
        cluster_id: head.cluster_id,
        epoch: head.epoch,
        cycle: head.cycle,
        time: head.time,
        cycle_interval: head.cycle_interval,
        coordinator_version: head.coordinator_version,
        ..Wire::default()
    };
    let middle = Wire {
        telemetry: head.telemetry,
        predictive: head.predictive,
        mesh: head.mesh,
        ..Wire::default()
    };
    let closing = Wire {
        autonomy: head.autonomy,
        behaviour: head.behaviour,
        integrity: head.integrity,
        coherence: head.coherence,
        ..Wire::default()
    };
    let parts = [
        (opening.encode_to_vec(), rows.nodes),
        (middle.encode_to_vec(), rows.links),
        (closing.encode_to_vec(), rows.workloads),
        (Vec::new(), rows.assignments),
    ];
    let rows = parts.iter().flat_map(|(_, rows)| rows);
    let len = |heads: usize| heads + rows.map(|row| row.len()).sum::<usize>();
    into.reserve_exact(len(parts.iter().map(|(head, _)| head.len()).sum()));
    for (head, rows) in parts {
        into.extend_from_slice(&head);
        for row in rows {
            into.extend_from_slice(row);
        }
    }
}

fn read_key<K: std::str::FromStr>(row: &Bytes) -> Result<K, NotCanonical> {
    let key = RowKey::decode(row.clone()).map_err(|error| NotCanonical(error.to_string()))?;
    let not_one = |_| NotCanonical(format!("a row's id {:?} is none", key.id));
    key.id.parse().map_err(not_one)
}

/// Clears the sections of `now`, and the version, that are unchanged.
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
    /// Full state, see [`Canonical::view`].
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub full: Option<Bytes>,
    /// Delta, see [`Canonical::delta`].
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub delta: Option<Bytes>,
    /// The seal.
    #[prost(message, optional, tag = "3")]
    pub seal: Option<v1::Seal>,
    /// The resume token.
    #[prost(string, tag = "4")]
    pub resume_token: String,
    /// Reason why a resume token was answered with the full state.
    #[prost(string, tag = "5")]
    pub reset_reason: String,
}

/// `wyneos.v1.GetSnapshotResponse` on the wire.
#[derive(Clone, PartialEq, Message)]
pub struct WireGetResponse {
    /// Snapshot, see [`Canonical::view`].
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub snapshot: Option<Bytes>,
    /// The seal.
    #[prost(message, optional, tag = "2")]
    pub seal: Option<v1::Seal>,
    /// Age of the snapshot.
    #[prost(message, optional, tag = "3")]
    pub age: Option<prost_types::Duration>,
}

#[cfg(test)]
mod tests;
