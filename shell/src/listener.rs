//! Listening: connections with limits and, where there is TLS, with who is at the other end.
//!
//! A handshake costs memory and time before anybody is known, so it has a limit of time, and every source a limit of connections,
//! handshakes included. A connection beyond a limit is closed at once; others do not notice.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use wyneos::identity::{Principal, key_of, validity};
use wyneos_core::integrity::Digest;

/// Connections that stand and wait to be served at most; then no further one is accepted for the time being.
const WAITING: usize = 256;

/// After the system refuses to accept, as it does without free file descriptors.
const BREATHER: Duration = Duration::from_millis(50);

/// What a listener takes on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a handshake may take. Longer: slower hosts get through; half-open ones are held for longer.
    pub handshake: Duration,
    /// Connections at most, handshakes included. Half of them are kept for those who show a certificate.
    pub connections: usize,
    /// Connections of one source at most, handshakes included; an IPv6 source is a network of 64 bits.
    pub of_one_source: usize,
    /// How long a TLS connection may stand whose other end proved nothing, neither by a certificate nor since.
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
    /// It proved who it is since, as by a bearer token.
    vouched: Arc<AtomicBool>,
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
    /// Notes that the other end proved who it is without a certificate.
    pub fn vouch(&self) {
        self.vouched.store(true, Ordering::Relaxed);
    }

    fn is_nobody(&self) -> bool {
        self.tls && self.shown.is_none() && !self.vouched.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    nobodys: usize,
    of: HashMap<IpAddr, usize>,
}

/// Counts a connection until it is dropped.
#[derive(Debug)]
struct Counted {
    counts: Arc<Mutex<Counts>>,
    source: IpAddr,
    nobodys: bool,
}

/// What counts as one source: an IPv4 address, whichever way it is written, or an IPv6 network of 64 bits.
pub fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        address @ IpAddr::V4(_) => address,
    }
}

impl Counted {
    fn new(counts: &Arc<Mutex<Counts>>, address: IpAddr, limits: &Limits) -> Result<Counted, Refused> {
        let source = source(address);
        let mut held = counts.lock().unwrap_or_else(PoisonError::into_inner);
        if held.all >= limits.connections {
            return Err(Refused::Connections(held.all));
        }
        let of_source = held.of.entry(source).or_default();
        if *of_source >= limits.of_one_source {
            return Err(Refused::Source(*of_source));
        }
        *of_source += 1;
        held.all += 1;
        Ok(Counted {
            counts: Arc::clone(counts),
            source,
            nobodys: false,
        })
    }

    /// Counts it as nobody's.
    fn as_nobodys(&mut self, limits: &Limits) -> Result<(), Refused> {
        let mut held = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if held.nobodys >= limits.connections.div_ceil(2) {
            return Err(Refused::Nobodys(held.nobodys));
        }
        held.nobodys += 1;
        self.nobodys = true;
        Ok(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut held = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        held.all -= 1;
        held.nobodys -= usize::from(self.nobodys);
        if let Some(count) = held.of.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                held.of.remove(&self.source);
            }
        }
    }
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that is ready to be served.
#[derive(Debug)]
pub struct Conn {
    stream: Stream,
    peer: Peer,
    /// When it is closed if nobody proved anything by then.
    patience: Option<Pin<Box<Sleep>>>,
    _counted: Counted,
}

impl Conn {
    /// True once it has stood for too long without anybody's proving anything.
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        let Some(patience) = &mut self.patience else {
            return false;
        };
        if patience.as_mut().poll(context).is_pending() {
            return false;
        }
        self.patience = None;
        self.peer.is_nobody()
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
    let acceptor = tls.map(TlsAcceptor::from);
    tokio::spawn(async move {
        let counts = Arc::new(Mutex::new(Counts::default()));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = ready.closed() => return,
            };
            let Ok((stream, address)) = accepted else {
                sleep(BREATHER).await;
                continue;
            };
            let counted = match Counted::new(&counts, address.ip(), &limits) {
                Ok(counted) => counted,
                Err(refused) => {
                    watch.refused(address, &refused);
                    continue;
                }
            };
            // Answers are small, and none should wait for another one.
            drop(stream.set_nodelay(true));
            let (ready, watch, acceptor) = (ready.clone(), Arc::clone(&watch), acceptor.clone());
            tokio::spawn(async move {
                let mut counted = counted;
                let greeted = greet(stream, address, acceptor, limits.handshake).await;
                let admitted = greeted.and_then(|(stream, peer)| {
                    if peer.is_nobody() {
                        counted.as_nobodys(&limits)?;
                    }
                    Ok((stream, peer))
                });
                match admitted {
                    Ok((stream, peer)) => {
                        let patience = peer.is_nobody().then(|| Box::pin(sleep(limits.nobodys)));
                        let conn = Conn {
                            stream,
                            peer,
                            patience,
                            _counted: counted,
                        };
                        // Without a receiver the server is stopping.
                        drop(ready.send(Ok(conn)).await);
                    }
                    Err(refused) => watch.refused(address, &refused),
                }
            });
        }
    });
    ReceiverStream::new(conns)
}

async fn greet(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    patience: Duration,
) -> Result<(Stream, Peer), Refused> {
    let Some(acceptor) = acceptor else {
        let peer = Peer {
            address,
            tls: false,
            shown: None,
            vouched: Arc::default(),
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
        address,
        tls: true,
        shown,
        vouched: Arc::default(),
    };
    Ok((Stream::Tls(Box::new(stream)), peer))
}

impl Connected for Conn {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Conn {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_over(context) {
            let text = "closed: nobody proved who is there";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)));
        }
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, from),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, from),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, from),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, from),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests;
