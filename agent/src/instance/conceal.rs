//! Hides the directories of other instances from an instance.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
};

use rustix::mount::{MountFlags, mount, mount_bind_recursive};

use super::held::{Held, Place, by_descriptor};

/// Puts an empty directory in the place of that of all instances, with the instance's own in it, in this process's mount namespace: programs of
/// one user would reach one another's by their modes alone. It goes by `/proc/self/fd`, so it comes before an own `/proc`; and by nothing but what it
/// holds open, so that it is the right directory also while directories are being moved.
///
/// # Errors
/// Something of it could not be done. Nothing may be started then.
pub(super) fn conceal(directory: &Path, place: Option<Place>) -> io::Result<()> {
    let own = Held::open(directory, place)?;
    let above = own.above()?;
    let names = directory.parent().and_then(Path::file_name).zip(directory.file_name());
    let (of_all, of_own) = names.ok_or_else(|| io::Error::other("it is in no directory of instances"))?;
    let top = File::open(above.path().join(".."))?;
    let covered = fs::metadata(above.path())?.dev();
    cover(&above.path())?;
    // By its name from above, since what is held is below the cover.
    let cover = File::open(by_descriptor(&top).join(of_all))?;
    if cover.metadata()?.dev() == covered {
        return Err(io::Error::other("the directory of all instances is not covered"));
    }
    let inside = by_descriptor(&cover).join(of_own);
    fs::create_dir(&inside)?;
    Ok(mount_bind_recursive(own.home().0, inside)?)
}

/// Tries what [`conceal`] does, where there is no instance.
pub(super) fn conceal_nothing() -> io::Result<()> {
    cover(Path::new("."))
}

fn cover(directory: &Path) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(mount("tmpfs", directory, "tmpfs", flags, c"size=64k,mode=0711")?)
}
