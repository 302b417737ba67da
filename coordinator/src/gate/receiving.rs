//! A request's body as it arrives: counted, with a time limit, and with no message longer than its rpc accepts.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Code, Status, body::Body};
use wyneos::identity::Rule;
use wyneos_core::limits;

use super::shares::{Received, SESSION};
use crate::status;

/// Time limit for a request to arrive, unless its rpc accepts a stream of them. Longer: slower lines succeed; shorter:
/// incomplete requests are given up earlier. Less than the time limit of a call, so that the caller learns which limit
/// applied.
const COMPLETE: Duration = Duration::from_secs(20);

/// Bytes before a gRPC message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// The reasons for a request that is too long, and for one that takes too long.
pub(super) const REQUEST_SIZE: &str = "REQUEST_SIZE";
pub(super) const REQUEST_TIME: &str = "REQUEST_TIME";

/// Maximum size of a message to an rpc; `None` if the rpc itself refuses longer ones.
fn longest(rpc: &str) -> Option<usize> {
    let service = rpc.split('/').next().unwrap_or_default();
    match service {
        // The core answers and ends the session.
        _ if rpc == SESSION => None,
        "wyneos.v1.EnrollmentService" => Some(limits::JOINING),
        service if service.starts_with("grpc.") => Some(limits::SYMBOL),
        _ => Some(limits::REQUEST),
    }
}

/// Tracks gRPC's messages through the pieces in which their bytes arrive.
#[derive(Debug, Default)]
struct Framing {
    head: [u8; PREFIX],
    /// Bytes of the prefix that arrived.
    headed: usize,
    /// Bytes of the message that are still to arrive.
    left: usize,
    /// Bytes of an unfinished message, its prefix included.
    held: usize,
}

/// A message announces this number of bytes, more than permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TooLong(usize);

impl Framing {
    /// Takes the next piece. Earlier bytes are held until they were read: a reader requests more once it has processed
    /// all complete messages.
    fn take(&mut self, mut piece: &[u8], longest: Option<usize>) -> Result<(), TooLong> {
        while !piece.is_empty() {
            if self.headed < PREFIX {
                let taken = piece.len().min(PREFIX - self.headed);
                self.head[self.headed..self.headed + taken].copy_from_slice(&piece[..taken]);
                (self.headed, self.held) = (self.headed + taken, self.held + taken);
                piece = &piece[taken..];
                if self.headed < PREFIX {
                    return Ok(());
                }
                let [_, length @ ..] = self.head;
                self.left = u32::from_be_bytes(length) as usize;
                if longest.is_some_and(|longest| self.left > longest) {
                    return Err(TooLong(self.left));
                }
            }
            let taken = piece.len().min(self.left);
            (self.left, self.held) = (self.left - taken, self.held + taken);
            piece = &piece[taken..];
            if self.left == 0 {
                (self.headed, self.held) = (0, 0);
            }
        }
        Ok(())
    }
}

/// A request's body, counted by [`Received`] with the maximum number of bytes held at once.
pub(super) struct Receiving {
    /// `None` once it failed: the transport discards further bytes.
    inner: Option<Body>,
    received: Arc<Received>,
    framing: Framing,
    rpc: &'static str,
    longest: Option<usize>,
    /// Bytes that are counted.
    counted: usize,
    /// Time by which it must have arrived; `None` for a stream of requests.
    until: Option<Instant>,
    patience: Option<Pin<Box<Sleep>>>,
}

impl Receiving {
    pub(super) fn new(inner: Body, received: &Arc<Received>, rule: &Rule) -> Receiving {
        let streams = rule.rpc == SESSION || rule.rpc.ends_with("/ServerReflectionInfo");
        Receiving {
            inner: Some(inner),
            received: Arc::clone(received),
            framing: Framing::default(),
            rpc: rule.rpc,
            longest: longest(rule.rpc),
            counted: 0,
            until: (!streams).then(|| Instant::now() + COMPLETE),
            patience: None,
        }
    }

    /// Counts a piece that arrived.
    fn count(&mut self, piece: &[u8]) -> Result<(), Status> {
        let held = self.framing.held + piece.len();
        if held > self.counted {
            self.received.grow(held - self.counted)?;
            self.counted = held;
        }
        let longest = self.longest;
        self.framing.take(piece, longest).map_err(|TooLong(length)| {
            let most = longest.unwrap_or_default();
            let message = format!(
                "the request has {length} bytes, and {} accepts at most {most}; send less at once, and texts within the limits of their fields",
                self.rpc
            );
            status::limited(Code::OutOfRange, REQUEST_SIZE, message)
        })
    }

    /// Fails once the time is over.
    fn check_time(&mut self, context: &mut Context<'_>) -> Result<(), Status> {
        let Some(until) = self.until else { return Ok(()) };
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep_until(until)));
        match patience.as_mut().poll(context) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => {
                let message = format!("the request was not complete within {COMPLETE:?}; repeat it over a faster line");
                Err(status::limited(Code::DeadlineExceeded, REQUEST_TIME, message))
            }
        }
    }
}

impl http_body::Body for Receiving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        let checked = match Pin::new(inner).poll_frame(context) {
            Poll::Pending => match self.check_time(context) {
                Ok(()) => return Poll::Pending,
                Err(status) => Err(status),
            },
            Poll::Ready(Some(Ok(frame))) => match frame.data_ref() {
                Some(piece) => self.count(piece).map(|()| frame),
                None => Ok(frame),
            },
            Poll::Ready(other) => return Poll::Ready(other),
        };
        if checked.is_err() {
            self.inner = None;
        }
        Poll::Ready(Some(checked))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

#[cfg(test)]
mod tests;
