//! What can be wrong with an export, and where.

use std::{fmt, io};

/// A part of an exported file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The first 8 bytes.
    Magic,
    /// The header.
    Header,
    /// A record.
    Record {
        /// Its place in the file, from 1.
        number: u64,
        /// Its cycle; `None` when it could not be read that far.
        cycle: Option<u64>,
        /// Cycle of the record before it.
        after: Option<u64>,
    },
    /// Behind the last record.
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

/// Why an export cannot be read, written or trusted.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It is not what was sealed.
    #[error("{place}: {field}: {reason}")]
    Bad {
        /// Where.
        place: Place,
        /// The field that is wrong: of the header, the record or its seal; `length` is a message's length prefix.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Reading or writing failed.
    #[error("{place}: reading or writing failed")]
    Io {
        /// Where.
        place: Place,
        /// Why.
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
