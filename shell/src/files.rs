//! Files that must not be lost half-written, and files that only their owner may read.

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

/// Bytes of a text that an operator writes, or a key: a configuration, a declaration, certificates. Beyond, it is not read.
pub const TEXT: u64 = 1024 * 1024;

/// Names that are tried for a file before it has its own.
const BESIDE: u32 = 16;

/// Opening never waits, as a pipe would have it, and takes no terminal.
const UNWAITED: i32 = OFlags::NONBLOCK.union(OFlags::NOCTTY).bits() as i32;

/// Sets which permissions files are never made with by this process, whatever it was started with. Programs of the cluster take 077, before
/// anything else: a file that is made without a mode of its own is its owner's alone.
pub fn set_umask(mask: u32) {
    umask(Mode::from_raw_mode(mask));
}

/// Makes a directory of this mode; one that is there gets it. What is missing above it is made so that everybody may pass through.
///
/// A directory of somebody else, and one that is everybody's (sticky, as `/tmp`), keeps its mode.
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

/// Makes a directory of this mode in one that is there; what is there gets the mode, as [`make_dir`] has it.
///
/// # Errors
/// Among others, what is above it is missing.
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

/// Gives what is there this mode, if it has another one and is this user's.
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

/// Mends the modes of what earlier versions left in a directory: `mode_of` says what mode a path below it should have, by that path and whether
/// it is a directory; what it says `None` of is left alone; that, and directories of other users, are not looked into, and no
/// link is followed. What cannot be mended is logged.
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
            // It may have been removed meanwhile.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "cannot set the mode of this file");
            }
            _ => {}
        }
    }
}

/// Sets a file's mode.
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Opens a file for writing, made of this mode; one that is there gets it, and keeps its contents.
pub fn open(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .create(true)
        .truncate(false)
        .write(true)
        .mode(mode)
        .custom_flags(UNWAITED);
    // Nothing is made where such a link leads.
    leads_somewhere(path)?;
    let file = options.open(path).map_err(|error| of_kind(path, error))?;
    is_regular(&file)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}

/// Opens a file in order to lock it (flock(2)), made of this mode. On a disk that takes no writes one that is there is opened for reading, which is
/// enough for a lock.
///
/// # Errors
/// It cannot be opened, or made.
pub fn open_lock(path: &Path, mode: u32) -> io::Result<File> {
    open(path, mode).or_else(|error| match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => open_regular(path).map_err(|_| error),
        _ => Err(error),
    })
}

/// Opens a file for writing, made of this mode; one that is there gets it, and loses its contents.
pub fn create(path: &Path, mode: u32) -> io::Result<File> {
    let file = open(path, mode)?;
    file.set_len(0)?;
    Ok(file)
}

/// Writes a file so that a crash leaves the old contents or the new ones, never half of them; `mode` is that of the file.
pub fn write_durably(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let (beside, file) = write_beside(path, contents, mode)?;
    take_its_name(&beside, path, || file.sync_all())?;
    sync_directory(path)
}

/// Writes a file so that whoever reads it sees the old contents or the new ones; it outlives a crash of the host from [`sync`] on.
pub fn write_whole(path: &Path, contents: &[u8], mode: u32) -> io::Result<File> {
    let (beside, file) = write_beside(path, contents, mode)?;
    take_its_name(&beside, path, || Ok(()))?;
    Ok(file)
}

/// Puts what was written beside a file in that file's place; what cannot be put there is not left behind.
fn take_its_name(beside: &Path, path: &Path, ready: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let renamed = ready().and_then(|()| fs::rename(beside, path));
    renamed.inspect_err(|_| drop(fs::remove_file(beside)))
}

/// Makes way for a file that is made of something else and can be made again: removes what stands in its place, and beside it where it is written
/// first, if that is a directory, or a file of a special kind.
///
/// # Errors
/// It cannot be removed.
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

/// Where a file is written before it has its name.
fn beside(path: &Path) -> PathBuf {
    with(path, ".new")
}

fn with(path: &Path, end: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(end);
    path.with_file_name(name)
}

/// Where a file can be written before it has its name: a directory of that name is somebody's, stays, and is in nobody's way.
fn free_beside(path: &Path) -> PathBuf {
    let first = beside(path);
    let mut all = iter::once(first.clone()).chain((1..BESIDE).map(|number| with(path, &format!(".new.{number}"))));
    let is_free = |path: &PathBuf| !fs::symlink_metadata(path).is_ok_and(|there| there.is_dir());
    all.find(is_free).unwrap_or(first)
}

/// Has a file that was written whole, and its name, on the disk.
pub fn sync(path: &Path, file: &File) -> io::Result<()> {
    file.sync_all()?;
    sync_directory(path)
}

/// Has the names of the files beside `path` on the disk, and its own.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(here) if here.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn write_beside(path: &Path, contents: &[u8], mode: u32) -> io::Result<(PathBuf, File)> {
    let beside = free_beside(path);
    // One that a crash left may have another mode.
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
    // The mode as it is named, not less what the process's umask takes away.
    file.set_permissions(Permissions::from_mode(mode))?;
    let written = file.write_all(contents);
    if written.is_err() {
        // On a full disk the half of it would take the room of what comes next.
        drop(fs::remove_file(&beside));
    }
    written.map(|()| (beside, file))
}

/// Writes credentials into a folder, as `key.pem` (0600), `cert.pem` and `ca.pem`. The key comes first: a crash leaves at most a key
/// without a certificate, and a renewed certificate is for the key that is there.
pub fn write_credentials(folder: &Path, credentials: &Credentials) -> io::Result<()> {
    let pem = credentials.to_pem();
    write_durably(&folder.join("key.pem"), pem.key.as_bytes(), 0o600)?;
    write_durably(&folder.join("ca.pem"), pem.roots.as_bytes(), 0o644)?;
    write_durably(&folder.join("cert.pem"), pem.chain.as_bytes(), 0o644)
}

/// True for a file that is not there. One that cannot be looked at is, and so is a link that leads nowhere: whoever reads it is told why not, and
/// nothing is made in its place.
pub fn is_missing(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Reads a file of the program's own, whatever stands in its place: nothing is waited for, and no more than `most` bytes are taken.
///
/// # Errors
/// It cannot be opened, is no regular file, or is larger; or it belongs to another user than root and this process's, or others may write it.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    is_own_file(&file)?;
    bounded(&file, file.metadata()?.len(), most)
}

/// As [`read`], of a text.
///
/// # Errors
/// As [`read`], or it is no UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    text(read(path, most)?)
}

/// As [`read`], of a file that an operator names, whoever owns it.
///
/// # Errors
/// It cannot be opened, is no regular file, or is larger.
pub fn read_regular(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    bounded(&file, file.metadata()?.len(), most)
}

/// As [`read_regular`], of a text.
///
/// # Errors
/// As [`read_regular`], or it is no UTF-8.
pub fn read_regular_text(path: &Path, most: u64) -> io::Result<String> {
    text(read_regular(path, most)?)
}

/// Refuses what is there in the place of a file of the program's own, and that cannot be one: what is no regular file, a link that leads nowhere, and a
/// file of another user, or that others may write.
///
/// # Errors
/// It is one of these, or cannot be looked at. A file that is not there is no error.
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

/// Reads a text that a user names, which may come from a pipe: that is waited for, and no more than `most` bytes are taken.
///
/// # Errors
/// It cannot be opened, is larger, or is no UTF-8.
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

/// Refuses a link that leads nowhere: what it led to may be on a disk that is not there now, and is not to be made anew.
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

/// An error of opening a file, saying what stands in its place where that is what is wrong.
fn of_kind(path: &Path, error: io::Error) -> io::Error {
    let found = fs::metadata(path).map_or(Ok(()), |found| is_regular_kind(&found));
    leads_somewhere(path).and(found).err().unwrap_or(error)
}

/// Reads a secret of the program's own, refusing one that others than its owner may read.
///
/// # Errors
/// As [`read`], or others may read it.
pub fn read_secret(path: &Path) -> io::Result<Vec<u8>> {
    is_own_file(&open_regular(path)?)?;
    read_named_secret(path)
}

/// Reads a secret that an operator names, whoever owns it, refusing one that others than its owner may read.
///
/// # Errors
/// As [`read_regular`], or others may read it.
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
        // Another file's, and this one's own, half-written and open to all.
        fs::write(directory.join("ca.new"), "x").unwrap();
        fs::write(directory.join("ca.key.new"), "half").unwrap();
        write_durably(&path, b"secret", 0o600).unwrap();
        assert_eq!(read_secret(&path).unwrap(), b"secret");
        write_durably(&path, b"another", 0o600).unwrap();
        assert_eq!(read_secret(&path).unwrap(), b"another");
        // What cannot take its place is not left behind.
        let taken = directory.join("taken");
        fs::create_dir(&taken).unwrap();
        write_durably(&taken, b"secret", 0o600).unwrap_err();
        write_whole(&taken, b"secret", 0o600).unwrap_err();
        assert!(!directory.join("taken.new").exists());
        // A directory in the place of what can be made again is removed, and nothing else is.
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
