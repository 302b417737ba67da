//! A connection that is ready to be served.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::{Peer, slots::Slot};

/// Lifetime of a connection from which reading has stopped. Longer: a flooding client reconnects less often; more such
/// connections are open.
const TURNED_AWAY: Duration = Duration::from_secs(2);

/// Bytes that are read from a connection before it yields to others. The budget of tokio counts reads, a few of which
/// can contain thousands of small frames. Larger: large requests are slightly cheaper; agents wait longer behind a
/// client that never pauses.
const TURN: usize = 16 * 1024;

#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that is ready to be served.
#[derive(Debug)]
pub struct Conn {
    stream: Stream,
    pub(super) peer: Peer,
    /// Timer after which the connection is closed unless the peer is authenticated by then.
    patience: Option<Pin<Box<Sleep>>>,
    /// Timer after which a connection that was turned away is closed.
    leaving: Option<Pin<Box<Sleep>>>,
    /// Bytes read since the connection last yielded.
    read: usize,
    _slot: Slot,
}

impl Conn {
    pub(super) fn new(stream: Stream, peer: Peer, slot: Slot, patience: Duration) -> Conn {
        let patience = peer.shown.is_none().then(|| Box::pin(sleep(patience)));
        Conn {
            stream,
            peer,
            patience,
            leaving: None,
            read: 0,
            _slot: slot,
        }
    }

    /// Fails once the connection must be closed: on request, or because the peer was not authenticated in time.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.peer.line.poll_closed(context).is_ready() {
            let text = "closed: the room is needed";
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, text));
        }
        if self.peer.line.is_turned_away() {
            let leaving = self.leaving.get_or_insert_with(|| Box::pin(sleep(TURNED_AWAY)));
            if leaving.as_mut().poll(context).is_ready() {
                let text = "closed: too many calls that were refused or not authenticated";
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, text));
            }
        }
        let Some(patience) = &mut self.patience else {
            return Ok(());
        };
        if patience.as_mut().poll(context).is_pending() {
            return Ok(());
        }
        self.patience = None;
        if self.peer.line.is_vouched() {
            return Ok(());
        }
        let text = "closed: the other end did not authenticate";
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.peer.line.ended();
    }
}

impl Connected for Conn {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Conn {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        if self.leaving.is_some() {
            return Poll::Pending;
        }
        if self.read >= TURN {
            self.read = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = into.filled().len();
        let read = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, into),
        };
        self.read = match read.is_pending() {
            true => 0,
            false => self.read + into.filled().len() - before,
        };
        read
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.check(context)?;
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, from),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, from),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        };
        if flushed.is_ready() {
            self.peer.line.written();
        }
        flushed
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
        self.check(context)?;
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
