//! The user that an instance's programs run as: its selection, the permission in the agent's configuration, and the
//! change to it.
//!
//! A declaration may name only users that the agent's configuration lists; if it names none, an unprivileged default is
//! used. The number from the host's name service counts, never the spelling of the user. A change of the list applies
//! to every process that is started from then on: it is stored in a file beside the instances, which is read each time.

mod nss;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, fchown},
    path::{Path, PathBuf},
};

use nss::{Entry, Lookup, LookupError, PATIENCE, Sources};
use rustix::{
    fs::{Access, FileType, Gid, Uid, access, fstat},
    process::{getegid, geteuid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};
use serde::{Deserialize, Serialize};
use wyneos_core::node::{User, Users};
use wyneos_shell::{files, rights};

use super::{
    Home, Kept, STATE,
    held::{Held, Place},
    replace,
};

/// The users that programs may run as on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Policy {
    /// The user of a declaration that names none.
    default: String,
    /// Further users that declarations may name.
    others: Vec<String>,
}

impl Policy {
    /// The policy of a configuration. An agent that is not root can run programs only as its own user, whatever the
    /// configuration contains.
    pub(crate) fn new(work_user: &str, users: &[String]) -> Policy {
        let own = geteuid();
        if own.is_root() {
            return Policy {
                default: work_user.to_owned(),
                others: users.to_vec(),
            };
        }
        if !users.is_empty() {
            tracing::warn!(
                ?users,
                "`users` is ignored: the agent does not run as root, so programs run only as its own user"
            );
        }
        let number = own.as_raw().to_string();
        let lookup = Lookup::new(Sources::default(), PATIENCE);
        Policy {
            default: lookup.user(&number).map_or(number, |entry| entry.name),
            others: Vec::new(),
        }
    }

    /// Writes the policy where every exec shim finds it, in the place of any other object: it is derived from the
    /// configuration, so nothing is lost. If it cannot be written there is none: then nothing is started, and running
    /// programs continue.
    fn write(&self, path: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(self)?;
        let written = write_if_other(path, &bytes);
        let written = written.or_else(|_| files::make_way(path).and_then(|()| replace(path, &bytes)));
        written.inspect_err(|_| drop(fs::remove_file(path)))
    }

    /// Reads the policy in effect for an instance.
    fn read(held: &Held) -> Result<Policy, String> {
        let instances = held.name().parent().unwrap_or(Path::new("/"));
        let shown = file(instances);
        let cannot = |error: io::Error| format!("cannot read which users are permitted: {}: {error}", shown.display());
        // By the held directory: its name may refer to another agent's.
        let path = held.home().0.join("../..").join(shown.file_name().unwrap_or_default());
        let bytes = files::read(&path, STATE).map_err(cannot)?;
        serde_json::from_slice(&bytes).map_err(|error| cannot(error.into()))
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.default).chain(&self.others)
    }

    /// The report to the coordinator: the users that this host has, with their numbers. One whose lookup failed has no
    /// number.
    pub(crate) fn told(&self) -> Users {
        let lookup = Lookup::new(Sources::default(), PATIENCE);
        let mut users = Users {
            own_only: !geteuid().is_root(),
            ..Users::default()
        };
        for name in self.names() {
            let uid = match lookup.user(name) {
                Ok(entry) => Some(entry.uid),
                Err(LookupError::Unknown(_)) => {
                    tracing::warn!(
                        user = name,
                        "this host has no such user (work_user, users): no program can run as it; create the user, and restart the agent"
                    );
                    users.unknown.push(name.clone());
                    continue;
                }
                Err(error) => {
                    tracing::warn!(user = name, %error, "cannot look up this user (work_user, users): programs that name it may fail to start");
                    None
                }
            };
            if name == &self.default {
                users.default.clone_from(name);
            }
            users.permitted.push(User {
                name: name.clone(),
                uid,
            });
        }
        if users.root() {
            tracing::warn!(
                "the configuration permits root (work_user, users): everyone who may apply a declaration controls this host"
            );
        }
        users
    }

    /// Checks whether programs may run as `user`, which a declaration names as `declared`, with these groups.
    ///
    /// A host may have several names for one number, each with its own groups. Another name of a listed number is
    /// permitted if it has exactly the same groups as the listed one, including the primary one.
    fn permits(&self, declared: &str, user: &Entry, groups: &[u32], lookup: &Lookup) -> Result<(), String> {
        if self.names().any(|name| name == declared) {
            return Ok(());
        }
        let (mut failed, mut alias) = (None, None);
        for name in self.names() {
            let listed = match lookup.user(name) {
                Ok(entry) if entry.uid == user.uid => entry,
                Ok(_) | Err(LookupError::Unknown(_)) => continue,
                Err(error) => {
                    failed = Some(error);
                    continue;
                }
            };
            match lookup.groups(&listed) {
                Ok(of_listed) if listed.gid == user.gid && of_listed == groups => return Ok(()),
                Ok(_) => alias = Some(name),
                Err(error) => failed = Some(error),
            }
        }
        let uid = user.uid;
        match (failed, alias) {
            (Some(error), _) => Err(format!("whether programs may run as {declared:?} is unknown: {error}")),
            (None, Some(listed)) => Err(format!(
                "programs may not run as {declared:?} on this node: its agent's configuration lists {listed:?}, which has the same user number \
                 ({uid}) and other groups; name that, or list {declared:?} as well (users)"
            )),
            (None, None) => Err(format!(
                "programs may not run as {declared:?} (user number {uid}) on this node: its agent's configuration lists {} \
                 (work_user, users)",
                self.names().map(String::as_str).collect::<Vec<_>>().join(", ")
            )),
        }
    }
}

/// Replaces a file with different contents: a full disk does not prevent anything that is unchanged.
fn write_if_other(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match files::read(path, STATE).is_ok_and(|there| there == bytes) {
        true => Ok(()),
        false => replace(path, bytes),
    }
}

/// The policy's file, beside the directory of instances, wherever that is: `instances.users.json`.
fn file(instances: &Path) -> PathBuf {
    let mut name = instances.file_name().unwrap_or_default().to_owned();
    name.push(".users.json");
    instances.with_file_name(name)
}

/// The user and groups that a program of an instance runs as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// The name, for messages.
    name: String,
    uid: u32,
    gid: u32,
    /// All groups, including the primary one.
    groups: Vec<u32>,
}

impl Identity {
    /// The identity with which an instance's program is started, stored for its checks.
    pub(super) fn of_program(held: &Held, declared: &str) -> Result<Identity, String> {
        let kept = held.home().0.join("user.json");
        let found = Identity::find(held, declared);
        let written = match &found {
            Ok(identity) => serde_json::to_vec(identity)
                .map_err(io::Error::from)
                .and_then(|bytes| write_if_other(&kept, &bytes)),
            Err(_) => Err(io::ErrorKind::NotFound.into()),
        };
        if written.is_err() {
            // The identity of an earlier process does not apply to this one.
            drop(fs::remove_file(&kept));
        }
        found
    }

    /// The identity of a check: that of its program.
    pub(super) fn of_check(held: &Held, declared: &str) -> Result<Identity, String> {
        let kept = files::read(&held.home().0.join("user.json"), STATE).ok();
        match kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            Some(identity) => Ok(identity),
            None => Identity::find(held, declared),
        }
    }

    /// The number of the user that an instance's program was started as; `None` if it is not known.
    pub(super) fn kept(home: &Home) -> Option<u32> {
        let kept = files::read(&home.0.join("user.json"), STATE).ok()?;
        let identity: Identity = serde_json::from_slice(&kept).ok()?;
        Some(identity.uid)
    }

    fn find(held: &Held, declared: &str) -> Result<Identity, String> {
        let lookup = Lookup::new(Sources::default(), PATIENCE);
        let told = |error: LookupError| error.to_string();
        let own = geteuid();
        if !own.is_root() {
            let own = own.as_raw();
            if !declared.is_empty() && lookup.user(declared).map_err(told)?.uid != own {
                return Err(format!(
                    "programs may not run as {declared:?} on this node: its agent does not run as root, so they run as its own user \
                     (number {own}) alone"
                ));
            }
            return Ok(Identity {
                name: own.to_string(),
                uid: own,
                gid: getegid().as_raw(),
                groups: Vec::new(),
            });
        }
        let policy = Policy::read(held)?;
        let declared = if declared.is_empty() { &policy.default } else { declared };
        let entry = lookup.user(declared).map_err(told)?;
        let groups = lookup.groups(&entry).map_err(told)?;
        policy.permits(declared, &entry, &groups, &lookup)?;
        Ok(Identity {
            name: entry.name,
            uid: entry.uid,
            gid: entry.gid,
            groups,
        })
    }

    /// Makes the user the owner of the instance's own directory, and of the pipes that its program writes to: a program
    /// may open those again by their names in `/proc`, as with `/dev/stdout`.
    pub(super) fn own(&self, work: &Path) -> Result<(), String> {
        let is_root = geteuid().is_root();
        let own = || -> io::Result<()> {
            files::make_dir(work, 0o700)?;
            match is_root {
                true => chown(work, Some(self.uid), Some(self.gid)),
                false => Ok(()),
            }
        };
        own().map_err(|error| format!("cannot make {} for the user {:?}: {error}", work.display(), self.name))?;
        if !is_root {
            return Ok(());
        }
        for stream in [rustix::stdio::stdout(), rustix::stdio::stderr()] {
            let is_pipe = fstat(stream).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
            if is_pipe {
                // Most programs never open them.
                drop(fchown(stream, Some(self.uid), Some(self.gid)));
            }
        }
        Ok(())
    }

    /// Changes to the user, with all groups. This process has one thread.
    pub(super) fn become_it(&self) -> Result<(), String> {
        if !geteuid().is_root() {
            return Ok(());
        }
        let (user, group) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
        let change = || {
            set_thread_groups(&groups)?;
            set_thread_res_gid(group, group, group)?;
            set_thread_res_uid(user, user, user)
        };
        change()
            .map_err(|error: rustix::io::Errno| format!("cannot run as {:?}: the agent may not ({error})", self.name))
    }

    /// Enters the program's working directory, as the user.
    pub(super) fn enter(&self, directory: &Path) -> Result<(), String> {
        let Err(error) = std::env::set_current_dir(directory) else {
            return Ok(());
        };
        let closed = || {
            directory
                .ancestors()
                .skip(1)
                .filter(|above| access(*above, Access::EXEC_OK).is_err())
        };
        // The topmost of them: those below cannot be examined.
        let reason = match (error.kind(), closed().last()) {
            (io::ErrorKind::PermissionDenied, Some(above)) => self.closed(above),
            _ => error.to_string(),
        };
        Err(format!("cannot enter {}: {reason}", directory.display()))
    }

    fn closed(&self, directory: &Path) -> String {
        let mode = fs::metadata(directory).map_or_else(
            |_| "unknown".to_owned(),
            |there| format!("{:04o}", there.permissions().mode() & 0o7777),
        );
        let (name, path) = (&self.name, directory.display());
        format!(
            "the user {name:?} may not pass through {path} (mode {mode}): chmod o+x {path}, or move the agent's data_dir"
        )
    }

    /// The name, for messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// The mode of the directory of instances. If each instance has its own mounts, which contain only its own directory,
/// no other process can pass through it: neither programs of another agent that run as the same user, nor that user's
/// other processes on the host. Otherwise the instance's user must be able to.
pub(crate) fn mode_of_instances(instances: &Path, contained: bool) -> u32 {
    let homes = fs::read_dir(instances).into_iter().flatten().flatten();
    let mut orders = homes.map(|entry| Home(entry.path()).kept_order());
    let mut earlier = || orders.any(|order| matches!(order, Kept::Read(order) if !order.contained));
    match geteuid().is_root() && (!contained || earlier()) {
        true => 0o711,
        false => 0o700,
    }
}

/// Checks that a link does not lead into the `data_dir` of another agent: instances there would be ended as those of an
/// earlier node. A link to another disk is permitted.
fn is_not_anothers(instances: &Path) -> io::Result<()> {
    let Ok(there) = fs::canonicalize(instances) else {
        return Ok(());
    };
    let own = instances.parent().filter(|above| !above.as_os_str().is_empty());
    let own = Place::at(own.unwrap_or(Path::new(".")))?;
    match there.parent() {
        Some(above) if Place::at(above)? != own && above.join("node-id").exists() => {
            let (link, above) = (instances.display(), above.display());
            Err(io::Error::other(format!(
                "{link} leads into {above}, which is another agent's data_dir; remove the link"
            )))
        }
        _ => Ok(()),
    }
}

/// Creates the directory of instances, and writes the policy beside it.
///
/// The directory does not exist, and cannot be created; or it belongs to another agent.
pub(crate) fn prepare(instances: &Path, mode: u32, policy: &Policy) -> io::Result<()> {
    is_not_anothers(instances)?;
    files::make_dir_in(instances, mode)?;
    let found = fs::metadata(instances)?;
    if found.uid() == geteuid().as_raw() && found.mode() & 0o022 != 0 {
        // A newly mounted file system has this owner, and was put there by the operator of the agent.
        fs::set_permissions(instances, fs::Permissions::from_mode(mode))?;
    }
    // The owner determines which instances are found, and may have created it in a sticky data_dir.
    if let Some(fault) = rights::fault(&fs::metadata(instances)?) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, fault));
    }
    // Where instances find it: by their own paths, which contain no links.
    let path = file(&fs::canonicalize(instances)?);
    if let Err(error) = policy.write(&path) {
        let until = match files::read(&path, STATE) {
            Ok(_) => "the previous list remains in effect for programs",
            Err(_) => "no program is started on this node",
        };
        tracing::error!(path = %path.display(), %error, "cannot write the list of permitted users: {until}, until the agent is restarted and can write it");
    }
    Ok(())
}
