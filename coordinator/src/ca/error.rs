//! Why the CA cannot be used.

use std::{
    io,
    path::{Path, PathBuf},
};

use wyneos::identity::{BadAuthority, BadRequest, TlsError};
use wyneos_shell::{clock::Behind, exit, rights::Untrusted, start::Fatal as _};

/// Why the CA cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaError {
    /// A file or folder failed.
    #[error("{}: cannot {what}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What came of it.
        source: io::Error,
    },
    /// A folder can be read by others.
    #[error("{}: may be read by others than its owner (mode {mode:03o}); chmod 700 it, and think about who has read the key", .path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The state makes no sense.
    #[error("{}: {reason}", .path.display())]
    State {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A CA is none.
    #[error("{}: {source}", .path.display())]
    Authority {
        /// Where it is kept.
        path: PathBuf,
        /// What is wrong with it.
        source: BadAuthority,
    },
    /// The coordinator's own certificate.
    #[error("names: {0}")]
    Names(#[from] BadRequest),
    /// A key could not be made.
    #[error("cannot make a key: {0}")]
    Key(String),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The folder for credentials is another user's.
    #[error(transparent)]
    Rights(#[from] Untrusted),
    /// This host's clock cannot be right.
    #[error("{0}; no certificate is issued by such a clock")]
    Clock(#[from] Behind),
    /// A step that does not follow.
    #[error("{0}")]
    Step(&'static str),
}

impl CaError {
    /// How a process ends over it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            // A clock is set sooner or later: starting again helps then.
            _ if self.is_about_time() => exit::FAILED,
            CaError::File { source, .. } => exit::of(source),
            CaError::Rights(error) => error.exit_code(),
            _ => exit::BAD_CONFIG,
        }
    }

    /// True for what is mended as this host's clock is set.
    pub(crate) fn is_about_time(&self) -> bool {
        let outdated = |source: &BadAuthority| matches!(source, BadAuthority::Outdated(..));
        match self {
            CaError::Clock(_) => true,
            CaError::Authority { source, .. } => outdated(source),
            _ => false,
        }
    }
}

/// A file or folder failed, as `what` was tried.
pub(super) fn failed(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> CaError {
    let path = path.to_owned();
    move |source| CaError::File { path, what, source }
}
