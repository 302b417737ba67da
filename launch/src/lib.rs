//! Process management for tests and benchmarks: each process has its own log, is observed, is signalled by its id, and
//! is terminated together with the process that started it.
//!
//! `wynectl dev` does not use this crate: the processes it starts belong to an operator, run in their own process
//! groups with private logs, and their exits are reported.

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

/// Polling interval for cheap conditions.
pub const LOOK: Duration = Duration::from_millis(20);

/// Polls `condition` every `look` until it returns a value; returns `None` after `within`.
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

/// Returns the path of a program of this workspace: in the directory of the running executable, or, for a test, in the
/// directory above it.
///
/// # Errors
///
/// [`io::ErrorKind::NotFound`] if the program was not built.
pub fn program(name: &str) -> io::Result<PathBuf> {
    let own = env::current_exe()?;
    let places = own.ancestors().skip(1).take(2).map(|place| place.join(name));
    let found = { places }.find(|path| path.is_file());
    found.ok_or_else(|| {
        let message = format!("{name} is not built: run cargo for the whole workspace");
        io::Error::new(io::ErrorKind::NotFound, message)
    })
}

/// Returns a command that executes `program`, in the network namespace `space` if one is given. The process id of the
/// child is that of the program.
#[must_use]
pub fn within(space: Option<&str>, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let Some(space) = space else {
        return Command::new(program);
    };
    let mut command = Command::new("ip");
    command.args(["netns", "exec", space]).arg(program);
    command
}

/// Returns an address of this host that is currently unused.
///
/// # Errors
///
/// When no port is free.
pub fn free_address() -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.to_string())
}

/// Creates a temporary directory that programs of any user may traverse, like `/var/lib`.
///
/// # Errors
///
/// When the directory cannot be created.
pub fn directory() -> io::Result<TempDir> {
    let made = tempfile::tempdir()?;
    fs::set_permissions(made.path(), fs::Permissions::from_mode(0o711))?;
    Ok(made)
}
