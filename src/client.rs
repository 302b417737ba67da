//! Connections to a coordinator, and clients with the limits that its answers need.

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

/// Bytes that a client accepts in one message: a snapshot of a large cluster is far above tonic's own 4 MiB.
pub const MESSAGE_MAX: usize = 256 * 1024 * 1024;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time between two HTTP/2 pings. A dead coordinator is noticed within this and [`KEEP_ALIVE_TIMEOUT`]; TCP alone would
/// leave a watcher waiting for hours.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How long a ping may stay unanswered.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address cannot be used.
    #[error("{address:?} is no address of a coordinator: {reason}; give host:port or http://host:port")]
    Address {
        /// The address as it was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers there.
    #[error("cannot connect to {address}")]
    Unreachable {
        /// The address as it was given.
        address: String,
        /// Why.
        source: tonic::transport::Error,
    },
}

/// The endpoint that `address`, `host:port` or `http://host:port`, names.
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

/// Connects to the coordinator at `address`, `host:port` or `http://host:port`, within 5 s, without TLS. The channel reconnects by
/// itself when it is used again after the connection was lost.
///
/// # Errors
/// The address cannot be used, or nobody answers there.
pub async fn connect(address: &str) -> Result<Channel, ConnectError> {
    connect_with(address, None).await
}

/// As [`connect`], with TLS as `tls` says ([`identity::client_config`](crate::identity::client_config)) if it is there.
///
/// # Errors
/// As [`connect`]; or it is another one than is expected there.
pub async fn connect_with(address: &str, tls: Option<&Arc<ClientConfig>>) -> Result<Channel, ConnectError> {
    connect_noting(address, tls, &Undated::default()).await
}

/// As [`connect_with`]; `undated` hears when the other end refuses this end's certificate for its dates, which it does after the
/// connection was made.
///
/// # Errors
/// As [`connect_with`].
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

/// Opens a channel to an endpoint, with TLS as `tls` says if it is there. Each reconnection shows the certificate of then.
///
/// # Errors
/// Nobody answers there, or another one than is expected.
pub async fn open(endpoint: &Endpoint, tls: Option<&Arc<ClientConfig>>) -> Result<Channel, tonic::transport::Error> {
    open_noting(endpoint, tls, &Undated::default()).await
}

/// As [`open`]; `undated` hears when the other end refuses this end's certificate for its dates, which it does after the connection was
/// made.
///
/// # Errors
/// As [`open`].
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

/// An error with what is behind it: tonic's own text says only "transport error".
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

/// A text without the links to their own documentation that libraries put into their errors.
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

/// Whether a stream ended over a message that cannot be read, too large or none at all, and not over its transport.
pub fn is_unreadable(status: &Status) -> bool {
    let text = status.message();
    let garbled = text.starts_with("failed to decode") || text.starts_with("protocol error: received message");
    // What the transport reports has a cause.
    let local = std::error::Error::source(status).is_none();
    status.code() == Code::OutOfRange || (status.code() == Code::Internal && local && garbled)
}

/// The message of a status: the server's own, or why the connection failed.
pub fn told(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => describe(source),
        None => status.message().to_owned(),
    }
}

/// A connection on which both ends know each other.
async fn secure(connector: &TlsConnector, uri: &Uri) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host(uri)?.to_owned()).map_err(|_| wrong("no name of a host"))?;
    let stream = reach(uri).await?;
    connector.connect(name, stream).await
}

/// A TCP connection for few and small messages: none waits for another one, and on Linux a lost packet is sent again every 0.2 s or so, six
/// times, before each wait is twice as long as the one before. With doubling from the start a session is silent for 13 s when one packet is lost
/// six times.
///
/// # Errors
/// The address has no host or no port, or nobody answers there.
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

/// A client of AccessService.
pub fn access(channel: Channel) -> AccessServiceClient<Channel> {
    AccessServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX)
}

/// A client of ClusterService.
pub fn cluster(channel: Channel) -> ClusterServiceClient<Channel> {
    ClusterServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX)
}

/// A client of CoherenceService.
pub fn coherence(channel: Channel) -> CoherenceServiceClient<Channel> {
    CoherenceServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX)
}

/// A client of DecisionService.
pub fn decisions(channel: Channel) -> DecisionServiceClient<Channel> {
    DecisionServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX)
}

/// A client of EventService.
pub fn events(channel: Channel) -> EventServiceClient<Channel> {
    EventServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX)
}

/// A client of TelemetryService.
pub fn telemetry(channel: Channel) -> TelemetryServiceClient<Channel> {
    TelemetryServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX)
}

/// A client of WorkloadService.
pub fn workloads(channel: Channel) -> WorkloadServiceClient<Channel> {
    WorkloadServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX)
}

#[cfg(test)]
mod tests;
