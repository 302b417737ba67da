//! The agent's identity: the node's id and the incarnation, from its disk.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use wyneos_core::{id::NodeId, integrity::Digest};
use wyneos_shell::{
    exit, files,
    rights::{self, Untrusted},
    start::Fatal,
};

use crate::incarnation::{self, Failure};

/// Directory in which starts are counted that the disk does not accept; cleared when the host boots.
const MEMORY: &str = "/run/wyneos-agent";

/// The reason for which the identity is not available.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// A file failed.
    #[error("{}: cannot {what}", .path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// The operation.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// Other users control the directory.
    #[error(transparent)]
    Rights(#[from] Untrusted),
    /// Another agent uses the directory.
    #[error("{}: in use by another agent; stop that one, or give this one another data_dir", .0.display())]
    Locked(PathBuf),
    /// The start cannot be counted.
    #[error(
        "{}: this start cannot be counted, and the number of another start must not be used again: have the disk take writes (mount -o \
         remount,rw) and start the agent again; what runs here goes on meanwhile", .path.display()
    )]
    Uncounted {
        /// The file of the count.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The directory is not the one that was locked.
    #[error("{}: it was moved or replaced while the agent started; start it again", .0.display())]
    Moved(PathBuf),
    /// A file has unexpected contents.
    #[error("{}: {reason}", .path.display())]
    Damaged {
        /// The path.
        path: PathBuf,
        /// The fault and the remedy.
        reason: &'static str,
    },
}

impl Fatal for IdentityError {
    fn exit_code(&self) -> u8 {
        match self {
            IdentityError::Rights(error) => error.exit_code(),
            IdentityError::File { source, .. } => exit::of(source),
            IdentityError::Damaged { .. } => exit::BAD_CONFIG,
            IdentityError::Locked(_) | IdentityError::Uncounted { .. } | IdentityError::Moved(_) => exit::FAILED,
        }
    }
}

/// The agent's identity. The directory is locked as long as this lives.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) id: NodeId,
    /// Whether this start created the id, so that no instance was ever begun under it.
    pub(crate) is_new: bool,
    pub(crate) incarnation: u64,
    lock: File,
}

fn failed(path: &Path, what: &'static str) -> impl Fn(io::Error) -> IdentityError {
    move |source| IdentityError::File {
        path: path.to_owned(),
        what,
        source,
    }
}

/// Maximum size of a file that contains an id, bytes.
const ID: u64 = 4096;

fn read(path: &Path) -> Result<Option<String>, IdentityError> {
    match files::read_text(path, ID) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, "read it")(error)),
    }
}

/// The node's id in `directory`, which exists; created at the first call, and whether that was this one.
pub(crate) fn node_id(directory: &Path) -> Result<(NodeId, bool), IdentityError> {
    let path = directory.join("node-id");
    match read(&path)? {
        Some(text) => match text.parse() {
            Ok(id) => Ok((id, false)),
            Err(_) => Err(IdentityError::Damaged {
                path,
                reason: "not a UUID; restore it, or remove it to join as a new node",
            }),
        },
        None => {
            let id = wyneos_core::id::Uuid(*uuid::Uuid::new_v4().as_bytes());
            files::write_durably(&path, format!("{id}\n").as_bytes(), 0o600).map_err(failed(&path, "write it"))?;
            Ok((id, true))
        }
    }
}

/// Returns whether an agent runs with `directory`.
pub(crate) fn is_in_use(directory: &Path) -> bool {
    let path = directory.join("lock");
    let lock = match files::is_missing(&path) {
        true => return false,
        false => files::open_lock(&path, 0o600),
    };
    lock.is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err())
}

impl Identity {
    /// Loads the identity in `directory`, creates it at the first start, and counts the start.
    pub(crate) fn start(directory: &Path) -> Result<Identity, IdentityError> {
        rights::check(directory)?;
        files::make_dir(directory, 0o711).map_err(failed(directory, "create the data_dir"))?;
        // A user who may write above it may have created it first.
        rights::check(directory)?;
        let lock_path = directory.join("lock");
        let lock = files::open_lock(&lock_path, 0o600).map_err(failed(&lock_path, "open it"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| IdentityError::Locked(directory.to_owned()))?;
        let (id, is_new) = node_id(directory)?;
        let path = directory.join("incarnation");
        let memory = Path::new(MEMORY).join(id.to_string());
        let start = incarnation::next(&path, &memory).map_err(|failure| match failure {
            Failure::Damaged => IdentityError::Damaged {
                path: path.clone(),
                reason: "contains no number; write one into it that is larger than the one the coordinator knows (`wynectl node` shows it)",
            },
            Failure::Read(error) => failed(&path, "read it")(error),
            Failure::Write(source) => IdentityError::Uncounted { path: path.clone(), source },
        })?;
        if let Some(error) = &start.unwritten {
            tracing::error!(
                path = %path.display(), incarnation = start.number, %error,
                "the disk does not accept the count of this agent's starts: running instances continue and can be ended, and nothing new is started"
            );
        }
        Ok(Identity {
            id,
            is_new,
            incarnation: start.number,
            lock,
        })
    }

    /// Makes the directory the working directory, which this process can reach from then on whatever its name.
    pub(crate) fn enter(&self, directory: &Path) -> Result<(), IdentityError> {
        std::env::set_current_dir(directory).map_err(failed(directory, "enter it"))?;
        let found = fs::metadata("lock").and_then(|found| Ok((found, self.lock.metadata()?)));
        match found {
            Ok((found, held)) if (found.dev(), found.ino()) == (held.dev(), held.ino()) => Ok(()),
            _ => Err(IdentityError::Moved(directory.to_owned())),
        }
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
