//! Files that must not be lost half-written, and files that only their owner may read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use wyneos::identity::Credentials;

/// Writes a file so that a crash leaves the old contents or the new ones, never half of them; `mode` is that of the file.
pub fn write_durably(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    // One that a crash left may have another mode.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
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

/// Writes credentials into a folder, as `key.pem` (0600), `cert.pem` and `ca.pem`. The key comes first: a crash leaves at most a key
/// without a certificate, and a renewed certificate is for the key that is there.
pub fn write_credentials(folder: &Path, credentials: &Credentials) -> io::Result<()> {
    let pem = credentials.to_pem();
    write_durably(&folder.join("key.pem"), pem.key.as_bytes(), 0o600)?;
    write_durably(&folder.join("ca.pem"), pem.roots.as_bytes(), 0o644)?;
    write_durably(&folder.join("cert.pem"), pem.chain.as_bytes(), 0o644)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crash_left_decides_nothing() {
        let directory = std::env::temp_dir().join(format!("wyneos-files-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("ca.key");
        // Another file's, and this one's own, half-written and open to all.
        fs::write(directory.join("ca.new"), "x").unwrap();
        fs::write(directory.join("ca.key.new"), "half").unwrap();
        write_durably(&path, b"secret", 0o600).unwrap();
        assert_eq!(read_secret(&path).unwrap(), b"secret");
        write_durably(&path, b"another", 0o600).unwrap();
        assert_eq!(read_secret(&path).unwrap(), b"another");
        fs::remove_dir_all(&directory).unwrap();
    }
}
