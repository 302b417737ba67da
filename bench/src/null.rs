//! The null server of sessions, which shows the cost of gRPC alone. It decodes the messages of agents and discards
//! them.

use std::{
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{io::AsyncReadExt as _, net::TcpListener, runtime::Builder};
use tokio_stream::Stream;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::Router},
};
use wyneos::{
    encoded::Encoded,
    served::agent_service_server::{AgentService, AgentServiceServer},
    v1::{self, session_request, session_response},
};
use wyneos_core::limits;

use wyneos_shell::listener::{self, Limits, Refused, Watch};

use crate::{Failure, tls::Ca};

/// Returns a server builder with the HTTP/2 settings of the coordinator.
pub(crate) fn builder() -> Server {
    Server::builder()
        .accept_http1(true)
        .timeout(Duration::from_secs(30))
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .max_concurrent_streams(2_048)
}

/// Limits without a maximum number of connections: admission is not measured.
const LIMITS: Limits = Limits {
    handshake: Duration::from_secs(20),
    connections: usize::MAX,
    of_one_source: usize::MAX,
    nobodys: Duration::from_secs(3600),
};

struct Nobody;

impl Watch for Nobody {
    fn refused(&self, source: SocketAddr, refused: &Refused) {
        eprintln!("{source}: {refused}");
    }
}

/// Serves until standard input ends, with the coordinator's listener, and with TLS if a CA is given. `router` is called
/// within the runtime.
pub(crate) fn serve(ca: Option<&Path>, router: impl FnOnce() -> Result<Router, Failure>) -> Result<(), Failure> {
    let tls = ca.map(|folder| Ca::read(folder, None)?.server()).transpose()?;
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::of("the null server's runtime"))?;
    let result = runtime.block_on(async {
        let failed = || Failure::of("the null server");
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed())?;
        let address = listener.local_addr().map_err(failed())?;
        println!("{{\"message\":\"listening\",\"address\":\"{address}\"}}");
        let ended = async {
            let mut nothing = Vec::new();
            drop(tokio::io::stdin().read_to_end(&mut nothing).await);
        };
        tokio::select! {
            served = router()?.serve_with_incoming(listener::accept(listener, tls, LIMITS, Arc::new(Nobody))) => {
                served.map_err(Failure::of("the null server"))
            }
            () = ended => Ok(()),
        }
    });
    runtime.shutdown_background();
    result
}

/// Serves agents.
pub(crate) fn sessions(ca: Option<&Path>) -> Result<(), Failure> {
    serve(ca, || {
        let agents = AgentServiceServer::new(Agents).max_decoding_message_size(limits::AGENT_MESSAGE);
        Ok(builder().add_service(agents))
    })
}

struct Agents;

#[tonic::async_trait]
impl AgentService for Agents {
    type SessionStream = Drain;

    async fn session(&self, request: Request<Streaming<v1::SessionRequest>>) -> Result<Response<Drain>, Status> {
        Ok(Response::new(Drain {
            inbound: request.into_inner(),
        }))
    }
}

/// A session that is read by the response stream, as in the coordinator.
struct Drain {
    inbound: Streaming<v1::SessionRequest>,
}

impl Stream for Drain {
    type Item = Result<Encoded, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match Pin::new(&mut self.inbound).poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(status))) => return Poll::Ready(Some(Err(status))),
                Poll::Ready(Some(Ok(request))) => {
                    // The decoded request must not be optimised away.
                    let request = std::hint::black_box(request);
                    if let Some(session_request::Message::Hello(_)) = request.message {
                        let welcome = session_response::Message::Welcome(v1::Welcome::default());
                        let response = v1::SessionResponse {
                            message: Some(welcome),
                            heard_sequence: 0,
                        };
                        return Poll::Ready(Some(Ok(Encoded::new(&response))));
                    }
                }
            }
        }
    }
}
