//! Errors of certificates outside their validity period: whose certificate, and by which clock. TLS reports this in
//! Unix seconds or not at all.

use std::{
    fmt, io,
    ops::Range,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::SystemTime,
};

use rustls::{AlertDescription, CertificateError, Error};
use rustls_pki_types::UnixTime;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Whether the other end rejected this end's certificate because of its validity period; clones share the state.
#[derive(Clone, Debug, Default)]
pub struct Undated(Arc<AtomicBool>);

impl Undated {
    /// Whether that happened since the last call.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }

    /// Human-readable explanation. A request in progress at the time may only report that the connection was closed.
    pub fn meaning() -> String {
        Dated::Refused.to_string()
    }
}

/// A certificate is outside its validity period by one of two clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dated {
    /// The other end's certificate is not yet valid by this host's clock.
    Early { holds_from: UnixTime, now: UnixTime },
    /// The other end's certificate has expired by this host's clock.
    Late { held_until: UnixTime, now: UnixTime },
    /// The other end rejects this end's certificate.
    Refused,
}

fn unix(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    prost_types::Timestamp { seconds, nanos: 0 }.to_string()
}

impl fmt::Display for Dated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dated::Early { holds_from, now } => write!(
                f,
                "the certificate at the other end is not valid yet: it holds from {}, and this host's clock says {}; one of the two clocks is \
                 wrong",
                unix(*holds_from),
                unix(*now)
            ),
            Dated::Late { held_until, now } => write!(
                f,
                "the certificate at the other end has expired: it held until {}, and this host's clock says {}; it was not renewed, or one of \
                 the two clocks is wrong",
                unix(*held_until),
                unix(*now)
            ),
            Dated::Refused => f.write_str(
                "the other end refused this end's certificate as expired or not valid yet by its own clock: one of the two clocks is wrong, or \
                 the certificate is to be renewed",
            ),
        }
    }
}

impl std::error::Error for Dated {}

impl Dated {
    fn of(error: &Error) -> Option<Dated> {
        match error {
            Error::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before }) => {
                Some(Dated::Early {
                    holds_from: *not_before,
                    now: *time,
                })
            }
            Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) => Some(Dated::Late {
                held_until: *not_after,
                now: *time,
            }),
            Error::AlertReceived(AlertDescription::CertificateExpired) => Some(Dated::Refused),
            _ => None,
        }
    }
}

/// Adds to an error whose certificate is outside its validity period and by which clock, if that is the cause.
pub fn explained(error: io::Error) -> io::Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match tls.and_then(Dated::of) {
        Some(dated) => io::Error::new(error.kind(), dated),
        None => error,
    }
}

/// A stream with such explanations. In TLS 1.3 a client learns only after its handshake that its certificate was
/// rejected.
#[derive(Debug)]
pub(super) struct Explaining<S> {
    inner: S,
    undated: Undated,
}

impl<S> Explaining<S> {
    pub(super) fn new(inner: S, undated: Undated) -> Explaining<S> {
        Explaining { inner, undated }
    }

    fn told<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let error = explained(error);
            let dated = error.get_ref().and_then(|inner| inner.downcast_ref::<Dated>());
            if dated == Some(&Dated::Refused) {
                self.undated.0.store(true, Ordering::Relaxed);
            }
            error
        })
    }
}

impl<S: AsyncRead + Unpin> Explaining<S> {
    /// Handles the result of a write. If it failed, the other end may have sent the reason before it closed the
    /// connection, which nothing else reads any more.
    fn written<T>(&mut self, context: &mut Context<'_>, result: io::Result<T>) -> io::Result<T> {
        let Err(error) = result else { return result };
        let mut unread = [0; 1024];
        let mut unread = ReadBuf::new(&mut unread);
        let error = match Pin::new(&mut self.inner).poll_read(context, &mut unread) {
            Poll::Ready(Err(said)) if is_refusal(&said) => said,
            _ => error,
        };
        self.told(Err(error))
    }
}

fn is_refusal(error: &io::Error) -> bool {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    tls.and_then(Dated::of) == Some(Dated::Refused)
}

impl<S: AsyncRead + Unpin> AsyncRead for Explaining<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = std::task::ready!(Pin::new(&mut self.inner).poll_read(context, into));
        Poll::Ready(self.told(read))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Explaining<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(Pin::new(&mut self.inner).poll_write(context, bytes));
        Poll::Ready(self.written(context, written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = std::task::ready!(Pin::new(&mut self.inner).poll_flush(context));
        Poll::Ready(self.written(context, flushed))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(Pin::new(&mut self.inner).poll_write_vectored(context, bytes));
        Poll::Ready(self.written(context, written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// Formats a time as RFC 3339 in UTC.
pub fn shown(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    unix(UnixTime::since_unix_epoch(since))
}

/// Formats a validity period.
pub fn holds(held: &Range<SystemTime>) -> String {
    format!("from {} until {}", shown(held.start), shown(held.end))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_does_not_hold_is_told_with_both_times() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let told = |error: Error| explained(io::Error::new(io::ErrorKind::InvalidData, error)).to_string();
        let (time, not_before) = (at(0), at(1_800_000_000));
        let early = told(CertificateError::NotValidYetContext { time, not_before }.into());
        assert!(
            early.contains("2027-01-15T08:00:00Z") && early.contains("1970-01-01T00:00:00Z"),
            "{early}"
        );
        let (time, not_after) = (at(1_800_000_000), at(60));
        let late = told(CertificateError::ExpiredContext { time, not_after }.into());
        assert!(
            late.contains("has expired") && late.contains("1970-01-01T00:01:00Z"),
            "{late}"
        );
        let refused = told(Error::AlertReceived(AlertDescription::CertificateExpired));
        assert!(refused.contains("this end's certificate"), "{refused}");
        let other = told(CertificateError::UnknownIssuer.into());
        assert!(other.contains("UnknownIssuer"), "{other}");
    }
}
