//! Listener: connections with limits and, with TLS, with the identity of the peer.
//!
//! A handshake costs memory and time before the peer is known. It therefore has a time limit, and every source has a
//! limit of connections, handshakes included. When all places are taken, the oldest connection whose peer is not
//! authenticated is closed in favour of a new one; if there is no such connection, the new one is closed at once.
//! Authenticated connections are not affected.

mod conn;
mod slots;

use std::{
    any::Any,
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use tokio_stream::wrappers::ReceiverStream;
use wyneos::identity::{Principal, key_of, validity};
use wyneos_core::integrity::Digest;

pub use conn::Conn;
use conn::Stream;
pub use slots::source;
use slots::{Displaced, Line, Slot, Slots};

/// Maximum number of established connections that wait to be served; while it is reached, no further ones are accepted.
const WAITING: usize = 256;

/// Pause after a failed accept, for instance without free file descriptors; it doubles with each failure.
const BREATHER: Duration = Duration::from_millis(50);
const LONGEST_BREATHER: Duration = Duration::from_secs(1);

/// Maximum bytes of a connection in the system's buffer that are not sent yet, so that a client that does not read
/// cannot fill that buffer.
const UNSENT: u32 = 128 * 1024;

/// Minimum interval between log lines about failed accepts.
const TOLD: Duration = Duration::from_secs(60);

/// Limits of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time limit of a handshake. Longer: slower hosts can connect; half-open connections are held for longer.
    pub handshake: Duration,
    /// Maximum number of connections, handshakes included. With TLS, half of them are reserved for peers that present a
    /// certificate.
    pub connections: usize,
    /// Maximum number of connections of one source, handshakes included; an IPv6 source is a /64 network.
    pub of_one_source: usize,
    /// Maximum lifetime of a connection whose peer is not authenticated: neither by a certificate, nor afterwards by a
    /// bearer token or, without TLS, by a call.
    pub nobodys: Duration,
}

/// Reason why a connection was closed before any data was exchanged.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The maximum number of connections is reached.
    #[error("{0} connections, the limit (max_connections)")]
    Connections(usize),
    /// The source has reached its maximum number of connections.
    #[error("{0} connections of this source, the limit (max_connections_per_source)")]
    Source(usize),
    /// Connections without a certificate have reached their half of the places.
    #[error("{0} connections without a certificate, half of max_connections")]
    Nobodys(usize),
    /// The peer was not authenticated, and its place was given to another connection.
    #[error("closed for another connection at the limit ({0}): it had proved nothing")]
    Displaced(&'static str),
    /// The system cannot accept connections.
    #[error("no connection can be accepted: {0}")]
    System(io::Error),
    /// The handshake exceeded its time limit.
    #[error("no handshake within {0:?}")]
    Late(Duration),
    /// The handshake failed.
    #[error("handshake: {0}")]
    Handshake(io::Error),
}

impl Refused {
    /// Returns the name of the reason in metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Refused::Connections(_) => "connections",
            Refused::Source(_) => "source",
            Refused::Nobodys(_) => "nobodys",
            Refused::Displaced(_) => "displaced",
            Refused::System(_) => "system",
            Refused::Late(_) => "late",
            Refused::Handshake(_) => "handshake",
        }
    }
}

/// Observer of refused connections.
pub trait Watch: Send + Sync + 'static {
    /// Reports that a connection from `source` was refused.
    fn refused(&self, source: SocketAddr, refused: &Refused);
}

/// The peer of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address of the peer.
    pub address: SocketAddr,
    /// Whether the connection uses TLS.
    pub tls: bool,
    /// The certificate of the peer; `None` if it presented none.
    pub shown: Option<Shown>,
    line: Arc<Line>,
}

/// The contents of a certificate.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The principal that it names.
    pub principal: Principal,
    /// BLAKE3 hash of its public key.
    pub key: Digest,
    /// The end of its validity.
    pub ends: SystemTime,
}

impl Peer {
    /// Marks the peer as authenticated without a certificate; without TLS, records that it made a call.
    pub fn vouch(&self) {
        self.line.vouch();
    }

    /// Closes the connection, with all calls in progress.
    pub fn close(&self) {
        self.line.close();
    }

    /// Stops reading from the connection and closes it after a delay, which limits the rate at which a client can
    /// reconnect.
    pub fn turn_away(&self) {
        self.line.turn_away();
    }

    /// Keeps `kept` until the data queued on the connection was written, or the connection ended. If the client reads
    /// slowly, some queued data may be written only after `kept` was dropped.
    pub fn park(&self, kept: impl Any + Send) {
        self.line.park(Box::new(kept));
    }

    /// Returns whether the connection uses TLS and the peer presented no certificate.
    pub fn is_nobody(&self) -> bool {
        self.tls && self.shown.is_none()
    }
}

/// Accepts connections of `listener`, with TLS if `tls` is given, and returns them as a stream; stops when the stream
/// is dropped.
pub fn accept(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    limits: Limits,
    watch: Arc<dyn Watch>,
) -> ReceiverStream<io::Result<Conn>> {
    let (ready, conns) = mpsc::channel(WAITING);
    let accepting = Accepting {
        acceptor: tls.map(TlsAcceptor::from),
        limits,
        watch,
        ready,
    };
    tokio::spawn(accepting.run(listener));
    ReceiverStream::new(conns)
}

#[derive(Clone)]
struct Accepting {
    acceptor: Option<TlsAcceptor>,
    limits: Limits,
    watch: Arc<dyn Watch>,
    ready: mpsc::Sender<io::Result<Conn>>,
}

impl Accepting {
    async fn run(self, listener: TcpListener) {
        let slots = Slots::new(self.limits);
        let (mut breather, mut told) = (BREATHER, None::<Instant>);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.ready.closed() => return,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if told.is_none_or(|told| told.elapsed() > TOLD) {
                        tracing::error!(%error, "no connection can be accepted; is the limit of open files too low (ulimit -n, LimitNOFILE)?");
                        told = Some(Instant::now());
                    }
                    let address = listener.local_addr().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
                    self.watch.refused(address, &Refused::System(error));
                    sleep(breather).await;
                    breather = (breather * 2).min(LONGEST_BREATHER);
                    continue;
                }
            };
            breather = BREATHER;
            match slots.take(address) {
                Ok((slot, displaced)) => {
                    self.tell(displaced);
                    tokio::spawn(self.clone().admit(stream, slot));
                }
                Err(refused) => self.watch.refused(address, &refused),
            }
        }
    }

    fn tell(&self, displaced: Displaced) {
        if let Some((line, limit)) = displaced {
            self.watch.refused(line.address, &Refused::Displaced(limit));
        }
    }

    async fn admit(self, stream: TcpStream, slot: Slot) {
        // Responses are small and must not be delayed by coalescing.
        drop(stream.set_nodelay(true));
        let socket = SockRef::from(&stream);
        drop(socket.set_tcp_notsent_lowat(UNSENT));
        // Retransmissions to an agent keep a short interval instead of backing off exponentially; the client end does
        // the same.
        drop(socket.set_tcp_thin_linear_timeouts(true));
        let line = Arc::clone(&slot.0);
        let greeted = tokio::select! {
            greeted = greet(stream, &line, self.acceptor.clone(), self.limits.handshake) => greeted,
            // It was already reported as displaced.
            () = poll_fn(|context| line.poll_closed(context)) => return,
        };
        let admitted = greeted.and_then(|(stream, peer)| {
            if peer.shown.is_some() {
                line.vouch();
            }
            if peer.is_nobody() {
                self.tell(slot.as_nobodys(&self.limits)?);
            }
            Ok((stream, peer))
        });
        match admitted {
            Ok((stream, peer)) => {
                let conn = Conn::new(stream, peer, slot, self.limits.nobodys);
                // Without a receiver the server is shutting down.
                drop(self.ready.send(Ok(conn)).await);
            }
            Err(refused) => self.watch.refused(line.address, &refused),
        }
    }
}

async fn greet(
    stream: TcpStream,
    line: &Arc<Line>,
    acceptor: Option<TlsAcceptor>,
    patience: Duration,
) -> Result<(Stream, Peer), Refused> {
    let Some(acceptor) = acceptor else {
        let peer = Peer {
            address: line.address,
            tls: false,
            shown: None,
            line: Arc::clone(line),
        };
        return Ok((Stream::Plain(stream), peer));
    };
    let stream = timeout(patience, acceptor.accept(stream)).await;
    let stream = stream
        .map_err(|_| Refused::Late(patience))?
        .map_err(Refused::Handshake)?;
    // The handshake verified the certificate, and that it contains a name of this cluster.
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let shown = certificate.and_then(|shown| {
        Some(Shown {
            principal: Principal::of(shown).ok()?,
            key: key_of(shown).ok()?,
            ends: validity(shown).ok()?.end,
        })
    });
    let peer = Peer {
        address: line.address,
        tls: true,
        shown,
        line: Arc::clone(line),
    };
    Ok((Stream::Tls(Box::new(stream)), peer))
}

#[cfg(test)]
mod tests;
