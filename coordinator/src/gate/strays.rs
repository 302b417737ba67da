//! Requests that are not calls of gRPC or gRPC-Web, such as a browser's: counted and bounded like calls of
//! unauthenticated callers.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderMap, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use tonic::body::Body;
use tower::Service;
use wyneos_shell::listener::Peer;

use super::{Caller, Gate};
use crate::audit;

/// The answer to a stray request.
const TOLD: &str = "this port accepts only calls of gRPC and gRPC-Web: POST, with a content-type of application/grpc\n";

/// Answers stray requests in front of a service.
#[derive(Clone)]
pub(crate) struct Calls<S> {
    gate: Gate,
    inner: S,
}

impl<S> Calls<S> {
    pub(crate) fn new(gate: Gate, inner: S) -> Calls<S> {
        Calls { gate, inner }
    }
}

fn is_call(method: &Method, headers: &HeaderMap) -> bool {
    let grpc = |value: &http::HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    method == Method::POST && headers.get(CONTENT_TYPE).is_some_and(grpc)
}

impl Gate {
    /// The answer to a request that is no call.
    fn stray(&self, request: &Request<Body>) -> Response<Body> {
        let caller = Caller::new(audit::NOBODY, None, request.extensions().get::<Peer>());
        let mut response = Response::new(Body::empty());
        if self.slow_down(&caller, request).is_err() {
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            return response;
        }
        self.metrics.call_refused("stray");
        self.hold_refusal(&caller, request);
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        response.map(|_| Body::new(TOLD.to_owned()))
    }
}

impl<S> Service<Request<Body>> for Calls<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if is_call(request.method(), request.headers()) {
            return Box::pin(self.inner.call(request));
        }
        let answer = self.gate.stray(&request);
        Box::pin(async move { Ok(answer) })
    }
}
