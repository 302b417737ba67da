//! Reading what instances write.

use super::AssignmentId;

/// Bytes of one chunk at most.
pub const CHUNK: usize = 48 * 1024;

/// Bytes of the line that is kept of a process's standard error when it ends. Longer: more of what programs end with is whole; it is kept twice for
/// each instance, and sent with each status.
pub const LAST_LINE: usize = 200;

/// Which of its two streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Its standard output.
    #[default]
    Stdout,
    /// Its standard error.
    Stderr,
}

impl Stream {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// A place in a stream: the process, by how many were started before it; the file, as only so much goes into one; the byte in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Processes started before the one that wrote it.
    pub life: u64,
    /// Files filled before, by this process.
    pub part: u64,
    /// Bytes before it in the file.
    pub offset: u64,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// At a place that an earlier chunk ended at.
    Position(Position),
    /// So many bytes before the end of what the newest process wrote, or (`previous`) the one before it.
    Tail {
        /// How many.
        bytes: u64,
        /// The process before.
        previous: bool,
    },
}

/// Asks for what an instance wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Names the question.
    pub number: u64,
    /// The instance.
    pub id: AssignmentId,
    /// Which stream.
    pub stream: Stream,
    /// Where to begin.
    pub from: From,
    /// What a later process wrote is not wanted.
    pub within: bool,
}

/// What it wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// The question.
    pub number: u64,
    /// The bytes; at most [`CHUNK`].
    pub data: Vec<u8>,
    /// Where the next chunk begins.
    pub next: Position,
    /// Nothing more has been written so far.
    pub at_end: bool,
    /// Why there is none, for people; empty when there is.
    pub error: String,
    /// The process before the newest is wanted, and there was none.
    pub none_before: bool,
}
