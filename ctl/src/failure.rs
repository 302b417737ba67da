//! Failures: what failed, for what, and what to do.

use std::{error::Error, io, time::Duration};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use wyneos::{
    client::{self, ConnectError},
    export::{ExportError, Place},
};
use wyneos_core::text::Span;

use crate::{exit::Exit, text};

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nobody reads standard output any more: that is no failure.
    Closed,
    /// To be told on standard error.
    Told {
        /// How wynectl ends.
        exit: Exit,
        /// What failed, for what.
        message: String,
        /// What to do about it; a line each.
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

    /// The same with what to do about it.
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

    /// There is no connection to `address`.
    pub(crate) fn connect(error: &ConnectError, address: &str) -> Failure {
        match error {
            ConnectError::Address { .. } => Failure::new(Exit::Usage, error.to_string()),
            ConnectError::Unreachable { .. } => {
                let message = format!("{error}: {}", causes(error));
                unreachable(message, address, Lacks::of(error, Lacks::Coordinator))
            }
        }
    }

    /// Nothing was heard from `address` in time.
    pub(crate) fn timeout(what: &str, after: Duration, address: &str) -> Failure {
        let after = Span(after);
        let message = format!("{what}: no answer from {address} within {after}");
        unreachable(message, address, Lacks::Coordinator).hint("or allow more time with --timeout")
    }

    /// The server, or the way to it, failed `what`.
    pub(crate) fn status(what: &str, status: &Status, address: &str) -> Failure {
        if is_transport(status) {
            let message = format!("{what}: the connection to {address} failed: {}", why(status));
            // Somebody listens there: without TLS a coordinator that has it ends the connection at the first call.
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
        // Users write declarations, not requests: `env.A` rather than `spec.env.A`.
        let said = said.strip_prefix("spec.").unwrap_or(said);
        let mut failure = Failure::new(exit, format!("{what}: {said}"));
        for hint in hints(status) {
            failure = failure.hint(hint);
        }
        failure
    }

    /// The coordinator refused the certificate for its dates.
    pub(crate) fn undated(what: &str, address: &str) -> Failure {
        let why = client::Undated::meaning();
        let message = format!("{what}: the connection to {address} failed: {why}");
        Failure::new(Exit::Unreachable, message)
            .hint("compare this host's clock with the coordinator's; `wynectl context renew` renews a certificate that still holds")
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

    /// True when what was asked for does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(
            self,
            Failure::Told {
                exit: Exit::NotFound,
                ..
            }
        )
    }

    /// What is told on standard error, a remark each.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let Failure::Told { message, hints, .. } = self else {
            return Vec::new();
        };
        let hints = hints.iter().map(|hint| format!("  {hint}"));
        [format!("wynectl: {message}")].into_iter().chain(hints).collect()
    }

    /// How wynectl ends; says on standard error why.
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

/// What a connection most likely failed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lacks {
    /// Nobody listens there, or it is not a coordinator.
    Coordinator,
    /// It speaks TLS, and this side does not.
    Tls,
    /// This side speaks TLS, and the other does not.
    Plain,
    /// The certificate shown there is of a CA that the credentials do not know.
    Authority,
    /// The credentials are of a CA that the coordinator does not know, or hold no more.
    Welcome,
}

impl Lacks {
    /// What `error` says, by its causes; `else_` where they say nothing of TLS.
    fn of(error: &(dyn Error + 'static), else_: Lacks) -> Lacks {
        let mut next = Some(error);
        while let Some(cause) = next {
            let io = cause.downcast_ref::<io::Error>();
            if io.is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused) {
                return Lacks::Coordinator;
            }
            // The source of an I/O error is that of the error within it, which is passed over.
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
    let running = format!("is a coordinator running at {address}? --address or WYNEOS_ADDRESS names another one");
    let tls = "does it speak TLS, as it does by default? --credentials, or a context: `wynectl context add`";
    match lacks {
        Lacks::Coordinator => failure.hint(running).hint(tls),
        Lacks::Tls => failure.hint(tls).hint(running),
        Lacks::Plain => failure.hint(format!(
            "the coordinator at {address} does not speak TLS: leave --credentials out, or use a context without them"
        )),
        Lacks::Authority => failure
            .hint("its certificate is of a CA that these credentials do not know: the cluster's CA was replaced, or it is another cluster")
            .hint(NEW_CREDENTIALS),
        Lacks::Welcome => failure
            .hint("the coordinator does not accept these credentials: they have expired, or are of a CA that was replaced")
            .hint(NEW_CREDENTIALS),
    }
}

/// The remedy for credentials that a replaced CA has ended.
const NEW_CREDENTIALS: &str = "get new credentials, as `wynectl context renew` needs good ones: `wynectl operator create` by an admin who has them, or \
     `wyneos-coordinator admin` on the coordinator's host; then `wynectl context add`";

/// True when the status was made on this side, because the connection failed: a server's status has no source. A stream
/// that is cut off at a frame's end looks as if it had ended without a status, and that is made into UNKNOWN, which a
/// coordinator never sends.
pub(crate) fn is_transport(status: &Status) -> bool {
    status.source().is_some() || status.code() == Code::Unknown
}

fn why(status: &Status) -> String {
    match status.source() {
        Some(_) => causes(status),
        None => status.message().to_owned(),
    }
}

/// What lies below `error`, outermost first.
fn causes(error: &dyn Error) -> String {
    let mut causes: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        // Wrappers repeat what they wrap.
        if causes.last().is_none_or(|last| !last.contains(&said)) {
            causes.push(said);
        }
        next = cause.source();
    }
    causes.join(": ")
}

/// What the details of `status` (google.rpc) say beyond its message.
fn hints(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let mut hints = Vec::new();
    if let Some(request) = details.bad_request() {
        // The message has the only violation already.
        let violations = request.field_violations.iter();
        let told = |field: &str, why: &str| status.message().contains(field) && status.message().contains(why);
        hints.extend(
            violations
                .filter(|violation| !told(&violation.field, &violation.description))
                .map(|violation| format!("{}: {}", violation.field, violation.description)),
        );
    }
    if let Some(info) = details.error_info() {
        let advice = match info.reason.as_str() {
            "NODE_UNKNOWN" => Some("`wynectl nodes` lists the nodes"),
            "NODE_AMBIGUOUS" => Some("`wynectl nodes` shows the ids; a unique prefix is enough"),
            "SNAPSHOT_NOT_KEPT" => Some("`wynectl snapshot list` lists those that are kept"),
            _ => None,
        };
        hints.extend(advice.map(str::to_owned));
        if let Some(oldest) = info.metadata.get("oldest") {
            hints.push(format!("go on from the oldest that is kept with --from {oldest}"));
        }
        hints.push(format!("reason: {}", info.reason));
    }
    if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay) {
        hints.push(format!("try again in {}", Span(delay)));
    }
    hints
}

#[cfg(test)]
mod tests;
