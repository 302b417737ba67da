//! Connections to a coordinator, and clients with suitable message limits.

mod dates;

use std::{io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint, Uri},
};
use tower::service_fn;

use dates::Explaining;
pub use dates::{Undated, explained, holds, shown};

use crate::v1::{
    access_service_client::AccessServiceClient, cluster_service_client::ClusterServiceClient,
    coherence_service_client::CoherenceServiceClient, decision_service_client::DecisionServiceClient,
    event_service_client::EventServiceClient, telemetry_service_client::TelemetryServiceClient,
    workload_service_client::WorkloadServiceClient,
};

/// Maximum size of a message that a client accepts, in bytes: a snapshot of a large cluster exceeds tonic's default of
/// 4 MiB.
pub const MESSAGE_MAX: usize = 256 * 1024 * 1024;

/// Timeout of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval between HTTP/2 pings. A failed coordinator is detected within this time plus [`KEEP_ALIVE_TIMEOUT`]; TCP
/// alone would leave a watcher waiting for hours.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Timeout of a ping.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Reason why a connection failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is invalid.
    #[error("{address:?} is no address of a coordinator: {reason}; give host:port or http://host:port")]
    Address {
        /// The address as given.
        address: String,
        /// The error.
        reason: String,
    },
    /// No server answers at the address.
    #[error("cannot connect to {address}")]
    Unreachable {
        /// The address as given.
        address: String,
        /// The cause.
        source: tonic::transport::Error,
    },
}

/// Parses an address of the form `host:port` or `http://host:port`.
fn endpoint(address: &str) -> Result<Endpoint, ConnectError> {
    let bad = |reason: &str| ConnectError::Address {
        address: address.to_owned(),
        reason: reason.to_owned(),
    };
    let with_scheme = match address.split_once("://") {
        None => format!("http://{address}"),
        Some(("http", _)) => address.to_owned(),
        Some(_) => return Err(bad("only http:// is known; with credentials it is TLS all the same")),
    };
    let uri: Uri = with_scheme.parse().map_err(|_| bad("it cannot be read"))?;
    if uri.host().is_none_or(str::is_empty) {
        return Err(bad("it has no host"));
    }
    if uri.port_u16().is_none_or(|port| port == 0) {
        return Err(bad("it has no port"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(bad("nothing may follow the port"));
    }
    Ok(Endpoint::from(uri)
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// Connects to the coordinator at `address`, `host:port` or `http://host:port`, within 5 s, without TLS. The channel
/// reconnects automatically when it is used after the connection was lost.
///
/// # Errors
/// The address is invalid, or no server answers.
pub async fn connect(address: &str) -> Result<Channel, ConnectError> {
    connect_with(address, None).await
}

/// Like [`connect`], with the given TLS configuration, if any
/// ([`identity::client_config`](crate::identity::client_config)).
///
/// # Errors
/// As for [`connect`]; or the server is not the expected one.
pub async fn connect_with(address: &str, tls: Option<&Arc<ClientConfig>>) -> Result<Channel, ConnectError> {
    connect_noting(address, tls, &Undated::default()).await
}

/// Like [`connect_with`]; `undated` is set if the server rejects this client's certificate because of its validity
/// period, which happens after the connection is established.
///
/// # Errors
/// As for [`connect_with`].
pub async fn connect_noting(
    address: &str,
    tls: Option<&Arc<ClientConfig>>,
    undated: &Undated,
) -> Result<Channel, ConnectError> {
    let endpoint = endpoint(address)?;
    open_noting(&endpoint, tls, undated)
        .await
        .map_err(|source| ConnectError::Unreachable {
            address: address.to_owned(),
            source,
        })
}

/// Opens a channel to an endpoint, with the given TLS configuration, if any. Each reconnection presents the current
/// certificate.
///
/// # Errors
/// No server answers, or it is not the expected one.
pub async fn open(endpoint: &Endpoint, tls: Option<&Arc<ClientConfig>>) -> Result<Channel, tonic::transport::Error> {
    open_noting(endpoint, tls, &Undated::default()).await
}

/// Like [`open`]; `undated` is set if the server rejects this client's certificate because of its validity period,
/// which happens after the connection is established.
///
/// # Errors
/// As for [`open`].
pub async fn open_noting(
    endpoint: &Endpoint,
    tls: Option<&Arc<ClientConfig>>,
    undated: &Undated,
) -> Result<Channel, tonic::transport::Error> {
    let Some(tls) = tls else {
        let connect = |uri: Uri| async move { reach(&uri).await.map(TokioIo::new) };
        return endpoint.connect_with_connector(service_fn(connect)).await;
    };
    let connector = TlsConnector::from(Arc::clone(tls));
    let undated = undated.clone();
    let connect = move |uri: Uri| {
        let (connector, undated) = (connector.clone(), undated.clone());
        async move {
            let stream = secure(&connector, &uri).await.map_err(explained)?;
            Ok::<_, io::Error>(TokioIo::new(Explaining::new(stream, undated)))
        }
    };
    endpoint.connect_with_connector(service_fn(connect)).await
}

/// Formats an error with its causes; tonic's own text is only "transport error".
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(behind) = source {
        let behind_text = behind.to_string();
        if !text.contains(&behind_text) {
            text = format!("{text}: {behind_text}");
        }
        source = behind.source();
    }
    without_links(&text)
}

/// Removes the documentation links that libraries include in their errors.
fn without_links(text: &str) -> String {
    let is_link = |word: &&str| word.starts_with("https://docs.rs/");
    let words: Vec<&str> = text.split(' ').filter(|word| !is_link(word)).collect();
    words.join(" ").trim_end_matches([':', ' ']).to_owned()
}

#[cfg(test)]
mod link_tests {
    #[test]
    fn causes_are_told_without_links_to_libraries() {
        let cause = std::io::Error::other(
            "peer closed connection without sending TLS close_notify: https://docs.rs/rustls/latest/rustls/manual/_03_howto/index.html#unexpected-eof",
        );
        assert_eq!(
            super::describe(&cause),
            "peer closed connection without sending TLS close_notify"
        );
    }
}

/// Whether a stream ended because of a message that cannot be read, being too large or malformed, and not because of
/// its transport.
pub fn is_unreadable(status: &Status) -> bool {
    let text = status.message();
    let garbled = text.starts_with("failed to decode") || text.starts_with("protocol error: received message");
    // Errors of the transport have a cause.
    let local = std::error::Error::source(status).is_none();
    status.code() == Code::OutOfRange || (status.code() == Code::Internal && local && garbled)
}

/// The message of a status: the server's own, or the reason for the failed connection.
pub fn told(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => describe(source),
        None => status.message().to_owned(),
    }
}

/// Establishes a connection with mutual authentication.
async fn secure(connector: &TlsConnector, uri: &Uri) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host(uri)?.to_owned()).map_err(|_| wrong("no name of a host"))?;
    let stream = reach(uri).await?;
    connector.connect(name, stream).await
}

/// Establishes a TCP connection for few small messages: messages are not delayed for batching, and on Linux a lost
/// packet is retransmitted about every 0.2 s six times before the timeout doubles. With doubling from the start, a
/// session would be silent for 13 s if one packet is lost six times.
///
/// # Errors
/// The address has no host or port, or no server answers.
async fn reach(uri: &Uri) -> io::Result<TcpStream> {
    let port = uri.port_u16().ok_or_else(|| wrong("no port"))?;
    let stream = TcpStream::connect((host(uri)?, port)).await?;
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    drop(socket2::SockRef::from(&stream).set_tcp_thin_linear_timeouts(true));
    Ok(stream)
}

fn host(uri: &Uri) -> io::Result<&str> {
    let host = uri.host().ok_or_else(|| wrong("no host"))?;
    Ok(host.trim_start_matches('[').trim_end_matches(']'))
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what.to_owned())
}

/// Creates a client of AccessService.
pub fn access(channel: Channel) -> AccessServiceClient<Channel> {
    AccessServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX)
}

/// Creates a client of ClusterService.
pub fn cluster(channel: Channel) -> ClusterServiceClient<Channel> {
    ClusterServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX)
}

/// Creates a client of CoherenceService.
pub fn coherence(channel: Channel) -> CoherenceServiceClient<Channel> {
    CoherenceServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX)
}

/// Creates a client of DecisionService.
pub fn decisions(channel: Channel) -> DecisionServiceClient<Channel> {
    DecisionServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX)
}

/// Creates a client of EventService.
pub fn events(channel: Channel) -> EventServiceClient<Channel> {
    EventServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX)
}

/// Creates a client of TelemetryService.
pub fn telemetry(channel: Channel) -> TelemetryServiceClient<Channel> {
    TelemetryServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX)
}

/// Creates a client of WorkloadService.
pub fn workloads(channel: Channel) -> WorkloadServiceClient<Channel> {
    WorkloadServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX)
}

#[cfg(test)]
mod tests;
