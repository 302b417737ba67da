//! A coordinator that a test controls.

use std::{
    collections::HashMap,
    net::SocketAddr,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};
use tonic_types::{ErrorDetails, StatusExt as _};
use wyneos::v1::{
    self, cluster_service_server as cluster, coherence_service_server as coherence,
    decision_service_server as decision, event_service_server as event,
};

type Answer<T> = Result<Response<T>, Status>;
type Stream<T> = tokio_stream::Iter<std::vec::IntoIter<Result<T, Status>>>;

/// State of the coordinator.
#[derive(Default)]
pub struct State {
    pub snapshot: v1::Snapshot,
    pub records: Vec<v1::ReadSnapshotsResponse>,
    pub watched: Vec<v1::WatchSnapshotsResponse>,
    pub public_key: Vec<u8>,
    pub explained: v1::ExplainNodeResponse,
    /// Events 1 to this number exist.
    pub events: u64,
    /// WatchEvents breaks after this number of events.
    pub break_after: u64,
    /// Number of calls of WatchEvents.
    pub watches: AtomicU64,
}

#[derive(Clone)]
struct Fake(Arc<State>);

/// Serves; returns its address.
pub async fn serve(state: State) -> (SocketAddr, Arc<State>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let state = Arc::new(state);
    let fake = Fake(Arc::clone(&state));
    let server = Server::builder()
        .add_service(cluster::ClusterServiceServer::new(fake.clone()))
        .add_service(coherence::CoherenceServiceServer::new(fake.clone()))
        .add_service(decision::DecisionServiceServer::new(fake.clone()))
        .add_service(event::EventServiceServer::new(fake));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (address, state)
}

/// The command of `wynectl` for `address`.
pub fn command(address: SocketAddr, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wynectl"));
    command.arg("--address").arg(address.to_string()).args(line.split(' '));
    // The tested text may be in a long line.
    command.env("COLUMNS", "1000");
    command
}

/// Runs `wynectl` to its end; returns exit code, standard output and standard error.
pub async fn run(address: SocketAddr, line: &str) -> (i32, String, String) {
    let mut command = command(address, line);
    let output: Output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn unknown(node: &str) -> Status {
    let details = ErrorDetails::with_error_info("NODE_UNKNOWN", "wyneos", HashMap::new());
    Status::with_error_details(tonic::Code::NotFound, format!("no node is {node:?}"), details)
}

fn answers<T>(answers: Vec<Result<T, Status>>) -> Answer<Stream<T>> {
    Ok(Response::new(tokio_stream::iter(answers)))
}

impl Fake {
    fn node(&self, name: &str) -> Result<v1::NodeRow, Status> {
        let node = self.0.snapshot.nodes.iter().find(|node| node.name == name);
        node.cloned().ok_or_else(|| unknown(name))
    }
}

#[tonic::async_trait]
impl cluster::ClusterService for Fake {
    type BackupStream = Stream<v1::BackupResponse>;

    async fn backup(&self, _: Request<v1::BackupRequest>) -> Answer<Self::BackupStream> {
        Err(Status::unimplemented(""))
    }

    async fn admit_node(&self, request: Request<v1::AdmitNodeRequest>) -> Answer<v1::AdmitNodeResponse> {
        self.node(&request.into_inner().node)?;
        Ok(Response::new(v1::AdmitNodeResponse {
            admission: v1::Admission::Admitted.into(),
            changed: true,
            event_sequence: 7,
        }))
    }

    async fn revoke_node(&self, request: Request<v1::RevokeNodeRequest>) -> Answer<v1::RevokeNodeResponse> {
        self.node(&request.into_inner().node)?;
        Ok(Response::new(v1::RevokeNodeResponse {
            admission: v1::Admission::Revoked.into(),
            changed: false,
            event_sequence: 0,
        }))
    }

    async fn forget_node(&self, request: Request<v1::ForgetNodeRequest>) -> Answer<v1::ForgetNodeResponse> {
        let request = request.into_inner();
        let node = self.node(&request.node)?;
        Ok(Response::new(v1::ForgetNodeResponse {
            node_id: node.id,
            name: node.name,
            applied: !request.plan,
            ..v1::ForgetNodeResponse::default()
        }))
    }

    async fn get_cluster(&self, _: Request<v1::GetClusterRequest>) -> Answer<v1::GetClusterResponse> {
        Ok(Response::new(v1::GetClusterResponse::default()))
    }

    /// One node per page.
    async fn list_nodes(&self, request: Request<v1::ListNodesRequest>) -> Answer<v1::ListNodesResponse> {
        let at: usize = request.into_inner().page_token.parse().unwrap_or(0);
        let nodes = &self.0.snapshot.nodes;
        let next = (at + 1 < nodes.len()).then(|| (at + 1).to_string());
        Ok(Response::new(v1::ListNodesResponse {
            nodes: nodes.iter().skip(at).take(1).cloned().collect(),
            next_page_token: next.unwrap_or_default(),
            read: None,
        }))
    }

    async fn get_node(&self, request: Request<v1::GetNodeRequest>) -> Answer<v1::GetNodeResponse> {
        let node = Some(self.node(&request.into_inner().node)?);
        Ok(Response::new(v1::GetNodeResponse {
            node,
            ..v1::GetNodeResponse::default()
        }))
    }

    async fn estimate_rtt(&self, request: Request<v1::EstimateRttRequest>) -> Answer<v1::EstimateRttResponse> {
        let request = request.into_inner();
        self.node(&request.from)?;
        self.node(&request.to)?;
        Ok(Response::new(v1::EstimateRttResponse {
            estimate: Some(prost_types::Duration {
                seconds: 0,
                nanos: 1_250_000,
            }),
            pairs: 2,
            error_median: 0.08,
            error_p90: 0.31,
            ..v1::EstimateRttResponse::default()
        }))
    }

    async fn cordon_node(&self, request: Request<v1::CordonNodeRequest>) -> Answer<v1::CordonNodeResponse> {
        self.node(&request.into_inner().node)?;
        Ok(Response::new(v1::CordonNodeResponse {
            eligibility: v1::Eligibility::Cordoned.into(),
            changed: true,
            event_sequence: 9,
        }))
    }

    async fn uncordon_node(&self, _: Request<v1::UncordonNodeRequest>) -> Answer<v1::UncordonNodeResponse> {
        Err(Status::unimplemented(""))
    }

    async fn drain_node(&self, _: Request<v1::DrainNodeRequest>) -> Answer<v1::DrainNodeResponse> {
        Err(Status::unimplemented(""))
    }

    async fn label_node(&self, request: Request<v1::LabelNodeRequest>) -> Answer<v1::LabelNodeResponse> {
        let labels = request.into_inner().set;
        Ok(Response::new(v1::LabelNodeResponse {
            labels,
            changed: true,
            event_sequence: 9,
        }))
    }

    async fn refresh_node(&self, _: Request<v1::RefreshNodeRequest>) -> Answer<v1::RefreshNodeResponse> {
        Err(Status::unimplemented(""))
    }

    async fn set_heartbeat_interval(
        &self,
        _: Request<v1::SetHeartbeatIntervalRequest>,
    ) -> Answer<v1::SetHeartbeatIntervalResponse> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl coherence::CoherenceService for Fake {
    type WatchSnapshotsStream = Stream<v1::WatchSnapshotsResponse>;
    type ReadSnapshotsStream = Stream<v1::ReadSnapshotsResponse>;

    async fn get_snapshot(&self, _: Request<v1::GetSnapshotRequest>) -> Answer<v1::GetSnapshotResponse> {
        Ok(Response::new(v1::GetSnapshotResponse {
            snapshot: Some(self.0.snapshot.clone()),
            seal: self.0.records.last().and_then(|record| record.seal.clone()),
            age: None,
        }))
    }

    async fn watch_snapshots(
        &self,
        _: Request<v1::WatchSnapshotsRequest>,
    ) -> Answer<Stream<v1::WatchSnapshotsResponse>> {
        let mut watched: Vec<_> = self.0.watched.iter().cloned().map(Ok).collect();
        watched.push(Err(Status::failed_precondition("enough")));
        answers(watched)
    }

    async fn list_snapshots(&self, _: Request<v1::ListSnapshotsRequest>) -> Answer<v1::ListSnapshotsResponse> {
        Ok(Response::new(v1::ListSnapshotsResponse {
            cluster_id: self.0.snapshot.cluster_id.clone(),
            public_key: self.0.public_key.clone(),
            ..v1::ListSnapshotsResponse::default()
        }))
    }

    async fn read_snapshots(&self, _: Request<v1::ReadSnapshotsRequest>) -> Answer<Stream<v1::ReadSnapshotsResponse>> {
        answers(self.0.records.iter().cloned().map(Ok).collect())
    }
}

#[tonic::async_trait]
impl decision::DecisionService for Fake {
    async fn approve_decision(&self, _: Request<v1::ApproveDecisionRequest>) -> Answer<v1::ApproveDecisionResponse> {
        Err(Status::unimplemented(""))
    }

    async fn reject_decision(&self, _: Request<v1::RejectDecisionRequest>) -> Answer<v1::RejectDecisionResponse> {
        Err(Status::unimplemented(""))
    }

    async fn get_autonomy(&self, _: Request<v1::GetAutonomyRequest>) -> Answer<v1::GetAutonomyResponse> {
        Ok(Response::new(v1::GetAutonomyResponse {
            heal: v1::AutonomyMode::Act.into(),
            rebalance: v1::AutonomyMode::Observe.into(),
            preempt: v1::AutonomyMode::Advise.into(),
        }))
    }

    async fn set_autonomy(&self, _: Request<v1::SetAutonomyRequest>) -> Answer<v1::SetAutonomyResponse> {
        Err(Status::unimplemented(""))
    }

    async fn list_decisions(&self, _: Request<v1::ListDecisionsRequest>) -> Answer<v1::ListDecisionsResponse> {
        Err(Status::unimplemented(""))
    }

    async fn explain_node(&self, request: Request<v1::ExplainNodeRequest>) -> Answer<v1::ExplainNodeResponse> {
        self.node(&request.into_inner().node)?;
        Ok(Response::new(self.0.explained.clone()))
    }
}

fn event(sequence: u64) -> v1::Event {
    v1::Event {
        sequence,
        summary: format!("event {sequence}"),
        ..v1::Event::default()
    }
}

#[tonic::async_trait]
impl event::EventService for Fake {
    type WatchEventsStream = Stream<v1::WatchEventsResponse>;

    async fn list_events(&self, request: Request<v1::ListEventsRequest>) -> Answer<v1::ListEventsResponse> {
        let from = request.into_inner().from_sequence.max(1);
        let last = (from + 1).min(self.0.events);
        Ok(Response::new(v1::ListEventsResponse {
            events: (from..=last).map(event).collect(),
            next_sequence: if last < self.0.events { last + 1 } else { 0 },
            oldest_sequence: 1,
        }))
    }

    /// Begins one event too early, as a faulty server might, and breaks.
    async fn watch_events(&self, request: Request<v1::WatchEventsRequest>) -> Answer<Stream<v1::WatchEventsResponse>> {
        let before = self.0.watches.fetch_add(1, Ordering::SeqCst);
        let from = request.into_inner().from_sequence;
        let last = (from + self.0.break_after - 1).min(self.0.events);
        let first = from.saturating_sub(1).max(1);
        let mut events: Vec<_> = (first..=last)
            .map(|sequence| {
                Ok(v1::WatchEventsResponse {
                    event: Some(event(sequence)),
                })
            })
            .collect();
        let broken = [
            Status::unavailable("stopping"),
            Status::unknown("no status"),
            Status::internal("cut off"),
        ];
        events.push(Err(broken[before as usize % 3].clone()));
        answers(events)
    }
}
