//! Directories that were found once by their names and are held open from then on. A name may lead elsewhere a moment later: a `data_dir` is moved, and a
//! copy is put in its place. What is held stays what it is.

use std::{
    fmt,
    fs::{self, File, Metadata},
    io::{self, ErrorKind},
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    str::FromStr,
    time::SystemTime,
};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use wyneos_core::workload::AssignmentId;

use super::Home;

#[cfg(test)]
mod tests;

/// A directory by its device and its number there, which it keeps when it is renamed, and which a copy of it does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place(u64, u64);

impl Place {
    /// What is at a path now.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub(crate) fn at(path: &Path) -> io::Result<Place> {
        fs::metadata(path).map(|found| Place::of(&found))
    }

    /// The directory's number on its device.
    pub(crate) fn number(self) -> u64 {
        self.1
    }

    /// What these metadata are of.
    pub(crate) fn of(found: &Metadata) -> Place {
        Place(found.dev(), found.ino())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0, self.1)
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        let parts = || {
            let (device, number) = text.split_once(':')?;
            Some(Place(device.parse().ok()?, number.parse().ok()?))
        };
        parts().ok_or_else(|| format!("{text:?} is not DEVICE:NUMBER"))
    }
}

/// The path by which this process reaches what it holds open, whatever its name. It is short enough for a socket's address.
pub(super) fn by_descriptor(held: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()))
}

/// An instance's directory, held open, with the name that it was opened by.
#[derive(Debug)]
pub(super) struct Held {
    directory: File,
    name: PathBuf,
    place: Place,
    /// When it was made, where its file system says so.
    made: Option<SystemTime>,
}

impl Held {
    /// Opens a directory, and follows no link that has its name: what that leads to has a name of its own.
    ///
    /// # Errors
    /// It cannot be opened, or is no directory; or it is another one than `expected`, as when the one that was meant has been moved.
    pub(super) fn open(name: &Path, expected: Option<Place>) -> io::Result<Held> {
        // What is no directory is not opened: a pipe would be waited for.
        let flags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).bits() as i32;
        let directory = File::options().read(true).custom_flags(flags).open(name);
        let directory = directory.map_err(|error| match error.kind() {
            ErrorKind::NotADirectory => misplaced(name),
            _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => misplaced(name),
            _ => error,
        })?;
        let found = directory.metadata()?;
        let place = Place::of(&found);
        if !found.is_dir() || expected.is_some_and(|expected| expected != place) {
            return Err(misplaced(name));
        }
        Ok(Held {
            directory,
            name: name.to_owned(),
            place,
            made: found.created().ok(),
        })
    }

    /// The directory by way of what is held.
    pub(super) fn home(&self) -> Home {
        Home(by_descriptor(&self.directory))
    }

    /// The name.
    pub(super) fn name(&self) -> &Path {
        &self.name
    }

    /// Which directory it is.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// When it was made, where its file system says so.
    pub(super) fn made(&self) -> Option<SystemTime> {
        self.made
    }

    /// The directory alone.
    pub(super) fn into_directory(self) -> File {
        self.directory
    }

    /// The directory that this one is in, and its name there.
    ///
    /// # Errors
    /// It has no name there any more.
    pub(super) fn above(&self) -> io::Result<Above> {
        let own = self.name.file_name().ok_or_else(|| misplaced(&self.name))?;
        let above = Above {
            directory: File::open(self.home().0.join(".."))?,
            own: PathBuf::from(own),
            name: self.name.parent().and_then(Path::file_name).map(PathBuf::from),
        };
        match above.own_place() {
            Ok(place) if place == self.place => Ok(above),
            _ => Err(misplaced(&self.name)),
        }
    }
}

/// An instance's directory as its agent knows it: its name, and which directory that is. Every use opens it anew and goes by what was opened, so that
/// nothing is read, written or removed of whatever has its name by then.
#[derive(Clone, Debug)]
pub(super) struct Located {
    id: AssignmentId,
    name: PathBuf,
    /// The directory, and when it was made: the number of one that was removed is given out again. `None` where none is known.
    directory: Option<(Place, Option<SystemTime>)>,
}

impl Located {
    /// The directory that was opened.
    pub(super) fn of(id: AssignmentId, held: &Held) -> Located {
        Located {
            id,
            name: held.name.clone(),
            directory: Some((held.place, held.made)),
        }
    }

    /// An instance of which no directory is known.
    pub(super) fn nowhere(instances: &Path, id: AssignmentId) -> Located {
        let Home(name) = Home::of(instances, id);
        let directory = None;
        Located { id, name, directory }
    }

    /// The instance.
    pub(super) fn id(&self) -> AssignmentId {
        self.id
    }

    /// The name that it has, or should have.
    pub(super) fn name(&self) -> &Path {
        &self.name
    }

    /// Which directory it is, if one is known.
    pub(super) fn place(&self) -> Option<Place> {
        self.directory.map(|(place, _)| place)
    }

    /// Opens it.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) where none is known, it was removed, or something else has its name; others where that cannot be told.
    pub(super) fn enter(&self) -> io::Result<Held> {
        let (place, made) = self.directory.ok_or_else(|| misplaced(&self.name))?;
        let held = Held::open(&self.name, Some(place))?;
        match held.made == made {
            true => Ok(held),
            false => Err(misplaced(&self.name)),
        }
    }

    /// Whether it is certain that the directory is not where it was.
    pub(super) fn is_gone(&self) -> bool {
        self.enter().is_err_and(|error| error.kind() == ErrorKind::NotFound)
    }
}

fn misplaced(name: &Path) -> io::Error {
    let text = format!(
        "{} is not the instance's directory any more: that was moved, renamed or replaced; put it back",
        name.display()
    );
    io::Error::new(ErrorKind::NotFound, text)
}

/// The directory of all instances, held open by one of them.
pub(super) struct Above {
    directory: File,
    own: PathBuf,
    /// Its name when the instance was begun; `None` for one that is a root.
    name: Option<PathBuf>,
}

impl Above {
    /// The directory itself.
    pub(super) fn path(&self) -> PathBuf {
        by_descriptor(&self.directory)
    }

    /// What is there by the instance's name now.
    ///
    /// # Errors
    /// Nothing, or it cannot be looked at.
    pub(super) fn own_place(&self) -> io::Result<Place> {
        let found = fs::symlink_metadata(self.path().join(&self.own))?;
        Ok(Place::of(&found))
    }

    /// Whether another one has its name by now, where it is: it was replaced, or something is mounted over it. One that was only renamed is where it
    /// was.
    ///
    /// # Errors
    /// That cannot be looked at.
    pub(super) fn is_covered(&self) -> io::Result<bool> {
        let Some(name) = &self.name else { return Ok(false) };
        let own = Place::of(&self.directory.metadata()?);
        match fs::metadata(self.path().join("..").join(name)) {
            Ok(found) => Ok(Place::of(&found) != own),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The present name of the instance's directory, which is `place`, wherever all of them were moved.
    ///
    /// # Errors
    /// It is not there: it was moved apart from the others, or what holds all of them was removed, or has no name that this process reaches.
    pub(super) fn name_of(&self, place: Place) -> io::Result<PathBuf> {
        let name = fs::read_link(self.path())?.join(&self.own);
        match fs::symlink_metadata(&name) {
            Ok(found) if Place::of(&found) == place => Ok(name),
            _ => Err(misplaced(&name)),
        }
    }
}
