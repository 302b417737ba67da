//! Files that must be written atomically, and files that only their owner may read.

use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, Read, Write},
    iter,
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    process::{geteuid, umask},
};
use wyneos::identity::Credentials;

use crate::{removal::remove_dir, rights::fault};

/// Maximum bytes of a text written by an operator (a configuration or a declaration), a key or certificates. Larger
/// files are rejected.
pub const TEXT: u64 = 1024 * 1024;

/// Maximum number of temporary names that are tried next to a file.
const BESIDE: u32 = 16;

/// Flags with which opening never blocks, as it could for a pipe, and never acquires a controlling terminal.
const UNWAITED: i32 = OFlags::NONBLOCK.union(OFlags::NOCTTY).bits() as i32;

/// Sets the umask of this process, replacing the inherited one. Programs of the cluster set 077 before anything else,
/// so that a file created without an explicit mode is accessible to its owner only.
pub fn set_umask(mask: u32) {
    umask(Mode::from_raw_mode(mask));
}

/// Creates a directory with this mode, or sets the mode of an existing one. Missing parent directories are created so
/// that every user may traverse them.
///
/// A directory that belongs to another user, and a shared one (sticky, like `/tmp`), keeps its mode.
pub fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    match make_dir_in(path, mode) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match path.parent().filter(|above| !above.as_os_str().is_empty()) {
                Some(above) if !above.exists() => make_dir(above, 0o711)?,
                _ => return Err(error),
            }
            make_dir(path, mode)
        }
        made => made,
    }
}

/// Creates a directory with this mode in an existing one; an existing directory gets the mode, as in [`make_dir`].
///
/// # Errors
/// Among others, the parent directory does not exist.
pub fn make_dir_in(path: &Path, mode: u32) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match path.is_dir() {
            true => mend_mode(path, mode),
            false => Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!(
                    "{} is there, and is no directory: a file, or a link that leads nowhere; move it away",
                    path.display()
                ),
            )),
        },
        Err(error) => Err(error),
    }
}

/// Sets the mode of an existing file or directory, unless it already has that mode. Symbolic links and shared (sticky)
/// directories are left unchanged. Missing permission and a read-only file system are logged, and the mode is kept.
pub fn mend_mode(path: &Path, mode: u32) -> io::Result<()> {
    let there = fs::symlink_metadata(path)?;
    let everybodys = there.is_dir() && there.mode() & 0o1000 != 0;
    if there.is_symlink() || everybodys || there.mode() & 0o7777 == mode {
        return Ok(());
    }
    match fs::set_permissions(path, Permissions::from_mode(mode)) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            let has = format!("{:04o}", there.mode() & 0o7777);
            tracing::warn!(path = %path.display(), mode = has, %error, "cannot set the mode of this file, which is left as it is: it belongs to another user, or its disk takes no writes");
            Ok(())
        }
        other => other,
    }
}

/// Corrects the modes of files that earlier versions left in a directory. `mode_of` returns the intended mode for a
/// path relative to the directory and whether it is a directory; `None` leaves the entry unchanged and does not descend
/// into it. Directories of other users are not descended into, and no symbolic link is followed. Failures are logged.
pub fn mend(directory: &Path, mode_of: &dyn Fn(&Path, bool) -> Option<u32>) {
    mend_below(directory, Path::new(""), mode_of);
}

fn is_own(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|there| there.uid() == geteuid().as_raw())
}

fn mend_below(directory: &Path, below: &Path, mode_of: &dyn Fn(&Path, bool) -> Option<u32>) {
    for entry in fs::read_dir(directory.join(below)).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let below = below.join(entry.file_name());
        let Some(mode) = mode_of(&below, kind.is_dir()).filter(|_| !kind.is_symlink()) else {
            continue;
        };
        let path = entry.path();
        match mend_mode(&path, mode) {
            Ok(()) if kind.is_dir() && is_own(&path) => mend_below(directory, &below, mode_of),
            // It may have been removed in the meantime.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "cannot set the mode of this file");
            }
            _ => {}
        }
    }
}

/// Sets the mode of a file.
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Opens a file for writing and creates it if it does not exist; in both cases it gets this mode. Existing contents are
/// kept.
pub fn open(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .create(true)
        .truncate(false)
        .write(true)
        .mode(mode)
        .custom_flags(UNWAITED);
    // A dangling link is rejected, so that nothing is created at its target.
    leads_somewhere(path)?;
    let file = options.open(path).map_err(|error| of_kind(path, error))?;
    is_regular(&file)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}

/// Opens a file for locking (flock(2)) and creates it with this mode if it does not exist. On a read-only file system
/// an existing file is opened for reading, which suffices for a lock.
///
/// # Errors
/// The file cannot be opened or created.
pub fn open_lock(path: &Path, mode: u32) -> io::Result<File> {
    open(path, mode).or_else(|error| match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => open_regular(path).map_err(|_| error),
        _ => Err(error),
    })
}

/// Opens a file for writing and creates it if it does not exist; in both cases it gets this mode. Existing contents are
/// removed.
pub fn create(path: &Path, mode: u32) -> io::Result<File> {
    let file = open(path, mode)?;
    file.set_len(0)?;
    Ok(file)
}

/// Writes a file atomically and durably: after a crash it has either the old or the new contents. `mode` is the mode of
/// the file.
pub fn write_durably(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let (beside, file) = write_beside(path, contents, mode)?;
    take_its_name(&beside, path, || file.sync_all())?;
    sync_directory(path)
}

/// Writes a file atomically: readers see either the old or the new contents. It survives a crash of the host only after
/// [`sync`].
pub fn write_whole(path: &Path, contents: &[u8], mode: u32) -> io::Result<File> {
    let (beside, file) = write_beside(path, contents, mode)?;
    take_its_name(&beside, path, || Ok(()))?;
    Ok(file)
}

/// Renames a temporary file to its final name once `ready` succeeds; removes it if either fails.
fn take_its_name(beside: &Path, path: &Path, ready: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let renamed = ready().and_then(|()| fs::rename(beside, path));
    renamed.inspect_err(|_| drop(fs::remove_file(beside)))
}

/// Removes an obstacle to a file that can be regenerated: a directory or special file at the file's path, or at the
/// path of its temporary file.
///
/// # Errors
/// The obstacle cannot be removed.
pub fn make_way(path: &Path) -> io::Result<()> {
    for path in [path.to_owned(), beside(path)] {
        match fs::symlink_metadata(&path) {
            Ok(there) if there.is_dir() => remove_dir(&path)?,
            // A pipe, a socket or a device.
            Ok(there) if !there.is_file() && !there.is_symlink() => fs::remove_file(&path)?,
            _ => {}
        }
    }
    Ok(())
}

/// Returns the temporary path to which a file is written first.
fn beside(path: &Path) -> PathBuf {
    with(path, ".new")
}

fn with(path: &Path, end: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(end);
    path.with_file_name(name)
}

/// Returns a temporary path at which a file can be written first. A directory with that name does not belong to this
/// program: it is kept, and another name is used.
fn free_beside(path: &Path) -> PathBuf {
    let first = beside(path);
    let mut all = iter::once(first.clone()).chain((1..BESIDE).map(|number| with(path, &format!(".new.{number}"))));
    let is_free = |path: &PathBuf| !fs::symlink_metadata(path).is_ok_and(|there| there.is_dir());
    all.find(is_free).unwrap_or(first)
}

/// Flushes a file that was written whole, and its directory entry, to the disk.
pub fn sync(path: &Path, file: &File) -> io::Result<()> {
    file.sync_all()?;
    sync_directory(path)
}

/// Flushes the directory of `path` to the disk, and with it the directory entry of `path`.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(here) if here.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn write_beside(path: &Path, contents: &[u8], mode: u32) -> io::Result<(PathBuf, File)> {
    let beside = free_beside(path);
    // A temporary file left by a crash may have another mode.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let what = format!("cannot remove {}, where it is written first: {error}", beside.display());
            return Err(io::Error::new(error.kind(), what));
        }
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)?;
    // Sets the mode exactly, regardless of the umask.
    file.set_permissions(Permissions::from_mode(mode))?;
    let written = file.write_all(contents);
    if written.is_err() {
        // On a full disk the partial file would occupy space that the next write needs.
        drop(fs::remove_file(&beside));
    }
    written.map(|()| (beside, file))
}

/// Writes credentials to a directory, as `key.pem` (0600), `cert.pem` and `ca.pem`. The key is written first: a crash
/// leaves at most a key without a certificate, and a renewed certificate belongs to the existing key.
pub fn write_credentials(folder: &Path, credentials: &Credentials) -> io::Result<()> {
    let pem = credentials.to_pem();
    write_durably(&folder.join("key.pem"), pem.key.as_bytes(), 0o600)?;
    write_durably(&folder.join("ca.pem"), pem.roots.as_bytes(), 0o644)?;
    write_durably(&folder.join("cert.pem"), pem.chain.as_bytes(), 0o644)
}

/// Returns whether a file does not exist. A file that cannot be inspected, and a dangling link, count as existing:
/// reading them reports the error, and nothing is created in their place.
pub fn is_missing(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Reads a file that belongs to this program. The call never blocks on a special file, and reads at most `most` bytes.
///
/// # Errors
/// The file cannot be opened, is not a regular file, or is larger; or it belongs to a user other than root and that of
/// this process, or others may write it.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    is_own_file(&file)?;
    bounded(&file, file.metadata()?.len(), most)
}

/// Reads a text file like [`read`].
///
/// # Errors
/// Same as [`read`], or the contents are not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    text(read(path, most)?)
}

/// Reads a file named by an operator like [`read`], whoever owns it.
///
/// # Errors
/// The file cannot be opened, is not a regular file, or is larger.
pub fn read_regular(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    bounded(&file, file.metadata()?.len(), most)
}

/// Reads a text file like [`read_regular`].
///
/// # Errors
/// Same as [`read_regular`], or the contents are not UTF-8.
pub fn read_regular_text(path: &Path, most: u64) -> io::Result<String> {
    text(read_regular(path, most)?)
}

/// Rejects what exists at the path of a file of this program and cannot be that file: anything but a regular file, a
/// dangling link, and a file that belongs to another user or that others may write.
///
/// # Errors
/// The path is one of these, or cannot be inspected. A missing file is not an error.
pub fn check_own(path: &Path) -> io::Result<()> {
    leads_somewhere(path)?;
    match fs::metadata(path) {
        Ok(found) => is_regular_kind(&found).and_then(|()| fault(&found).map_or(Ok(()), |fault| Err(refused(fault)))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn refused(fault: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, fault)
}

fn is_own_file(file: &File) -> io::Result<()> {
    fault(&file.metadata()?).map_or(Ok(()), |fault| Err(refused(fault)))
}

/// Reads a text named by a user. It may come from a pipe, on which the call blocks; at most `most` bytes are read.
///
/// # Errors
/// The file cannot be opened, is larger, or is not UTF-8.
pub fn read_named_text(path: &Path, most: u64) -> io::Result<String> {
    let file = File::open(path)?;
    let length = file
        .metadata()
        .map(|there| if there.is_file() { there.len() } else { 0 });
    text(bounded(&file, length?, most)?)
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        io::Error::new(io::ErrorKind::InvalidData, format!("line {line}: it is no UTF-8"))
    })
}

fn bounded(file: &File, length: u64, most: u64) -> io::Result<Vec<u8>> {
    let larger = || io::Error::new(io::ErrorKind::InvalidData, format!("it is larger than {most} bytes"));
    if length > most {
        return Err(larger());
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(larger()),
        false => Ok(bytes),
    }
}

fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(UNWAITED).open(path);
    let file = file.map_err(|error| of_kind(path, error))?;
    is_regular(&file)?;
    Ok(file)
}

fn is_regular(file: &File) -> io::Result<()> {
    is_regular_kind(&file.metadata()?)
}

fn is_regular_kind(found: &Metadata) -> io::Result<()> {
    let kind = found.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a named pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    let told = format!("it is {what}, no regular file; move it away");
    Err(io::Error::new(io::ErrorKind::InvalidData, told))
}

/// Rejects a dangling link: its target may be on a disk that is currently not mounted, and must not be created anew.
fn leads_somewhere(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::symlink_metadata(path) {
            Ok(_) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is a link that leads nowhere; move it away, or have the file there that it names",
            )),
            Err(_) => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Returns the error of opening a file; if the cause is the kind of the file at the path, an error that describes it.
fn of_kind(path: &Path, error: io::Error) -> io::Error {
    let found = fs::metadata(path).map_or(Ok(()), |found| is_regular_kind(&found));
    leads_somewhere(path).and(found).err().unwrap_or(error)
}

/// Reads a secret of this program; rejects one that users other than its owner may read.
///
/// # Errors
/// Same as [`read`], or others may read the file.
pub fn read_secret(path: &Path) -> io::Result<Vec<u8>> {
    is_own_file(&open_regular(path)?)?;
    read_named_secret(path)
}

/// Reads a secret named by an operator, whoever owns it; rejects one that users other than its owner may read.
///
/// # Errors
/// Same as [`read_regular`], or others may read the file.
pub fn read_named_secret(path: &Path) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    let found = file.metadata()?;
    let mode = found.mode();
    if mode & 0o077 != 0 {
        let text = format!(
            "{} may be read by others (mode {:o}); chmod 600 it",
            path.display(),
            mode & 0o777
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    bounded(&file, found.len(), TEXT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crash_left_decides_nothing() {
        let directory = std::env::temp_dir().join(format!("wyneos-files-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("ca.key");
        // The temporary file of another file, and a partial one of this file, readable by all.
        fs::write(directory.join("ca.new"), "x").unwrap();
        fs::write(directory.join("ca.key.new"), "half").unwrap();
        write_durably(&path, b"secret", 0o600).unwrap();
        assert_eq!(read_secret(&path).unwrap(), b"secret");
        write_durably(&path, b"another", 0o600).unwrap();
        assert_eq!(read_secret(&path).unwrap(), b"another");
        // A temporary file that cannot be renamed is removed.
        let taken = directory.join("taken");
        fs::create_dir(&taken).unwrap();
        write_durably(&taken, b"secret", 0o600).unwrap_err();
        write_whole(&taken, b"secret", 0o600).unwrap_err();
        assert!(!directory.join("taken.new").exists());
        // A directory in place of a file that can be regenerated is removed, but no other directory.
        make_way(&taken).unwrap();
        make_way(&path).unwrap();
        fs::create_dir_all(directory.join("ca.key.new/full")).unwrap();
        write_durably(&path, b"third", 0o600).unwrap();
        assert!(directory.join("ca.key.new/full").is_dir() && !directory.join("ca.key.new.1").exists());
        for number in 1..BESIDE {
            fs::create_dir(directory.join(format!("ca.key.new.{number}"))).unwrap();
        }
        let told = write_durably(&path, b"fourth", 0o600).unwrap_err().to_string();
        assert!(told.contains("ca.key.new"), "{told}");
        make_way(&path).unwrap();
        write_durably(&path, b"third", 0o600).unwrap();
        write_durably(&taken, b"there", 0o600).unwrap();
        assert_eq!(read_secret(&path).unwrap(), b"third");
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn what_is_no_file_or_too_large_is_told_and_not_waited_for() {
        use rustix::fs::{CWD, FileType, mknodat};
        let directory = std::env::temp_dir().join(format!("wyneos-special-{}", std::process::id()));
        fs::create_dir_all(directory.join("directory")).unwrap();
        let at = |name: &str| directory.join(name);
        mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        std::os::unix::fs::symlink(at("fifo"), at("link")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("zero")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        File::create(at("sparse")).unwrap().set_len(3 << 30).unwrap();
        set_mode(&at("sparse"), 0o600).unwrap();
        for name in ["fifo", "link", "zero", "directory"] {
            let told = read(&at(name), 1 << 40).unwrap_err();
            assert!(told.to_string().contains("no regular file"), "{name}: {told}");
            read_secret(&at(name)).unwrap_err();
        }
        for name in ["fifo", "link"] {
            open(&at(name), 0o600).unwrap_err();
            create(&at(name), 0o600).unwrap_err();
            open_lock(&at(name), 0o600).unwrap_err();
        }
        for name in ["fifo", "link", "file"] {
            make_way(&at(name)).unwrap();
        }
        assert!(!at("fifo").exists() && at("link").is_symlink());
        create(&at("fifo"), 0o600).unwrap();
        for told in [
            read(&at("dangling"), 1).unwrap_err(),
            create(&at("dangling"), 0o600).unwrap_err(),
        ] {
            assert!(told.to_string().contains("leads nowhere"), "{told}");
        }
        assert!(!is_missing(&at("dangling")) && !at("nowhere").exists());
        let told = read(&at("sparse"), TEXT).unwrap_err().to_string();
        assert_eq!(told, "it is larger than 1048576 bytes");
        read_secret(&at("sparse")).unwrap_err();
        read_named_text(&at("sparse"), TEXT).unwrap_err();
        read_named_text(&at("zero"), TEXT).unwrap_err();
        for name in ["sparse", "dangling"] {
            let told = make_dir(&at(name), 0o700).unwrap_err().to_string();
            assert!(told.contains("is no directory"), "{told}");
        }
        fs::write(at("file"), [b'x'; 64]).unwrap();
        for (most, is_read) in [(63, false), (64, true), (65, true)] {
            assert_eq!(read(&at("file"), most).is_ok(), is_read);
            assert_eq!(read_named_text(&at("file"), most).is_ok(), is_read);
        }
        fs::write(at("binary"), b"one\ntwo\n\xff\n").unwrap();
        let told = read_named_text(&at("binary"), TEXT).unwrap_err().to_string();
        assert!(told.starts_with("line 3: "), "{told}");
        fs::remove_dir_all(&directory).unwrap();
    }
}
