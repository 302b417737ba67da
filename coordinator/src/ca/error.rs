//! The reasons for which the CA cannot be used.

use std::{
    io,
    path::{Path, PathBuf},
};

use wyneos::identity::{BadAuthority, BadRequest, TlsError};
use wyneos_shell::{clock::Behind, exit, rights::Untrusted, start::Fatal as _};

/// The reason for which the CA cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaError {
    /// A file or directory failed.
    #[error("{}: cannot {what}", .path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// The operation.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// Others can read a directory.
    #[error("{}: may be read by others than its owner (mode {mode:03o}); chmod 700 it, and consider who may have read the key", .path.display())]
    Exposed {
        /// The path.
        path: PathBuf,
        /// Permissions of the directory.
        mode: u32,
    },
    /// The state is invalid.
    #[error("{}: {reason}", .path.display())]
    State {
        /// The path.
        path: PathBuf,
        /// The fault.
        reason: String,
    },
    /// A certificate is not usable as a CA.
    #[error("{}: {source}", .path.display())]
    Authority {
        /// Path of the CA.
        path: PathBuf,
        /// The fault.
        source: BadAuthority,
    },
    /// The coordinator's own certificate failed.
    #[error("names: {0}")]
    Names(#[from] BadRequest),
    /// A key could not be generated.
    #[error("cannot generate a key: {0}")]
    Key(String),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The directory for credentials belongs to another user.
    #[error(transparent)]
    Rights(#[from] Untrusted),
    /// This host's clock is implausible.
    #[error("{0}; no certificate is issued with such a clock")]
    Clock(#[from] Behind),
    /// A step that is not possible in the present state.
    #[error("{0}")]
    Step(&'static str),
}

impl CaError {
    /// The exit code of the process for this error.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            // The clock will be corrected at some time, and a restart then helps.
            _ if self.is_about_time() => exit::FAILED,
            CaError::File { source, .. } => exit::of(source),
            CaError::Rights(error) => error.exit_code(),
            _ => exit::BAD_CONFIG,
        }
    }

    /// Returns whether the error ends when this host's clock is corrected.
    pub(crate) fn is_about_time(&self) -> bool {
        let outdated = |source: &BadAuthority| matches!(source, BadAuthority::Outdated(..));
        match self {
            CaError::Clock(_) => true,
            CaError::Authority { source, .. } => outdated(source),
            _ => false,
        }
    }
}

/// Builds the error of operation `what` on a file or directory.
pub(super) fn failed(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> CaError {
    let path = path.to_owned();
    move |source| CaError::File { path, what, source }
}
