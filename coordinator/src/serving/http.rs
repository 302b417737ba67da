//! HTTP/2 and, for gRPC-Web, HTTP/1: the layers before the services, and the bounds of the transport's own memory.
//!
//! tonic's own server does not bound the buffers of an HTTP/1 connection, which reach 400 KiB before authentication.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use ::http::{Request, Response};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::pin;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{body::Body, service::Routes, transport::server::Connected as _};
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
};
use tower::{Layer as _, Service, ServiceExt as _};
use wyneos::{
    served::{agent_service_server::AgentServiceServer, coherence_service_server::CoherenceServiceServer},
    v1::{
        access_service_server::AccessServiceServer, cluster_service_server::ClusterServiceServer,
        decision_service_server::DecisionServiceServer, enrollment_service_server::EnrollmentServiceServer,
        event_service_server::EventServiceServer, telemetry_service_server::TelemetryServiceServer,
        workload_service_server::WorkloadServiceServer,
    },
};
use wyneos_core::limits;
use wyneos_shell::listener::Conn;

use super::timed::Timed;
use crate::{
    answers::{Answering, Pacing},
    gate::Calls,
    services::{Agents, Services},
};

/// Maximum number of streams per connection, and per connection without a certificate. HTTP/2 counts a stream until its
/// answer was written, so these also bound the answers that wait on a connection that is not read. Higher: more calls
/// at once on one connection; more memory per connection, and more work at once that others wait for.
const STREAMS: u32 = 256;
const NOBODYS_STREAMS: u32 = 64;

/// Bytes that are buffered of one answer: those that [`Pacing`] hands over, and one more piece.
const SEND_BUFFER: usize = 64 * 1024;

/// Maximum number of streams that a client reset before they were accepted; beyond it the connection is closed. It is
/// also closed after 1,024 late or invalid frames (h2's own bound): requests that are refused while their bytes are in
/// transmission have up to four each.
const PENDING_RESETS: usize = 20;

/// Bytes that a client may send ahead of the reader, per request and per connection. A request that is not being read
/// holds them in the transport, uncounted. Higher: large requests arrive faster over long lines.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// Bytes that are buffered of an HTTP/1 connection in each direction: more than the maximum size of a call's headers.
const BUFFER: usize = 32 * 1024;

/// Time limit for the headers of an HTTP/1 request, and for an idle connection between two requests.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);

/// Maximum size of a call's headers, bytes.
const HEADERS: u32 = 16 * 1024;

/// The served services, by the first part of their names; each has its own health. MeshService is served by agents
/// instead.
const SERVED: [&str; 9] = [
    "Access",
    "Agent",
    "Cluster",
    "Coherence",
    "Decision",
    "Enrollment",
    "Event",
    "Telemetry",
    "Workload",
];

/// HTTP/2 pings: sent after this time of silence; if they are not answered within [`PONG`], the connection is closed.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(10);

/// Serves `incoming` until it is told to stop, and then until every call has ended.
pub(super) async fn serve(
    incoming: ReceiverStream<io::Result<Conn>>,
    services: Services,
    agents: Agents,
    until_stopped: impl Future<Output = ()>,
) {
    let (reporter, health) = tonic_health::server::health_reporter();
    let names = SERVED.map(|service| format!("wyneos.v1.{service}Service"));
    for name in &names {
        reporter.set_service_status(name, ServingStatus::Serving).await;
    }
    let until_stopped = async move {
        until_stopped.await;
        for name in names.iter().map(String::as_str).chain([""]) {
            reporter.set_service_status(name, ServingStatus::NotServing).await;
            // Ends the health watches after they have reported the change.
            let mut reporter = reporter.clone();
            reporter.clear_service_status(name).await;
        }
    };
    let gate = agents.gate.clone();
    let layers = (Pacing(Arc::clone(&services.ledger)), tonic_web::GrpcWebLayer::new());
    let routes = gate.layer(Answering.layer(routes(health, services, agents)));
    let calls = Calls::new(gate, layers.1.layer(routes));
    let service = Timed::new(layers.0.layer(calls));
    connections(incoming, service, until_stopped).await;
}

/// Builds the server for connections with up to `streams` simultaneous calls.
fn builder(streams: u32) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .max_concurrent_streams(streams)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADERS);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(BUFFER);
    builder
}

/// Serves connections until `incoming` ends or `until_stopped`; then each until its calls have ended.
async fn connections<S>(
    mut incoming: ReceiverStream<io::Result<Conn>>,
    service: S,
    until_stopped: impl Future<Output = ()>,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let (known, nobodys) = (builder(STREAMS), builder(NOBODYS_STREAMS));
    let graceful = GracefulShutdown::new();
    pin!(until_stopped);
    loop {
        let conn = tokio::select! {
            () = &mut until_stopped => break,
            conn = incoming.next() => conn,
        };
        let Some(conn) = conn else { break };
        let Ok(conn) = conn else { continue };
        let peer = conn.connect_info();
        let builder = match peer.is_nobody() {
            true => &nobodys,
            false => &known,
        };
        let service = service.clone().map_request(move |mut request: Request<_>| {
            request.extensions_mut().insert(peer.clone());
            request.map(Body::new)
        });
        let serving = builder.serve_connection(TokioIo::new(conn), TowerToHyperService::new(service));
        let serving = graceful.watch(serving.into_owned());
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::debug!(error, "a connection ended");
            }
        });
    }
    // No further connections are accepted while existing ones end.
    drop(incoming);
    graceful.shutdown().await;
}

/// All services, each with its maximum message size.
fn routes(health: HealthServer<impl Health>, services: Services, agents: Agents) -> Routes {
    let mut routes = Routes::builder();
    routes
        .add_service(health.max_decoding_message_size(limits::SYMBOL))
        .add_service(
            AgentServiceServer::new(agents)
                .max_decoding_message_size(limits::AGENT_MESSAGE)
                .max_encoding_message_size(limits::NODE_MESSAGE),
        )
        .add_service(EnrollmentServiceServer::new(services.clone()).max_decoding_message_size(limits::JOINING))
        .add_service(AccessServiceServer::new(services.clone()).max_decoding_message_size(limits::REQUEST))
        .add_service(ClusterServiceServer::new(services.clone()).max_decoding_message_size(limits::REQUEST))
        .add_service(CoherenceServiceServer::new(services.clone()).max_decoding_message_size(limits::REQUEST))
        .add_service(DecisionServiceServer::new(services.clone()).max_decoding_message_size(limits::REQUEST))
        .add_service(EventServiceServer::new(services.clone()).max_decoding_message_size(limits::REQUEST))
        .add_service(TelemetryServiceServer::new(services.clone()).max_decoding_message_size(limits::REQUEST))
        .add_service(WorkloadServiceServer::new(services).max_decoding_message_size(limits::REQUEST));
    if let Some(service) = reflection(tonic_reflection::server::Builder::build_v1) {
        routes.add_service(service.max_decoding_message_size(limits::SYMBOL));
    }
    if let Some(service) = reflection(tonic_reflection::server::Builder::build_v1alpha) {
        routes.add_service(service.max_decoding_message_size(limits::SYMBOL));
    }
    routes.routes().prepare()
}

/// Reflection with either version of its protocol; each lists itself, health and our services.
fn reflection<T>(
    build: impl FnOnce(tonic_reflection::server::Builder<'static>) -> Result<T, tonic_reflection::server::Error>,
) -> Option<T> {
    let mut builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(wyneos::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // Details of errors.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET);
    for name in SERVED {
        builder = builder.with_service_name(format!("wyneos.v1.{name}Service"));
    }
    builder = builder.with_service_name("grpc.health.v1.Health");
    let built = build(builder);
    if let Err(error) = &built {
        tracing::error!(%error, "reflection is off: the descriptor set is damaged");
    }
    built.ok()
}
