//! Processes of a check, even if its runner is gone and cannot end them.
//!
//! When a runner is killed by others (SIGKILL, the kernel for lack of memory), its check's processes are adopted by the
//! first process of the instance's namespaces, among those of the program. A check cannot have its own PID namespace:
//! it would not see the checked processes by the numbers that the program wrote down. So it has its own UTS namespace
//! (uts_namespaces(7)), which is only inherited: leaving it takes root's permissions, or a user namespace. If none can
//! be created, a mark in the environment must suffice.

use std::{
    fs::{self, File},
    io,
};

use nix::sched::{CloneFlags, setns, unshare};

use super::{held::Place, note, processes::threads};

#[cfg(test)]
mod tests;

/// Environment variable with the run of a check.
pub(super) const CHECK: &str = "WYNEOS_CHECK";

/// The namespace of a thread's children.
const OWN: &str = "/proc/thread-self/ns/uts";

/// The tag of all processes that one run of a check started.
#[derive(Debug)]
pub(super) struct Tag {
    /// Held open, so that its number is not reused.
    namespace: Option<(File, Place)>,
    mark: String,
}

impl Tag {
    /// Starts a process with a tag; `name` identifies the run in the program's environment.
    ///
    /// Errors of `start`.
    pub(super) fn start<T>(name: &str, start: impl FnOnce() -> io::Result<T>) -> io::Result<(Tag, T)> {
        let own = File::open(OWN)?;
        let made = unshare(CloneFlags::CLONE_NEWUTS).is_ok();
        let namespace = || {
            let file = File::open(OWN)?;
            let place = Place::of(&file.metadata()?);
            io::Result::Ok((file, place))
        };
        let namespace = made.then(namespace).transpose();
        let started = start();
        if made && let Err(error) = setns(&own, CloneFlags::CLONE_NEWUTS) {
            // Otherwise the program would carry it, too, and be ended with a check.
            note(&format!("cannot leave a UTS namespace: {error}"));
            std::process::exit(1);
        }
        let tag = Tag {
            namespace: namespace?,
            mark: format!("{CHECK}={name}"),
        };
        Ok((tag, started?))
    }

    /// The processes in `among` that carry it. The caller passes only its own processes, because any process can write
    /// a mark.
    pub(super) fn carriers(&self, among: Vec<i32>) -> Vec<i32> {
        let in_namespace = |thread: &fs::DirEntry| {
            let known = self.namespace.as_ref().map(|(_, place)| *place);
            known.is_some() && Place::at(&thread.path().join("ns/uts")).ok() == known
        };
        let marked = |thread: &fs::DirEntry| {
            let environment = fs::read(thread.path().join("environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|entry| entry == self.mark.as_bytes())
        };
        let is_one = |pid: &i32| threads(*pid).any(|thread| in_namespace(&thread) || marked(&thread));
        among.into_iter().filter(is_one).collect()
    }
}
