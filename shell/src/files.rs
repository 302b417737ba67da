//! Files that must not be lost half-written, and files that only their owner may read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

/// Writes a file so that a crash leaves the old contents or the new ones, never half of them; `mode` is that of the file.
pub fn write_durably(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&beside)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// Reads a secret, refusing one that others than its owner may read.
pub fn read_secret(path: &Path) -> io::Result<Vec<u8>> {
    let mode = fs::metadata(path)?.mode();
    if mode & 0o077 != 0 {
        let text = format!(
            "{} may be read by others (mode {:o}); chmod 600 it",
            path.display(),
            mode & 0o777
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    fs::read(path)
}
