//! The agent's side: starts supervisors, finds them again, and passes on what both say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    net::{Ipv4Addr, TcpListener},
    ops::RangeInclusive,
    path::PathBuf,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, watch};
use wyneos_core::{
    agent::{Found, Input},
    id::ClusterId,
    time::{Time, WallTime},
    workload::{Assigned, AssignmentId, log},
};
use wyneos_shell::files;

use super::{
    Groups, Home, Order, Prefix,
    begin::{Beginner, fact, not_started, write_off},
    begun::Begun,
    boot_time,
    bury::LOOKS,
    cgroup,
    conversation::{Attendance, Wanted, attend},
    found::{Left, Look, look},
    logs, lost,
    places::{Astray, Place, astray, places, supervisors},
    removal::{self, Remover, put_aside},
};

use crate::driver::ToAgent;

/// The ports that are given to instances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Ports(pub(crate) RangeInclusive<u16>);

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Ports, String> {
        let wrong = || format!("{text:?} is not FIRST-LAST, as in 20000-29999");
        let (first, last) = text.split_once('-').ok_or_else(wrong)?;
        let (first, last) = (first.trim().parse::<u16>(), last.trim().parse::<u16>());
        match (first, last) {
            (Ok(first @ 1..), Ok(last)) if first <= last => Ok(Ports(first..=last)),
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Ports {
    type Error = String;

    fn try_from(text: String) -> Result<Ports, String> {
        text.parse()
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.start(), self.0.end())
    }
}

impl From<Ports> for String {
    fn from(ports: Ports) -> String {
        ports.to_string()
    }
}

struct Known {
    ports: Vec<u16>,
    wanted: watch::Sender<Wanted>,
    /// Its directory, which may have another name than its own.
    home: Home,
}

/// How an instance was lost.
#[derive(Clone, Copy)]
enum LostBy {
    /// There is no directory of its name.
    Missing,
    /// There is one, and nothing in it is the instance's.
    Unrecognisable,
}

/// The host's means to limit and contain instances.
pub(crate) struct Means {
    /// Limits of what they use; `None` where the host has none.
    pub(crate) groups: Option<Groups>,
    /// Why they cannot be contained; `None` where they are.
    pub(crate) uncontained: Option<String>,
}

/// The instances of this host.
pub(crate) struct Instances {
    directory: PathBuf,
    node: String,
    ports: Ports,
    prefix: Prefix,
    means: Means,
    ephemeral: bool,
    driver: mpsc::Sender<ToAgent>,
    known: BTreeMap<AssignmentId, Known>,
    /// Where the search for a free port begins.
    next_port: u16,
    /// The coordinator has welcomed this agent.
    welcomed: watch::Sender<bool>,
    looks: Arc<Semaphore>,
    waiting: Waiting,
    /// What was begun on this node.
    begun: Arc<Begun>,
    beginner: Beginner,
    remover: Remover,
}

/// Work that is deferred until the coordinator has welcomed this agent.
#[derive(Default)]
struct Waiting {
    half_made: Vec<Home>,
    unstarted: Vec<Order>,
    /// Ids of instances whose groups are of no use any more.
    ended: BTreeSet<String>,
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
        // Agents that share a host do not all begin with the same.
        let range = u32::from(*ports.0.end() - *ports.0.start()) + 1;
        let offset = std::process::id().wrapping_mul(7_919) % range;
        let next_port = ports.0.start() + offset as u16;
        let mut instances = Instances {
            directory,
            node,
            ports,
            prefix,
            means,
            ephemeral,
            driver,
            known: BTreeMap::new(),
            next_port,
            welcomed: watch::Sender::new(false),
            looks: Arc::new(Semaphore::new(LOOKS)),
            waiting: Waiting::default(),
            beginner: Beginner::new(Arc::clone(&begun)),
            remover: Remover::new(),
            begun,
        };
        let found = instances.take_stock(now)?;
        Ok((instances, found))
    }

    /// What is here: in directories, on the list of what was begun, and by supervisors that live.
    fn take_stock(&mut self, now: WallTime) -> io::Result<Vec<Found>> {
        let supervisors = supervisors(&self.directory);
        let places = places(&self.directory, &supervisors)?;
        let mut astray = astray(&self.directory, self.begun.node());
        // What is attended here is told by its own supervisor.
        astray.retain(|id, _| !supervisors.contains_key(id) && !places.get(id).is_some_and(|place| place.held));
        let mut ids = self.begun.ids();
        ids.extend(supervisors.keys().chain(places.keys()).chain(astray.keys()));
        let mut found = Vec::new();
        for id in ids {
            if let Some(others) = astray.remove(&id) {
                found.push(self.find_astray(id, others, places.contains_key(&id)));
                continue;
            }
            let begun = self.begun.may_have(id) || supervisors.contains_key(&id);
            found.extend(match places.get(&id) {
                Some(place) if begun || place.held || place.own => self.find_one(id, place, begun, now),
                None if begun => Some(self.find_lost(id, LostBy::Missing)),
                place => {
                    let path = place.map(|place| place.home.0.display().to_string());
                    tracing::warn!(
                        path,
                        "this was never an instance of this node, or has ended long ago; it is left alone"
                    );
                    None
                }
            });
        }
        Ok(found)
    }

    fn find_one(&mut self, id: AssignmentId, place: &Place, begun: bool, now: WallTime) -> Option<Found> {
        let home = &place.home;
        let Look { order, status, left } = look(home, begun, now);
        let own = self.begun.node();
        let other = order.as_ref().and_then(|order| order.of).filter(|of| *of != own);
        if let Some(node) = other {
            tracing::error!(
                instance = %id, %node,
                "node-id was replaced: this instance was given to another node, and ends once the coordinator has welcomed this agent"
            );
        }
        match left {
            Left::HalfMade if place.own => {
                self.waiting.half_made.push(home.clone());
                return None;
            }
            Left::Unstarted if place.own && other.is_none() => self.waiting.unstarted.extend(order.clone()),
            // It was never begun, and is not to be: of another name, somebody wants to keep it.
            Left::HalfMade | Left::Unstarted => return None,
            Left::Lost => return Some(self.find_lost(id, LostBy::Unrecognisable)),
            Left::Ended => {
                self.waiting.ended.insert(id.to_string());
                let (wanted, _) = watch::channel(Wanted::default());
                self.know(id, order.as_ref(), home.clone(), wanted);
            }
            Left::Attended => {
                let attendance = self.attendance(id, order.as_ref(), home.clone(), begun);
                tokio::spawn(attend(attendance));
            }
        }
        let assigned = order.map(|order| Arc::new(order.assigned));
        Some(Found {
            id,
            assigned,
            status,
            of_another: other.is_some(),
        })
    }

    /// It was begun, and nothing here says what it is or how: it is not begun again, and what is left of it is ended.
    fn find_lost(&mut self, id: AssignmentId, by: LostBy) -> Found {
        let home = Home::of(&self.directory, id);
        let what = match by {
            LostBy::Missing => format!(
                "it was begun, and its directory is not there any more: {}",
                home.0.display()
            ),
            LostBy::Unrecognisable => format!(
                "it was begun, and nothing in its directory says what it is: {}",
                home.0.display()
            ),
        };
        tracing::error!(instance = %id, "{what}; it is not begun again");
        let status = lost::ending(&what);
        let attendance = self.attendance(id, None, home, true);
        tokio::spawn(lost::attend(attendance, what));
        Found {
            id,
            assigned: None,
            status,
            of_another: false,
        }
    }

    /// Its supervisors live and hold none of this agent's directories, of which one may be a copy of theirs: it has not ended, and is not this agent's to
    /// end.
    fn find_astray(&mut self, id: AssignmentId, others: Vec<Astray>, is_copied: bool) -> Found {
        let status = lost::astray(&others, is_copied);
        tracing::error!(instance = %id, "{}", status.detail);
        let attendance = self.attendance(id, None, Home::of(&self.directory, id), true);
        tokio::spawn(lost::attend_astray(attendance, others, is_copied));
        Found {
            id,
            assigned: None,
            status,
            of_another: false,
        }
    }

    /// The coordinator has welcomed this agent: what was found is this node's, and nobody else's. What was begun is gone on with, and what is left of
    /// instances that are gone is removed.
    pub(crate) fn take_over(&mut self) {
        let Waiting {
            half_made,
            unstarted,
            ended,
        } = std::mem::take(&mut self.waiting);
        if !*self.welcomed.borrow() {
            let (remover, left) = (self.remover.clone(), removal::leftovers(&self.directory));
            tokio::spawn(async move { remover.remove_left(left).await });
        }
        for home in half_made {
            // At once: it may be begun anew.
            remove(&self.remover, put_aside(&home), &home);
        }
        for order in unstarted {
            let (id, home) = (order.assigned.id, Home::of(&self.directory, order.assigned.id));
            if let Err(error) = self.begin_late(order, &home) {
                self.not_started(id, &home, &error);
            }
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

    /// Begins what an earlier agent wrote down and did not begin; in a group of this one's.
    fn begin_late(&mut self, mut order: Order, home: &Home) -> io::Result<()> {
        let group = self.means.groups.as_ref().map(|groups| groups.of(order.assigned.id));
        self.check_containment(&order.assigned)?;
        let contained = self.means.uncontained.is_none();
        if order.group != group || order.contained != contained {
            (order.group, order.contained) = (group, contained);
            write_order(home, &order)?;
        }
        self.begin(&order, home)
    }

    fn begin(&mut self, order: &Order, home: &Home) -> io::Result<()> {
        let attendance = self.attendance(order.assigned.id, Some(order), home.clone(), false);
        self.beginner.begin(attendance)
    }

    fn know(&mut self, id: AssignmentId, order: Option<&Order>, home: Home, wanted: watch::Sender<Wanted>) {
        let ports = order.map_or_else(Vec::new, |order| order.ports.clone());
        self.known.insert(id, Known { ports, wanted, home });
    }

    /// What it takes to attend an instance, which is known from then on.
    fn attendance(&mut self, id: AssignmentId, order: Option<&Order>, home: Home, begun: bool) -> Attendance {
        let (wanted, told) = watch::channel(Wanted::default());
        let own = |group: &cgroup::Group| group.is_of(&self.prefix, id);
        let written = order.and_then(|order| order.group.clone()).filter(own);
        let attendance = Attendance {
            id,
            home: home.clone(),
            begun,
            singleton: order.is_some_and(|order| order.assigned.spec.singleton),
            grace: order.map_or(Duration::ZERO, |order| order.assigned.spec.stop.grace),
            group: written.or_else(|| self.means.groups.as_ref().map(|groups| groups.of(id))),
            told,
            welcomed: self.welcomed.subscribe(),
            looks: Arc::clone(&self.looks),
            driver: self.driver.clone(),
        };
        self.know(id, order, home, wanted);
        attendance
    }

    /// Has an instance begun.
    pub(crate) fn run(&mut self, assigned: &Arc<Assigned>) {
        let (id, home) = (assigned.id, Home::of(&self.directory, assigned.id));
        if let Err(error) = self.try_run(assigned, &home) {
            self.not_started(id, &home, &error);
        }
    }

    fn not_started(&mut self, id: AssignmentId, home: &Home, error: &io::Error) {
        let status = not_started(error);
        self.known.entry(id).or_insert_with(|| Known {
            ports: Vec::new(),
            wanted: watch::Sender::default(),
            home: home.clone(),
        });
        let (driver, home) = (self.driver.clone(), home.clone());
        tokio::spawn(async move {
            write_off(home, status.clone()).await;
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

    fn try_run(&mut self, assigned: &Arc<Assigned>, home: &Home) -> io::Result<()> {
        self.check_containment(assigned)?;
        // Its log can be read before it has written anything.
        home.make()?;
        let ports: Vec<u16> = assigned
            .spec
            .ports
            .iter()
            .map(|_| {
                self.free_port()
                    .ok_or_else(|| io::Error::other(format!("none of its ports {} is free", self.ports)))
            })
            .collect::<io::Result<_>>()?;
        let order = Order {
            assigned: Assigned::clone(assigned),
            ports,
            ephemeral: self.ephemeral,
            node: self.node.clone(),
            of: Some(self.begun.node()),
            contained: self.means.uncontained.is_none(),
            group: self.means.groups.as_ref().map(|groups| groups.of(assigned.id)),
        };
        home.put_off()?;
        write_order(home, &order)?;
        self.begin(&order, home)
    }

    fn free_port(&mut self) -> Option<u16> {
        for _ in self.ports.0.clone() {
            let port = self.next_port;
            self.next_port = if port >= *self.ports.0.end() {
                *self.ports.0.start()
            } else {
                port + 1
            };
            let given = self.known.values().any(|known| known.ports.contains(&port));
            if !given && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
                return Some(port);
            }
        }
        None
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
        self.known.remove(&id);
        // What bears another name was put aside by somebody, and stays.
        let (home, begun) = (Home::of(&self.directory, id), Arc::clone(&self.begun));
        begun.remove(id);
        let remover = self.remover.clone();
        tokio::spawn(async move {
            let from = home.clone();
            let aside = tokio::task::spawn_blocking(move || {
                if let Err(error) = begun.save() {
                    tracing::warn!(%error, "cannot write the list of the instances that were begun");
                }
                put_aside(&from)
            });
            remove(
                &remover,
                aside.await.unwrap_or_else(|error| Err(io::Error::other(error))),
                &home,
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
        let known = self.known.get(&request.id).map(|known| known.home.clone());
        let home = known.unwrap_or_else(|| Home::of(&self.directory, request.id));
        let (directory, driver) = (home.logs(), self.driver.clone());
        tokio::task::spawn_blocking(move || {
            let chunk = match directory.is_dir() {
                true => logs::read(&directory, &request),
                false => log::Chunk {
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
fn remove(remover: &Remover, aside: io::Result<Option<PathBuf>>, home: &Home) {
    match aside {
        Ok(Some(aside)) => {
            let remover = remover.clone();
            tokio::spawn(async move { remover.remove(aside).await });
        }
        Ok(None) => {}
        Err(error) => tracing::error!(
            path = %home.0.display(), %error,
            "cannot rename the directory of an instance that is no more, in order to remove it; once that is possible, restart the agent, or remove it \
             by hand"
        ),
    }
}

/// Writes down what a supervisor is to run. It is on the disk a moment later: this is the task that also sends heartbeats, and an order that is lost
/// with the host's power was not begun, as a supervisor has written down that it begins before it does.
fn write_order(home: &Home, order: &Order) -> io::Result<()> {
    let path = home.order();
    let file = files::write_whole(&path, &serde_json::to_vec(order)?, 0o600)?;
    tokio::task::spawn_blocking(move || {
        if let Err(error) = files::sync(&path, &file) {
            tracing::warn!(path = %path.display(), %error, "cannot write the order of an instance to disk");
        }
    });
    Ok(())
}
