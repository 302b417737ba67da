//! ClusterService: nodes, and operators' commands.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use wyneos::{
    convert::{duration, timestamp},
    v1::{self, cluster_service_server::ClusterService},
};
use wyneos_core::{
    coherence::{NodeDetail, NodeRow, Snapshot},
    command::{Admit, Cordon, Drain, Forget, Label, Refresh, Revoke, SetHeartbeat, Uncordon},
    id::{Cycle, NodeId},
    mesh::Coordinate,
    node::Liveness,
    text::Quoted,
};

use wyneos_shell::clock::Clock;

use super::{Services, caller_of, label_selector, name_of, page, page_size, page_token};
use crate::{board::node, status};

fn no_coordinate(name: &str) -> Status {
    let message = format!(
        "node {} has no network coordinate yet: its agent has not probed any peer; retry in a few seconds",
        Quoted(name)
    );
    status::not_found("NO_COORDINATE", message)
}

/// The measured round-trip times, by (observer, subject).
fn pairs(snapshot: &Snapshot) -> BTreeMap<(NodeId, NodeId), Duration> {
    let links = snapshot
        .links
        .iter()
        .flat_map(|row| row.links.iter().map(|(subject, link)| ((row.observer, *subject), link)));
    let answered = links.filter(|(_, link)| link.is_live() && link.rtt_micros > 0);
    answered
        .map(|(pair, link)| (pair, Duration::from_micros(u64::from(link.rtt_micros))))
        .collect()
}

/// The snapshot's data on a node's heartbeats. Those of an earlier session are not counted.
fn detail(snapshot: &Snapshot, row: &NodeRow) -> NodeDetail {
    let detail = snapshot.details.get(row.index.get()).copied().unwrap_or_default();
    let session = node(&snapshot.nodes, row.record.id()).map(|then| then.record.session);
    if session == Some(row.record.session) {
        return detail;
    }
    NodeDetail {
        heartbeats: 0,
        acknowledged_cycle: Cycle(0),
        ..detail
    }
}

/// The peer that relayed the node's last request for its standing.
pub(super) fn relayed(snapshot: &Snapshot, nodes: &[Arc<NodeRow>], row: &NodeRow) -> Option<v1::Relayed> {
    let (via, time) = snapshot.details.get(row.index.get())?.relayed?;
    Some(v1::Relayed {
        via_id: via.to_string(),
        via_name: name_of(nodes, via),
        time: Some(timestamp(time)),
    })
}

#[tonic::async_trait]
impl ClusterService for Services {
    async fn get_cluster(&self, _: Request<v1::GetClusterRequest>) -> Result<Response<v1::GetClusterResponse>, Status> {
        let (published, nodes) = self.present()?;
        let snapshot = &published.snapshot;
        let count = |liveness| {
            let nodes = nodes.rows.iter().filter(|row| row.state.liveness == liveness).count() as u32;
            (nodes > 0).then(|| v1::LivenessCount {
                liveness: v1::Liveness::from(liveness).into(),
                nodes,
            })
        };
        Ok(Response::new(v1::GetClusterResponse {
            cluster_id: snapshot.cluster.to_string(),
            coordinator_version: snapshot.coordinator_version.to_string(),
            started: Some(timestamp(self.started)),
            cycle_interval: Some(duration(snapshot.cycle_interval)),
            heartbeat_interval: Some(duration(self.config.heartbeat.0)),
            liveness: Liveness::ALL.into_iter().filter_map(count).collect(),
            coherence_score: snapshot.coherence.score,
            subscribers: self.board.readers(0).0,
            read: Some(published.read_state()),
        }))
    }

    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        let request = request.into_inner();
        let (published, known) = self.present()?;
        let size = page_size(request.page_size)?;
        let after: Option<NodeId> = page_token(&request.page_token)?;
        let label = label_selector("node_label", &request.node_label)?;
        let wanted = |row: &&Arc<NodeRow>| match &label {
            None => true,
            Some((key, value)) => row.record.labels().get(key) == Some(value),
        };
        let behind = |row: &&Arc<NodeRow>| after.is_none_or(|after| row.record.id() > after);
        let rows = known.rows.iter().filter(behind).filter(wanted);
        let (nodes, more) = page(rows.map(|row| v1::NodeRow::from(&**row)), size);
        let next_page_token = nodes
            .last()
            .filter(|_| more)
            .map(|last| last.id.clone())
            .unwrap_or_default();
        Ok(Response::new(v1::ListNodesResponse {
            nodes,
            next_page_token,
            read: Some(published.read_state()),
        }))
    }

    async fn get_node(&self, request: Request<v1::GetNodeRequest>) -> Result<Response<v1::GetNodeResponse>, Status> {
        let (published, nodes) = self.present()?;
        let row = self.row(&nodes.rows, &request.into_inner().node)?;
        let detail = detail(&published.snapshot, row);
        let skew = Duration::from_millis(detail.clock_skew_millis.unsigned_abs());
        let mut clock_skew = duration(skew);
        if detail.clock_skew_millis < 0 {
            (clock_skew.seconds, clock_skew.nanos) = (-clock_skew.seconds, -clock_skew.nanos);
        }
        Ok(Response::new(v1::GetNodeResponse {
            node: Some((&**row).into()),
            last_heartbeat: detail.last_heartbeat.map(timestamp),
            heartbeat_interval: Some(duration(row.record.heartbeat.unwrap_or(self.config.heartbeat.0))),
            clock_skew: (detail.heartbeats > 0).then_some(clock_skew),
            acknowledged_cycle: detail.acknowledged_cycle.0,
            heartbeats: detail.heartbeats,
            read: Some(published.read_state()),
            relayed: relayed(&published.snapshot, &nodes.rows, row),
        }))
    }

    async fn estimate_rtt(
        &self,
        request: Request<v1::EstimateRttRequest>,
    ) -> Result<Response<v1::EstimateRttResponse>, Status> {
        let request = request.into_inner();
        let (published, nodes) = self.present()?;
        let snapshot = &published.snapshot;
        let (from, to) = (
            self.row(&nodes.rows, &request.from)?,
            self.row(&nodes.rows, &request.to)?,
        );
        let place = |row: &NodeRow| {
            snapshot
                .details
                .get(row.index.get())
                .and_then(|detail| detail.coordinate)
        };
        let known = |row: &NodeRow| place(row).ok_or_else(|| no_coordinate(&row.record.facts.name));
        let estimate = known(from)?.distance(&known(to)?);
        let measured = pairs(snapshot);
        let link = |one: &NodeRow, other: &NodeRow| measured.get(&(one.record.id(), other.record.id()));
        let places: BTreeMap<NodeId, Coordinate> = snapshot
            .nodes
            .iter()
            .filter_map(|row| Some((row.record.id(), place(row)?)))
            .collect();
        let error = |((one, other), rtt): (&(NodeId, NodeId), &Duration)| {
            let told = places.get(one)?.distance(places.get(other)?).as_secs_f64();
            Some((told - rtt.as_secs_f64()).abs() / rtt.as_secs_f64())
        };
        let mut errors: Vec<f64> = measured.iter().filter_map(error).collect();
        errors.sort_unstable_by(f64::total_cmp);
        let quantile = |hundredth: usize| errors.get(errors.len() * hundredth / 100).copied().unwrap_or_default();
        Ok(Response::new(v1::EstimateRttResponse {
            estimate: Some(duration(estimate)),
            measured: link(from, to).or(link(to, from)).copied().map(duration),
            pairs: errors.len() as u32,
            error_median: quantile(50) as f32,
            error_p90: quantile(90) as f32,
            read: Some(published.read_state()),
        }))
    }

    async fn cordon_node(
        &self,
        request: Request<v1::CordonNodeRequest>,
    ) -> Result<Response<v1::CordonNodeResponse>, Status> {
        self.command::<Cordon, _>(request).await
    }

    async fn uncordon_node(
        &self,
        request: Request<v1::UncordonNodeRequest>,
    ) -> Result<Response<v1::UncordonNodeResponse>, Status> {
        self.command::<Uncordon, _>(request).await
    }

    async fn drain_node(
        &self,
        request: Request<v1::DrainNodeRequest>,
    ) -> Result<Response<v1::DrainNodeResponse>, Status> {
        self.command::<Drain, _>(request).await
    }

    async fn label_node(
        &self,
        request: Request<v1::LabelNodeRequest>,
    ) -> Result<Response<v1::LabelNodeResponse>, Status> {
        self.command::<Label, _>(request).await
    }

    async fn refresh_node(
        &self,
        request: Request<v1::RefreshNodeRequest>,
    ) -> Result<Response<v1::RefreshNodeResponse>, Status> {
        self.command::<Refresh, _>(request).await
    }

    async fn set_heartbeat_interval(
        &self,
        request: Request<v1::SetHeartbeatIntervalRequest>,
    ) -> Result<Response<v1::SetHeartbeatIntervalResponse>, Status> {
        self.command::<SetHeartbeat, _>(request).await
    }

    async fn admit_node(
        &self,
        request: Request<v1::AdmitNodeRequest>,
    ) -> Result<Response<v1::AdmitNodeResponse>, Status> {
        self.command::<Admit, _>(request).await
    }

    async fn revoke_node(
        &self,
        request: Request<v1::RevokeNodeRequest>,
    ) -> Result<Response<v1::RevokeNodeResponse>, Status> {
        self.command::<Revoke, _>(request).await
    }

    async fn forget_node(
        &self,
        request: Request<v1::ForgetNodeRequest>,
    ) -> Result<Response<v1::ForgetNodeResponse>, Status> {
        self.command::<Forget, _>(request).await
    }

    type BackupStream = ReceiverStream<Result<v1::BackupResponse, Status>>;

    async fn backup(&self, request: Request<v1::BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        let recorded = caller_of(&request).intend("backup").await?;
        let parts = self.backups.begin(recorded, Clock::default().wall())?;
        Ok(Response::new(ReceiverStream::new(parts)))
    }
}
