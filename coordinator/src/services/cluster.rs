//! ClusterService: the nodes, and the operator's verbs.

use std::{sync::Arc, time::Duration};

use tonic::{Request, Response, Status};
use wyneos::{
    convert::{duration, timestamp},
    v1::{self, cluster_service_server::ClusterService},
};
use wyneos_core::{coherence::NodeRow, id::NodeId, node::Liveness};

use super::{Services, label_selector, page_size, page_token};

#[tonic::async_trait]
impl ClusterService for Services {
    async fn get_cluster(&self, _: Request<v1::GetClusterRequest>) -> Result<Response<v1::GetClusterResponse>, Status> {
        let published = self.newest()?;
        let snapshot = &published.snapshot;
        let count = |liveness| {
            let nodes = snapshot
                .nodes
                .iter()
                .filter(|row| row.state.liveness == liveness)
                .count() as u32;
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
        let published = self.newest()?;
        let size = page_size(request.page_size)?;
        let after: Option<NodeId> = page_token(&request.page_token)?;
        let label = label_selector("node_label", &request.node_label)?;
        let wanted = |row: &&Arc<NodeRow>| match &label {
            None => true,
            Some((key, value)) => row.record.labels().get(key) == Some(value),
        };
        let behind = |row: &&Arc<NodeRow>| after.is_none_or(|after| row.record.id() > after);
        let mut rows = published.snapshot.nodes.iter().filter(behind).filter(wanted);
        let nodes: Vec<v1::NodeRow> = rows.by_ref().take(size).map(|row| (&**row).into()).collect();
        let more = rows.next().is_some();
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
        let published = self.newest()?;
        let row = self.row(&published, &request.into_inner().node)?;
        let detail = published
            .snapshot
            .details
            .get(row.index.get())
            .copied()
            .unwrap_or_default();
        let skew = Duration::from_millis(detail.clock_skew_millis.unsigned_abs());
        let mut clock_skew = duration(skew);
        if detail.clock_skew_millis < 0 {
            (clock_skew.seconds, clock_skew.nanos) = (-clock_skew.seconds, -clock_skew.nanos);
        }
        Ok(Response::new(v1::GetNodeResponse {
            node: Some((&**row).into()),
            last_heartbeat: detail.last_heartbeat.map(timestamp),
            heartbeat_interval: Some(duration(detail.heartbeat_interval)),
            clock_skew: Some(clock_skew),
            acknowledged_cycle: detail.acknowledged_cycle,
            heartbeats: detail.heartbeats,
            read: Some(published.read_state()),
        }))
    }

    async fn cordon_node(
        &self,
        request: Request<v1::CordonNodeRequest>,
    ) -> Result<Response<v1::CordonNodeResponse>, Status> {
        self.command(request).await
    }

    async fn uncordon_node(
        &self,
        request: Request<v1::UncordonNodeRequest>,
    ) -> Result<Response<v1::UncordonNodeResponse>, Status> {
        self.command(request).await
    }

    async fn label_node(
        &self,
        request: Request<v1::LabelNodeRequest>,
    ) -> Result<Response<v1::LabelNodeResponse>, Status> {
        self.command(request).await
    }

    async fn refresh_node(
        &self,
        request: Request<v1::RefreshNodeRequest>,
    ) -> Result<Response<v1::RefreshNodeResponse>, Status> {
        self.command(request).await
    }

    async fn set_heartbeat_interval(
        &self,
        request: Request<v1::SetHeartbeatIntervalRequest>,
    ) -> Result<Response<v1::SetHeartbeatIntervalResponse>, Status> {
        self.command(request).await
    }
}
