//! The session's transport: one gRPC stream to a coordinator.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use wyneos::{
    client,
    v1::{self, agent_service_client::AgentServiceClient},
};
use wyneos_core::{agent::Input, coordinator::Message, limits, node::ConnId};

use crate::{driver::ToAgent, tls::Tls};

/// Maximum number of messages that wait for the coordinator; beyond it the transport is closed, because the coordinator
/// does not read.
pub(crate) const OUTBOUND: usize = 64;

/// Time limit for connecting.
const CONNECT: Duration = Duration::from_secs(5);

/// HTTP/2 pings, also on an idle connection: the network may fail without a sign.
const PING: Duration = Duration::from_secs(5);
const PONG: Duration = Duration::from_secs(5);

/// Runs one transport to `address` until it ends; events are sent to the driver.
pub(crate) async fn run(
    conn: ConnId,
    address: String,
    outbound: mpsc::Receiver<v1::SessionRequest>,
    driver: mpsc::Sender<ToAgent>,
    tls: Option<Tls>,
) {
    let reason = match exchange(conn, &address, outbound, &driver, tls.as_ref()).await {
        Ok(()) => "the coordinator ended the session".to_owned(),
        Err(reason) => reason,
    };
    drop(driver.send(ToAgent::Fact(Input::Closed { conn, reason })).await);
}

async fn exchange(
    conn: ConnId,
    address: &str,
    outbound: mpsc::Receiver<v1::SessionRequest>,
    driver: &mpsc::Sender<ToAgent>,
    tls: Option<&Tls>,
) -> Result<(), String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| format!("{address}: {error}"))?;
    let endpoint = endpoint
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .keep_alive_while_idle(true);
    let own = tls;
    let tls = own.map(Tls::to_coordinator).transpose();
    let tls = tls.map_err(|error| client::describe(&error))?;
    let undated = client::Undated::default();
    let channel = client::open_noting(&endpoint, tls.as_ref(), &undated).await;
    let told_or = |otherwise: String| match (undated.take(), own) {
        // Renewal can recover from this.
        (true, Some(own)) => own.refused(),
        _ => otherwise,
    };
    let channel = channel.map_err(|error| told_or(client::describe(&error)))?;
    let told = |status: tonic::Status| told_or(client::told(&status));
    let response = AgentServiceClient::new(channel)
        .max_decoding_message_size(limits::NODE_MESSAGE)
        .max_encoding_message_size(limits::AGENT_MESSAGE)
        .session(ReceiverStream::new(outbound))
        .await;
    let mut inbound = response.map_err(told)?.into_inner();
    let gone = |_| "the agent is ending".to_owned();
    driver
        .send(ToAgent::Fact(Input::Connected { conn }))
        .await
        .map_err(gone)?;
    loop {
        let response = match inbound.message().await {
            Ok(Some(response)) => response,
            Ok(None) => return Ok(()),
            Err(status) => {
                let unreadable = client::is_unreadable(&status);
                let detail = told(status);
                if unreadable {
                    let unreadable = Input::Unreadable {
                        conn,
                        detail: detail.clone(),
                    };
                    driver.send(ToAgent::Fact(unreadable)).await.map_err(gone)?;
                }
                return Err(detail);
            }
        };
        match Message::try_from(response) {
            Ok(message) => driver
                .send(ToAgent::Fact(Input::Message { conn, message }))
                .await
                .map_err(gone)?,
            // A newer coordinator may send messages that this agent does not know; everything mandatory is in those
            // that it knows.
            Err(error) => tracing::warn!(%error, "a message of the coordinator is not valid and was ignored"),
        }
    }
}
