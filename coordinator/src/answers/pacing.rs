//! The outermost layer: counts the bytes that are handed to a connection, hands over no more before they were written,
//! and ends answers with a time limit.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Sleep, sleep_until};
use tonic::{Status, body::Body};
use tower::{Layer, Service};
use wyneos_shell::listener::Peer;

use super::{Flight, Ledger, ending};
use crate::{gate::SESSION, status};

/// Gives every call a [`Flight`], and its answer's body a bound.
#[derive(Clone)]
pub(crate) struct Pacing(pub(crate) Arc<Ledger>);

/// The flight of an agent's session, which matters only if the session is refused.
#[derive(Clone)]
pub(crate) struct OfSession(pub(crate) Arc<Flight>);

/// [`Pacing`] around a service.
#[derive(Clone)]
pub(crate) struct Paced<S> {
    ledger: Arc<Ledger>,
    inner: S,
}

impl<S> Layer<S> for Pacing {
    type Service = Paced<S>;

    fn layer(&self, inner: S) -> Paced<S> {
        let ledger = Arc::clone(&self.0);
        Paced { ledger, inner }
    }
}

impl<S> Service<Request<Body>> for Paced<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let session = request.uri().path().strip_prefix('/') == Some(SESSION);
        let flight = self.ledger.open(request.extensions().get::<Peer>().cloned());
        match session {
            true => drop(request.extensions_mut().insert(OfSession(Arc::clone(&flight)))),
            false => drop(request.extensions_mut().insert(Arc::clone(&flight))),
        }
        let call = self.inner.call(request);
        Box::pin(async move {
            let response = call.await?;
            if response.body().is_end_stream() {
                flight.finish();
                return Ok(response);
            }
            Ok(match session {
                // The engine bounds its queue, its messages are small, and it is the one call that must remain cheap.
                true => response,
                false => response.map(|inner| Body::new(PacedBody::new(inner, flight))),
            })
        })
    }
}

/// A body that waits until the bytes handed over were written.
pub(super) struct PacedBody {
    inner: Body,
    flight: Arc<Flight>,
    patience: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl PacedBody {
    pub(super) fn new(inner: Body, flight: Arc<Flight>) -> PacedBody {
        PacedBody {
            inner,
            flight,
            patience: None,
            ended: false,
        }
    }

    /// Returns whether the answer has reached its time limit.
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        let Some(until) = self.flight.until() else { return false };
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep_until(until)));
        patience.as_mut().poll(context).is_ready()
    }
}

impl http_body::Body for PacedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.is_over(context) {
            self.ended = true;
            self.inner = Body::empty();
            if self.flight.stalled().1 > 0 {
                // Unread bytes are released only with their connection.
                self.flight.close();
            }
            let message = "a call without a certificate or a bearer token lasts for at most a minute; repeat it";
            return Poll::Ready(Some(Ok(ending(&status::unavailable("NOBODYS", message)))));
        }
        // Woken by a write, or by an eviction, which also waits for the next write, since the client reads nothing
        // before.
        if !self.flight.has_room(context.waker()) {
            return Poll::Pending;
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if frame
            .as_ref()
            .is_none_or(|frame| frame.as_ref().is_ok_and(Frame::is_trailers))
        {
            self.flight.finish();
        }
        Poll::Ready(frame.map(|frame| {
            frame.map(|frame| {
                frame.map_data(|data| match data.is_empty() {
                    true => data,
                    false => self.flight.hand_over(data),
                })
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
