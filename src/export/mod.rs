//! Exported snapshots: a file that anybody can verify later without the coordinator.
//!
//! The format is the bytes `"WYNEOS\x01\n"`, an [`ExportHeader`](crate::v1::ExportHeader), and one
//! [`ReadSnapshotsResponse`](crate::v1::ReadSnapshotsResponse) per snapshot, oldest first, each message prefixed by its
//! length as a varint. Every bit of the file is verified: data not covered by seals is compared with data that is, and
//! messages must have the writer's encoding.

mod chain;
mod error;
pub(crate) mod frame;
mod reader;
mod writer;

pub use chain::Chain;
pub use error::{ExportError, Place};
pub use reader::{Reader, verify};
pub use writer::Writer;

/// Beginning of the file: a name, the format version, and a line feed that reveals text conversion.
pub const MAGIC: &[u8; 8] = b"WYNEOS\x01\n";

/// Maximum size of a message, in bytes; a longer one is an error.
pub const MESSAGE_MAX: u64 = 256 * 1024 * 1024;

#[cfg(test)]
mod tests;
