//! The agent's side of its instances: has supervisors started and managed, and passes messages between them and the
//! logic.
//!
//! Nothing here waits for a disk: this is the driver's task, which keeps the session. Work that needs a disk is an
//! operation of the instances' thread, or is given to [`Disk`]; orders to running instances are left to the tasks that
//! manage them.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::{
    Groups, Order, Prefix,
    begin::{fact, not_started},
    begun::Begun,
    boot_time,
    bury::LOOKS,
    cgroup,
    conversation::{Attendance, Wanted},
    disk::Disk,
    held::{Held, Located},
    logs,
    operations::{Beginning, Operation, Operations, TakeOver, Whereabouts},
    ports::{Allocator, Ports, check_free},
    removal::Remover,
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

use crate::driver::ToAgent;

struct Known {
    /// Allocated ports of the instance.
    ports: Vec<u16>,
    /// The ports that its declaration fixes.
    fixed: Vec<FixedPort>,
    wanted: watch::Sender<Wanted>,
    /// Directory of the instance, which may have a name other than its own; empty while it is not on the disk.
    whereabouts: Whereabouts,
    /// Whether the instances' thread works on it, or will.
    kept: bool,
}

/// Maximum number of logs that are read at the same time. Beyond it, a read fails with that reason.
const READS: usize = 64;

/// The host's means for instances: limits, containment, and the address.
pub(crate) struct Means {
    /// The host's name or address.
    pub(crate) address: String,
    /// Limits of their resource use; `None` if the host has none.
    pub(crate) groups: Option<Groups>,
    /// The reason for which they cannot be contained; `None` if they are.
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
    /// Whether the coordinator has welcomed this agent.
    welcomed: watch::Sender<bool>,
    /// Whether a coordinator has refused this agent: nothing is started without one.
    refused: watch::Sender<bool>,
    /// Start time of this agent.
    began: Instant,
    looks: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    /// Actions that are deferred until the coordinator has welcomed this agent.
    pub(super) waiting: TakeOver,
    /// The instances that were begun on this node.
    pub(super) begun: Arc<Begun>,
    disk: Disk,
    operations: Operations,
}

/// The agent's own state: its paths on the disk and in the hierarchies of control groups, and the begun instances.
pub(crate) struct Own {
    /// The directory of instances, in the working directory of this process, whatever its name.
    pub(crate) instances: PathBuf,
    /// The prefix of the names of their control groups.
    pub(crate) prefix: Prefix,
    /// The list of begun instances.
    pub(crate) begun: Begun,
}

impl Instances {
    /// Examines the instances of earlier agents of this host: running ones, and those that ended meanwhile. Nothing is
    /// touched before [`take_over`](Self::take_over).
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
        let (begun, disk) = (Arc::new(begun), Disk::new());
        let remover = Remover::new(disk.clone());
        let operations = Operations::start(directory.clone(), Arc::clone(&begun), disk.clone(), remover)?;
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
            reads: Arc::new(Semaphore::new(READS)),
            waiting: TakeOver::default(),
            begun,
            disk,
            operations,
        };
        let found = instances.take_stock(now)?;
        Ok((instances, found))
    }

    /// Called once the coordinator has welcomed this agent: the found instances belong to this node and to no other.
    /// Begun instances are continued, and the remains of ended or never begun ones are removed. Nothing is begun before
    /// the coordinator confirms that it is still wanted.
    pub(crate) fn take_over(&mut self) {
        let left = TakeOver {
            // Managed instances are ended by their tasks.
            known: self.known.keys().map(ToString::to_string).collect(),
            groups: self.means.groups.clone(),
            ..std::mem::take(&mut self.waiting)
        };
        self.operations.then(Operation::TakeOver(Box::new(left)));
        self.welcomed.send_replace(true);
    }

    /// Called when a coordinator refuses this agent.
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
        self.know_of(id, order, Arc::new(OnceLock::from(located)), wanted);
    }

    fn know_of(
        &mut self,
        id: AssignmentId,
        order: Option<&Order>,
        whereabouts: Whereabouts,
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
            whereabouts,
            kept: true,
        };
        self.known.insert(id, known);
    }

    /// Creates the management task's state of an instance, which is known from then on.
    pub(super) fn attendance(
        &mut self,
        id: AssignmentId,
        order: Option<&Order>,
        located: Located,
        begun: bool,
    ) -> Attendance {
        let (wanted, told) = watch::channel(Wanted::default());
        let attendance = self.attendance_of(id, order, located.clone(), begun, told);
        self.know(id, order, located, wanted);
        attendance
    }

    fn attendance_of(
        &self,
        id: AssignmentId,
        order: Option<&Order>,
        located: Located,
        begun: bool,
        told: watch::Receiver<Wanted>,
    ) -> Attendance {
        let own = |group: &cgroup::Group| group.is_of(&self.prefix, id);
        let written = order.and_then(|order| order.group.clone()).filter(own);
        Attendance {
            id,
            located,
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
            disk: self.disk.clone(),
            driver: self.driver.clone(),
        }
    }

    /// Queues an instance to be begun.
    pub(crate) fn run(&mut self, assigned: &Arc<Assigned>) {
        let id = assigned.id;
        let turn = match self.check_containment(assigned).and_then(|()| self.operations.turn()) {
            Ok(turn) => turn,
            Err(error) => return self.refuse(id, &error),
        };
        let order = self.order(assigned);
        let (wanted, told) = watch::channel(Wanted::default());
        let nowhere = Located::nowhere(&self.directory, id);
        let attendance = self.attendance_of(id, order.as_ref().ok(), nowhere, false, told);
        let whereabouts = Whereabouts::default();
        self.know_of(id, order.as_ref().ok(), Arc::clone(&whereabouts), wanted);
        self.operations.then(Operation::Begin(Box::new(Beginning {
            order,
            attendance,
            whereabouts,
            turn,
        })));
    }

    /// Reports that an instance cannot be begun, with nothing of it on the disk.
    fn refuse(&mut self, id: AssignmentId, error: &io::Error) {
        self.known.entry(id).or_insert_with(|| Known {
            ports: Vec::new(),
            fixed: Vec::new(),
            wanted: watch::Sender::default(),
            whereabouts: Whereabouts::default(),
            kept: false,
        });
        let (driver, status) = (self.driver.clone(), not_started(error));
        tokio::spawn(async move { drop(driver.send(fact(id, status)).await) });
    }

    fn check_containment(&self, assigned: &Assigned) -> io::Result<()> {
        match self.means.uncontained.as_ref().filter(|_| assigned.spec.singleton) {
            Some(why) => Err(io::Error::other(format!(
                "it is a singleton, and this node cannot contain what it runs: {why}"
            ))),
            None => Ok(()),
        }
    }

    /// The order of a supervisor, with allocated ports.
    fn order(&mut self, assigned: &Assigned) -> io::Result<Order> {
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
        Ok(Order {
            assigned: assigned.clone(),
            ports,
            ephemeral: self.ephemeral,
            node: self.node.clone(),
            of: Some(self.begun.node()),
            address: self.means.address.clone(),
            contained: self.means.uncontained.is_none(),
            group: self.means.groups.as_ref().map(|groups| groups.of(assigned.id)),
        })
    }

    /// Releases the ports of an instance without processes.
    pub(crate) fn ended(&mut self, id: AssignmentId) {
        if let Some(known) = self.known.get_mut(&id) {
            known.ports.clear();
            known.fixed.clear();
        }
    }

    /// Ends an instance permanently.
    pub(crate) fn halt(&self, id: AssignmentId, reason: String) {
        if let Some(known) = self.known.get(&id) {
            known.wanted.send_modify(|wanted| wanted.stop = Some(reason));
        }
    }

    /// Extends the lease of a singleton by this time.
    pub(crate) fn lend(&self, id: AssignmentId, left: Duration) {
        let Time(until) = boot_time() + left;
        if let Some(known) = self.known.get(&id) {
            known.wanted.send_modify(|wanted| wanted.lease = Some(until));
        }
    }

    /// Removes the remains of an ended instance.
    pub(crate) fn discard(&mut self, id: AssignmentId) {
        let whereabouts = match self.known.remove(&id) {
            Some(known) if !known.kept => return,
            Some(known) => known.whereabouts,
            None => Whereabouts::default(),
        };
        self.operations.then(Operation::Discard(id, whereabouts));
    }

    /// Records which ids a lost list may have contained.
    pub(crate) fn presume(&self, cluster: ClusterId, below: AssignmentId) {
        self.operations.then(Operation::Presume(cluster, below));
    }

    /// Reads an instance's output.
    pub(crate) fn read_log(&self, request: log::Request) {
        let known = self.known.get(&request.id);
        let located = known.and_then(|known| known.whereabouts.get().cloned());
        let (driver, disk) = (self.driver.clone(), self.disk.clone());
        let turn = Arc::clone(&self.reads).try_acquire_owned();
        tokio::spawn(async move {
            let number = request.number;
            let failed = |error: String| log::Chunk {
                number,
                error,
                ..log::Chunk::default()
            };
            let chunk = match turn {
                Ok(_turn) => {
                    let read = disk.run(move || read_log(located, &request)).await;
                    read.unwrap_or_else(|error| failed(error.to_string()))
                }
                Err(_) => failed(format!("{READS} others wait for what its disk keeps")),
            };
            drop(driver.send(ToAgent::Fact(Input::LogRead(chunk))).await);
        });
    }
}

fn read_log(located: Option<Located>, request: &log::Request) -> log::Chunk {
    let held = located.and_then(|located| located.enter().ok());
    let logs = held.as_ref().map(|held: &Held| held.home().logs());
    match logs.filter(|logs| logs.is_dir()) {
        Some(logs) => logs::read(&logs, request),
        None => log::Chunk {
            number: request.number,
            error: "what it wrote is not kept any more".to_owned(),
            ..log::Chunk::default()
        },
    }
}
