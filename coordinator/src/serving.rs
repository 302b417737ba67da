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

/// How long the drain may take until what is left is cut off.
const DRAIN: Duration = Duration::from_secs(10);

/// How long the first snapshot is waited for before the port is served.
const FIRST_CYCLE: Duration = Duration::from_secs(5);

/// When agents may try again after a shutdown.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long a connection stands whose other end shows neither a certificate nor a bearer token: to join, to ask for health.
const NOBODYS: Duration = Duration::from_secs(60);

/// What runs while the coordinator serves.
pub(crate) struct Serving {
    /// Connections at most: `max_connections`, or what descriptors leave room for.
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
        // Whoever reads finds something to read: the first cycle is due at once.
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
                let failed = io::Error::other("the log says why");
                return Err(BootError::System("write the audit", failed));
            }
            _ = self.failed => {
                // The publisher's own error says why.
                self.stopping.send_replace(true);
                server.abort();
                return Ok(());
            }
            ended = &mut server => return ended.map_err(|error| BootError::Serve("gRPC", error.into())),
        }
        let shutdown = ToEngine::Fact(Input::Shutdown {
            retry_after: RETRY_AFTER,
        });
        // An engine that cannot be told does not end, which is noticed.
        drop(timeout(DRAIN, self.to_engine.send(shutdown)).await);
        self.stopping.send_replace(true);
        if timeout(DRAIN, &mut server).await.is_err() {
            tracing::warn!(limit = ?DRAIN, "some clients did not end their calls in time; they are cut off");
            server.abort();
        }
        Ok(())
    }
}

/// Counts what the metrics port refuses. Who scrapes is nobody in particular, so the audit does not hear of it.
pub(crate) struct MetricsPort(pub(crate) Arc<Metrics>);

impl listener::Watch for MetricsPort {
    fn refused(&self, source: SocketAddr, refused: &listener::Refused) {
        self.0.connection_refused("metrics");
        tracing::debug!(%source, %refused, "connection to the metrics port refused");
    }
}

/// Connections, with TLS as the configuration says.
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
        // Where descriptors leave room for few connections, one source does not get them all.
        of_one_source: match connections < config.max_connections {
            true => config.max_connections_per_source.min((connections * 3 / 4).max(1)),
            false => config.max_connections_per_source,
        },
        nobodys: NOBODYS,
    };
    Ok(listener::accept(listener, tls, limits, Arc::new(gate.clone())))
}
