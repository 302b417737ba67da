//! Time limit for a call until its answer begins.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use ::http::{HeaderMap, Request, Response};
use tokio::time::timeout;
use tonic::{Code, body::Body};
use tower::Service;

use crate::status;

/// Time limit for a unary call, or the beginning of a streaming one.
const CALL: Duration = Duration::from_secs(30);

/// The header with which a caller sets a shorter limit.
const TIMEOUT: &str = "grpc-timeout";

/// Ends calls that exceed their time limit, in front of a service.
#[derive(Clone)]
pub(super) struct Timed<S>(S);

impl<S> Timed<S> {
    pub(super) fn new(inner: S) -> Timed<S> {
        Timed(inner)
    }
}

/// The time limit that a caller sets: up to eight digits and a unit, as in `250m`. An invalid one is ignored.
fn asked(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.len() > 8 {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

impl<S> Service<Request<Body>> for Timed<S>
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
        let time = asked(request.headers()).map_or(CALL, |asked| asked.min(CALL));
        let call = timeout(time, self.0.call(request));
        Box::pin(async move {
            match call.await {
                Ok(answer) => answer,
                Err(_) => {
                    let message = format!("no answer within {time:?}; whether the call was carried out is unknown");
                    Ok(status::limited(Code::DeadlineExceeded, "CALL_TIME", message).into_http())
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_may_give_a_call_less_time() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(TIMEOUT, text.parse().unwrap());
            asked(&headers)
        };
        assert_eq!(of("250m"), Some(Duration::from_millis(250)));
        assert_eq!(of("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for (unit, nanos) in [
            ("n", 1),
            ("u", 1_000),
            ("m", 1_000_000),
            ("S", 1_000_000_000),
            ("M", 60_000_000_000),
        ] {
            assert_eq!(of(&format!("2{unit}")), Some(Duration::from_nanos(2 * nanos)));
        }
        for none in ["", "S", "5", "5x", "123456789S", "-1S", "1\u{e9}"] {
            let Ok(value) = ::http::HeaderValue::from_str(none) else {
                continue;
            };
            let mut headers = HeaderMap::new();
            headers.insert(TIMEOUT, value);
            assert_eq!(asked(&headers), None, "{none:?}");
        }
    }
}
