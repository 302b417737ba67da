//! The coherence snapshot: all conclusions of the engine in one cycle.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::Report;
use crate::{
    autonomy, behaviour,
    id::{ClusterId, Cycle, Epoch, EventNo, NodeId},
    integrity::{Digest, PublicKey},
    mesh::{Coordinate, Finding, ObserverLinks, Topology},
    node::{Cause, Liveness, NodeIndex, NodeRecord},
    predictive::{self, Forecast},
    telemetry::{Channel, Sample, Statistics},
    time::WallTime,
    workload::View,
};

/// The part of a row that changes independently of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowState {
    /// Liveness.
    pub liveness: Liveness,
    /// Cause of the liveness.
    pub cause: Cause,
    /// Time of the last change of liveness.
    pub liveness_since: WallTime,
    /// Time at which it was last heard; `None` while it is online.
    pub last_seen: Option<WallTime>,
    /// Load indicator in percent.
    pub load_percent: u32,
}

/// A node in a snapshot. An unchanged row shares the allocation of the previous snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// Index of the node in telemetry samples.
    pub index: NodeIndex,
    /// The durable record.
    pub record: Arc<NodeRecord>,
    /// The transient state.
    pub state: RowState,
}

/// All nodes at one moment, for readers.
#[derive(Clone, Debug, Default)]
pub struct Nodes {
    /// Rows sorted by id. An unchanged row shares its previous allocation.
    pub rows: Arc<Vec<Arc<NodeRow>>>,
    /// Number of the newest event that the rows reflect; later events may describe changes that the rows do not show
    /// yet.
    pub event: EventNo,
}

/// Details of a node, available on request. They change with every heartbeat and are not part of the sealed snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NodeDetail {
    /// Time of the last heartbeat since this coordinator started.
    pub last_heartbeat: Option<WallTime>,
    /// The agent's wall clock less the coordinator's, milliseconds.
    pub clock_skew_millis: i64,
    /// Newest cycle acknowledged by the agent.
    pub acknowledged_cycle: Cycle,
    /// Number of heartbeats in the current session.
    pub heartbeats: u64,
    /// Network coordinate.
    pub coordinate: Option<Coordinate>,
    /// The peer that last forwarded its question about its standing, and when.
    pub relayed: Option<(NodeId, WallTime)>,
}

/// Summary of the Telemetry Matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct TelemetryOverview {
    /// Statistics per channel.
    pub channels: [Statistics; Channel::COUNT],
    /// Number of samples retained per series.
    pub history: u32,
    /// Number of values received since the coordinator started.
    pub values_received: u64,
}

/// A pending directive in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingRow {
    /// The directive.
    pub directive: behaviour::Pending,
    /// Id of the node.
    pub node: NodeId,
}

/// Summary of the Behaviour Loop.
#[derive(Clone, Debug, PartialEq)]
pub struct BehaviourOverview {
    /// Counters since the coordinator started.
    pub counts: behaviour::Counts,
    /// The oldest pending directives; at most 64.
    pub pending: Vec<PendingRow>,
}

/// Summary of the Integrity Engine.
#[derive(Clone, Debug, PartialEq)]
pub struct IntegrityOverview {
    /// Public key of the signing key.
    pub public_key: PublicKey,
    /// Epoch, cycle and chain of the previous snapshot.
    pub previous: (Epoch, Cycle, Digest),
    /// Binaries of online nodes; at most 16, most frequent first.
    pub binaries: Vec<(Digest, u32)>,
    /// Configurations of online nodes; at most 16, most frequent first.
    pub configs: Vec<(Digest, u32)>,
}

/// All conclusions of the engine in one cycle, and further data from which reads are answered.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The cluster's id.
    pub cluster: ClusterId,
    /// Epoch of the coordinator.
    pub epoch: Epoch,
    /// Number of the cycle.
    pub cycle: Cycle,
    /// Time of the cycle.
    pub time: WallTime,
    /// Accumulated running time of the cluster's coordinators. Not sealed.
    pub lived: Duration,
    /// Interval between cycles.
    pub cycle_interval: Duration,
    /// Version of the coordinator.
    pub coordinator_version: Arc<str>,
    /// Nodes sorted by id; the allocation of the previous snapshot if no row changed.
    pub nodes: Arc<Vec<Arc<NodeRow>>>,
    /// Summary of telemetry.
    pub telemetry: TelemetryOverview,
    /// Summary of the forecasts.
    pub predictive: predictive::Overview,
    /// Topology of the mesh.
    pub mesh: Arc<Topology>,
    /// Open findings of the mesh.
    pub findings: Vec<Finding>,
    /// Links of the mesh, sorted by observer.
    pub links: Arc<Vec<Arc<ObserverLinks>>>,
    /// Summary of the decisions.
    pub autonomy: autonomy::Overview,
    /// Summary of the directives.
    pub behaviour: BehaviourOverview,
    /// Summary of integrity.
    pub integrity: IntegrityOverview,
    /// Agreement of the systems.
    pub coherence: Report,
    /// Workloads and instances.
    pub work: Arc<View>,

    /// Retained samples, oldest first. Not sealed.
    pub history: VecDeque<Arc<Sample>>,
    /// Published forecasts. Not sealed.
    pub forecasts: Arc<Vec<Forecast>>,
    /// Details by [`NodeIndex`]. Not sealed.
    pub details: Arc<Vec<NodeDetail>>,
}
