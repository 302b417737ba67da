//! DecisionService: decisions and their reasons.

use std::{collections::BTreeSet, ops::ControlFlow, sync::Arc};

use prost::Message as _;
use tonic::{Request, Response, Status};
use wyneos::{
    convert::timestamp,
    v1::{self, decision_service_server::DecisionService},
};
use wyneos_core::{
    autonomy::Kind,
    coherence::{NodeRow, Snapshot},
    command::{Decide, SetPolicy},
    event::EventBody,
    id::{DecisionId, NodeId},
    mesh::ObserverLinks,
    time::WallTime,
};

use super::{PAGE_BYTES, Services, caller_of, cluster::relayed, name_of, page_size, page_token, scan::Scan};
use crate::{
    reads::{Asker, Sort, Still},
    store::{Along, History, KeptEvent, Of},
};

/// Maximum number of events examined for one page: most are not decisions.
const LOOKED_AT: usize = 5_000;

/// Number of newest events of a node that are searched for one about its sessions.
const LOOKED_AT_FOR_SESSIONS: usize = 500;

/// Maximum number of decisions in an explanation.
const EXPLAINED: usize = 20;

/// A page of decisions, newest first. A decision that was recorded again, because its outcome changed, appears as last
/// recorded.
#[derive(Default)]
struct Page {
    seen: BTreeSet<DecisionId>,
    decisions: Vec<v1::Decision>,
    bytes: usize,
}

impl Page {
    /// Takes the decision that an event records, if any; true once the page is full.
    fn take(&mut self, kept: &KeptEvent<'_>, most: usize) -> Result<bool, serde_json::Error> {
        if !kept.is("decision") {
            return Ok(false);
        }
        let EventBody::Decision(decision) = kept.decode()?.body else {
            return Ok(false);
        };
        if self.seen.insert(decision.id) {
            let decision = v1::Decision::from(&*decision);
            self.bytes += decision.encoded_len();
            self.decisions.push(decision);
        }
        Ok(self.decisions.len() >= most || self.bytes >= PAGE_BYTES)
    }
}

/// The history of a node.
#[derive(Default)]
struct Told {
    recent: Page,
    /// The content because of which one of its sessions last ended, and the time of the record.
    failure: Option<(String, WallTime)>,
}

impl Services {
    /// At most `most` decisions recorded below event `before`, and the position at which to continue.
    async fn decisions(
        &self,
        asker: &Asker,
        node: Option<NodeId>,
        before: u64,
        most: usize,
    ) -> Result<(Vec<v1::Decision>, Option<u64>), Status> {
        let read = move |history: &dyn History, still: &Still| {
            let (mut page, mut next, mut scan) = (Page::default(), None, Scan::new(still, LOOKED_AT));
            let of = node.map_or(Of::All, Of::Node);
            history.visit(of, Along::Before(before), &mut |kept| {
                if !scan.takes(&kept) {
                    next = Some(kept.sequence + 1);
                } else if page.take(&kept, most)? {
                    next = Some(kept.sequence);
                }
                Ok(match next {
                    Some(_) => ControlFlow::Break(()),
                    None => ControlFlow::Continue(()),
                })
            })?;
            Ok((page.decisions, next))
        };
        self.read(Sort::Page, asker, read).await
    }

    /// The newest decisions about a node up to event `reflected`, and the end of its sessions. A later decision would
    /// contradict the node's row, which does not show it yet.
    async fn told(&self, asker: &Asker, node: NodeId, reflected: u64) -> Result<Told, Status> {
        let read = move |history: &dyn History, still: &Still| {
            let (mut told, mut full, mut looked, mut scan) = (Told::default(), false, 0, Scan::new(still, LOOKED_AT));
            history.visit(Of::Node(node), Along::Before(u64::MAX), &mut |kept| {
                looked += 1;
                let sought = told.failure.is_none() && looked <= LOOKED_AT_FOR_SESSIONS;
                if (full && !sought) || !scan.takes(&kept) {
                    return Ok(ControlFlow::Break(()));
                }
                if sought && kept.is("session") {
                    let event = kept.decode()?;
                    if let EventBody::Session { detail } = event.body {
                        told.failure = Some((detail, event.time));
                    }
                }
                let shown = kept.sequence <= reflected;
                full = full || (shown && told.recent.take(&kept, EXPLAINED)?);
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(told)
        };
        self.read(Sort::Look, asker, read).await
    }
}

#[tonic::async_trait]
impl DecisionService for Services {
    async fn list_decisions(
        &self,
        request: Request<v1::ListDecisionsRequest>,
    ) -> Result<Response<v1::ListDecisionsResponse>, Status> {
        let asker = Asker::of(&request);
        let request = request.into_inner();
        let size = page_size(request.page_size)?;
        let before = page_token(&request.page_token)?.unwrap_or(u64::MAX);
        let node = match request.node.as_str() {
            "" => None,
            node => Some(self.row_or_history(&asker, node).await?),
        };
        let (decisions, next) = self.decisions(&asker, node, before, size).await?;
        Ok(Response::new(v1::ListDecisionsResponse {
            decisions,
            next_page_token: next.map(|next| next.to_string()).unwrap_or_default(),
        }))
    }

    async fn approve_decision(
        &self,
        request: Request<v1::ApproveDecisionRequest>,
    ) -> Result<Response<v1::ApproveDecisionResponse>, Status> {
        self.command::<Decide, _>(request).await
    }

    async fn reject_decision(
        &self,
        request: Request<v1::RejectDecisionRequest>,
    ) -> Result<Response<v1::RejectDecisionResponse>, Status> {
        self.command::<Decide, _>(request).await
    }

    async fn get_autonomy(
        &self,
        request: Request<v1::GetAutonomyRequest>,
    ) -> Result<Response<v1::GetAutonomyResponse>, Status> {
        let caller = caller_of(&request);
        self.answer(&caller, SetPolicy::from(request.into_inner())).await
    }

    async fn set_autonomy(
        &self,
        request: Request<v1::SetAutonomyRequest>,
    ) -> Result<Response<v1::SetAutonomyResponse>, Status> {
        self.command::<SetPolicy, _>(request).await
    }

    async fn explain_node(
        &self,
        request: Request<v1::ExplainNodeRequest>,
    ) -> Result<Response<v1::ExplainNodeResponse>, Status> {
        let asker = Asker::of(&request);
        let (published, nodes) = self.present()?;
        let row = self.row(&nodes.rows, &request.into_inner().node)?;
        let id = row.record.id();
        let told = self.told(&asker, id, nodes.event.0).await?;
        let recent = told.recent.decisions;
        let is_liveness = |decision: &&v1::Decision| decision.kind == Kind::Liveness.name();
        let liveness = recent.iter().find(is_liveness).cloned();
        let (session_failure, failed) = told.failure.unzip();
        let invariants = &published.snapshot.coherence.invariants;
        let broken = invariants.iter().filter(|invariant| invariant.nodes.contains(&id));
        Ok(Response::new(v1::ExplainNodeResponse {
            node: Some((&**row).into()),
            liveness,
            recent,
            broken_invariants: broken.map(|invariant| invariant.id.to_owned()).collect(),
            read: Some(published.read_state()),
            seen_by: seen_by(&published.snapshot, &nodes.rows, id),
            relayed: relayed(&published.snapshot, &nodes.rows, row),
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

/// The observations of `subject` by its peers.
fn seen_by(snapshot: &Snapshot, nodes: &[Arc<NodeRow>], subject: NodeId) -> Vec<v1::SeenBy> {
    let seen = |row: &Arc<ObserverLinks>| {
        let at = row.links.binary_search_by_key(&subject, |(id, _)| *id).ok()?;
        Some(v1::SeenBy {
            observer_id: row.observer.to_string(),
            observer_name: name_of(nodes, row.observer),
            link: Some((&row.links[at]).into()),
        })
    };
    snapshot.links.iter().filter_map(seen).collect()
}
