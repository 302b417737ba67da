//! DecisionService: what was decided, and why.

use std::sync::Arc;

use prost::Message as _;
use tonic::{Request, Response, Status};
use wyneos::{
    convert::timestamp,
    v1::{self, decision_service_server::DecisionService},
};
use wyneos_core::{
    autonomy::{Decision, Kind},
    coherence::Snapshot,
    event::{Event, EventBody},
    id::NodeId,
    mesh::ObserverLinks,
    time::WallTime,
};

use super::{PAGE_BYTES, Services, cluster::relayed, name_of, page_size, page_token};

/// Events looked at for one page at most: most are not decisions.
const LOOKED_AT: usize = 5_000;

/// Newest events of a node among which one about its sessions is looked for.
const LOOKED_AT_FOR_SESSIONS: usize = 500;

/// Decisions that an explanation holds at most.
const EXPLAINED: usize = 20;

fn decision(event: Event) -> Option<(u64, Decision)> {
    match event.body {
        EventBody::Decision(decision) => Some((event.sequence, (*decision).clone())),
        _ => None,
    }
}

impl Services {
    /// At most `most` decisions recorded below event `before`, newest first, and where to go on. A decision that was
    /// recorded twice, as its outcome changed, stands as it was recorded last.
    async fn decisions(
        &self,
        node: Option<NodeId>,
        before: u64,
        most: usize,
    ) -> Result<(Vec<Decision>, Option<u64>), Status> {
        let events = self
            .read(move |history| match node {
                Some(node) => history.events_of(node, before, LOOKED_AT),
                None => history.events_before(before, LOOKED_AT),
            })
            .await?;
        let exhausted = events.len() < LOOKED_AT;
        let mut last_seen = events.last().map(|event| event.sequence).filter(|_| !exhausted);
        let (mut decisions, mut bytes): (Vec<Decision>, usize) = (Vec::new(), 0);
        for (sequence, decision) in events.into_iter().filter_map(decision) {
            if decisions.iter().any(|newer| newer.id == decision.id) {
                continue;
            }
            if decisions.len() == most {
                break;
            }
            bytes += v1::Decision::from(&decision).encoded_len();
            decisions.push(decision);
            if decisions.len() == most || bytes >= PAGE_BYTES {
                last_seen = Some(sequence);
                break;
            }
        }
        Ok((decisions, last_seen))
    }
}

impl Services {
    /// The content over which a session of the node last ended, and when that was recorded.
    async fn session_failure(&self, node: NodeId) -> Result<Option<(String, WallTime)>, Status> {
        let events = self
            .read(move |history| history.events_of(node, u64::MAX, LOOKED_AT_FOR_SESSIONS))
            .await?;
        Ok(events.into_iter().find_map(|event| match event.body {
            EventBody::Session { detail } => Some((detail, event.time)),
            _ => None,
        }))
    }
}

#[tonic::async_trait]
impl DecisionService for Services {
    async fn list_decisions(
        &self,
        request: Request<v1::ListDecisionsRequest>,
    ) -> Result<Response<v1::ListDecisionsResponse>, Status> {
        let request = request.into_inner();
        let size = page_size(request.page_size)?;
        let before = page_token(&request.page_token)?.unwrap_or(u64::MAX);
        let node = match request.node.as_str() {
            "" => None,
            node => Some(self.row_or_history(node).await?),
        };
        let (decisions, next) = self.decisions(node, before, size).await?;
        Ok(Response::new(v1::ListDecisionsResponse {
            decisions: decisions.iter().map(Into::into).collect(),
            next_page_token: next.map(|next| next.to_string()).unwrap_or_default(),
        }))
    }

    async fn approve_decision(
        &self,
        request: Request<v1::ApproveDecisionRequest>,
    ) -> Result<Response<v1::ApproveDecisionResponse>, Status> {
        self.command(request).await
    }

    async fn reject_decision(
        &self,
        request: Request<v1::RejectDecisionRequest>,
    ) -> Result<Response<v1::RejectDecisionResponse>, Status> {
        self.command(request).await
    }

    async fn set_autonomy(
        &self,
        request: Request<v1::SetAutonomyRequest>,
    ) -> Result<Response<v1::SetAutonomyResponse>, Status> {
        self.command(request).await
    }

    async fn explain_node(
        &self,
        request: Request<v1::ExplainNodeRequest>,
    ) -> Result<Response<v1::ExplainNodeResponse>, Status> {
        let published = self.newest()?;
        let row = self.row(&published, &request.into_inner().node)?;
        let id = row.record.id();
        let (recent, _) = self.decisions(Some(id), u64::MAX, EXPLAINED).await?;
        let liveness = recent
            .iter()
            .find(|decision| decision.kind == Kind::Liveness)
            .map(Into::into);
        let (session_failure, failed) = self.session_failure(id).await?.unzip();
        let invariants = &published.snapshot.coherence.invariants;
        let broken = invariants.iter().filter(|invariant| invariant.nodes.contains(&id));
        Ok(Response::new(v1::ExplainNodeResponse {
            node: Some((&**row).into()),
            liveness,
            recent: recent.iter().map(Into::into).collect(),
            broken_invariants: broken.map(|invariant| invariant.id.to_owned()).collect(),
            read: Some(published.read_state()),
            seen_by: seen_by(&published.snapshot, id),
            relayed: relayed(&published.snapshot, row),
            session_failure: session_failure.unwrap_or_default(),
            session_failure_time: failed.map(timestamp),
            findings: published
                .snapshot
                .findings
                .iter()
                .filter(|finding| finding.near.contains(&id) || finding.far.contains(&id))
                .map(Into::into)
                .collect(),
        }))
    }
}

/// What the peers of `subject` see of it.
fn seen_by(snapshot: &Snapshot, subject: NodeId) -> Vec<v1::SeenBy> {
    let seen = |row: &Arc<ObserverLinks>| {
        let at = row.links.binary_search_by_key(&subject, |(id, _)| *id).ok()?;
        Some(v1::SeenBy {
            observer_id: row.observer.to_string(),
            observer_name: name_of(snapshot, row.observer),
            link: Some((&row.links[at]).into()),
        })
    };
    snapshot.links.iter().filter_map(seen).collect()
}
