//! Answers in transmission: the memory that they hold, for all clients together.
//!
//! A client that does not read must cost little, regardless of the size of its requests. Large answers therefore
//! consist of small pieces that all readers share ([`Message`]); each call has at most a few of them in the
//! connection's buffers ([`Flight`]); and the [`Ledger`] counts the bytes of all answers. When they exceed its budget,
//! the answers that hold the oldest data end.

mod body;
mod flight;
mod ledger;
mod message;
mod pacing;
mod quota;

pub(crate) use body::{Answering, Answers, answer, ending, stream};
pub(crate) use flight::Flight;
pub(crate) use ledger::{Charge, Ledger};
pub(crate) use message::{Message, Pieces};
pub(crate) use pacing::{OfSession, Pacing};
pub(crate) use quota::{Full, Quota, Taken, Who};

/// Maximum size of a piece, bytes: the payload of one HTTP/2 frame, unless both ends agreed on larger ones.
const PIECE: usize = 16 * 1024;

/// Maximum bytes of one call in the connection's buffers; beyond it nothing more is handed over until some were
/// written. Together with one more piece, this is the cost of a client that does not read, in addition to its share of
/// [`Ledger`]'s budget.
const WINDOW: usize = 32 * 1024;

#[cfg(test)]
mod tests;
