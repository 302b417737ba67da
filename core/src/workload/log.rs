//! Reading of instance logs.

use super::AssignmentId;

/// Maximum size of a chunk, in bytes.
pub const CHUNK: usize = 48 * 1024;

/// Maximum length of the retained last line of standard error, in bytes. A larger value truncates fewer lines; the line
/// is stored twice per instance and sent with each status.
pub const LAST_LINE: usize = 200;

/// Output stream of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Name of the stream.
    pub const fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// Position in a stream: the process, the file and the byte offset. Each file has a maximum size, so a process may fill
/// several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Number of processes started before the one that wrote it.
    pub life: u64,
    /// Number of files filled before by this process.
    pub part: u64,
    /// Byte offset in the file.
    pub offset: u64,
}

/// Start position of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The position at which an earlier chunk ended.
    Position(Position),
    /// A number of bytes before the end of the newest process's output, or (`previous`) of the process before it.
    Tail {
        /// The number of bytes.
        bytes: u64,
        /// Whether to read the output of the process before the newest.
        previous: bool,
    },
}

/// A request to read an instance's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Number that identifies the request.
    pub number: u64,
    /// The instance.
    pub id: AssignmentId,
    /// The stream.
    pub stream: Stream,
    /// The start position.
    pub from: From,
    /// Whether to exclude output of later processes.
    pub within: bool,
}

/// A part of an instance's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Number of the request.
    pub number: u64,
    /// The data; at most [`CHUNK`] bytes.
    pub data: Vec<u8>,
    /// Position of the next chunk.
    pub next: Position,
    /// Whether no more output exists yet.
    pub at_end: bool,
    /// Reason for a failed read, human-readable; empty on success.
    pub error: String,
    /// Whether the read failed because there was no process before the newest.
    pub none_before: bool,
}
