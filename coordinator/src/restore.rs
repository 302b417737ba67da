//! Restoring: creates a data_dir from a backup, for a coordinator that is not running.
//!
//! The backup is read completely and verified before anything is written. A marker remains in the directory until all
//! of it is durable; while it exists, no coordinator starts from that directory.

use std::{
    fs::{self, File},
    io::{self, BufReader, Seek as _},
    path::{Path, PathBuf},
};

use wyneos::{
    backup::{Contents, Reader, Record, verify},
    export::ExportError,
    v1,
};
use wyneos_core::{id::Epoch, id::EventNo, integrity::PublicKey, store::Restored, time::WallTime};
use wyneos_shell::{clock::is_plausible, exit, files, start::Fatal};

use crate::{
    audit,
    store::{Import, StoreError, taken},
};

/// Marks a directory whose restore was begun and not finished.
const MARKER: &str = "restore-unfinished";

/// The reason for which nothing is restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    /// The backup cannot be trusted.
    #[error("{}: not a complete and unaltered backup", .path.display())]
    Backup {
        /// The file.
        path: PathBuf,
        /// The fault.
        source: ExportError,
    },
    /// The directory is not empty.
    #[error("{}: not empty (it contains {found:?}): restore into a new directory, or move the contents away", .path.display())]
    Occupied {
        /// The directory.
        path: PathBuf,
        /// An entry in it.
        found: String,
    },
    /// An earlier restore did not finish.
    #[error("{}: a restore was begun here and not finished: empty the directory, and restore again", .0.display())]
    Unfinished(PathBuf),
    /// The clock is behind.
    #[error(
        "this host's clock is behind the backup's time: correct it first, because numbers that the lost coordinator assigned are skipped by the time"
    )]
    Clock,
    /// The store cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file cannot be read or written.
    #[error("{}: cannot {what}", .path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// The operation.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
}

impl Fatal for RestoreError {
    fn exit_code(&self) -> u8 {
        match self {
            RestoreError::Store(error) => error.exit_code(),
            RestoreError::File { source, .. } => exit::of(source),
            _ => exit::BAD_CONFIG,
        }
    }
}

fn failed(path: &Path, what: &'static str) -> impl Fn(io::Error) -> RestoreError + use<> {
    let path = path.to_owned();
    move |source| RestoreError::File {
        path: path.clone(),
        what,
        source,
    }
}

/// Refuses a directory whose restore was not finished.
pub(crate) fn check_finished(data_dir: &Path) -> Result<(), RestoreError> {
    match files::is_missing(&data_dir.join(MARKER)) {
        true => Ok(()),
        false => Err(RestoreError::Unfinished(data_dir.to_owned())),
    }
}

/// A backup that is held open, because the restoring user may no longer be able to open it by name.
pub(crate) struct Backup {
    path: PathBuf,
    file: File,
}

impl Backup {
    /// Opens a backup.
    pub(crate) fn open(path: &Path) -> Result<Backup, RestoreError> {
        let file = File::open(path).map_err(failed(path, "open it"))?;
        let path = path.to_owned();
        Ok(Backup { path, file })
    }

    /// Reads it from its beginning.
    fn read(&self) -> Result<BufReader<&File>, RestoreError> {
        let mut file = &self.file;
        file.rewind()
            .map_err(failed(&self.path, "read it from its beginning"))?;
        Ok(BufReader::new(file))
    }
}

/// Creates `data_dir` from `backup`, for the user `caller`, as the directory's owner; returns the contents of the
/// backup.
pub(crate) fn restore(
    backup: &Backup,
    data_dir: &Path,
    trusted: Option<PublicKey>,
    now: WallTime,
    caller: u32,
) -> Result<(Contents, Restored), RestoreError> {
    let bad = |source| RestoreError::Backup {
        path: backup.path.clone(),
        source,
    };
    let contents = verify(backup.read()?, trusted).map_err(bad)?;
    let header = &contents.header;
    let restored = Some(now)
        .filter(|now| is_plausible(*now))
        .and_then(|now| Restored::new(Epoch(header.epoch), EventNo(header.event_sequence), taken(header), now));
    let restored = restored.ok_or(RestoreError::Clock)?;
    prepare(data_dir)?;
    let marker = data_dir.join(MARKER);
    files::write_durably(&marker, b"", 0o600).map_err(failed(&marker, "write it"))?;
    let target = format!(
        "cluster {} as of epoch {}, from {}",
        header.cluster_id,
        header.epoch,
        backup.path.display()
    );
    let noted = audit::Local::begin(data_dir, "wyneos-coordinator restore", &target, caller);
    let noted = noted.map_err(failed(data_dir, "record the intent for the audit in it"))?;

    let mut import = Import::new(data_dir, header, &restored)?;
    let mut secrets = Vec::new();
    let mut entries = audit::import(data_dir)?;
    // Verified again, because the file may have been replaced.
    let mut reader = Reader::new(backup.read()?, trusted).map_err(bad)?;
    for record in reader.by_ref() {
        match record.map_err(bad)? {
            Record::File(name, contents) => secrets.push((name, contents)),
            Record::Audit(entry) => entries.take(*entry)?,
            record => import.take(record)?,
        }
    }
    import.finish()?;
    entries.finish()?;
    for (name, contents) in secrets {
        write_file(data_dir, &name, &contents)?;
    }
    noted
        .end(None)
        .map_err(failed(data_dir, "record the result for the audit in it"))?;
    fs::remove_file(&marker).map_err(failed(&marker, "remove it"))?;
    sync(data_dir)?;
    Ok((contents, restored))
}

/// Creates the directory, or checks that it is empty.
fn prepare(data_dir: &Path) -> Result<(), RestoreError> {
    files::make_dir(data_dir, 0o700).map_err(failed(data_dir, "create the data_dir"))?;
    check_finished(data_dir)?;
    for entry in fs::read_dir(data_dir).map_err(failed(data_dir, "look into it"))? {
        let name = entry.map_err(failed(data_dir, "look into it"))?.file_name();
        // A file system has it at its root.
        if name != "lost+found" {
            let (path, found) = (data_dir.to_owned(), name.to_string_lossy().into_owned());
            return Err(RestoreError::Occupied { path, found });
        }
    }
    Ok(())
}

/// Writes a key or a certificate; its name was verified as the backup was read.
fn write_file(data_dir: &Path, name: &str, contents: &[u8]) -> Result<(), RestoreError> {
    let path = data_dir.join(name);
    let folder = path.parent().unwrap_or(data_dir);
    if folder != data_dir {
        files::make_dir(folder, 0o700).map_err(failed(folder, "make it"))?;
        sync(folder.parent().unwrap_or(data_dir))?;
    }
    let mode = if name.ends_with(".pem") { 0o644 } else { 0o600 };
    files::write_durably(&path, contents, mode).map_err(failed(&path, "write it"))
}

fn sync(folder: &Path) -> Result<(), RestoreError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(failed(folder, "make it durable"))
}

/// The result of a restore, for people.
pub(crate) fn told(contents: &Contents, restored: &Restored, data_dir: &Path) -> String {
    let v1::BackupHeader {
        cluster_id,
        epoch,
        cycle,
        ..
    } = &contents.header;
    format!(
        "restored cluster {cluster_id} as of epoch {epoch}, cycle {cycle} into {}; it continues with epoch {}",
        data_dir.display(),
        restored.epoch.next()
    )
}
