//! What a check started, also when its runner is not there any more to end it.
//!
//! A runner is killed by others (SIGKILL, the kernel for want of memory) and its check's processes fall to the first process of the instance's
//! namespaces, among those of the program. A check cannot have a PID namespace of its own: it would not see what it checks by the numbers that the
//! program wrote down. So it has a UTS namespace of its own (uts_namespaces(7)), which does nothing but be inherited: leaving it takes root's rights,
//! or a user namespace. Where none can be made, a mark in the environment has to do.

use std::{
    fs::{self, File},
    io,
};

use nix::sched::{CloneFlags, setns, unshare};

use super::{held::Place, note, processes::threads};

#[cfg(test)]
mod tests;

/// Names the run of a check to whatever it starts.
pub(super) const CHECK: &str = "WYNEOS_CHECK";

/// Which namespace a thread's children get.
const OWN: &str = "/proc/thread-self/ns/uts";

/// What everything carries that one run of a check started.
#[derive(Debug)]
pub(super) struct Tag {
    /// Held open, so that its number is no other namespace's.
    namespace: Option<(File, Place)>,
    mark: String,
}

impl Tag {
    /// Starts what is to carry a tag; `name` is that of the run, as the program finds it in its environment.
    ///
    /// # Errors
    /// Those of `start`.
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
            // The program would carry it, too, and be ended with a check.
            note(&format!("cannot leave a UTS namespace: {error}"));
            std::process::exit(1);
        }
        let tag = Tag {
            namespace: namespace?,
            mark: format!("{CHECK}={name}"),
        };
        Ok((tag, started?))
    }

    /// Those of some processes that carry it. The caller names its own: anybody may write a mark.
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
