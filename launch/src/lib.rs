//! Processes for tests and benchmarks: started with a log each, watched, signalled by their ids, and ended with whoever started them.
//!
//! `wynectl dev` does not use this: what it starts is an operator's, in process groups of its own, with private logs, and its deaths are news.

mod process;
#[cfg(test)]
mod tests;

use std::{
    env, fs, io,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

pub use process::{Launch, Process};

/// How often a condition that costs little is looked at.
pub const LOOK: Duration = Duration::from_millis(20);

/// Waits until `condition`, which is looked at every `look`, gives something; `None` once that took longer than `within`.
pub fn until<T>(within: Duration, look: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + within;
    loop {
        let found = condition();
        if found.is_some() || Instant::now() > deadline {
            return found;
        }
        thread::sleep(look);
    }
}

/// A program of this workspace: beside the one that runs, or beside the directory of a test's.
///
/// # Errors
///
/// [`io::ErrorKind::NotFound`] when it was not built.
pub fn program(name: &str) -> io::Result<PathBuf> {
    let own = env::current_exe()?;
    let places = own.ancestors().skip(1).take(2).map(|place| place.join(name));
    let found = { places }.find(|path| path.is_file());
    found.ok_or_else(|| {
        let message = format!("{name} is not built: run cargo for the whole workspace");
        io::Error::new(io::ErrorKind::NotFound, message)
    })
}

/// A command that becomes `program`, within a network namespace if one is named: the child's process id is the program's.
#[must_use]
pub fn within(space: Option<&str>, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let Some(space) = space else {
        return Command::new(program);
    };
    let mut command = Command::new("ip");
    command.args(["netns", "exec", space]).arg(program);
    command
}

/// An address of this host that nobody uses now.
///
/// # Errors
///
/// When no port is free.
pub fn free_address() -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.to_string())
}

/// A temporary directory that programs of any user pass through, as they do through /var/lib.
///
/// # Errors
///
/// When it cannot be made.
pub fn directory() -> io::Result<TempDir> {
    let made = tempfile::tempdir()?;
    fs::set_permissions(made.path(), fs::Permissions::from_mode(0o711))?;
    Ok(made)
}
