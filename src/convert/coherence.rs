//! Snapshots: rows and sections.

use std::collections::BTreeMap;

use wyneos_core::{
    autonomy,
    coherence::{BehaviourOverview, IntegrityOverview, Report, Severity, Snapshot},
    id::NodeId,
    mesh::{Finding, FindingKind, Link, ObserverLinks, Topology},
    node::NodeIndex,
};

use super::{
    node::same,
    telemetry::predictive_overview,
    time::{duration, timestamp},
};
use crate::v1;

same!(
    Severity,
    v1::Severity {
        Notice,
        Warning,
        Critical
    }
);

impl From<&ObserverLinks> for v1::ObserverLinks {
    fn from(row: &ObserverLinks) -> v1::ObserverLinks {
        v1::ObserverLinks {
            observer_id: row.observer.to_string(),
            links: row.links.iter().map(Into::into).collect(),
        }
    }
}

impl From<&(NodeId, Link)> for v1::Link {
    fn from((subject, link): &(NodeId, Link)) -> v1::Link {
        v1::Link {
            subject_id: subject.to_string(),
            state: v1::LinkState::from(link.state).into(),
            rtt_micros: link.rtt_micros,
            rtt_p95_micros: link.rtt_p95_micros,
            loss_percent: link.loss_percent,
            last_success: link.last_success.map(timestamp),
            failure: super::agent::failure_out(link.failure),
        }
    }
}

/// Converts the head of snapshots and deltas.
pub fn snapshot_head(snapshot: &Snapshot) -> v1::Snapshot {
    v1::Snapshot {
        cluster_id: snapshot.cluster.to_string(),
        epoch: snapshot.epoch.0,
        cycle: snapshot.cycle.0,
        time: Some(timestamp(snapshot.time)),
        cycle_interval: Some(duration(snapshot.cycle_interval)),
        coordinator_version: snapshot.coordinator_version.to_string(),
        ..v1::Snapshot::default()
    }
}

/// Converts a snapshot without its rows: the head and all other sections.
pub fn sections(snapshot: &Snapshot) -> v1::Snapshot {
    let crossings = &snapshot.predictive.crossings;
    let ids: BTreeMap<NodeIndex, NodeId> = if crossings.is_empty() {
        BTreeMap::new()
    } else {
        snapshot.nodes.iter().map(|row| (row.index, row.record.id())).collect()
    };
    let id = |index: NodeIndex| ids.get(&index).copied();
    v1::Snapshot {
        telemetry: Some((&snapshot.telemetry).into()),
        predictive: Some(predictive_overview(&snapshot.predictive, snapshot.cycle_interval, id)),
        mesh: Some(v1::MeshTopology {
            findings: snapshot.findings.iter().map(Into::into).collect(),
            ..(&*snapshot.mesh).into()
        }),
        autonomy: Some((&snapshot.autonomy).into()),
        behaviour: Some((&snapshot.behaviour).into()),
        integrity: Some((&snapshot.integrity).into()),
        coherence: Some((&snapshot.coherence).into()),
        ..snapshot_head(snapshot)
    }
}

impl From<&Topology> for v1::MeshTopology {
    fn from(topology: &Topology) -> v1::MeshTopology {
        let component = |members: &Vec<NodeId>| v1::MeshComponent {
            node_ids: members.iter().map(ToString::to_string).collect(),
        };
        let unobserved = |(observer, subject): &(NodeId, NodeId)| v1::UnobservedLink {
            observer_id: observer.to_string(),
            subject_id: subject.to_string(),
        };
        v1::MeshTopology {
            nodes: topology.nodes,
            planned_links: topology.planned,
            live_links: topology.live,
            lossy_links: topology.lossy,
            down_links: topology.down,
            unobserved_links: topology.unobserved,
            components: topology.components.iter().map(component).collect(),
            components_total: topology.components_total,
            unobserved: topology.unobserved_links.iter().map(unobserved).collect(),
            plan_version: topology.plan_version,
            findings: Vec::new(),
        }
    }
}

same!(
    FindingKind,
    v1::FindingKind {
        NodesDown,
        Ambiguous,
        CoordinatorCut,
        PeersCut,
        GroupSplit,
        LinkDown,
        OneWay,
        LinkLossy,
        LinkSlow,
        Flapping,
        Starved,
        DiskStalled,
        Untrusted,
        LargeLost,
        Breaker
    }
);

impl From<&Finding> for v1::Finding {
    fn from(finding: &Finding) -> v1::Finding {
        let ids = |ids: &[NodeId]| ids.iter().map(ToString::to_string).collect();
        v1::Finding {
            id: finding.id,
            kind: v1::FindingKind::from(finding.kind).into(),
            since: Some(timestamp(finding.since)),
            near: ids(&finding.near),
            far: ids(&finding.far),
            detail: finding.detail.clone(),
        }
    }
}

impl From<&autonomy::Overview> for v1::AutonomyState {
    fn from(overview: &autonomy::Overview) -> v1::AutonomyState {
        v1::AutonomyState {
            mode: v1::AutonomyMode::from(overview.mode).into(),
            decisions_total: overview.total,
            open: overview.open,
            recent: overview.recent.iter().map(|decision| (&**decision).into()).collect(),
        }
    }
}

/// Converts the pending directives.
fn pending_rows(overview: &BehaviourOverview) -> Vec<v1::PendingDirective> {
    let row = |row: &wyneos_core::coherence::PendingRow| v1::PendingDirective {
        id: row.directive.id.0,
        node_id: row.node.to_string(),
        order: row.directive.order.name().to_owned(),
        state: v1::DirectiveState::from(row.directive.state).into(),
        attempts: row.directive.attempts,
    };
    overview.pending.iter().map(row).collect()
}

impl From<&BehaviourOverview> for v1::BehaviourState {
    fn from(overview: &BehaviourOverview) -> v1::BehaviourState {
        let counts = overview.counts;
        v1::BehaviourState {
            issued: counts.issued,
            deliveries: counts.deliveries,
            acknowledged: counts.acknowledged,
            done: counts.done,
            failed: counts.failed,
            expired: counts.expired,
            pending: pending_rows(overview),
        }
    }
}

impl From<&IntegrityOverview> for v1::IntegrityState {
    fn from(overview: &IntegrityOverview) -> v1::IntegrityState {
        let count = |(digest, nodes): &([u8; 32], u32)| v1::DigestCount {
            digest: digest.to_vec(),
            nodes: *nodes,
        };
        let (previous_epoch, previous_cycle, previous_chain) = overview.previous;
        v1::IntegrityState {
            public_key: overview.public_key.0.to_vec(),
            previous_epoch: previous_epoch.0,
            previous_cycle: previous_cycle.0,
            previous_chain: previous_chain.to_vec(),
            binaries: overview.binaries.iter().map(count).collect(),
            configs: overview.configs.iter().map(count).collect(),
        }
    }
}

impl From<&Report> for v1::CoherenceReport {
    fn from(report: &Report) -> v1::CoherenceReport {
        let invariants = report.invariants.iter().map(|invariant| v1::Invariant {
            id: invariant.id.to_owned(),
            meaning: invariant.meaning.to_owned(),
            severity: v1::Severity::from(invariant.severity).into(),
            holds: invariant.holds(),
            checked: invariant.checked,
            broken: invariant.broken,
            node_ids: invariant.nodes.iter().map(ToString::to_string).collect(),
            detail: invariant.detail.clone(),
        });
        v1::CoherenceReport {
            score: report.score,
            invariants: invariants.collect(),
        }
    }
}
