//! Conversion between wire messages and domain types: every message is validated once, here, and every error names its
//! field.

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
    /// Path of the field within the message, such as `hello.labels[3].key`.
    pub field: String,
    /// The error, and what a valid value would be.
    pub reason: String,
}

impl ConvertError {
    /// Creates an error for `field`.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> ConvertError {
        ConvertError {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// Prefixes the path for a message that contains the invalid one in `field`.
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
