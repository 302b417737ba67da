//! Answers on their way to clients: what they hold, in bytes and for all clients together.
//!
//! A client that does not read must cost little, however much it asked for. So big answers are made of small pieces which all readers
//! share ([`Message`]); each call has a few of them in the connection's buffers at most ([`Flight`]); and the [`Ledger`] knows the bytes of
//! all of them. When they exceed its budget, whoever holds the oldest ends.

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

/// Bytes of a piece at most: the payload of one HTTP/2 frame, unless both ends agreed on larger ones.
const PIECE: usize = 16 * 1024;

/// Bytes of one call that may wait in the connection's buffers; then nothing more is handed over until some were written. With one piece
/// more, that is what a client that does not read costs beside its share of [`Ledger`]'s budget.
const WINDOW: usize = 32 * 1024;

#[cfg(test)]
mod tests;
