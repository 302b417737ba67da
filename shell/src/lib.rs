//! What both servers share around the core: configuration, logs, the metrics port, signals, files that only the owner
//! may read.

pub mod clock;
pub mod config;
pub mod descriptors;
pub mod files;
pub mod listener;
pub mod log;
pub mod metrics;
pub mod removal;
pub mod rights;
pub mod start;
pub mod stop;

/// Exit codes of both servers.
pub mod exit {
    /// Ended as asked.
    pub const OK: u8 = 0;
    /// Failed while running.
    pub const FAILED: u8 = 1;
    /// The configuration cannot be used; starting again will not help.
    pub const BAD_CONFIG: u8 = 64;

    /// How a server ends over a file or directory: starting again cannot mend what is of another kind than it should be, may not be used, or is not
    /// there; a disk that fails, is full or takes no writes may be mended meanwhile.
    pub fn of(error: &std::io::Error) -> u8 {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::InvalidData
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidFilename
            | ErrorKind::PermissionDenied
            | ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::IsADirectory
            | ErrorKind::NotADirectory
            | ErrorKind::DirectoryNotEmpty
            | ErrorKind::UnexpectedEof => BAD_CONFIG,
            _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => BAD_CONFIG,
            _ => FAILED,
        }
    }
}
