//! Processes that an instance left without a supervisor, if no namespace has ended them: they are identified by the
//! mark in their environment.
//!
//! A mark is a claim: every process writes its own environment, and could keep an instance from ever counting as ended.
//! A mark therefore counts only if the kernel has not ended everything, for a user that the instance can have, and for
//! a process that does not belong to another instance.

use std::{collections::BTreeMap, fs};

use rustix::process::geteuid;

use super::{
    Home, Kept,
    places::is_supervisor,
    processes::{self, Mark},
    user::Identity,
};

#[cfg(test)]
mod tests;

/// The processes that count as an instance's because of its mark. `home` is its directory, if it exists; `contained` is
/// unknown if its order could not be read.
pub(super) fn of(home: Option<&Home>, mark: &Mark, contained: Option<bool>) -> Vec<i32> {
    let contained = contained.or_else(|| match home?.kept_order() {
        Kept::Read(order) => Some(order.contained),
        _ => None,
    });
    // The first process was ended with its supervisor, and is waited for. If it is not known, the mark must suffice.
    let is_told = home.is_none_or(|home| !matches!(home.kept_first(), Kept::Unreadable(..)));
    if contained == Some(true) && is_told {
        return Vec::new();
    }
    let marked = processes::marked(mark);
    if marked.is_empty() {
        return marked;
    }
    let (user, parents) = (user_of(home), processes::all().into_iter().collect());
    let own = |pid: &i32| user.is_none_or(|user| has_user(*pid, user)) && !is_supervised(*pid, &parents);
    marked.into_iter().filter(own).collect()
}

/// The user of every process of an instance; `None` if that may be any: its program runs as root, or as an unknown
/// user.
fn user_of(home: Option<&Home>) -> Option<u32> {
    let own = geteuid();
    match own.is_root() {
        true => home.and_then(Identity::kept).filter(|user| *user != 0),
        false => Some(own.as_raw()),
    }
}

/// Returns whether one of a process's user ids is this one: a program that changes its effective id keeps another.
/// proc_pid_status(5), `Uid`.
fn has_user(pid: i32, user: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mut lines = status.lines().filter_map(|line| line.strip_prefix("Uid:"));
    let ids = lines.next().unwrap_or_default();
    ids.split_whitespace().any(|id| id.parse() == Ok(user))
}

/// Returns whether a process descends from a live supervisor, which is responsible for it.
fn is_supervised(pid: i32, parents: &BTreeMap<i32, i32>) -> bool {
    let mut seen = std::collections::BTreeSet::new();
    let mut next = Some(pid);
    while let Some(pid) = next {
        // Numbers may have been reused between two scans.
        if !seen.insert(pid) {
            return false;
        }
        if is_supervisor(pid) {
            return true;
        }
        next = parents.get(&pid).copied();
    }
    false
}
