//! Removal of the remains of instances, apart from the agent's own task: a program may have left more than can be
//! removed quickly.
//!
//! A directory is first renamed, which frees its name immediately. An unfinished removal is continued by the next
//! agent, once the coordinator has welcomed it; directories that cannot be removed then are renamed permanently, and
//! not tried again.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use tokio::sync::Semaphore;
use wyneos_shell::removal::remove_dir;

use super::{
    disk::Disk,
    held::{Held, Located},
};

#[cfg(test)]
mod tests;

/// Prefix of the names of directories to be removed, and of those that cannot be.
const REMOVED: &str = ".removed-";
const UNREMOVABLE: &str = ".unremovable-";

/// Number of names that are tried for one directory: more are needed only if as many removals of its name failed.
const NAMES: u32 = 1_000;

/// Returns whether a directory among those of instances is no longer an instance's.
pub(super) fn is_removed(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(REMOVED.as_bytes()) || name.starts_with(UNREMOVABLE.as_bytes())
}

/// Renames an instance's directory, and returns its new path. `None` if it does not exist: any other object with its
/// name is kept.
///
/// # Errors
/// It cannot be renamed.
pub(super) fn put_aside(located: &Located) -> io::Result<Option<PathBuf>> {
    let (path, name) = (located.name(), located.name().file_name().unwrap_or_default());
    let renamed = located.enter().and_then(|held| {
        let aside = rename(path, REMOVED, &name.to_string_lossy())?;
        Ok((held.place(), aside))
    });
    match renamed {
        Ok((place, aside)) if Held::open(&aside, Some(place)).is_ok() => Ok(Some(aside)),
        Ok((_, aside)) => {
            // Another object took its name at that moment, and gets it back, unless a third has it by now.
            renameat_with(CWD, &aside, CWD, path, RenameFlags::NOREPLACE)?;
            Ok(None)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Renames a directory to a name that is free or an empty directory's.
fn rename(path: &Path, first: &str, name: &str) -> io::Result<PathBuf> {
    let mut tries = 0;
    loop {
        let beside = match tries {
            0 => format!("{first}{name}"),
            tries => format!("{first}{name}.{tries}"),
        };
        let beside = path.with_file_name(beside);
        match fs::rename(path, &beside) {
            Ok(()) => return Ok(beside),
            Err(error) if tries < NAMES && is_taken(&error) => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory
    )
}

/// The directories that earlier agents did not remove.
pub(super) fn leftovers(instances: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(instances).into_iter().flatten().flatten();
    let left = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(REMOVED.as_bytes()));
    left.map(|entry| entry.path()).collect()
}

/// Removes directories, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Remover {
    turn: Arc<Semaphore>,
    disk: Disk,
}

impl Remover {
    pub(super) fn new(disk: Disk) -> Remover {
        let turn = Arc::new(Semaphore::new(1));
        Remover { turn, disk }
    }

    /// Removes a renamed directory; a failure is logged, and the next agent tries again.
    pub(super) async fn remove(&self, path: PathBuf) {
        if let Err(error) = self.try_remove(&path).await {
            tracing::error!(
                path = %path.display(), %error,
                "cannot remove the directory of an instance that has ended; the agent tries once more when it is started again: remove what \
                 keeps it there, or the directory"
            );
        }
    }

    /// Removes the remains of an earlier agent, as the last attempt.
    pub(super) async fn remove_left(&self, left: Vec<PathBuf>) {
        for path in left {
            let Err(error) = self.try_remove(&path).await else {
                continue;
            };
            let from = path.clone();
            let stays = self.disk.run(move || {
                let name = from.file_name().unwrap_or_default().to_string_lossy();
                let name = name.strip_prefix(REMOVED).unwrap_or(&name);
                rename(&from, UNREMOVABLE, name)
            });
            let stays = stays.await.flatten();
            let path = stays.as_ref().unwrap_or(&path);
            tracing::error!(
                path = %path.display(), %error, renamed = stays.is_ok(),
                "cannot remove the directory of an instance that has ended; it is left there, and is not tried again: remove it by hand (rm -rf)"
            );
        }
    }

    async fn try_remove(&self, path: &Path) -> io::Result<()> {
        let _turn = self.turn.acquire().await;
        let path = path.to_owned();
        let removed = self.disk.run(move || match fs::symlink_metadata(&path)?.is_dir() {
            true => remove_dir(&path),
            // A link refers to an object that someone stored elsewhere; only the link is removed.
            false => fs::remove_file(&path),
        });
        match removed.await {
            Ok(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
