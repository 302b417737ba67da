//! The agent's side of its instances: has supervisors started and attended, and passes on what both say.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::Instant,
};
use wyneos_core::{
    agent::{Found, Input},
    id::ClusterId,
    time::{Time, WallTime},
    workload::{Assigned, AssignmentId, FixedPort, log},
};
use wyneos_shell::files;

use super::{
    Groups, Home, Order, Prefix, Unbegun,
    begin::{Beginner, fact, not_started, write_off},
    begun::Begun,
    boot_time,
    bury::LOOKS,
    cgroup,
    conversation::{Attendance, Wanted},
    held::{Held, Located},
    logs,
    ports::{Allocator, Ports, check_free},
    removal::{self, Remover, put_aside},
};

use crate::driver::ToAgent;

struct Known {
    /// The ports that it was given.
    ports: Vec<u16>,
    /// Those that its declaration fixes.
    fixed: Vec<FixedPort>,
    wanted: watch::Sender<Wanted>,
    /// Its directory, which may have another name than its own.
    located: Located,
}

/// What instances have of their host: its means to limit and contain them, and where they are reached.
pub(crate) struct Means {
    /// The host's name or address.
    pub(crate) address: String,
    /// Limits of what they use; `None` where the host has none.
    pub(crate) groups: Option<Groups>,
    /// Why they cannot be contained; `None` where they are.
    pub(crate) uncontained: Option<String>,
}

/// The instances of this host.
pub(crate) struct Instances {
    pub(super) directory: PathBuf,
    node: String,
    ports: Allocator,
    prefix: Prefix,
    means: Means,
    ephemeral: bool,
    driver: mpsc::Sender<ToAgent>,
    known: BTreeMap<AssignmentId, Known>,
    /// The coordinator has welcomed this agent.
    welcomed: watch::Sender<bool>,
    /// A coordinator has answered, and refused this agent: nothing is started without one.
    refused: watch::Sender<bool>,
    /// When this agent was started.
    began: Instant,
    looks: Arc<Semaphore>,
    pub(super) waiting: Waiting,
    /// What was begun on this node.
    pub(super) begun: Arc<Begun>,
    beginner: Beginner,
    remover: Remover,
}

/// Work that is deferred until the coordinator has welcomed this agent.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) half_made: Vec<Located>,
    /// Ids of instances whose groups are of no use any more.
    pub(super) ended: BTreeSet<String>,
}

/// An agent's own: its places on the disk and in the hierarchies of control groups, and what was begun there.
pub(crate) struct Own {
    /// Where instances have their directories; in the directory that this process is in, whatever its name.
    pub(crate) instances: PathBuf,
    /// The prefix of the names of their control groups.
    pub(crate) prefix: Prefix,
    /// What was begun of them.
    pub(crate) begun: Begun,
}

impl Instances {
    /// Looks at what earlier agents of this host left: instances that run, and those that ended meanwhile. Nothing is touched before
    /// [`take_over`](Self::take_over).
    pub(crate) fn find(
        place: Own,
        node: String,
        ports: Ports,
        means: Means,
        ephemeral: bool,
        now: WallTime,
        driver: mpsc::Sender<ToAgent>,
    ) -> io::Result<(Instances, Vec<Found>)> {
        let Own {
            instances: directory,
            prefix,
            begun,
        } = place;
        let begun = Arc::new(begun);
        let mut instances = Instances {
            directory,
            node,
            ports: Allocator::new(ports),
            prefix,
            means,
            ephemeral,
            driver,
            known: BTreeMap::new(),
            welcomed: watch::Sender::new(false),
            refused: watch::Sender::new(false),
            began: Instant::now(),
            looks: Arc::new(Semaphore::new(LOOKS)),
            waiting: Waiting::default(),
            beginner: Beginner::new(Arc::clone(&begun)),
            remover: Remover::new(),
            begun,
        };
        let found = instances.take_stock(now)?;
        Ok((instances, found))
    }

    /// The coordinator has welcomed this agent: what was found is this node's, and nobody else's. What was begun is gone on with, and what is left of
    /// instances that are gone, or were never begun, is removed. Nothing is begun before the coordinator says that it still wants it.
    pub(crate) fn take_over(&mut self) {
        let Waiting { half_made, ended } = std::mem::take(&mut self.waiting);
        if !*self.welcomed.borrow() {
            let (remover, left) = (self.remover.clone(), removal::leftovers(&self.directory));
            tokio::spawn(async move { remover.remove_left(left).await });
        }
        for located in half_made {
            // At once: it may be begun anew.
            remove(&self.remover, put_aside(&located), &located);
        }
        self.welcomed.send_replace(true);
        let begun = Arc::clone(&self.begun);
        tokio::task::spawn_blocking(move || begun.settle());
        if let Some(groups) = self.means.groups.clone() {
            let directory = self.directory.clone();
            // Those that are attended are ended by whoever attends them.
            let known: BTreeSet<String> = self.known.keys().map(ToString::to_string).collect();
            let is_there = move |id: &str| !ended.contains(id) && (known.contains(id) || directory.join(id).exists());
            tokio::task::spawn_blocking(move || groups.clean(is_there));
        }
    }

    /// A coordinator is there, and refuses this agent.
    pub(crate) fn are_refused(&self) {
        self.refused.send_replace(true);
    }

    pub(super) fn know(
        &mut self,
        id: AssignmentId,
        order: Option<&Order>,
        located: Located,
        wanted: watch::Sender<Wanted>,
    ) {
        let (mut ports, mut fixed) = (Vec::new(), Vec::new());
        if let Some(order) = order {
            let spec = &order.assigned.spec;
            for (name, port) in spec.ports.iter().zip(&order.ports) {
                match spec.fixed_ports.get(name) {
                    Some(own) => fixed.push(*own),
                    None => ports.push(*port),
                }
            }
        }
        let known = Known {
            ports,
            fixed,
            wanted,
            located,
        };
        self.known.insert(id, known);
    }

    /// What it takes to attend an instance, which is known from then on.
    pub(super) fn attendance(
        &mut self,
        id: AssignmentId,
        order: Option<&Order>,
        located: Located,
        begun: bool,
    ) -> Attendance {
        let (wanted, told) = watch::channel(Wanted::default());
        let own = |group: &cgroup::Group| group.is_of(&self.prefix, id);
        let written = order.and_then(|order| order.group.clone()).filter(own);
        let attendance = Attendance {
            id,
            located: located.clone(),
            directory: self.directory.clone(),
            list: Arc::clone(&self.begun),
            begun,
            singleton: order.is_some_and(|order| order.assigned.spec.singleton),
            grace: order.map_or(Duration::ZERO, |order| order.assigned.spec.stop.grace),
            batch: order.map(|order| order.assigned.spec.kind.is_batch()),
            contained: order.map(|order| order.contained),
            group: written.or_else(|| self.means.groups.as_ref().map(|groups| groups.of(id))),
            told,
            welcomed: self.welcomed.subscribe(),
            refused: self.refused.subscribe(),
            alone_from: order
                .filter(|order| order.of.is_none_or(|of| of == self.begun.node()))
                .and_then(Order::starts_alone)
                .map(|wait| self.began + wait),
            looks: Arc::clone(&self.looks),
            driver: self.driver.clone(),
        };
        self.know(id, order, located, wanted);
        attendance
    }

    /// Has an instance begun.
    pub(crate) fn run(&mut self, assigned: &Arc<Assigned>) {
        let mut located = Located::nowhere(&self.directory, assigned.id);
        if let Err(error) = self.try_run(assigned, &mut located) {
            self.not_started(located, &error);
        }
    }

    fn not_started(&mut self, located: Located, error: &io::Error) {
        let (id, status) = (located.id(), not_started(error));
        self.known.entry(id).or_insert_with(|| Known {
            ports: Vec::new(),
            fixed: Vec::new(),
            wanted: watch::Sender::default(),
            located: located.clone(),
        });
        let driver = self.driver.clone();
        tokio::spawn(async move {
            write_off(located, status.clone()).await;
            drop(driver.send(fact(id, status)).await);
        });
    }

    fn check_containment(&self, assigned: &Assigned) -> io::Result<()> {
        match self.means.uncontained.as_ref().filter(|_| assigned.spec.singleton) {
            Some(why) => Err(io::Error::other(format!(
                "it is a singleton, and this node cannot contain what it runs: {why}"
            ))),
            None => Ok(()),
        }
    }

    fn try_run(&mut self, assigned: &Arc<Assigned>, located: &mut Located) -> io::Result<()> {
        self.check_containment(assigned)?;
        // Its log can be read before it has written anything.
        let held = Home::of(&self.directory, assigned.id).make()?;
        *located = Located::of(assigned.id, &held);
        let known = &self.known;
        let has =
            |known: &Known, port| known.ports.contains(&port) || known.fixed.iter().any(|fixed| fixed.port == port);
        let spec = &assigned.spec;
        let own = |port| spec.fixed_ports.values().any(|fixed| fixed.port == port);
        let taken = |port| own(port) || known.values().any(|known| has(known, port));
        let mut ports = Vec::new();
        for name in &spec.ports {
            ports.push(match spec.fixed_ports.get(name) {
                Some(fixed) => {
                    let clashes = |known: &Known| known.ports.contains(&fixed.port) || known.fixed.contains(fixed);
                    if let Some((other, _)) = known.iter().find(|(_, known)| clashes(known)) {
                        let what = format!("port {name:?}, {fixed}, is the one of instance {other}");
                        return Err(io::Error::new(io::ErrorKind::AddrInUse, what));
                    }
                    check_free(name, *fixed, &self.means.address)?;
                    fixed.port
                }
                None => self.ports.next(taken)?,
            });
        }
        let order = Order {
            assigned: Assigned::clone(assigned),
            ports,
            ephemeral: self.ephemeral,
            node: self.node.clone(),
            of: Some(self.begun.node()),
            address: self.means.address.clone(),
            contained: self.means.uncontained.is_none(),
            group: self.means.groups.as_ref().map(|groups| groups.of(assigned.id)),
        };
        Unbegun::write(&held)?;
        write_order(held, &order)?;
        let attendance = self.attendance(assigned.id, Some(&order), located.clone(), false);
        self.beginner.begin(attendance)
    }

    /// No process of an instance is left: others may have its ports.
    pub(crate) fn ended(&mut self, id: AssignmentId) {
        if let Some(known) = self.known.get_mut(&id) {
            known.ports.clear();
            known.fixed.clear();
        }
    }

    /// Has an instance end for good.
    pub(crate) fn halt(&self, id: AssignmentId, reason: String) {
        if let Some(known) = self.known.get(&id) {
            known.wanted.send_modify(|wanted| wanted.stop = Some(reason));
        }
    }

    /// A singleton may run for so long.
    pub(crate) fn lend(&self, id: AssignmentId, left: Duration) {
        let Time(until) = boot_time() + left;
        if let Some(known) = self.known.get(&id) {
            known.wanted.send_modify(|wanted| wanted.lease = Some(until));
        }
    }

    /// Removes what an instance that ended left behind.
    pub(crate) fn discard(&mut self, id: AssignmentId) {
        let known = self.known.remove(&id);
        let located = known.map_or_else(|| Located::nowhere(&self.directory, id), |known| known.located);
        let begun = Arc::clone(&self.begun);
        begun.remove(id);
        let remover = self.remover.clone();
        // What bears another name was put aside by somebody, and stays.
        let is_own = located.name() == Home::of(&self.directory, id).0;
        tokio::spawn(async move {
            let from = located.clone();
            let aside = tokio::task::spawn_blocking(move || {
                if let Err(error) = begun.save() {
                    tracing::warn!(%error, "cannot write the list of the instances that were begun");
                }
                match is_own {
                    true => put_aside(&from),
                    false => Ok(None),
                }
            });
            remove(
                &remover,
                aside.await.unwrap_or_else(|error| Err(io::Error::other(error))),
                &located,
            );
        });
    }

    /// What a list that was lost may have had on it is known, and is written down.
    pub(crate) fn presume(&self, cluster: ClusterId, below: AssignmentId) {
        self.begun.presume(cluster, below);
        let begun = Arc::clone(&self.begun);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = begun.save() {
                tracing::warn!(%error, "cannot write the list of the instances that were begun");
            }
        });
    }

    /// Reads what an instance wrote.
    pub(crate) fn read_log(&self, request: log::Request) {
        let known = self.known.get(&request.id).map(|known| known.located.clone());
        let driver = self.driver.clone();
        tokio::task::spawn_blocking(move || {
            let held = known.and_then(|located| located.enter().ok());
            let logs = held.as_ref().map(|held| held.home().logs());
            let chunk = match logs.filter(|logs| logs.is_dir()) {
                Some(logs) => logs::read(&logs, &request),
                None => log::Chunk {
                    number: request.number,
                    error: "what it wrote is not kept any more".to_owned(),
                    ..log::Chunk::default()
                },
            };
            drop(driver.blocking_send(ToAgent::Fact(Input::LogRead(chunk))));
        });
    }
}

/// Has a directory removed that was put aside, in its turn.
fn remove(remover: &Remover, aside: io::Result<Option<PathBuf>>, located: &Located) {
    match aside {
        Ok(Some(aside)) => {
            let remover = remover.clone();
            tokio::spawn(async move { remover.remove(aside).await });
        }
        Ok(None) => {}
        Err(error) => tracing::error!(
            path = %located.name().display(), %error,
            "cannot rename the directory of an instance that is no more, in order to remove it; once that is possible, restart the agent, or remove it \
             by hand"
        ),
    }
}

/// Writes down what a supervisor is to run. It is on the disk a moment later: this is the task that also sends heartbeats, and an order that is lost
/// with the host's power was not begun, as a supervisor has written down that it begins before it does.
fn write_order(held: Held, order: &Order) -> io::Result<()> {
    let path = held.home().order();
    let file = files::write_whole(&path, &serde_json::to_vec(order)?, 0o600)?;
    tokio::task::spawn_blocking(move || {
        if let Err(error) = files::sync(&path, &file) {
            tracing::warn!(path = %held.name().display(), %error, "cannot write the order of an instance to disk");
        }
    });
    Ok(())
}
