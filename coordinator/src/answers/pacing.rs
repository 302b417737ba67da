//! The outermost layer: counts what is handed to a connection, and hands over no more before it was written.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};
use tower::{Layer, Service};
use wyneos_shell::listener::Peer;

use super::{Flight, Ledger};

/// An agent's session: its queue is bounded by the engine, its messages are small, and it is the one call that must stay cheap.
const SESSION: &str = "/wyneos.v1.AgentService/Session";

/// Gives every call a [`Flight`], and its answer's body a bound.
#[derive(Clone)]
pub(crate) struct Pacing(pub(crate) Arc<Ledger>);

/// [`Pacing`] before a service.
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
        if request.uri().path() == SESSION {
            return Box::pin(self.inner.call(request));
        }
        let flight = self.ledger.open(request.extensions().get::<Peer>().cloned());
        request.extensions_mut().insert(Arc::clone(&flight));
        let call = self.inner.call(request);
        Box::pin(async move { Ok(call.await?.map(|inner| Body::new(PacedBody { inner, flight }))) })
    }
}

/// A body that waits for what was handed over to be written.
pub(super) struct PacedBody {
    pub(super) inner: Body,
    pub(super) flight: Arc<Flight>,
}

impl http_body::Body for PacedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // Woken by a write; and by an eviction, which waits for the next write all the same: the client reads nothing before.
        if !self.flight.has_room(context.waker()) {
            return Poll::Pending;
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
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
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
