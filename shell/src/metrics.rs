//! The metrics port: OpenMetrics text at `/metrics`, behind the same listener implementation as the main port.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;

use crate::listener::{self, Limits, Watch};

/// Media type of the response.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Time limit for the headers of a request, and for an idle connection between two requests.
const HEADERS: Duration = Duration::from_secs(30);

/// Maximum lifetime of a connection. A scraper with a persistent connection reconnects after it.
const LIFE: Duration = Duration::from_secs(300);

/// Maximum bytes buffered per connection in each direction: of a request, and of a response that is not read.
const BUFFER: usize = 64 * 1024;

/// Maximum number of connections, if enough descriptors are available.
pub const CONNECTIONS: usize = 16;

/// Returns the limits of the port: it has few clients, which do not authenticate. When all places are taken, the oldest
/// connection is displaced.
pub fn limits(connections: usize) -> Limits {
    Limits {
        handshake: HEADERS,
        connections,
        of_one_source: connections,
        nobodys: LIFE,
    }
}

/// Serves `registry` on `listener` until the process ends.
pub async fn serve(listener: TcpListener, registry: Arc<Registry>, limits: Limits, watch: Arc<dyn Watch>) {
    let router = Router::new().route("/metrics", get(metrics)).with_state(registry);
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    let mut http = builder.http1();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(BUFFER);
    let mut conns = listener::accept(listener, None, limits, watch);
    while let Some(Ok(conn)) = conns.next().await {
        let (builder, service) = (builder.clone(), TowerToHyperService::new(router.clone()));
        tokio::spawn(async move {
            // The client disconnected, was too slow, or sent an invalid request.
            drop(builder.serve_connection(TokioIo::new(conn), service).await);
        });
    }
}

/// Binds the port; the error includes the address.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

async fn metrics(State(registry): State<Arc<Registry>>) -> impl IntoResponse {
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(_) => axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
