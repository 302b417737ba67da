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
}
