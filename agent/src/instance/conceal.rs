//! Hides the directories of other instances from an instance.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
};

use rustix::mount::{MountFlags, mount, mount_bind_recursive};

use super::held::{Held, Place, by_descriptor};

/// Covers the directory of all instances with an empty one that contains only the instance's own, in this process's
/// mount namespace: otherwise programs of one user could reach one another's directories by their modes. It uses
/// `/proc/self/fd`, so it precedes the mount of a separate `/proc`; and it uses only directories that are held open, so
/// that it covers the correct one even while directories are being moved.
///
/// A step failed. Nothing may be started then.
pub(super) fn conceal(directory: &Path, place: Option<Place>) -> io::Result<()> {
    let own = Held::open(directory, place)?;
    let above = own.above()?;
    let names = directory.parent().and_then(Path::file_name).zip(directory.file_name());
    let (of_all, of_own) = names.ok_or_else(|| io::Error::other("it is in no directory of instances"))?;
    let top = File::open(above.path().join(".."))?;
    let covered = fs::metadata(above.path())?.dev();
    cover(&above.path())?;
    // Opened by its name from above, since the held directory is below the cover.
    let cover = File::open(by_descriptor(&top).join(of_all))?;
    if cover.metadata()?.dev() == covered {
        return Err(io::Error::other("the directory of all instances is not covered"));
    }
    let inside = by_descriptor(&cover).join(of_own);
    fs::create_dir(&inside)?;
    Ok(mount_bind_recursive(own.home().0, inside)?)
}

/// Tries the steps of [`conceal`] without an instance.
pub(super) fn conceal_nothing() -> io::Result<()> {
    cover(Path::new("."))
}

fn cover(directory: &Path) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(mount("tmpfs", directory, "tmpfs", flags, c"size=64k,mode=0711")?)
}
