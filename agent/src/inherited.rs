//! File descriptors that the starter of this process left open.
//!
//! A descriptor without `FD_CLOEXEC` passes from process to process and would reach every program: a file that only
//! root may open, a socket, a lock. This process opens its own with that flag, and closes all others before it opens
//! anything. Programs and checks have only descriptors 0, 1 and 2.

use std::{fs, io, os::fd::RawFd};

use rustix::process::{Resource, getrlimit};

/// The first descriptor that is not a standard stream.
const FIRST: RawFd = 3;

/// Number of descriptors that are tried if the kernel does not list the open ones: the greatest default limit of
/// distributions.
const MOST: u64 = 1 << 20;

/// Closes every descriptor except the standard streams. Must be called before anything is opened.
pub(crate) fn close() {
    for descriptor in open().unwrap_or_else(|_| possible()) {
        // The descriptor of the list itself is closed already.
        let _ = nix::unistd::close(descriptor);
    }
}

/// The open descriptors, from /proc.
fn open() -> io::Result<Vec<RawFd>> {
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<RawFd>().ok();
    let entries = fs::read_dir("/proc/self/fd")?.flatten().filter_map(number);
    Ok(entries.filter(|descriptor| *descriptor >= FIRST).collect())
}

/// Descriptors that may be open, even if the soft limit was lowered since.
fn possible() -> Vec<RawFd> {
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(MOST).min(MOST);
    (FIRST..RawFd::try_from(most).unwrap_or(RawFd::MAX)).collect()
}
