//! The reasons for which the coordinator could not run, or had to stop.

use std::{io, net::SocketAddr, path::PathBuf};

use wyneos_shell::{clock::Behind, config::BadConfig, descriptors, exit, rights::Untrusted, start::Fatal};

use super::serve::STOP;
use crate::{ca::CaError, restore::RestoreError, store::StoreError};

/// The reason for which the coordinator could not run, or had to stop.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    /// A directory or file could not be prepared.
    #[error("{}: cannot {what}", .path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// The operation.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// Other users control the data_dir.
    #[error(transparent)]
    Rights(#[from] Untrusted),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A restore is incomplete.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The CA failed.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The configuration file is invalid.
    #[error(transparent)]
    Config(#[from] BadConfig),
    /// There is no such directory.
    #[error("{} does not exist: set the coordinator's data_dir with --data-dir, or its configuration with --config", .0.display())]
    NoDataDir(PathBuf),
    /// This host's clock is implausible.
    #[error(transparent)]
    Clock(#[from] Behind),
    /// A port could not be opened.
    #[error("{field} = {address}: cannot listen there; is another process using the port?")]
    Listen {
        /// The configuration's field.
        field: &'static str,
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// A server ended unexpectedly.
    #[error("the {0} server failed")]
    Serve(&'static str, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// The limit of open files is too low.
    #[error(transparent)]
    Descriptors(#[from] descriptors::TooFew),
    /// A thread did not end.
    #[error(
        "the {0} thread did not end within {STOP:?}: its unfinished writes may be missing, as after a crash; is the disk of the data_dir stalled?"
    )]
    Stuck(&'static str),
    /// An operation of the operating system failed.
    #[error("cannot {0}")]
    System(&'static str, #[source] io::Error),
}

impl Fatal for BootError {
    fn exit_code(&self) -> u8 {
        match self {
            BootError::Restore(error) => error.exit_code(),
            BootError::Descriptors(_) | BootError::Config(_) => exit::BAD_CONFIG,
            BootError::Rights(error) => error.exit_code(),
            BootError::File { source, .. } => exit::of(source),
            BootError::Ca(error) => error.exit_code(),
            BootError::Store(error) => error.exit_code(),
            _ => exit::FAILED,
        }
    }
}
