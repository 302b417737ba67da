//! File descriptors that the starter of this process left open.
//!
//! A descriptor without `FD_CLOEXEC` passes from process to process and would reach every program: a file that only root may open, a socket, a lock. This
//! process opens its own with that flag, and closes all others before it opens anything. A program and a check have descriptors 0, 1 and 2 alone.

use std::{fs, io, os::fd::RawFd};

use rustix::process::{Resource, getrlimit};

/// The first descriptor that is no standard stream.
const FIRST: RawFd = 3;

/// Descriptors that are tried where the kernel does not list the open ones: the greatest default limit of distributions.
const MOST: u64 = 1 << 20;

/// Closes every descriptor but the standard streams. To be called before anything is opened: what is open belongs to nobody then.
pub(crate) fn close() {
    for descriptor in open().unwrap_or_else(|_| possible()) {
        // That by which the list was read is closed already.
        let _ = nix::unistd::close(descriptor);
    }
}

/// Descriptors that are open, by /proc.
fn open() -> io::Result<Vec<RawFd>> {
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<RawFd>().ok();
    let entries = fs::read_dir("/proc/self/fd")?.flatten().filter_map(number);
    Ok(entries.filter(|descriptor| *descriptor >= FIRST).collect())
}

/// Descriptors that may be open: the soft limit may have been lowered since.
fn possible() -> Vec<RawFd> {
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(MOST).min(MOST);
    (FIRST..RawFd::try_from(most).unwrap_or(RawFd::MAX)).collect()
}
