//! Directories that are found once by their names and held open from then on. A name may refer to another object a
//! moment later: a `data_dir` is moved, and a copy is put in its place. The held object remains the same.

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

/// A directory's identity by its device and number, which are unchanged by a rename, and differ in a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place(u64, u64);

impl Place {
    /// The directory at a path at present.
    ///
    /// It cannot be examined.
    pub(crate) fn at(path: &Path) -> io::Result<Place> {
        fs::metadata(path).map(|found| Place::of(&found))
    }

    /// The directory's number on its device.
    pub(crate) fn number(self) -> u64 {
        self.1
    }

    /// The identity in these metadata.
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

/// The path by which this process reaches a held object, whatever its name. It is short enough for a socket's address.
pub(super) fn by_descriptor(held: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()))
}

/// An instance's directory, held open, with the name by which it was opened.
#[derive(Debug)]
pub(super) struct Held {
    directory: File,
    name: PathBuf,
    place: Place,
    /// Creation time, if its file system reports it.
    made: Option<SystemTime>,
}

impl Held {
    /// Opens a directory without following a link in the last component: the target of a link has its own name.
    ///
    /// It cannot be opened, or is not a directory; or it differs from `expected`, for example because that one was
    /// moved.
    pub(super) fn open(name: &Path, expected: Option<Place>) -> io::Result<Held> {
        // Other objects are not opened: a pipe would block.
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

    /// The directory by way of the held descriptor.
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

    /// Creation time, if its file system reports it.
    pub(super) fn made(&self) -> Option<SystemTime> {
        self.made
    }

    /// The held directory only.
    pub(super) fn into_directory(self) -> File {
        self.directory
    }

    /// The parent of this directory, and its name there.
    ///
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

/// An instance's directory as its agent knows it: its name and identity. Every use opens it again and works through the
/// opened directory, so that no other object with its name is read, written or removed.
#[derive(Clone, Debug)]
pub(super) struct Located {
    id: AssignmentId,
    name: PathBuf,
    /// The directory, and its creation time: the number of a removed one is reused. `None` if none is known.
    directory: Option<(Place, Option<SystemTime>)>,
}

impl Located {
    /// The location of an opened directory.
    pub(super) fn of(id: AssignmentId, held: &Held) -> Located {
        Located {
            id,
            name: held.name.clone(),
            directory: Some((held.place, held.made)),
        }
    }

    /// The location of an instance without a known directory.
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
    /// [`NotFound`](ErrorKind::NotFound) if none is known, it was removed, or another object has its name; others if
    /// that cannot be determined.
    pub(super) fn enter(&self) -> io::Result<Held> {
        let (place, made) = self.directory.ok_or_else(|| misplaced(&self.name))?;
        let held = Held::open(&self.name, Some(place))?;
        match held.made == made {
            true => Ok(held),
            false => Err(misplaced(&self.name)),
        }
    }

    /// Returns whether it is certain that the directory is not in its place.
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
    /// Name of the directory when the instance was begun; `None` for a root.
    name: Option<PathBuf>,
}

impl Above {
    /// The directory itself.
    pub(super) fn path(&self) -> PathBuf {
        by_descriptor(&self.directory)
    }

    /// The directory with the instance's name there at present.
    ///
    /// There is none, or it cannot be examined.
    pub(super) fn own_place(&self) -> io::Result<Place> {
        let found = fs::symlink_metadata(self.path().join(&self.own))?;
        Ok(Place::of(&found))
    }

    /// Returns whether another directory has its name at its place by now: it was replaced, or something is mounted
    /// over it. A renamed directory is still in its place.
    ///
    /// The name cannot be examined.
    pub(super) fn is_covered(&self) -> io::Result<bool> {
        let Some(name) = &self.name else { return Ok(false) };
        let own = Place::of(&self.directory.metadata()?);
        match fs::metadata(self.path().join("..").join(name)) {
            Ok(found) => Ok(Place::of(&found) != own),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The present name of the instance's directory `place`, wherever all of them were moved.
    ///
    /// It does not exist: it was moved separately from the others, or the directory of all of them was removed, or has
    /// no name that this process can reach.
    pub(super) fn name_of(&self, place: Place) -> io::Result<PathBuf> {
        let name = fs::read_link(self.path())?.join(&self.own);
        match fs::symlink_metadata(&name) {
            Ok(found) if Place::of(&found) == place => Ok(name),
            _ => Err(misplaced(&name)),
        }
    }
}
