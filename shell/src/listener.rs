//! Listening: connections with limits and, where there is TLS, with who is at the other end.
//!
//! A handshake costs memory and time before anybody is known, so it has a limit of time, and every source a limit of connections,
//! handshakes included. When every place is taken, the oldest connection whose other end proved nothing gives way to a new one; without
//! such a connection the new one is closed at once. Connections that proved who they are never notice.

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

/// Connections that stand and wait to be served at most; then no further one is accepted for the time being.
const WAITING: usize = 256;

/// Pause after a failed accept, for instance without free file descriptors; it doubles each time.
const BREATHER: Duration = Duration::from_millis(50);
const LONGEST_BREATHER: Duration = Duration::from_secs(1);

/// Bytes that the system takes of a connection before it sent them, at most: what a client does not read is not to fill its buffers.
const UNSENT: u32 = 128 * 1024;

/// Minimum interval between log lines about failed accepts.
const TOLD: Duration = Duration::from_secs(60);

/// What a listener takes on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a handshake may take. Longer: slower hosts get through; half-open ones are held for longer.
    pub handshake: Duration,
    /// Connections at most, handshakes included. With TLS, half of them are kept for those who show a certificate.
    pub connections: usize,
    /// Connections of one source at most, handshakes included; an IPv6 source is a network of 64 bits.
    pub of_one_source: usize,
    /// How long a connection may stand whose other end proved nothing, neither by a certificate nor since: by a bearer token, or
    /// without TLS by a call.
    pub nobodys: Duration,
}

/// Why a connection was closed before anything was said on it.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There are as many as there may be.
    #[error("{0} connections, the limit (max_connections)")]
    Connections(usize),
    /// Its source has as many as it may have.
    #[error("{0} connections of this source, the limit (max_connections_per_source)")]
    Source(usize),
    /// Those that show no certificate have their half.
    #[error("{0} connections without a certificate, half of max_connections")]
    Nobodys(usize),
    /// It proved nothing, and its place was given to another connection.
    #[error("closed for another connection at the limit ({0}): it had proved nothing")]
    Displaced(&'static str),
    /// The system accepts no connection.
    #[error("no connection can be accepted: {0}")]
    System(io::Error),
    /// The handshake took too long.
    #[error("no handshake within {0:?}")]
    Late(Duration),
    /// The handshake failed.
    #[error("handshake: {0}")]
    Handshake(io::Error),
}

impl Refused {
    /// Its name in metrics.
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

/// Hears of refusals.
pub trait Watch: Send + Sync + 'static {
    /// A connection from `source` was refused.
    fn refused(&self, source: SocketAddr, refused: &Refused);
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it comes from.
    pub address: SocketAddr,
    /// Is it TLS?
    pub tls: bool,
    /// Its certificate; `None` when it showed none.
    pub shown: Option<Shown>,
    line: Arc<Line>,
}

/// What a certificate says.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Whom it names.
    pub principal: Principal,
    /// BLAKE3 of its key.
    pub key: Digest,
    /// Until when it holds.
    pub ends: SystemTime,
}

impl Peer {
    /// Notes that the other end proved who it is without a certificate; without TLS, that it made a call.
    pub fn vouch(&self) {
        self.line.vouch();
    }

    /// Closes the connection, whatever is under way on it.
    pub fn close(&self) {
        self.line.close();
    }

    /// Stops reading from the connection and closes it a little later, so that whoever connects again at once gets less often than this.
    pub fn turn_away(&self) {
        self.line.turn_away();
    }

    /// Keeps `kept` until what is queued on the connection was written, or the connection has ended. What is queued while a client reads slowly
    /// may be written after `kept` was dropped.
    pub fn park(&self, kept: impl Any + Send) {
        self.line.park(Box::new(kept));
    }

    /// True with TLS and no certificate.
    pub fn is_nobody(&self) -> bool {
        self.tls && self.shown.is_none()
    }
}

/// Serves what `listener` accepts, with TLS as `tls` says if it is there; ends with its receiver.
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
        // Answers are small, and none should wait for another one.
        drop(stream.set_nodelay(true));
        let socket = SockRef::from(&stream);
        drop(socket.set_tcp_notsent_lowat(UNSENT));
        // What is lost on the way to an agent is sent again soon, however often: see the client's end.
        drop(socket.set_tcp_thin_linear_timeouts(true));
        let line = Arc::clone(&slot.0);
        let greeted = tokio::select! {
            greeted = greet(stream, &line, self.acceptor.clone(), self.limits.handshake) => greeted,
            // It was told as displaced.
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
                // Without a receiver the server is stopping.
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
    // The handshake verified the certificate, and that it bears a name of this cluster.
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
