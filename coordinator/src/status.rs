//! Errors for callers: `google.rpc.Status` with details.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use wyneos::convert::ConvertError;
use wyneos_core::{
    coordinator::{Denial, Refusal},
    registry::NoSuchNode,
    text::{SENTENCE, shortened},
};

use crate::store::StoreError;

/// The domain of every `ErrorInfo.reason`.
const DOMAIN: &str = "wyneos";

/// Time after which a caller at a limit may retry.
const RETRY: Duration = Duration::from_secs(1);

/// Maximum length of a field's path in an error, bytes.
const FIELD: usize = 128;

fn info(reason: &str) -> ErrorDetails {
    ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new())
}

/// The only constructor of a status with details: whatever the caller sent, the trailers stay below the 8 KiB that gRPC
/// clients accept.
fn with(code: Code, message: impl AsRef<str>, details: ErrorDetails) -> Status {
    Status::with_error_details(code, shortened(message.as_ref(), SENTENCE), details)
}

/// The status for an invalid field of the request.
pub(crate) fn bad_field(field: impl Into<String>, reason: impl Into<String>) -> Status {
    let (field, reason): (String, String) = (field.into(), reason.into());
    let (field, reason) = (shortened(&field, FIELD), shortened(&reason, SENTENCE));
    let mut details = info("INVALID_FIELD");
    details.add_bad_request_violation(field.clone(), reason.clone());
    with(Code::InvalidArgument, format!("{field}: {reason}"), details)
}

/// The status for a message that cannot be accepted.
pub(crate) fn convert(error: ConvertError) -> Status {
    bad_field(error.field, error.reason)
}

/// The status for a missing object.
pub(crate) fn not_found(reason: &str, message: impl AsRef<str>) -> Status {
    with(Code::NotFound, message, info(reason))
}

/// The status before the first publication.
pub(crate) fn not_ready() -> Status {
    unavailable(
        "NOT_READY",
        "the coordinator has not published its first snapshot yet; retry shortly",
    )
}

/// The status for a limit that is reached, or a missing part, that may be available later.
pub(crate) fn unavailable(reason: &str, message: impl AsRef<str>) -> Status {
    let mut details = info(reason);
    details.set_retry_info(Some(RETRY));
    with(Code::Unavailable, message, details)
}

/// The status for a limit on callers.
pub(crate) fn exhausted(reason: &str, message: impl AsRef<str>) -> Status {
    let mut details = info(reason);
    details.set_retry_info(Some(RETRY));
    with(Code::ResourceExhausted, message, details)
}

/// The status for a limit on callers that ends after `wait`.
pub(crate) fn exhausted_for(reason: &str, message: impl AsRef<str>, wait: Duration) -> Status {
    let mut details = info(reason);
    details.set_retry_info(Some(wait));
    with(Code::ResourceExhausted, message, details)
}

/// The status for a request beyond a limit that waiting does not change.
pub(crate) fn limited(code: Code, reason: &str, message: impl AsRef<str>) -> Status {
    with(code, message, info(reason))
}

/// The status for events that are no longer retained.
pub(crate) fn events_compacted(from: u64, oldest: u64) -> Status {
    let metadata = HashMap::from([("oldest".to_owned(), oldest.to_string())]);
    let details = ErrorDetails::with_error_info("EVENTS_COMPACTED", DOMAIN, metadata);
    let message =
        format!("not every event from {from} on is retained: all events from {oldest} on are; watch again from there");
    with(Code::OutOfRange, message, details)
}

/// The status for a node name that matches no node, or several.
pub(crate) fn no_such_node(error: &NoSuchNode) -> Status {
    match error {
        NoSuchNode::Unknown(_) => not_found("NODE_UNKNOWN", error.to_string()),
        NoSuchNode::Ambiguous(..) => with(Code::FailedPrecondition, error.to_string(), info("NODE_AMBIGUOUS")),
    }
}

/// The status for something that does not exist here.
pub(crate) fn unimplemented(reason: &str, message: impl AsRef<str>) -> Status {
    with(Code::Unimplemented, message, info(reason))
}

/// The status for a caller without permission.
pub(crate) fn denied(reason: &str, message: impl AsRef<str>) -> Status {
    with(Code::PermissionDenied, message, info(reason))
}

/// The status for an unauthenticated caller.
pub(crate) fn unauthenticated(message: impl AsRef<str>) -> Status {
    with(Code::Unauthenticated, message, info("UNAUTHENTICATED"))
}

/// The status for a missing precondition.
pub(crate) fn precondition(reason: &str, message: impl AsRef<str>) -> Status {
    with(Code::FailedPrecondition, message, info(reason))
}

fn denial(denial: Denial) -> &'static str {
    match denial {
        Denial::Token(_) => "TOKEN_REFUSED",
        Denial::Name => "TOKEN_NAME",
        Denial::Revoked => "NODE_REVOKED",
        Denial::Unknown => "NODE_NOT_JOINED",
        Denial::Key => "NODE_KEY",
        Denial::Taken => "NODE_TAKEN",
    }
}

/// The status for a refused command.
pub(crate) fn refusal(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::Node(error) => no_such_node(error),
        Refusal::Invalid { field, reason } => bad_field(*field, reason.clone()),
        Refusal::NoSession(_) => with(Code::FailedPrecondition, refusal.to_string(), info("NO_SESSION")),
        Refusal::Log(_) => with(Code::Unavailable, refusal.to_string(), info("LOG")),
        Refusal::Revision { .. } => with(Code::Aborted, refusal.to_string(), info("REVISION")),
        Refusal::Deleting(_) => with(Code::Aborted, refusal.to_string(), info("DELETING")),
        Refusal::NotYet { reason, detail } => precondition(reason, detail.clone()),
        Refusal::Unknown { .. } => not_found("UNKNOWN", refusal.to_string()),
        Refusal::Exists { .. } => with(Code::AlreadyExists, refusal.to_string(), info("EXISTS")),
        Refusal::Denied(why) => denied(denial(*why), refusal.to_string()),
        Refusal::Overloaded(limit) if limit.passes => exhausted("OVERLOADED", refusal.to_string()),
        Refusal::Overloaded(_) => limited(Code::ResourceExhausted, "OVERLOADED", refusal.to_string()),
    }
}

/// An error with the name of the operation.
pub(crate) fn within(what: &str, status: &Status) -> Status {
    let message = format!("{what}: {}", status.message());
    with(status.code(), message, status.get_error_details())
}

/// The status for a failure of the store. The cause is logged here; the caller learns only that it failed.
pub(crate) fn store(error: &StoreError) -> Status {
    tracing::error!(%error, source = ?std::error::Error::source(error), "a read from the store failed");
    with(
        Code::Internal,
        "reading the store failed; the coordinator's log has the reason",
        info("STORE"),
    )
}

#[cfg(test)]
mod tests;
