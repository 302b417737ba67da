//! Removal of a directory with all that is in it, whatever a program has left there: any depth, any modes, any names.

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

/// Directories that are open at once, one within the other, each with a descriptor and a buffer. What is deeper is renamed up to the top, and
/// removed from there.
const OPEN: usize = 16;

/// Looks at one directory in which something new may have appeared meanwhile. Beyond, it is left.
const LOOKS: u32 = 8;

/// Removes a directory with all that is in it. No link is followed, and no other file system entered. It takes a bounded number of descriptors and
/// a bounded stack. What is in the way does not keep the rest from being removed.
///
/// # Errors
/// Something could not be removed: the first of those, with its name.
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

/// Opens a directory that is no link, and has its owner able to look into it and to change it.
fn open(above: BorrowedFd<'_>, name: &CStr, device: Option<u64>) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = openat(above, name, flags, Mode::empty())?;
    let is = fstat(&found)?;
    if device.is_some_and(|device| device != is.st_dev) {
        // Something is mounted there.
        return Err(Errno::XDEV);
    }
    let mode = Mode::from_raw_mode(is.st_mode);
    if !mode.contains(Mode::RWXU) {
        // Where it cannot be set, opening it says so. By what is held: the name may be a link by now.
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
    /// Something in it stays.
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
    /// That of the directory that is removed.
    device: u64,
    /// Directories that were renamed up to the top.
    moved: u64,
    failure: Option<io::Error>,
}

/// What became of an entry.
enum Entry {
    Gone,
    /// A directory that is to be emptied first.
    Full(OwnedFd),
}

impl Removal {
    fn fails(&mut self, name: &CStr, error: Errno) {
        self.failure.get_or_insert_with(|| told(name, error));
    }

    /// Removes all that is in a directory, as far as that goes.
    fn empty(&mut self, top: &OwnedFd) -> io::Result<()> {
        let mut done = self.moved;
        let own = openat(
            top,
            c".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        self.descend(top, Level::new(own, c".")?)?;
        // What was too deep, and what was too deep below that.
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

    /// Empties one directory of the top, or the top itself.
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

    /// Removes a directory that was read to its end from the one above it; the first has none here.
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

    /// Removes an entry that is no directory, or an empty one.
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

    /// Renames a directory up to the top, under a name that nothing else has.
    fn move_up(&mut self, above: BorrowedFd<'_>, name: &CStr, top: &OwnedFd) -> Result<(), Errno> {
        loop {
            let to = deeper(self.moved);
            self.moved += 1;
            match renameat(above, name, top, &*to) {
                // What an earlier removal has left has its turn as well.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                moved => return moved,
            }
        }
    }
}

/// The name at the top of what was too deep.
fn deeper(number: u64) -> CString {
    CString::new(format!(".deeper-{number}")).unwrap_or_default()
}
