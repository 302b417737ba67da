//! Who this agent is: the node's id and the incarnation, from its disk.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use wyneos_core::{id::NodeId, integrity::Digest};
use wyneos_shell::files;

use crate::incarnation::{self, Failure};

/// Why the identity cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// A file failed.
    #[error("{}: cannot {what}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What came of it.
        source: io::Error,
    },
    /// Another agent uses the directory.
    #[error("{}: in use by another agent; stop that one, or give this one another data_dir", .0.display())]
    Locked(PathBuf),
    /// A file holds something else than it should.
    #[error("{}: {reason}", .path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: &'static str,
    },
}

/// Who this agent is. The directory is locked as long as this lives.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) id: NodeId,
    pub(crate) incarnation: u64,
    _lock: File,
}

fn failed(path: &Path, what: &'static str) -> impl Fn(io::Error) -> IdentityError {
    move |source| IdentityError::File {
        path: path.to_owned(),
        what,
        source,
    }
}

fn read(path: &Path) -> Result<Option<String>, IdentityError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, "read it")(error)),
    }
}

/// The node's id, kept in `directory`, which exists; made when it is asked for first.
pub(crate) fn node_id(directory: &Path) -> Result<NodeId, IdentityError> {
    let path = directory.join("node-id");
    match read(&path)? {
        Some(text) => text.parse().map_err(|_| IdentityError::Damaged {
            path,
            reason: "not a UUID; restore it, or remove it to join as a new node",
        }),
        None => {
            let id = wyneos_core::id::Uuid(*uuid::Uuid::new_v4().as_bytes());
            files::write_durably(&path, format!("{id}\n").as_bytes(), 0o600).map_err(failed(&path, "write it"))?;
            Ok(id)
        }
    }
}

impl Identity {
    /// The identity kept in `directory`; made at the first start. Counts one start more.
    pub(crate) fn start(directory: &Path) -> Result<Identity, IdentityError> {
        files::make_dir(directory, 0o711).map_err(failed(directory, "make the data_dir"))?;
        let lock_path = directory.join("lock");
        let lock = files::open(&lock_path, 0o600).map_err(failed(&lock_path, "open it"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| IdentityError::Locked(directory.to_owned()))?;
        let id = node_id(directory)?;
        let path = directory.join("incarnation");
        let incarnation = incarnation::next(&path).map_err(|failure| match failure {
            Failure::Damaged => IdentityError::Damaged {
                path: path.clone(),
                reason: "holds no number; write one that is larger than the coordinator knows (`wynectl node` shows it) into it",
            },
            Failure::Read(error) => failed(&path, "read it")(error),
            Failure::Write(error) => failed(&path, "write it")(error),
        })?;
        Ok(Identity {
            id,
            incarnation,
            _lock: lock,
        })
    }
}

/// BLAKE3 of this process's binary.
pub(crate) fn binary_digest() -> io::Result<Digest> {
    let mut file = File::open("/proc/self/exe")?;
    let mut hasher = blake3::Hasher::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hasher.finalize().into()),
            read => drop(hasher.update(&chunk[..read])),
        }
    }
}
