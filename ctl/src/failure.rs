//! Failures: the operation, its object, and the remedy.

use std::{error::Error, io, time::Duration};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use wyneos::{
    client::{self, ConnectError},
    export::{ExportError, Place},
};
use wyneos_core::text::Span;

use crate::{exit::Exit, text};

/// The reason for which a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Standard output is closed, which is not a failure.
    Closed,
    /// Reported on standard error.
    Told {
        /// Exit code.
        exit: Exit,
        /// The operation that failed, and its object.
        message: String,
        /// The remedies, one per line.
        hints: Vec<String>,
    },
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Closed => f.write_str("nobody reads standard output"),
            Failure::Told { message, .. } => f.write_str(message),
        }
    }
}

impl Failure {
    /// A failure without a hint.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure::Told {
            exit,
            message: message.into(),
            hints: Vec::new(),
        }
    }

    /// Adds a remedy.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        if let Failure::Told { hints, .. } = &mut self {
            hints.push(hint.into());
        }
        self
    }

    /// Writing to standard output failed.
    pub(crate) fn output(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::new(Exit::Failed, format!("cannot write to standard output: {error}")),
        }
    }

    /// No connection to `address` could be established.
    pub(crate) fn connect(error: &ConnectError, address: &str) -> Failure {
        match error {
            ConnectError::Address { .. } => Failure::new(Exit::Usage, error.to_string()),
            ConnectError::Unreachable { .. } => {
                let message = format!("{error}: {}", causes(error));
                unreachable(message, address, Lacks::of(error, Lacks::Coordinator))
            }
        }
    }

    /// No answer arrived from `address` in time.
    pub(crate) fn timeout(what: &str, after: Duration, address: &str) -> Failure {
        let after = Span(after);
        let message = format!("{what}: no answer from {address} within {after}");
        unreachable(message, address, Lacks::Coordinator).hint("or allow more time with --timeout")
    }

    /// The failure of `what`, by the server or the connection.
    pub(crate) fn status(what: &str, status: &Status, address: &str) -> Failure {
        if is_transport(status) {
            let message = format!("{what}: the connection to {address} failed: {}", why(status));
            // A server listens at the address: a coordinator with TLS ends a connection without TLS at the first call.
            return unreachable(message, address, Lacks::of(status, Lacks::Tls));
        }
        let exit = match status.code() {
            Code::NotFound => Exit::NotFound,
            _ => Exit::Failed,
        };
        let said = match status.message() {
            "" => status.code().description(),
            message => message,
        };
        let mut failure = Failure::new(exit, format!("{what}: {}", declared(said)));
        for hint in hints(status) {
            failure = failure.hint(hint);
        }
        failure
    }

    /// The coordinator refused the certificate because of its dates.
    pub(crate) fn undated(what: &str, address: &str) -> Failure {
        let why = client::Undated::meaning();
        let message = format!("{what}: the connection to {address} failed: {why}");
        Failure::new(Exit::Unreachable, message)
            .hint("compare this host's clock with the coordinator's; `wynectl context renew` renews a certificate that is still valid")
    }

    /// An export, or the snapshots of a server, cannot be trusted, read or written.
    pub(crate) fn export(what: &str, error: &ExportError) -> Failure {
        match error {
            ExportError::Bad {
                place: Place::Magic,
                reason,
                ..
            } => Failure::new(Exit::Unverified, format!("{what}: verification failed: it is {reason}")),
            ExportError::Bad { place, field, reason } => Failure::new(
                Exit::Unverified,
                format!("{what}: verification failed at {place}, field {field}: {reason}"),
            ),
            ExportError::Io { source, .. } => Failure::new(Exit::Failed, format!("{what}: {error}: {source}")),
        }
    }

    /// Returns whether the requested object does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(
            self,
            Failure::Told {
                exit: Exit::NotFound,
                ..
            }
        )
    }

    /// The remarks on standard error, one element each.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let Failure::Told { message, hints, .. } = self else {
            return Vec::new();
        };
        let hints = hints.iter().map(|hint| format!("  {hint}"));
        [format!("wynectl: {message}")].into_iter().chain(hints).collect()
    }

    /// Reports the failure on standard error and returns the exit code.
    pub(crate) fn tell(&self) -> std::process::ExitCode {
        for remark in self.remarks() {
            text::stderr(&remark);
        }
        match self {
            Failure::Closed => std::process::ExitCode::SUCCESS,
            Failure::Told { exit, .. } => (*exit).into(),
        }
    }
}

/// The most likely cause of a failed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lacks {
    /// Nothing listens there, or it is not a coordinator.
    Coordinator,
    /// The server uses TLS, and this side does not.
    Tls,
    /// This side uses TLS, and the server does not.
    Plain,
    /// The server's certificate is from a CA that the credentials do not know.
    Authority,
    /// The credentials are from a CA that the coordinator does not know, or are no longer valid.
    Welcome,
}

impl Lacks {
    /// The cause according to the sources of `error`; `else_` if they do not mention TLS.
    fn of(error: &(dyn Error + 'static), else_: Lacks) -> Lacks {
        let mut next = Some(error);
        while let Some(cause) = next {
            let io = cause.downcast_ref::<io::Error>();
            if io.is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused) {
                return Lacks::Coordinator;
            }
            // The source of an I/O error is the source of the inner error, which is skipped.
            let within = io
                .and_then(io::Error::get_ref)
                .map(|within| within as &(dyn Error + 'static));
            let tls = [Some(cause), within].into_iter().flatten();
            if let Some(tls) = tls.into_iter().find_map(|error| error.downcast_ref::<rustls::Error>()) {
                return match tls {
                    rustls::Error::InvalidCertificate(
                        rustls::CertificateError::BadSignature | rustls::CertificateError::UnknownIssuer,
                    ) => Lacks::Authority,
                    rustls::Error::InvalidMessage(_) => Lacks::Plain,
                    rustls::Error::AlertReceived(_) => Lacks::Welcome,
                    _ => else_,
                };
            }
            next = within.or_else(|| cause.source());
        }
        else_
    }
}

fn unreachable(message: String, address: &str, lacks: Lacks) -> Failure {
    let failure = Failure::new(Exit::Unreachable, message);
    let running = format!("is a coordinator running at {address}? --address or WYNEOS_ADDRESS selects another one");
    let tls = "does it use TLS, which is the default? Use --credentials, or a context: `wynectl context add`";
    match lacks {
        Lacks::Coordinator => failure.hint(running).hint(tls),
        Lacks::Tls => failure.hint(tls).hint(running),
        Lacks::Plain => failure.hint(format!(
            "the coordinator at {address} does not use TLS: omit --credentials, or use a context without them"
        )),
        Lacks::Authority => failure
            .hint("its certificate is from a CA that these credentials do not know: the cluster's CA was replaced, or it is another cluster")
            .hint(NEW_CREDENTIALS),
        Lacks::Welcome => failure
            .hint("the coordinator does not accept these credentials: they have expired, or are from a CA that was replaced")
            .hint(NEW_CREDENTIALS),
    }
}

/// The remedy for credentials from a CA that was replaced.
const NEW_CREDENTIALS: &str = "get new credentials, because `wynectl context renew` requires valid ones: `wynectl operator create` by an admin, or \
     `wyneos-coordinator admin` on the coordinator's host; then `wynectl context add`";

/// Returns whether the status was created on this side because the connection failed: a server's status has no source.
/// A stream that is cut off at a frame's end appears to have ended without a status, which becomes UNKNOWN; a
/// coordinator never sends that code.
pub(crate) fn is_transport(status: &Status) -> bool {
    status.source().is_some() || status.code() == Code::Unknown
}

fn why(status: &Status) -> String {
    match status.source() {
        Some(_) => causes(status),
        None => status.message().to_owned(),
    }
}

/// The sources of `error`, outermost first.
fn causes(error: &dyn Error) -> String {
    let mut causes: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        // Wrappers repeat the message of the wrapped error.
        if causes.last().is_none_or(|last| !last.contains(&said)) {
            causes.push(said);
        }
        next = cause.source();
    }
    causes.join(": ")
}

/// A field as users declare it, who write declarations rather than requests: `env.A` for `spec.env.A`.
fn declared(field: &str) -> &str {
    field.strip_prefix("spec.").unwrap_or(field)
}

/// Hints from the details of `status` (google.rpc) in addition to its message.
fn hints(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let mut hints = Vec::new();
    if let Some(request) = details.bad_request() {
        // The message contains the only violation already.
        let violations = request.field_violations.iter();
        let told = |field: &str, why: &str| status.message().contains(field) && status.message().contains(why);
        hints.extend(
            violations
                .filter(|violation| !told(&violation.field, &violation.description))
                .map(|violation| format!("{}: {}", declared(&violation.field), violation.description)),
        );
    }
    if let Some(info) = details.error_info() {
        let advice = match info.reason.as_str() {
            "NODE_UNKNOWN" => Some("`wynectl nodes` lists the nodes"),
            "NODE_AMBIGUOUS" => Some("`wynectl nodes` shows the ids; a unique prefix is enough"),
            "SNAPSHOT_NOT_KEPT" => Some("`wynectl snapshot list` lists the retained ones"),
            _ => None,
        };
        hints.extend(advice.map(str::to_owned));
        if let Some(oldest) = info.metadata.get("oldest") {
            hints.push(format!("continue from the oldest retained one with --from {oldest}"));
        }
        hints.push(format!("reason: {}", info.reason));
    }
    if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay) {
        hints.push(format!("retry in {}", Span(delay)));
    }
    hints
}

#[cfg(test)]
mod tests;
