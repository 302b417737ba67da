//! Functions that both servers share around the core: configuration, logs, the metrics port, signals, and files that
//! only their owner may read.

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
    /// Terminated as requested.
    pub const OK: u8 = 0;
    /// Failed while running.
    pub const FAILED: u8 = 1;
    /// The configuration is invalid; a restart does not help.
    pub const BAD_CONFIG: u8 = 64;

    /// Returns the exit code for an error at a file or directory. A restart cannot help if it has the wrong kind, may
    /// not be accessed or does not exist. A disk that fails, is full or is read-only may be repaired in the meantime.
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
