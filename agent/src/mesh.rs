//! Probes: answering those of peers, and sending our own.

use std::{
    collections::{BTreeSet, HashMap},
    io::{self, ErrorKind},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Endpoint},
};
use wyneos::{
    client, convert,
    v1::{self, mesh_service_client::MeshServiceClient, mesh_service_server::MeshService},
};
use wyneos_core::{
    agent::ProbeOutcome,
    coordinator::ProbePlan,
    id::{ClusterId, NodeId},
    limits,
    mesh::{Coordinate, LinkFailure},
    standing::{Question, Standing},
};
use wyneos_shell::listener::Peer;

use crate::{beacons::Links, driver::ToAgent, tls::Tls};

/// Time limit for a peer's question, after which the logic forgets it.
const QUESTION: Duration = Duration::from_secs(3);

/// Answers peers' probes.
#[derive(Clone)]
pub(crate) struct Answering {
    pub(crate) id: NodeId,
    pub(crate) incarnation: u64,
    /// Set by the first session.
    pub(crate) cluster: Arc<OnceLock<ClusterId>>,
    /// Network coordinate of this node.
    pub(crate) coordinate: watch::Receiver<Coordinate>,
    pub(crate) driver: mpsc::Sender<ToAgent>,
    /// With TLS: the nodes that may call.
    pub(crate) members: Option<watch::Receiver<Members>>,
    /// With TLS: the keys of the links.
    pub(crate) links: Option<Arc<Links>>,
}

/// The nodes that probe this one, and those that it probes.
pub(crate) type Members = Arc<BTreeSet<NodeId>>;

impl Answering {
    /// With TLS: verifies the caller's claimed identity, and that this node knows it.
    fn knows<T>(&self, request: &Request<T>, field: &str, claimed: &str) -> Result<(), Status> {
        let Some(members) = &self.members else {
            return Ok(());
        };
        let shown = request.extensions().get::<Peer>().and_then(|peer| peer.shown.as_ref());
        let node = shown.and_then(|shown| shown.principal.node());
        let node = node.ok_or_else(|| Status::unauthenticated("this call requires an agent's certificate"))?;
        if node.to_string() != claimed {
            let message = format!("{field}: the certificate belongs to node {node}");
            return Err(Status::permission_denied(message));
        }
        if members.borrow().contains(&node) {
            return Ok(());
        }
        Err(Status::permission_denied(
            "this node neither probes that one nor is it probed by it",
        ))
    }

    fn is_me(&self, field: &str, id: &str) -> Result<(), Status> {
        if id == self.id.to_string() {
            return Ok(());
        }
        Err(Status::failed_precondition(format!(
            "{field}: this is node {}",
            self.id
        )))
    }
}

#[tonic::async_trait]
impl MeshService for Answering {
    async fn probe(&self, request: Request<v1::ProbeRequest>) -> Result<Response<v1::ProbeResponse>, Status> {
        self.knows(&request, "observer_id", &request.get_ref().observer_id)?;
        let request = request.into_inner();
        self.is_me("subject_id", &request.subject_id)?;
        if let (Some(links), Ok(key)) = (&self.links, request.beacon_key.as_slice().try_into())
            && let Ok(observer) = request.observer_id.parse()
        {
            links.learn(observer, key);
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
            coordinate: Some(convert::coordinate_out(*self.coordinate.borrow())),
        }))
    }

    async fn ask(&self, request: Request<v1::AskRequest>) -> Result<Response<v1::AskResponse>, Status> {
        self.knows(&request, "node_id", &request.get_ref().node_id)?;
        let request = request.into_inner();
        self.is_me("via_id", &request.via_id)?;
        let bad = |error: convert::ConvertError| Status::invalid_argument(error.to_string());
        let (cluster, question) = convert::ask_in(request).map_err(bad)?;
        let asker = question.asker;
        let (answer, answered) = oneshot::channel();
        let question = ToAgent::Question {
            cluster,
            question: Box::new(question),
            answer,
        };
        // An agent that is too busy does not relay; the asker tries another one.
        let sent = self.driver.try_send(question);
        sent.map_err(|_| Status::unavailable("this agent is busy; ask another one"))?;
        let standing = timeout(QUESTION, answered).await.ok().and_then(Result::ok).flatten();
        let standing = standing.ok_or_else(|| {
            Status::unavailable(
                "this agent cannot ask the coordinator now, or belongs to another cluster; ask another one",
            )
        })?;
        Ok(Response::new(v1::AskResponse {
            standing: Some(convert::standing_out(standing)),
            asker_id: asker.to_string(),
        }))
    }
}

type Client = MeshServiceClient<Channel>;

/// Connections to peers, one per target; at most as many as the plan has targets.
#[derive(Default)]
pub(crate) struct Peers {
    clients: HashMap<NodeId, (Arc<str>, Option<Client>)>,
}

/// A probe to send.
pub(crate) struct Probe {
    pub(crate) cluster: ClusterId,
    pub(crate) observer: NodeId,
    pub(crate) target: NodeId,
    pub(crate) address: Arc<str>,
    pub(crate) sequence: u64,
    pub(crate) timeout: Duration,
    pub(crate) tls: Option<Tls>,
    /// Authenticates the sender of beacons on this link.
    pub(crate) beacon_key: Option<[u8; 32]>,
}

impl Peers {
    /// Drops connections that the plan no longer asks for.
    pub(crate) fn keep(&mut self, plan: &ProbePlan) {
        self.clients.retain(|id, (address, _)| {
            plan.targets
                .iter()
                .any(|target| target.0 == *id && *target.1 == **address)
        });
    }

    /// Takes the connection to a peer, if there is one that no probe uses; the probe returns it.
    pub(crate) fn take(&mut self, probe: &Probe) -> Option<Client> {
        let fresh = || (Arc::clone(&probe.address), None);
        let (address, client) = self.clients.entry(probe.target).or_insert_with(fresh);
        if *address != probe.address {
            (*address, *client) = fresh();
        }
        client.take()
    }

    /// Returns a connection after a probe; of several to one peer the last usable one is kept.
    pub(crate) fn give_back(&mut self, target: NodeId, client: Option<Client>) {
        if let (Some((_, place)), Some(client)) = (self.clients.get_mut(&target), client) {
            *place = Some(client);
        }
    }
}

/// A question for a standing, to send to a peer.
pub(crate) struct Ask {
    pub(crate) cluster: ClusterId,
    pub(crate) via: NodeId,
    pub(crate) address: Arc<str>,
    pub(crate) question: Question,
    pub(crate) timeout: Duration,
    pub(crate) tls: Option<Tls>,
}

impl Ask {
    /// Asks over a separate connection, because this is rare. `None` without a result.
    pub(crate) async fn send(self) -> Option<Standing> {
        let ask = async {
            let mut client = connect(&self.address, self.via, self.tls.as_ref()).await.ok()?;
            let (asker, own) = (self.question.asker, self.question.path.is_empty());
            let request = convert::ask_out(self.cluster, self.via, self.question);
            let answer = client.ask(request).await.ok()?.into_inner();
            // An agent of an earlier version answers every question for its caller.
            let is_of_asker = answer.asker_id == asker.to_string() || (own && answer.asker_id.is_empty());
            convert::standing_in(answer.standing.filter(|_| is_of_asker)?).ok()
        };
        timeout(self.timeout, ask).await.ok().flatten()
    }
}

impl Probe {
    /// Sends the probe; returns its result, and the connection if it can be reused. The time to connect is not part of
    /// the round-trip time, but part of the time-out.
    pub(crate) async fn send(self, client: Option<Client>) -> (ProbeOutcome, Option<Client>) {
        let attempt = async {
            // An existing connection may have been ended since: that says nothing about the present peer.
            if let Some(client) = client
                && let Some(answered) = self.ask(client).await
            {
                return answered;
            }
            match connect(&self.address, self.target, self.tls.as_ref()).await {
                Ok(client) => self.ask(client).await.unwrap_or((FAILED, None)),
                Err(outcome) => (outcome, None),
            }
        };
        timeout(self.timeout, attempt)
            .await
            .unwrap_or((ProbeOutcome::Failed(LinkFailure::Late), None))
    }

    /// Probes over a connection; `None` if it is no longer usable.
    async fn ask(&self, mut client: Client) -> Option<(ProbeOutcome, Option<Client>)> {
        let subject_id = self.target.to_string();
        let request = v1::ProbeRequest {
            cluster_id: self.cluster.to_string(),
            observer_id: self.observer.to_string(),
            subject_id: subject_id.clone(),
            sequence: self.sequence,
            beacon_key: self.beacon_key.map_or_else(Vec::new, |key| key.to_vec()),
        };
        let sent = Instant::now();
        match client.probe(request).await {
            Ok(answer) => {
                let took = sent.elapsed();
                let answer = answer.into_inner();
                let right = answer.sequence == self.sequence && answer.subject_id == subject_id;
                let outcome = if right {
                    // An invalid coordinate is no reason to doubt the answer.
                    let coordinate = answer.coordinate.and_then(|told| convert::coordinate_in(told).ok());
                    ProbeOutcome::Answered(took, coordinate)
                } else {
                    ProbeOutcome::Failed(LinkFailure::Mistaken)
                };
                Some((outcome, right.then_some(client)))
            }
            Err(status) if matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled) => None,
            // The peer proved its identity with its certificate; it does not know yet that this node may probe it.
            Err(status) if status.code() == Code::PermissionDenied && self.tls.is_some() => {
                Some((ProbeOutcome::Answered(sent.elapsed(), None), Some(client)))
            }
            Err(_) => Some((ProbeOutcome::Failed(LinkFailure::Mistaken), None)),
        }
    }
}

/// Connects; on failure, returns the conclusion about the peer.
async fn connect(address: &str, node: NodeId, tls: Option<&Tls>) -> Result<Client, ProbeOutcome> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| FAILED)?;
    let tls = tls.map(|tls| tls.to_node(node)).transpose();
    let tls = tls.map_err(|_| FAILED)?;
    let channel = client::open(&endpoint, tls.as_ref()).await;
    let channel = channel.map_err(|error| {
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            if let Some(outcome) = error.downcast_ref().and_then(meaning) {
                return outcome;
            }
            cause = error.source();
        }
        FAILED
    })?;
    Ok(MeshServiceClient::new(channel).max_decoding_message_size(limits::PROBE))
}

/// A failed probe without further information.
const FAILED: ProbeOutcome = ProbeOutcome::Failed(LinkFailure::Other);

/// The conclusion about the peer from a connection error, if any.
fn meaning(error: &io::Error) -> Option<ProbeOutcome> {
    match error.kind() {
        ErrorKind::ConnectionRefused => Some(ProbeOutcome::Refused),
        // A connection that a firewall on this host forbids is reported as a permission error.
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::PermissionDenied => {
            Some(ProbeOutcome::Failed(LinkFailure::Unreachable))
        }
        ErrorKind::TimedOut => Some(ProbeOutcome::Failed(LinkFailure::Late)),
        // The kind of a TLS error about a certificate.
        ErrorKind::InvalidData => Some(ProbeOutcome::Failed(LinkFailure::Mistaken)),
        _ => None,
    }
}
