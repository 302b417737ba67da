//! Between the wire and the core: every message is checked once, here, and every error names its field.

mod access;
mod agent;
mod beacon;
mod check;
mod coherence;
mod command;
mod coordinator;
#[cfg(feature = "authority")]
mod enrolment;
mod event;
mod evidence;
mod instance;
mod node;
mod seal;
#[cfg(test)]
mod sizes;
mod standing;
mod telemetry;
#[cfg(test)]
mod tests;
mod time;
mod workload;

use std::fmt;

pub use access::{operator_name, operator_role, shut_out, token_in};
pub use agent::{ask_in, ask_out, coordinate_in, coordinate_out, session_input};
pub use beacon::{BEACON_BYTES, Beacon, beacon_in, beacon_is_proven, beacon_out};
pub use coherence::{sections, snapshot_head};
pub use command::FromAnswer;
#[cfg(feature = "authority")]
pub use enrolment::enrolment_in;
pub use instance::{change_out, quoted};
pub use standing::{confirming, standing_in, standing_out};
pub use telemetry::{channel, forecast, telemetry_row};
pub use time::{duration, duration_in, timestamp, timestamp_in};
pub use workload::{Values, score_out, spec_in, spec_out};

/// A field that cannot be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvertError {
    /// The field, by its path from the message: `hello.labels[3].key`.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub reason: String,
}

impl ConvertError {
    /// `field` is wrong because of `reason`.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> ConvertError {
        ConvertError {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// The same error, seen from a message that has the faulty one in `field`.
    pub fn within(self, field: &str) -> ConvertError {
        let path = if self.field.is_empty() {
            field.to_owned()
        } else {
            format!("{field}.{}", self.field)
        };
        ConvertError {
            field: path,
            reason: self.reason,
        }
    }
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

impl std::error::Error for ConvertError {}
