//! Errors of an export and their places.

use std::{fmt, io};

/// A place in an exported file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The first 8 bytes.
    Magic,
    /// The header.
    Header,
    /// A record.
    Record {
        /// Number of the record, from 1.
        number: u64,
        /// Cycle of the record; `None` if it could not be decoded that far.
        cycle: Option<u64>,
        /// Cycle of the previous record.
        after: Option<u64>,
    },
    /// After the last record.
    End,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Magic => write!(f, "the beginning"),
            Place::Header => write!(f, "the header"),
            Place::Record {
                number,
                cycle: Some(cycle),
                ..
            } => write!(f, "record {number} (cycle {cycle})"),
            Place::Record {
                number,
                after: Some(after),
                ..
            } => write!(f, "record {number} (behind cycle {after})"),
            Place::Record { number, .. } => write!(f, "record {number}"),
            Place::End => write!(f, "the end"),
        }
    }
}

/// Reason why an export cannot be read, written or trusted.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The content does not match its seal.
    #[error("{place}: {field}: {reason}")]
    Bad {
        /// The place.
        place: Place,
        /// The invalid field of the header, the record or its seal; `length` is a message's length prefix.
        field: &'static str,
        /// The error.
        reason: String,
    },
    /// Reading or writing failed.
    #[error("{place}: reading or writing failed")]
    Io {
        /// The place.
        place: Place,
        /// The cause.
        source: io::Error,
    },
}

impl ExportError {
    pub(crate) fn bad(place: Place, field: &'static str, reason: impl Into<String>) -> ExportError {
        ExportError::Bad {
            place,
            field,
            reason: reason.into(),
        }
    }

    pub(crate) fn io(place: Place) -> impl FnOnce(io::Error) -> ExportError {
        move |source| ExportError::Io { place, source }
    }
}
