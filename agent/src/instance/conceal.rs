//! What an instance does not see of its host: the directories of other instances.

use std::{fs, io, os::fd::AsRawFd, path::Path};

use rustix::{
    fs::{Mode, OFlags, open},
    mount::{MountFlags, mount, mount_bind_recursive},
};

use super::Home;

/// Puts an empty directory in the place of that of all instances, with the instance's own in it, in this process's mount namespace: programs of
/// one user would reach one another's by their modes alone. It goes by `/proc/self/fd`, so it comes before an own `/proc`.
pub(super) fn conceal(directory: &Path) -> io::Result<()> {
    let home = Home(directory.to_owned());
    let (Some(instances), true) = (directory.parent(), home.order().exists()) else {
        // A trial of what this host can do has no instance.
        return Ok(());
    };
    let own = open(
        directory,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", instances, "tmpfs", flags, c"size=64k,mode=0711")?;
    fs::create_dir(directory)?;
    mount_bind_recursive(format!("/proc/self/fd/{}", own.as_raw_fd()), directory)?;
    Ok(())
}
