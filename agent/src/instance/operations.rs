//! The instances' thread: carries out the driver's disk operations, one after the other.
//!
//! The driver hands operations over and never waits. They are carried out in order; while the disk stalls, they wait,
//! whereas orders to running instances (their end, their leases) take another path and do not wait for them.
//! Consecutive beginnings share a write of the list of begun instances, and so do removals.
//!
//! The bound: [`WAITING`] beginnings, beyond which one fails with that reason; one take-over, since a process has one;
//! one presumption, since a list is lost once; and a removal for each instance that existed or waits to be begun.

use std::{
    collections::BTreeSet,
    io, mem,
    path::PathBuf,
    sync::{Arc, OnceLock},
    thread,
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc},
};
use wyneos_core::{
    id::ClusterId,
    workload::{AssignmentId, Status},
};
use wyneos_shell::files;

use super::{
    Groups, Home, Order,
    begin::{make_home, not_begun, not_started, not_wanted, start, write_order},
    begun::Begun,
    conversation::{Attendance, attend},
    disk::Disk,
    held::{Held, Located},
    removal::{Remover, leftovers, put_aside},
};

/// Maximum number of instances that wait to be begun. Beyond it, one fails with that reason, and is placed again.
const WAITING: usize = 4_096;

/// Maximum number of operations that share a write.
const TOGETHER: usize = 256;

/// Location of an instance's directory, once it is known.
pub(super) type Whereabouts = Arc<OnceLock<Located>>;

/// An instance to begin.
pub(super) struct Beginning {
    /// The order of its supervisor, or the reason for which it cannot be begun, which is recorded and reported in its
    /// turn.
    pub(super) order: io::Result<Order>,
    pub(super) attendance: Attendance,
    /// Receives the location of its directory.
    pub(super) whereabouts: Whereabouts,
    /// Place of the instance in the queue.
    pub(super) turn: OwnedSemaphorePermit,
}

/// The remains of earlier agents, which belong to this one from now on.
#[derive(Default)]
pub(super) struct TakeOver {
    /// Directories in which nothing was begun, to be removed.
    pub(super) half_made: Vec<Located>,
    /// Instances whose groups are no longer needed, and managed ones, whose tasks end their groups.
    pub(super) ended: BTreeSet<String>,
    pub(super) known: BTreeSet<String>,
    pub(super) groups: Option<Groups>,
}

/// An operation on the disk.
pub(super) enum Operation {
    Begin(Box<Beginning>),
    TakeOver(Box<TakeOver>),
    /// Record which ids a lost list may have contained.
    Presume(ClusterId, AssignmentId),
    /// Remove everything of an instance.
    Discard(AssignmentId, Whereabouts),
}

/// Hands operations to the instances' thread.
#[derive(Debug)]
pub(super) struct Operations {
    queue: mpsc::UnboundedSender<Operation>,
    turns: Arc<Semaphore>,
}

impl Operations {
    /// Starts the thread, which ends when the returned value is dropped.
    ///
    /// The system cannot create a thread.
    pub(super) fn start(directory: PathBuf, begun: Arc<Begun>, disk: Disk, remover: Remover) -> io::Result<Operations> {
        let (sender, queue) = mpsc::unbounded_channel();
        let worker = Worker {
            runtime: Handle::current(),
            directory,
            begun,
            disk,
            remover,
            unlisted: false,
        };
        let thread = thread::Builder::new().name("instances".to_owned());
        thread.spawn(move || worker.work(queue))?;
        Ok(Operations {
            queue: sender,
            turns: Arc::new(Semaphore::new(WAITING)),
        })
    }

    /// A place in the queue of instances to begin.
    ///
    /// The queue is full.
    pub(super) fn turn(&self) -> io::Result<OwnedSemaphorePermit> {
        Arc::clone(&self.turns)
            .try_acquire_owned()
            .map_err(|error: TryAcquireError| match error {
                TryAcquireError::NoPermits => io::Error::other(format!("{WAITING} others wait for its disk")),
                TryAcquireError::Closed => io::Error::other("its agent is ending"),
            })
    }

    /// Queues an operation.
    pub(super) fn then(&self, operation: Operation) {
        // The thread ends only with this sender, or with its process.
        drop(self.queue.send(operation));
    }
}

/// State of the thread.
struct Worker {
    runtime: Handle,
    directory: PathBuf,
    begun: Arc<Begun>,
    disk: Disk,
    remover: Remover,
    /// Whether the last write of the list of begun instances failed.
    unlisted: bool,
}

impl Worker {
    fn work(mut self, mut queue: mpsc::UnboundedReceiver<Operation>) {
        let runtime = self.runtime.clone();
        let _context = runtime.enter();
        let mut operations = Vec::new();
        while queue.blocking_recv_many(&mut operations, TOGETHER) > 0 {
            let (mut begin, mut discard) = (Vec::new(), Vec::new());
            for operation in operations.drain(..) {
                // Gathered operations of another kind come first.
                if !matches!(operation, Operation::Begin(_)) {
                    self.begin(mem::take(&mut begin));
                }
                if !matches!(operation, Operation::Discard(..)) {
                    self.discard(mem::take(&mut discard));
                }
                match operation {
                    Operation::Begin(beginning) => begin.push(*beginning),
                    Operation::Discard(id, whereabouts) => discard.push((id, whereabouts)),
                    Operation::TakeOver(left) => self.take_over(*left),
                    Operation::Presume(cluster, below) => {
                        self.begun.presume(cluster, below);
                        self.save();
                    }
                }
            }
            self.begin(begin);
            self.discard(discard);
        }
    }

    fn begin(&mut self, beginnings: Vec<Beginning>) {
        let mut written = Vec::new();
        for beginning in beginnings {
            let Beginning {
                order,
                mut attendance,
                whereabouts,
                turn,
            } = beginning;
            match self.write_down(order, &mut attendance, &whereabouts) {
                Ok(()) => written.push((attendance, turn)),
                Err(error) => self.not_begun(attendance, not_started(&error)),
            }
        }
        if written.is_empty() {
            return;
        }
        let ids: Vec<AssignmentId> = written.iter().map(|(attendance, _)| attendance.id).collect();
        let failure = self.begun.add(&ids).err();
        if let Some(error) = &failure
            && !self.unlisted
        {
            tracing::error!(%error, "no instance can be begun on this node: it cannot be written down that it was");
        }
        self.unlisted = failure.is_some();
        for (attendance, _turn) in written {
            self.start(attendance, failure.as_ref());
        }
    }

    /// Writes an order.
    fn write_down(
        &self,
        order: io::Result<Order>,
        attendance: &mut Attendance,
        whereabouts: &Whereabouts,
    ) -> io::Result<()> {
        let held = make_home(&self.directory, attendance.id)?;
        attendance.located = Located::of(attendance.id, &held);
        // It is begun once.
        let _ = whereabouts.set(attendance.located.clone());
        let order = write_order(&held, &order?)?;
        let disk = self.disk.clone();
        self.runtime.spawn(async move {
            let synced = disk.run(move || sync(&held, &order));
            drop(synced.await);
        });
        Ok(())
    }

    fn start(&self, attendance: Attendance, failure: Option<&io::Error>) {
        let stop = attendance.told.borrow().stop.clone();
        if let Some(reason) = stop {
            return self.not_begun(attendance, not_wanted(reason));
        }
        let started = match failure {
            Some(error) => Err(io::Error::other(format!(
                "it cannot be written down that it was begun: {error}"
            ))),
            None => start(&attendance.located, self.begun.node(), false),
        };
        match started {
            Ok(()) => drop(self.runtime.spawn(attend(attendance))),
            Err(error) => self.not_begun(attendance, not_started(&error)),
        }
    }

    fn not_begun(&self, attendance: Attendance, status: Status) {
        self.runtime.spawn(not_begun(attendance, status));
    }

    fn take_over(&self, left: TakeOver) {
        let TakeOver {
            half_made,
            ended,
            known,
            groups,
        } = left;
        let (remover, leftovers) = (self.remover.clone(), leftovers(&self.directory));
        self.runtime.spawn(async move { remover.remove_left(leftovers).await });
        for located in half_made {
            // Immediately, because it may be begun again.
            self.remove(&located);
        }
        self.begun.settle();
        if let Some(groups) = groups {
            let directory = self.directory.clone();
            let is_there = move |id: &str| !ended.contains(id) && (known.contains(id) || directory.join(id).exists());
            let disk = self.disk.clone();
            self.runtime
                .spawn(async move { drop(disk.run(move || groups.clean(is_there)).await) });
        }
    }

    fn discard(&self, ids: Vec<(AssignmentId, Whereabouts)>) {
        if ids.is_empty() {
            return;
        }
        ids.iter().for_each(|(id, _)| self.begun.remove(*id));
        self.save();
        for (id, whereabouts) in ids {
            // A directory with another name was renamed by someone, and is kept.
            if let Some(located) = whereabouts.get()
                && located.name() == Home::of(&self.directory, id).0
            {
                self.remove(located);
            }
        }
    }

    fn save(&self) {
        if let Err(error) = self.begun.save() {
            tracing::warn!(%error, "cannot write the list of begun instances");
        }
    }

    /// Removes a directory, whose name can be reused immediately.
    fn remove(&self, located: &Located) {
        match put_aside(located) {
            Ok(Some(aside)) => {
                let remover = self.remover.clone();
                self.runtime.spawn(async move { remover.remove(aside).await });
            }
            Ok(None) => {}
            Err(error) => tracing::error!(
                path = %located.name().display(), %error,
                "cannot rename the directory of an instance that is no more, in order to remove it; once that is possible, restart the agent, or remove it \
                 by hand"
            ),
        }
    }
}

fn sync(held: &Held, order: &std::fs::File) {
    if let Err(error) = files::sync(&held.home().order(), order) {
        tracing::warn!(path = %held.name().display(), %error, "cannot write the order of an instance to disk");
    }
}
