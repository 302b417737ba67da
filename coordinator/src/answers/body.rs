//! The body of an answer: messages in pieces, which end with a status.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{Stream, stream as streams};
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::{Flight, Message, PIECE, flight::Next};

/// The frame that ends an answer with a status.
pub(crate) fn ending(status: &Status) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    // Headers that do not fit are omitted; the frame ends the answer in any case.
    let _ = status.add_header(&mut trailers);
    Frame::trailers(trailers)
}

/// The stream that a streaming rpc gives tonic; the messages are passed beside it ([`stream`]).
pub(crate) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

type Messages = Pin<Box<dyn Stream<Item = Result<Message, Status>> + Send>>;

/// Messages that bypass tonic's encoder, which would copy each into a buffer of the stream.
#[derive(Clone)]
struct Handover(Arc<Mutex<Option<Messages>>>);

fn hand_over<T>(mut response: tonic::Response<T>, messages: Messages) -> tonic::Response<T> {
    let handover = Handover(Arc::new(Mutex::new(Some(messages))));
    response.extensions_mut().insert(handover);
    response
}

/// The answer of a streaming rpc: `messages`, each created when there is room for it.
pub(crate) fn stream<T: Send + 'static>(
    messages: impl Stream<Item = Result<Message, Status>> + Send + 'static,
) -> tonic::Response<Answers<T>> {
    let nothing: Answers<T> = Box::pin(streams::empty());
    hand_over(tonic::Response::new(nothing), Box::pin(messages))
}

/// The answer of a unary rpc: `message`.
pub(crate) fn answer<T: Default>(message: Message) -> tonic::Response<T> {
    let message = streams::once(std::future::ready(Ok(message)));
    hand_over(tonic::Response::new(T::default()), Box::pin(message))
}

/// The source of an answer's bytes.
enum Source {
    Messages(Messages),
    /// tonic's encoder.
    Encoded(Body),
    /// Frames after the encoder's last message.
    Last(Frame<Bytes>),
    Done,
}

/// An answer's body.
struct Answer {
    source: Source,
    /// A frame that follows one which is being sent in pieces.
    ahead: Option<Frame<Bytes>>,
    flight: Arc<Flight>,
}

impl Answer {
    fn end(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.source = Source::Done;
        Poll::Ready(Some(Ok(ending(status))))
    }

    /// A frame of the encoder; `None` if it is large: it is then divided into pieces, which can be reclaimed.
    fn encoded(&mut self, frame: Frame<Bytes>, context: &mut Context<'_>) -> Option<Frame<Bytes>> {
        match frame.into_data() {
            Ok(data) if data.len() > PIECE => {
                self.flight.hold(Message::framed(&self.flight.ledger, data));
                self.look_ahead(context);
                None
            }
            Ok(data) => Some(Frame::data(data)),
            Err(other) => Some(other),
        }
    }

    /// Drops an encoder that has nothing more, since it keeps a buffer as large as its largest message.
    fn look_ahead(&mut self, context: &mut Context<'_>) {
        let Source::Encoded(body) = &mut self.source else {
            return;
        };
        if let Poll::Ready(Some(Ok(frame))) = Pin::new(body).poll_frame(context) {
            match frame.is_trailers() {
                true => self.source = Source::Last(frame),
                false => self.ahead = Some(frame),
            }
        }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if matches!(self.source, Source::Done) {
                return Poll::Ready(None);
            }
            match self.flight.next() {
                Next::Part(part) => return Poll::Ready(Some(Ok(Frame::data(part)))),
                Next::Evicted(status) => return self.end(&status),
                Next::Nothing => {}
            }
            if let Some(frame) = self.ahead.take() {
                match self.encoded(frame, context) {
                    Some(frame) => return Poll::Ready(Some(Ok(frame))),
                    None => continue,
                }
            }
            if let Source::Last(_) = &self.source {
                let last = std::mem::replace(&mut self.source, Source::Done);
                let Source::Last(frame) = last else { continue };
                return Poll::Ready(Some(Ok(frame)));
            }
            match &mut self.source {
                Source::Done | Source::Last(_) => return Poll::Ready(None),
                Source::Messages(messages) => match ready!(messages.as_mut().poll_next(context)) {
                    Some(Ok(message)) => self.flight.hold(message),
                    Some(Err(status)) => return self.end(&status),
                    None => return self.end(&Status::ok("")),
                },
                Source::Encoded(body) => match ready!(Pin::new(body).poll_frame(context)) {
                    Some(Ok(frame)) => {
                        if let Some(frame) = self.encoded(frame, context) {
                            return Poll::Ready(Some(Ok(frame)));
                        }
                    }
                    other => return Poll::Ready(other),
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Done => true,
            Source::Encoded(body) => self.ahead.is_none() && body.is_end_stream(),
            Source::Messages(_) | Source::Last(_) => false,
        }
    }
}

/// Replaces tonic's bodies of answers. Calls without a [`Flight`] are unchanged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answering;

/// [`Answering`] around a service.
#[derive(Clone)]
pub(crate) struct Answered<S>(S);

impl<S> Layer<S> for Answering {
    type Service = Answered<S>;

    fn layer(&self, inner: S) -> Answered<S> {
        Answered(inner)
    }
}

impl<S> Service<Request<Body>> for Answered<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let flight = request.extensions().get::<Arc<Flight>>().cloned();
        let call = self.0.call(request);
        Box::pin(async move {
            let response = call.await?;
            let Some(flight) = flight else {
                return Ok(response);
            };
            let (mut parts, body) = response.into_parts();
            let handed = parts.extensions.remove::<Handover>();
            let handed = handed.and_then(|handed| handed.0.lock().unwrap_or_else(PoisonError::into_inner).take());
            let source = match handed {
                Some(messages) => Source::Messages(messages),
                None => Source::Encoded(body),
            };
            let answer = Answer {
                source,
                ahead: None,
                flight,
            };
            Ok(Response::from_parts(parts, Body::new(answer)))
        })
    }
}
