//! Probes: answering those of peers, and sending ours.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tokio::time::timeout;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint},
};
use wyneos::v1::{self, mesh_service_client::MeshServiceClient, mesh_service_server::MeshService};
use wyneos_core::{
    coordinator::ProbePlan,
    id::{ClusterId, NodeId},
};

/// Answers peers' probes.
#[derive(Clone)]
pub(crate) struct Answering {
    pub(crate) id: NodeId,
    pub(crate) incarnation: u64,
    /// Set by the first session.
    pub(crate) cluster: Arc<OnceLock<ClusterId>>,
}

#[tonic::async_trait]
impl MeshService for Answering {
    async fn probe(&self, request: Request<v1::ProbeRequest>) -> Result<Response<v1::ProbeResponse>, Status> {
        let request = request.into_inner();
        if request.subject_id != self.id.to_string() {
            return Err(Status::failed_precondition(format!(
                "subject_id: this is node {}",
                self.id
            )));
        }
        let cluster = self.cluster.get();
        if cluster.is_some_and(|cluster| cluster.to_string() != request.cluster_id) {
            return Err(Status::failed_precondition(
                "cluster_id: this node belongs to another cluster",
            ));
        }
        Ok(Response::new(v1::ProbeResponse {
            subject_id: request.subject_id,
            incarnation: self.incarnation,
            sequence: request.sequence,
        }))
    }
}

type Client = MeshServiceClient<Channel>;

/// Connections to peers, one a target; at most as many as the plan has targets.
#[derive(Default)]
pub(crate) struct Peers {
    clients: HashMap<NodeId, (String, Option<Client>)>,
}

/// A probe that is to be sent.
pub(crate) struct Probe {
    pub(crate) cluster: ClusterId,
    pub(crate) observer: NodeId,
    pub(crate) target: NodeId,
    pub(crate) address: String,
    pub(crate) sequence: u64,
    pub(crate) timeout: Duration,
}

impl Peers {
    /// Drops connections that the plan no longer asks for.
    pub(crate) fn keep(&mut self, plan: &ProbePlan) {
        self.clients.retain(|id, (address, _)| {
            plan.targets
                .iter()
                .any(|target| target.0 == *id && target.1 == *address)
        });
    }

    /// The connection to a peer, if there is one; the probe gives it back.
    pub(crate) fn take(&mut self, probe: &Probe) -> Option<Client> {
        let (address, client) = self.clients.entry(probe.target).or_default();
        if *address != probe.address {
            (*address, *client) = (probe.address.clone(), None);
        }
        client.take()
    }

    /// Takes a connection back after a probe.
    pub(crate) fn give_back(&mut self, target: NodeId, client: Option<Client>) {
        if let Some((_, place)) = self.clients.get_mut(&target) {
            *place = client;
        }
    }
}

impl Probe {
    /// Sends the probe: the round-trip time, and the connection when it can be used again. The time to connect is not
    /// part of it, but part of the time-out.
    pub(crate) async fn send(self, client: Option<Client>) -> (NodeId, Option<Duration>, Option<Client>) {
        let target = self.target;
        let attempt = async {
            let mut client = match client {
                Some(client) => client,
                None => connect(&self.address).await?,
            };
            let request = v1::ProbeRequest {
                cluster_id: self.cluster.to_string(),
                observer_id: self.observer.to_string(),
                subject_id: target.to_string(),
                sequence: self.sequence,
            };
            let sent = Instant::now();
            let answer = client.probe(request).await.ok()?.into_inner();
            let right = answer.sequence == self.sequence && answer.subject_id == target.to_string();
            right.then(|| (sent.elapsed(), client))
        };
        match timeout(self.timeout, attempt).await {
            Ok(Some((rtt, client))) => (target, Some(rtt), Some(client)),
            Ok(None) | Err(_) => (target, None, None),
        }
    }
}

async fn connect(address: &str) -> Option<Client> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .ok()?
        .tcp_nodelay(true);
    Some(MeshServiceClient::new(endpoint.connect().await.ok()?))
}
