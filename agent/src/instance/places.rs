//! Locations of instances: by directories with their ids, by the orders in other directories, and by live supervisors.
//!
//! A directory may have been renamed, replaced or removed while its supervisor continues. Everything found here is only
//! examined.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use rustix::process::geteuid;
use wyneos_core::{id::NodeId, workload::AssignmentId};

use super::{
    Kept,
    found::id_of,
    held::{Held, Located, Place as Directory},
    premises::{Holder, Incumbent, holder, holds},
    processes,
    removal::is_removed,
};

#[cfg(test)]
mod tests;

/// A directory of an instance.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) located: Located,
    /// Whether its name is the instance's id. Any other name was given to it by someone.
    pub(super) own: bool,
    /// Whether a live supervisor holds its lock.
    pub(super) held: bool,
}

/// The supervisors of instances in this directory, by the instances' ids.
pub(super) type Supervisors = BTreeMap<AssignmentId, Vec<i32>>;

/// The instances in a directory, each with its location. If there are several, it is the one with a live supervisor, or
/// else the one with its own name. Links are not followed: one to another instance's directory would make that two
/// instances'.
pub(super) fn places(directory: &Path) -> io::Result<BTreeMap<AssignmentId, Place>> {
    let mut places: BTreeMap<AssignmentId, Place> = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.file_name().is_some_and(is_removed) {
            continue;
        }
        let Some((id, place)) = place(&path) else {
            continue;
        };
        let rank = |place: &Place| (place.held, place.own);
        match places.get(&id) {
            Some(other) if rank(other) >= rank(&place) => aside(&place, id),
            Some(other) => {
                aside(other, id);
                places.insert(id, place);
            }
            None => drop(places.insert(id, place)),
        }
    }
    Ok(places)
}

fn aside(place: &Place, id: AssignmentId) {
    tracing::warn!(path = %place.located.name().display(), instance = %id, "another directory belongs to this instance; this one is left alone");
}

fn place(path: &Path) -> Option<(AssignmentId, Place)> {
    let shown = path.display();
    let named = path.file_name().and_then(id_of);
    let held = match Held::open(path, None) {
        Ok(held) => held,
        Err(error) => {
            // Files of other kinds are ignored.
            if named.is_some() {
                let is_link = fs::symlink_metadata(path).is_ok_and(|there| there.is_symlink());
                let what = match is_link {
                    true => "a link is not followed".to_owned(),
                    false => error.to_string(),
                };
                tracing::warn!(path = %shown, "this should be an instance's directory, and is left alone: {what}");
            }
            return None;
        }
    };
    let home = held.home();
    let written = match home.kept_order() {
        Kept::Read(order) => Some(order.assigned.id),
        _ => None,
    };
    let holder = holder(&home);
    let supervised = match &holder {
        // Whatever was written since: it writes its own order again.
        Ok(Holder::Supervisor(Some(process))) => supervised_by(*process),
        _ => None,
    };
    let Some(id) = supervised.or(written).or(named) else {
        tracing::warn!(path = %shown, "this is not an instance's directory; it is left alone");
        return None;
    };
    let place = Place {
        located: Located::of(id, &held),
        own: named == Some(id),
        held: matches!(holder, Ok(Holder::Supervisor(_))),
    };
    Some((id, place))
}

/// The instance that a process claims to supervise.
pub(super) fn supervised_by(process: Incumbent) -> Option<AssignmentId> {
    supervises(process.pid())?.home.file_name().and_then(id_of)
}

/// The supervisors of all instances of a directory: each holds it open, wherever it was moved since. Those of an
/// earlier version do not; they were started with its name, by which alone they are assigned to it.
pub(super) fn supervisors(directory: &Path) -> Supervisors {
    let (own, name) = (Directory::at(directory).ok(), fs::canonicalize(directory).ok());
    let mut found = Supervisors::new();
    for (pid, supervised) in processes::all()
        .into_iter()
        .filter_map(|(pid, _)| Some((pid, supervises(pid)?)))
    {
        let is_own = match supervised.holds {
            true => own.is_some_and(|own| holds(pid, own)),
            false => name.as_deref() == supervised.home.parent(),
        };
        if let Some(id) = supervised.home.file_name().and_then(id_of)
            && is_own
        {
            found.entry(id).or_default().push(pid);
        }
    }
    found
}

/// A supervisor of this node that holds none of its directories: its directory, or this agent, was moved.
#[derive(Clone, Debug)]
pub(super) struct Astray {
    pub(super) process: Incumbent,
    /// The directory that it holds, and its present name.
    pub(super) place: Directory,
    pub(super) home: PathBuf,
}

/// The live supervisors of a node's instances that hold none of its directories. They are only examined: a copy of a
/// directory has the original's id.
pub(super) fn astray(directory: &Path, node: NodeId) -> BTreeMap<AssignmentId, Vec<Astray>> {
    let mut found: BTreeMap<AssignmentId, Vec<Astray>> = BTreeMap::new();
    let Ok(own) = Directory::at(directory) else {
        return found;
    };
    for (pid, supervised) in processes::all()
        .into_iter()
        .filter_map(|(pid, _)| Some((pid, supervises(pid)?)))
    {
        let id = supervised.home.file_name().and_then(id_of);
        if let (Some(id), Some(place), true) = (id, supervised.place, supervised.node == Some(node))
            && !holds(pid, own)
            // A supervisor that does not hold its directory has only just been started.
            && let Some(home) = name_of_held(pid, place)
            && let Some(process) = Incumbent::of(pid)
        {
            found.entry(id).or_default().push(Astray { process, place, home });
        }
    }
    found
}

/// The present name of a directory that a process holds open.
fn name_of_held(pid: i32, place: Directory) -> Option<PathBuf> {
    let held = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let mut of_place = held.filter(|entry| Directory::at(&entry.path()).is_ok_and(|there| there == place));
    fs::read_link(of_place.next()?.path()).ok()
}

/// The supervisors of one instance of a directory, wherever its own directory is by now.
pub(super) fn supervisors_of(directory: &Path, id: AssignmentId) -> Vec<i32> {
    supervisors(directory).remove(&id).unwrap_or_default()
}

/// The data in a supervisor's command line.
struct Supervised {
    home: PathBuf,
    /// Whether it holds the directory of all instances open.
    holds: bool,
    /// Directory of the instance, and the node that it was assigned to; unknown for a supervisor of an earlier version.
    place: Option<Directory>,
    node: Option<NodeId>,
}

/// Returns whether a process is a supervisor of any instance.
pub(super) fn is_supervisor(pid: i32) -> bool {
    supervises(pid).is_some()
}

/// The data on a supervisor process. Programs of instances may have any command line, and run as other users; a process
/// of this user that claims to be a supervisor is believed.
fn supervises(pid: i32) -> Option<Supervised> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    if fs::metadata(&process).ok()?.uid() != geteuid().as_raw() {
        return None;
    }
    let line = fs::read(process.join("cmdline")).ok()?;
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let [_, b"supervise", home, flags @ ..] = &words[..] else {
        return None;
    };
    let after = |flag: &[u8]| {
        let at = flags.iter().position(|word| *word == flag)?;
        std::str::from_utf8(flags.get(at + 1)?).ok()
    };
    let place = after(b"--place");
    let supervised = Supervised {
        home: PathBuf::from(std::ffi::OsStr::from_bytes(home)),
        holds: place.is_some(),
        place: place.and_then(|place| place.parse().ok()),
        node: after(b"--node").and_then(|node| node.parse().ok()),
    };
    // The number may have been reused by now.
    Incumbent::of(pid).map(|_| supervised)
}
