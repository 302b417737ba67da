//! Serving: from the first connection to the end of the drain.

mod http;
mod timed;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use wyneos::identity::server_config;
use wyneos_core::coordinator::Input;
use wyneos_shell::{
    listener::{self, Conn},
    stop,
};

use crate::{
    bootstrap::BootError,
    ca::CaError,
    engine::{self, ToEngine},
    gate::Gate,
    metrics::Metrics,
    services::{Agents, Services},
};

/// Time limit of the drain, after which remaining calls are cut off.
const DRAIN: Duration = Duration::from_secs(10);

/// Time for which the first snapshot is waited for before the port is served.
const FIRST_CYCLE: Duration = Duration::from_secs(5);

/// Time after which agents may retry after a shutdown.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Lifetime of a connection without a certificate or a bearer token, for joining and health.
const NOBODYS: Duration = Duration::from_secs(60);

/// The parts that run while the coordinator serves.
pub(crate) struct Serving {
    /// Maximum number of connections: `max_connections`, or fewer if the limit of descriptors requires it.
    pub(crate) connections: usize,
    pub(crate) to_engine: engine::EngineSender,
    pub(crate) stopping: watch::Sender<bool>,
    pub(crate) failed: oneshot::Receiver<()>,
    pub(crate) audit_failed: oneshot::Receiver<()>,
}

impl Serving {
    /// Serves until asked to stop, or until the store fails; then drains.
    pub(crate) async fn run(
        self,
        listener: TcpListener,
        services: Services,
        agents: Agents,
        exit_with_stdin: bool,
    ) -> Result<(), BootError> {
        // Readers find a snapshot: the first cycle is due immediately.
        let mut newest = services.board.subscribe();
        drop(timeout(FIRST_CYCLE, newest.wait_for(Option::is_some)).await);
        let mut stopping = self.stopping.subscribe();
        let until_stopped = async move { drop(stopping.wait_for(|stopping| *stopping).await) };
        let incoming = accept(listener, self.connections, &services, &agents.gate)?;
        let mut server = tokio::spawn(http::serve(incoming, services, agents, until_stopped));
        tokio::select! {
            signal = stop::requested(exit_with_stdin) => {
                let signal = signal.map_err(|e| BootError::System("wait for signals", e))?;
                tracing::info!(signal, "draining");
            }
            _ = self.audit_failed => {
                self.stopping.send_replace(true);
                server.abort();
                let failed = io::Error::other("the log has the reason");
                return Err(BootError::System("write the audit", failed));
            }
            _ = self.failed => {
                // The publisher's own error has the reason.
                self.stopping.send_replace(true);
                server.abort();
                return Ok(());
            }
            ended = &mut server => return ended.map_err(|error| BootError::Serve("gRPC", error.into())),
        }
        let shutdown = ToEngine::Fact(Input::Shutdown {
            retry_after: RETRY_AFTER,
        });
        // An engine that does not receive the message does not end, which is detected.
        drop(timeout(DRAIN, self.to_engine.send(shutdown)).await);
        self.stopping.send_replace(true);
        if timeout(DRAIN, &mut server).await.is_err() {
            tracing::warn!(limit = ?DRAIN, "some clients did not end their calls in time; they are cut off");
            server.abort();
        }
        Ok(())
    }
}

/// Counts refusals of the metrics port. The clients are unauthenticated, so the audit does not record them.
pub(crate) struct MetricsPort(pub(crate) Arc<Metrics>);

impl listener::Watch for MetricsPort {
    fn refused(&self, source: SocketAddr, refused: &listener::Refused) {
        self.0.connection_refused("metrics");
        tracing::debug!(%source, %refused, "connection to the metrics port refused");
    }
}

/// Accepts connections, with TLS as configured.
fn accept(
    listener: TcpListener,
    connections: usize,
    services: &Services,
    gate: &Gate,
) -> Result<ReceiverStream<io::Result<Conn>>, BootError> {
    let config = &services.config;
    let tls = match &services.ca {
        Some(ca) => {
            let ca = Arc::clone(ca);
            let tls = server_config(ca.keys(), ca.trust(), false).map_err(CaError::Tls)?;
            tokio::spawn(async move { ca.keep_renewed().await });
            Some(tls)
        }
        None => None,
    };
    let limits = listener::Limits {
        handshake: config.handshake_timeout.0,
        connections,
        // If descriptors leave room for few connections, one source does not get all of them.
        of_one_source: match connections < config.max_connections {
            true => config.max_connections_per_source.min((connections * 3 / 4).max(1)),
            false => config.max_connections_per_source,
        },
        nobodys: NOBODYS,
    };
    Ok(listener::accept(listener, tls, limits, Arc::new(gate.clone())))
}
