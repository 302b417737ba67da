//! Removal of a directory with all its contents, whatever a program left there: any depth, any modes, any names.

use std::{
    ffi::{CStr, CString},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, chmod, fstat, openat, renameat, statat, unlinkat},
    io::Errno,
};

#[cfg(test)]
mod tests;

/// Maximum number of nested directories that are open at once, each with a descriptor and a buffer. Deeper directories
/// are renamed to the top level, and removed from there.
const OPEN: usize = 16;

/// Maximum number of passes over a directory to which entries may be added concurrently. Beyond, it is kept.
const LOOKS: u32 = 8;

/// Removes a directory with all its contents. It follows no link, enters no other file system, and uses a bounded
/// number of descriptors and a bounded stack. An entry that cannot be removed does not prevent the removal of the
/// others.
///
/// # Errors
/// An entry could not be removed: the first such error, with the name of the entry.
pub fn remove_dir(path: &Path) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let name = CString::new(name.as_bytes())?;
    let above = match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let above = openat(CWD, above, flags, Mode::empty())?;
    let top = open(above.as_fd(), &name, None).map_err(|error| told(&name, error))?;
    let mut removal = Removal {
        device: fstat(&top)?.st_dev,
        moved: 0,
        failure: None,
    };
    for _ in 0..LOOKS {
        removal.empty(&top)?;
        match unlinkat(&above, &*name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) if removal.failure.is_none() => {}
            Err(error) => removal.fails(&name, error),
        }
        if let Some(failure) = removal.failure.take() {
            return Err(failure);
        }
    }
    Err(told(&name, Errno::NOTEMPTY))
}

fn told(name: &CStr, error: Errno) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(
        error.kind(),
        format!("{:?} cannot be removed: {error}", name.to_string_lossy()),
    )
}

/// Opens a directory that is not a link; if necessary, first grants its owner read, write and search permission.
fn open(above: BorrowedFd<'_>, name: &CStr, device: Option<u64>) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = openat(above, name, flags, Mode::empty())?;
    let is = fstat(&found)?;
    if device.is_some_and(|device| device != is.st_dev) {
        // It is a mount point.
        return Err(Errno::XDEV);
    }
    let mode = Mode::from_raw_mode(is.st_mode);
    if !mode.contains(Mode::RWXU) {
        // If the mode cannot be set, opening the directory fails below. The mode is set by descriptor, because the name
        // may refer to a link by now.
        let _ = chmod(format!("/proc/self/fd/{}", found.as_raw_fd()), mode | Mode::RWXU);
    }
    openat(
        &found,
        c".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// A directory that is being emptied.
struct Level {
    dir: Dir,
    name: CString,
    looks: u32,
    /// Whether an entry in it could not be removed.
    stays: bool,
}

impl Level {
    fn new(directory: OwnedFd, name: &CStr) -> Result<Level, Errno> {
        Ok(Level {
            dir: Dir::new(directory)?,
            name: name.to_owned(),
            looks: 0,
            stays: false,
        })
    }
}

struct Removal {
    /// The device of the directory that is removed.
    device: u64,
    /// Number of directories that were renamed to the top level.
    moved: u64,
    failure: Option<io::Error>,
}

/// Result for an entry.
enum Entry {
    Gone,
    /// A directory that must be emptied first.
    Full(OwnedFd),
}

impl Removal {
    fn fails(&mut self, name: &CStr, error: Errno) {
        self.failure.get_or_insert_with(|| told(name, error));
    }

    /// Removes the contents of a directory, as far as possible.
    fn empty(&mut self, top: &OwnedFd) -> io::Result<()> {
        let mut done = self.moved;
        let own = openat(
            top,
            c".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        self.descend(top, Level::new(own, c".")?)?;
        // Directories that were too deep, and those that were too deep within them.
        while done < self.moved {
            let name = deeper(done);
            done += 1;
            match self.entry(top.as_fd(), &name, FileType::Directory) {
                Ok(Entry::Gone) => continue,
                Ok(Entry::Full(directory)) => self.descend(top, Level::new(directory, &name)?)?,
                Err(error) => {
                    self.fails(&name, error);
                    continue;
                }
            }
            match unlinkat(top, &*name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => self.fails(&name, error),
            }
        }
        Ok(())
    }

    /// Empties one directory of the top level, or the top level itself.
    fn descend(&mut self, top: &OwnedFd, level: Level) -> io::Result<()> {
        let mut open = vec![level];
        while let Some(mut level) = open.pop() {
            let entry = match level.dir.read() {
                Some(Ok(entry)) => entry,
                Some(Err(error)) => {
                    let name = level.name.clone();
                    self.fails(&name, error);
                    level.stays = true;
                    open.push(level);
                    continue;
                }
                None => {
                    self.leave(level, &mut open)?;
                    continue;
                }
            };
            let name = entry.file_name();
            if name == c"." || name == c".." {
                open.push(level);
                continue;
            }
            let entry = self.entry(level.dir.fd()?, name, entry.file_type());
            let below = match entry {
                Ok(Entry::Gone) => None,
                Ok(Entry::Full(_)) if open.len() + 1 >= OPEN => match self.move_up(level.dir.fd()?, name, top) {
                    Ok(()) => None,
                    Err(error) => {
                        self.fails(name, error);
                        level.stays = true;
                        None
                    }
                },
                Ok(Entry::Full(directory)) => Some(Level::new(directory, name)?),
                Err(error) => {
                    self.fails(name, error);
                    level.stays = true;
                    None
                }
            };
            open.push(level);
            open.extend(below);
        }
        Ok(())
    }

    /// Removes a directory that was read completely from its parent; the first level has no parent here.
    fn leave(&mut self, mut level: Level, open: &mut Vec<Level>) -> io::Result<()> {
        let Some(above) = open.last_mut() else {
            return Ok(());
        };
        match unlinkat(above.dir.fd()?, &*level.name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) if !level.stays && level.looks < LOOKS => {
                level.looks += 1;
                level.dir.rewind();
                open.push(level);
            }
            Err(error) => {
                above.stays = true;
                self.fails(&level.name, error);
            }
        }
        Ok(())
    }

    /// Removes an entry that is not a directory, or an empty directory.
    fn entry(&self, above: BorrowedFd<'_>, name: &CStr, kind: FileType) -> Result<Entry, Errno> {
        let gone = |removed: Result<(), Errno>| match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(Entry::Gone),
            Err(error) => Err(error),
        };
        let kind = match kind {
            FileType::Unknown => match statat(above, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) => FileType::from_raw_mode(found.st_mode),
                Err(error) => return gone(Err(error)),
            },
            kind => kind,
        };
        if kind != FileType::Directory {
            return gone(unlinkat(above, name, AtFlags::empty()));
        }
        match gone(unlinkat(above, name, AtFlags::REMOVEDIR)) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            removed => return removed,
        }
        match open(above, name, Some(self.device)) {
            Ok(directory) => Ok(Entry::Full(directory)),
            Err(error) => gone(Err(error)),
        }
    }

    /// Renames a directory to the top level, under an unused name.
    fn move_up(&mut self, above: BorrowedFd<'_>, name: &CStr, top: &OwnedFd) -> Result<(), Errno> {
        loop {
            let to = deeper(self.moved);
            self.moved += 1;
            match renameat(above, name, top, &*to) {
                // A leftover of an earlier removal has this name; it is removed in its turn.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                moved => return moved,
            }
        }
    }
}

/// Returns the name of a directory that was moved to the top level.
fn deeper(number: u64) -> CString {
    CString::new(format!(".deeper-{number}")).unwrap_or_default()
}
