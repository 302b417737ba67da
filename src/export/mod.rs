//! Exported snapshots: a file that anybody can verify, without the coordinator, years later.
//!
//! The bytes `"WYNEOS\x01\n"`, then an [`ExportHeader`](crate::v1::ExportHeader), then a
//! [`ReadSnapshotsResponse`](crate::v1::ReadSnapshotsResponse) a snapshot, oldest first, each message behind its length as a
//! varint. Every bit of the file is covered: what seals do not speak of is
//! compared with what they do, and messages must be encoded in the one form that the writer has.

mod chain;
mod error;
pub(crate) mod frame;
mod reader;
mod writer;

pub use chain::Chain;
pub use error::{ExportError, Place};
pub use reader::{Reader, verify};
pub use writer::Writer;

/// What the file begins with: a name, the format's version, and a line feed that betrays text conversion.
pub const MAGIC: &[u8; 8] = b"WYNEOS\x01\n";

/// Bytes of one message at most; a longer one is an error.
pub const MESSAGE_MAX: u64 = 256 * 1024 * 1024;

#[cfg(test)]
mod tests;
