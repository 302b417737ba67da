//! The coherence snapshot: everything the engine concludes in one cycle.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::Report;
use crate::{
    autonomy, behaviour,
    id::{ClusterId, NodeId},
    integrity::{Digest, PublicKey},
    mesh::{Coordinate, Finding, ObserverLinks, Topology},
    node::{Cause, Liveness, NodeIndex, NodeRecord},
    predictive::{self, Forecast},
    telemetry::{Channel, Sample, Statistics},
    time::WallTime,
    workload::View,
};

/// What changes of a row while its record stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowState {
    /// Is it alive?
    pub liveness: Liveness,
    /// Why.
    pub cause: Cause,
    /// Since when.
    pub liveness_since: WallTime,
    /// When it was last heard; `None` while it is online.
    pub last_seen: Option<WallTime>,
    /// Load indicator in hundredths.
    pub load_percent: u32,
}

/// A node as the snapshot shows it. A row that did not change is the same allocation as in the snapshot before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// Where the node is in the telemetry samples.
    pub index: NodeIndex,
    /// What the store keeps of it.
    pub record: Arc<NodeRecord>,
    /// The rest.
    pub state: RowState,
}

/// The nodes at one moment, for readers.
#[derive(Clone, Debug, Default)]
pub struct Nodes {
    /// The rows, sorted by id. A row that did not change is the same allocation as before.
    pub rows: Arc<Vec<Arc<NodeRow>>>,
    /// Number of the newest event that the rows reflect: a later one may tell of what they do not show yet.
    pub event: u64,
}

/// What is told of a node on request; changes with every heartbeat and so is no part of the sealed snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NodeDetail {
    /// Last heartbeat in this coordinator's life.
    pub last_heartbeat: Option<WallTime>,
    /// The agent's wall clock less the coordinator's, milliseconds.
    pub clock_skew_millis: i64,
    /// Newest cycle that the agent acknowledged.
    pub acknowledged_cycle: u64,
    /// Heartbeats of the present session.
    pub heartbeats: u64,
    /// Where it is in the network.
    pub coordinate: Option<Coordinate>,
    /// By way of which peer it asked for its standing last, and when.
    pub relayed: Option<(NodeId, WallTime)>,
}

/// The Telemetry Matrix at a glance.
#[derive(Clone, Debug, PartialEq)]
pub struct TelemetryOverview {
    /// Statistics a channel.
    pub channels: [Statistics; Channel::COUNT],
    /// Samples kept a series.
    pub history: u32,
    /// Values received since the coordinator started.
    pub values_received: u64,
}

/// A directive under way, as the snapshot shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingRow {
    /// The directive.
    pub directive: behaviour::Pending,
    /// Id of its node.
    pub node: NodeId,
}

/// The Behaviour Loop at a glance.
#[derive(Clone, Debug, PartialEq)]
pub struct BehaviourOverview {
    /// Counts since the coordinator started.
    pub counts: behaviour::Counts,
    /// Oldest directives under way; at most 64.
    pub pending: Vec<PendingRow>,
}

/// The Integrity Engine at a glance.
#[derive(Clone, Debug, PartialEq)]
pub struct IntegrityOverview {
    /// The key that signs.
    pub public_key: PublicKey,
    /// Epoch, cycle and chain of the snapshot before.
    pub previous: (u64, u64, Digest),
    /// Binaries among online nodes; at most 16, the most frequent first.
    pub binaries: Vec<(Digest, u32)>,
    /// Configurations among online nodes; at most 16, the most frequent first.
    pub configs: Vec<(Digest, u32)>,
}

/// Everything the engine concludes in one cycle, and what reads are answered from beside it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The cluster's id.
    pub cluster: ClusterId,
    /// Epoch of the coordinator.
    pub epoch: u64,
    /// Number of the cycle.
    pub cycle: u64,
    /// When the cycle ran.
    pub time: WallTime,
    /// The cluster's running time, across restarts of the coordinator. Not sealed.
    pub lived: Duration,
    /// Time between two cycles.
    pub cycle_interval: Duration,
    /// Version of the coordinator.
    pub coordinator_version: Arc<str>,
    /// The nodes, sorted by id; the same allocation as in the snapshot before where no row changed.
    pub nodes: Arc<Vec<Arc<NodeRow>>>,
    /// The matrix at a glance.
    pub telemetry: TelemetryOverview,
    /// The forecasts at a glance.
    pub predictive: predictive::Overview,
    /// The mesh as a whole.
    pub mesh: Arc<Topology>,
    /// What the mesh found and is not over.
    pub findings: Vec<Finding>,
    /// The mesh link by link, sorted by observer.
    pub links: Arc<Vec<Arc<ObserverLinks>>>,
    /// The decisions at a glance.
    pub autonomy: autonomy::Overview,
    /// The directives at a glance.
    pub behaviour: BehaviourOverview,
    /// Integrity at a glance.
    pub integrity: IntegrityOverview,
    /// Do the systems agree?
    pub coherence: Report,
    /// Workloads and their instances.
    pub work: Arc<View>,

    /// Not sealed: the samples that are kept, oldest first.
    pub history: VecDeque<Arc<Sample>>,
    /// Not sealed: the published forecasts.
    pub forecasts: Arc<Vec<Forecast>>,
    /// Not sealed: details by [`NodeIndex`].
    pub details: Arc<Vec<NodeDetail>>,
}
