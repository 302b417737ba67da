//! Ownership and permissions of what a server trusts on its disk: the directories that lead to its `data_dir`, the
//! files in it, and the user as which a command of root acts.
//!
//! The owner of a directory, and everybody who may write it, can replace its contents. A server therefore rejects a
//! `data_dir` that is controlled by a user other than root and its own, like StrictModes of sshd. A command that root
//! runs on the `data_dir` of an unprivileged server acts as the user of that server: nothing in the directory can make
//! root read, write or give away other files.

use std::{
    error::Error,
    ffi::OsString,
    fmt,
    fs::{self, File, Metadata},
    io::{self, ErrorKind},
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    panic,
    path::{Component, Path, PathBuf},
    thread,
};

use rustix::{
    fs::OFlags,
    process::{Gid, Uid, geteuid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use crate::{exit, start::Fatal};

#[cfg(test)]
mod tests;

/// Maximum number of symbolic links on one path, the same as in the kernel.
const LINKS: u32 = 40;

/// The id with which a user namespace represents owners that it does not map; also the id of the user `nobody`.
const UNMAPPED: u32 = 65_534;

/// Reason why a directory, or its owner, is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    /// Another user owns a directory or a link on the path.
    #[error(
        "{}: belongs to uid {owner}, who can replace what is in {}: only root and uid {own} may own it and each directory above it; chown it, or name \
         another directory{}",
        .path.display(), .directory.display(), in_container(*.owner)
    )]
    Owner {
        /// The directory or link.
        path: PathBuf,
        /// The directory that was checked.
        directory: PathBuf,
        /// The owner.
        owner: u32,
        /// The permitted owner, in addition to root.
        own: u32,
    },
    /// Users other than the owner may write a directory.
    #[error(
        "{}: may be written by others than its owner, uid {owner} (mode {mode:04o}), who can replace what is in {}: `chmod go-w {0}`, or name another \
         directory",
        .path.display(), .directory.display()
    )]
    Writable {
        /// The directory.
        path: PathBuf,
        /// The directory that was checked.
        directory: PathBuf,
        /// The owner.
        owner: u32,
        /// The permissions.
        mode: u32,
    },
    /// A directory cannot be inspected.
    #[error("{}: cannot see who owns it", .path.display())]
    File {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Root could not act as the owner.
    #[error("{}: belongs to uid {owner}, and this process cannot act as that user; run the command as that user", .path.display())]
    Become {
        /// The directory.
        path: PathBuf,
        /// The owner.
        owner: u32,
        /// The cause.
        source: io::Error,
    },
}

impl Fatal for Untrusted {
    fn exit_code(&self) -> u8 {
        match self {
            Untrusted::File { source, .. } => exit::of(source),
            _ => exit::BAD_CONFIG,
        }
    }
}

fn in_container(owner: u32) -> &'static str {
    match owner {
        UNMAPPED => {
            " (in a container, an owner whom its user namespace does not map shows as this number: mount a volume that belongs to the container's user, \
             below directories of the container's root)"
        }
        _ => "",
    }
}

/// Rejects a directory that other users control: one that belongs to a user other than root and that of this process,
/// that is reached by such a directory or link, or that others may write. Sticky directories (such as `/tmp`) on the
/// path may be writable by others, because their entries belong to the respective owners. A missing directory is
/// accepted.
///
/// # Errors
/// The directory is controlled by other users, or cannot be inspected.
pub fn check(directory: &Path) -> Result<(), Untrusted> {
    let own = geteuid().as_raw();
    check_by(directory, own, &|owner| owner == 0 || owner == own)?;
    let found = fs::metadata(directory).ok();
    if let Some(found) = found.filter(|found| found.is_dir() && found.mode() & 0o022 != 0) {
        let (mode, owner) = (format!("{:04o}", found.mode() & 0o7777), found.uid());
        tracing::warn!(
            directory = %directory.display(), mode, owner,
            "others may make files in this directory, which is sticky and keeps its mode; files of theirs are not used. Name a directory of this user's own"
        );
    }
    Ok(())
}

/// Performs [`check`] with another rule for trusted owners. `own` is only used in the message.
fn check_by(directory: &Path, own: u32, is_trusted: &dyn Fn(u32) -> bool) -> Result<(), Untrusted> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Untrusted::File { path, source }
    };
    let absolute = std::path::absolute(directory).map_err(failed(directory))?;
    // Remaining components of the path, the next one last.
    let mut rest: Vec<OsString> = Vec::new();
    let push = |rest: &mut Vec<OsString>, path: &Path| {
        let parts = path.components().rev().filter(|part| *part != Component::CurDir);
        rest.extend(parts.map(|part| part.as_os_str().to_owned()));
    };
    push(&mut rest, &absolute);
    let (mut at, mut links) = (PathBuf::from("/"), 0);
    while let Some(part) = rest.pop() {
        if part == ".." {
            at.pop();
            continue;
        }
        // An absolute component restarts the path.
        let path = at.join(&part);
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(&path)(error)),
        };
        let owner = found.uid();
        if !is_trusted(owner) {
            let directory = directory.to_owned();
            return Err(Untrusted::Owner {
                path,
                directory,
                owner,
                own,
            });
        }
        if found.is_symlink() {
            links += 1;
            if links > LINKS {
                return Err(failed(&path)(rustix::io::Errno::LOOP.into()));
            }
            push(&mut rest, &fs::read_link(&path).map_err(failed(&path))?);
            continue;
        }
        let mode = found.mode() & 0o7777;
        if found.is_dir() && mode & 0o022 != 0 && mode & 0o1000 == 0 {
            let directory = directory.to_owned();
            return Err(Untrusted::Writable {
                path,
                directory,
                owner,
                mode,
            });
        }
        at = path;
    }
    Ok(())
}

/// Returns the reason why a file in a trusted directory is not trusted: its owner is neither root nor the user of this
/// process, or others may write it.
pub fn fault(found: &Metadata) -> Option<String> {
    let (owner, own, mode) = (found.uid(), geteuid().as_raw(), found.mode() & 0o7777);
    if owner != 0 && owner != own {
        return Some(format!(
            "it belongs to uid {owner}, and only root and uid {own} may own it; look at what is in it, then chown it or remove it"
        ));
    }
    (mode & 0o022 != 0).then(|| {
        format!(
            "it may be written by others than its owner (mode {mode:04o}); look at what is in it, then `chmod go-w` it"
        )
    })
}

/// The owner of a server's directory, as which a command acts there: root changes to that user, every other user acts
/// as itself.
#[derive(Debug)]
pub struct Owner {
    /// Open handle of the directory; `path` may refer to it.
    _held: File,
    name: PathBuf,
    path: PathBuf,
    uid: u32,
    becomes: Option<(Uid, Gid)>,
}

impl Owner {
    /// Returns the owner of an existing directory. Root also checks that only root and that owner control the path.
    ///
    /// # Errors
    /// The directory cannot be opened, or others control it.
    pub fn of(directory: &Path) -> Result<Owner, Untrusted> {
        let failed = |source| Untrusted::File {
            path: directory.to_owned(),
            source,
        };
        let flags = (OFlags::PATH | OFlags::DIRECTORY).bits() as i32;
        let held = File::options().read(true).custom_flags(flags).open(directory);
        let held = held.map_err(failed)?;
        let found = held.metadata().map_err(failed)?;
        let (uid, own) = (found.uid(), geteuid());
        if own.is_root() {
            check_by(directory, uid, &|owner| owner == 0 || owner == uid)?;
        }
        let becomes = (own.is_root() && uid != 0).then(|| (Uid::from_raw(uid), Gid::from_raw(found.gid())));
        // systemd keeps the directories of dynamic users below a directory that these users cannot traverse.
        let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}/.", held.as_raw_fd()));
        let mut owner = Owner {
            _held: held,
            name: directory.to_owned(),
            path: directory.to_owned(),
            uid,
            becomes,
        };
        if becomes.is_some() {
            let is_reached = owner.act(|path| fs::metadata(path).is_ok_and(|there| is_same(&there, &found)))?;
            if !is_reached {
                owner.path = by_descriptor;
            }
        }
        Ok(owner)
    }

    /// Runs `act` as the owner, with the path by which the owner reaches the directory. It runs in a thread of its own,
    /// whose identity the threads that it starts inherit; the other threads of the process keep theirs.
    ///
    /// # Errors
    /// This process may not change to the owner.
    pub fn act<T: Send>(&self, act: impl FnOnce(&Path) -> T + Send) -> Result<T, Untrusted> {
        let Some((user, group)) = self.becomes else {
            return Ok(act(&self.path));
        };
        let run = || {
            let change = || {
                set_thread_groups(&[group])?;
                set_thread_res_gid(group, group, group)?;
                set_thread_res_uid(user, user, user)
            };
            change().map_err(|error: rustix::io::Errno| Untrusted::Become {
                path: self.name.clone(),
                owner: self.uid,
                source: error.into(),
            })?;
            Ok(act(&self.path))
        };
        thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|panicked| panic::resume_unwind(panicked))
    }

    /// Rejects a directory elsewhere, which this process is about to write as root, if the owner controls it or others
    /// may write it.
    ///
    /// # Errors
    /// The directory is controlled by the owner or by others, or cannot be inspected.
    pub fn check_outside(&self, directory: &Path) -> Result<(), Untrusted> {
        match self.becomes {
            Some(_) => check_by(directory, 0, &|owner| owner != self.uid),
            None => Ok(()),
        }
    }

    /// Returns an error in the form in which it is reported: with the name of the directory, whichever path was used to
    /// reach it.
    pub fn told<E: Fatal>(&self, error: &E) -> Told {
        let Told { message, code } = Told::of(error);
        let by = self.path.display().to_string();
        let name = self.name.display().to_string();
        let message = match self.path == self.name {
            true => message,
            // Paths below it may have lost the dot.
            false => message.replace(&by, &name).replace(by.trim_end_matches("/."), &name),
        };
        Told { message, code }
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// An error in the form in which it is reported, with its cause and the exit code.
#[derive(Debug)]
pub struct Told {
    message: String,
    code: u8,
}

impl Told {
    /// Returns the reported form of an error.
    pub fn of<E: Fatal>(error: &E) -> Told {
        let source = error.source().map(|source| format!(": {source}"));
        Told {
            message: format!("{error}{}", source.unwrap_or_default()),
            code: error.exit_code(),
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Told {}

impl Fatal for Told {
    fn exit_code(&self) -> u8 {
        self.code
    }
}
