//! Backups: the complete durable state, read as of one moment and sent as fast as the caller reads.

use std::{fs, io, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc, watch},
    time::timeout,
};
use tonic::Status;
use wyneos::{
    backup::Maker,
    convert::timestamp,
    v1::{self, BackupKind},
};
use wyneos_core::{integrity::DigestSigner, time::WallTime};
use wyneos_shell::files;

use crate::{
    audit::Audit,
    gate::Recorded,
    status,
    store::{Failure, Sink, Source, StoreError},
};

/// Number of parts that wait for the caller.
const WAITING: usize = 4;

/// Time limit for a caller that reads nothing: the state being read is retained on the disk for that time, and the
/// store's files grow.
const PATIENCE: Duration = Duration::from_secs(30);

/// Maximum number of reads of the CA, until it is the same before and after.
const READINGS: usize = 8;

/// The sources of backups.
pub(crate) struct Backups {
    pub(crate) source: Source,
    pub(crate) audit: Audit,
    pub(crate) data_dir: PathBuf,
    pub(crate) secret: [u8; 32],
    /// Permits one backup at a time.
    pub(crate) one: Arc<Semaphore>,
    /// Whether the coordinator is stopping, which ends a backup.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// The caller is gone, or does not read.
#[derive(Debug, thiserror::Error)]
#[error("the caller does not read it")]
struct Abandoned;

impl Backups {
    /// Begins a backup, which is on record; the receiver gets its parts, and an error as the last one if it cannot be
    /// finished.
    pub(crate) fn begin(
        self: &Arc<Backups>,
        _: Recorded,
        now: WallTime,
    ) -> Result<mpsc::Receiver<Result<v1::BackupResponse, Status>>, Status> {
        let permit = Arc::clone(&self.one).try_acquire_owned();
        let permit = permit.map_err(|_| status::exhausted("BACKUP", "another backup is in progress"))?;
        let (parts, receiver) = mpsc::channel(WAITING);
        let (backups, runtime) = (Arc::clone(self), Handle::current());
        tokio::task::spawn_blocking(move || {
            let caller = Taker {
                parts: parts.clone(),
                runtime,
                stopping: backups.stopping.clone(),
            };
            let mut writing = Writing {
                maker: Maker::new(DigestSigner::new(&backups.secret)),
                backups: &backups,
                now,
                caller,
            };
            let done = backups.source.read(&mut writing);
            let done = done.and_then(|()| {
                let Writing { maker, caller, .. } = writing;
                caller.send(maker.end()).map_err(|_| abandoned())
            });
            match done {
                Ok(()) => tracing::info!("a backup was created"),
                Err(error) => {
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(source, "a backup was not finished: {error}");
                    // The receiver may be gone.
                    drop(parts.try_send(Err(status::store(&error))));
                }
            }
            drop(permit);
        });
        Ok(receiver)
    }

    /// The keys and their certificates.
    fn files(&self) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut files = vec![(
            "signing.key".to_owned(),
            files::read(&self.data_dir.join("signing.key"), files::TEXT)?,
        )];
        let state = self.data_dir.join("ca/state.toml");
        if !state.try_exists()? {
            return Ok(files);
        }
        // A CA that is created or retired meanwhile changes the state after its directory.
        for _ in 0..READINGS {
            let said = files::read(&state, files::TEXT)?;
            let mut read = vec![("ca/state.toml".to_owned(), said.clone())];
            for folder in fs::read_dir(self.data_dir.join("ca"))? {
                let folder = folder?;
                let number = folder.file_name().to_string_lossy().into_owned();
                if number.parse::<u32>().is_err() {
                    continue;
                }
                for name in ["ca.pem", "ca.key"] {
                    match files::read(&folder.path().join(name), files::TEXT) {
                        Ok(contents) => read.push((format!("ca/{number}/{name}"), contents)),
                        // The directory of a retired CA is removed.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            if files::read(&state, files::TEXT)? == said {
                files.append(&mut read);
                return Ok(files);
            }
        }
        Err(io::Error::other(
            "the CA was changed repeatedly while it was read: retry later",
        ))
    }
}

fn abandoned() -> StoreError {
    StoreError::Io {
        path: PathBuf::from("the backup"),
        what: "send it",
        source: Box::new(Abandoned),
    }
}

/// The receiver of the parts.
struct Taker {
    parts: mpsc::Sender<Result<v1::BackupResponse, Status>>,
    runtime: Handle,
    stopping: watch::Receiver<bool>,
}

impl Taker {
    fn send(&self, part: v1::BackupResponse) -> Result<(), Failure> {
        if *self.stopping.borrow() {
            return Err(Abandoned.into());
        }
        let sent = self.runtime.block_on(timeout(PATIENCE, self.parts.send(Ok(part))));
        Ok(sent.map_err(|_| Abandoned)?.map_err(|_| Abandoned)?)
    }
}

/// A backup in progress.
struct Writing<'a> {
    backups: &'a Backups,
    maker: Maker,
    now: WallTime,
    caller: Taker,
}

impl Writing<'_> {
    fn named(&mut self, kind: BackupKind, name: &str, value: &[u8]) -> Result<(), Failure> {
        let mut parts = self.maker.record(kind, name, value);
        parts.try_for_each(|part| self.caller.send(part))
    }
}

impl Sink for Writing<'_> {
    fn header(&mut self, header: v1::BackupHeader) -> Result<(), Failure> {
        let part = self.maker.header(v1::BackupHeader {
            time: Some(timestamp(self.now)),
            ..header
        });
        self.caller.send(part)
    }

    fn files(&mut self) -> Result<(), Failure> {
        for (name, contents) in self.backups.files()? {
            self.named(BackupKind::File, &name, &contents)?;
        }
        Ok(())
    }

    fn record(&mut self, kind: BackupKind, value: &[u8]) -> Result<(), Failure> {
        self.named(kind, "", value)
    }

    fn audit(&mut self) -> Result<(), Failure> {
        let audit = self.backups.audit.clone();
        audit.copy(|entry| self.named(BackupKind::Audit, "", entry))?;
        Ok(())
    }
}
