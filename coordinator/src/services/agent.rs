//! AgentService: sessions.

use std::sync::Arc;

use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};
use wyneos::{encoded::Encoded, served::agent_service_server::AgentService, v1};

use crate::{
    engine::EngineSender,
    gate::Gate,
    metrics::Metrics,
    session::{Conns, SessionStream},
};

/// Serves agents' sessions.
pub(crate) struct Agents {
    pub(crate) engine: EngineSender,
    pub(crate) conns: Conns,
    pub(crate) seals: watch::Receiver<Option<Encoded>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) gate: Gate,
}

#[tonic::async_trait]
impl AgentService for Agents {
    type SessionStream = SessionStream;

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<SessionStream>, Status> {
        let caller = super::caller_of(&request);
        let stream = SessionStream::open(
            &self.conns,
            request.into_inner(),
            &self.engine,
            &self.seals,
            &self.metrics,
            (self.gate.clone(), caller),
        )
        .await?;
        Ok(Response::new(stream))
    }
}
