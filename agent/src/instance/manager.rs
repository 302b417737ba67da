//! The agent's side: starts supervisors, finds them again, and passes on what both say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    net::{Ipv4Addr, TcpListener},
    ops::RangeInclusive,
    path::PathBuf,
    process::Stdio,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    process::Command,
    sync::{mpsc, watch},
};
use wyneos_core::{
    agent::Input,
    time::{Time, WallTime},
    workload::{Assigned, AssignmentId, Phase, Status, log},
};
use wyneos_shell::files;

use super::{
    Groups, Home, Order, boot_time,
    conversation::{Wanted, attend, died},
    logs, own_binary, replace,
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
}

/// What this host has to hold its instances.
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
    means: Means,
    ephemeral: bool,
    driver: mpsc::Sender<ToAgent>,
    known: BTreeMap<AssignmentId, Known>,
    /// Where the search for a free port begins.
    next_port: u16,
}

/// What was found on a host, and how it is.
pub(crate) type Found = Vec<(Arc<Assigned>, Status)>;

impl Instances {
    /// Finds what earlier agents of this host left: instances that run, and those that ended meanwhile.
    pub(crate) fn find(
        directory: PathBuf,
        node: String,
        ports: Ports,
        means: Means,
        ephemeral: bool,
        now: WallTime,
        driver: mpsc::Sender<ToAgent>,
    ) -> io::Result<(Instances, Found)> {
        // Supervisors outlive this agent, and wherever it was started from.
        let directory = fs::canonicalize(directory)?;
        // Agents that share a host do not all begin with the same.
        let range = u32::from(*ports.0.end() - *ports.0.start()) + 1;
        let offset = std::process::id().wrapping_mul(7_919) % range;
        let next_port = ports.0.start() + offset as u16;
        let mut instances = Instances {
            directory,
            node,
            ports,
            means,
            ephemeral,
            driver,
            known: BTreeMap::new(),
            next_port,
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(&instances.directory)?.flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let home = Home(entry.path());
            let order = match home.read_order() {
                Ok(order) => order,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // It was given up half-made: nothing was started by it.
                    drop(fs::remove_dir_all(&home.0));
                    continue;
                }
                Err(error) => {
                    tracing::error!(path = %home.0.display(), %error, "an instance cannot be read; what of it runs is left alone");
                    continue;
                }
            };
            let said = home.read_status().ok();
            let gone = matches!(home.take_lock(), Ok(Some(_)));
            let status = match said {
                Some(status) if gone && status.phase != Phase::Ended => died(&home, status, now),
                Some(status) => status,
                // Its agent ended between writing this down and having it run. If its supervisor is about to begin after all, one of
                // the two gets the lock.
                None => {
                    if gone && let Err(error) = start(&home) {
                        tracing::warn!(path = %home.0.display(), %error, "cannot start its supervisor");
                    }
                    Status::default()
                }
            };
            let ended = status.phase == Phase::Ended;
            instances.know(&order, &home, !ended);
            found.push((Arc::new(order.assigned), status));
        }
        if let Some(groups) = &instances.means.groups {
            let ended = found.iter().filter(|(_, status)| status.phase == Phase::Ended);
            let ended: BTreeSet<String> = ended.map(|(assigned, _)| assigned.id.to_string()).collect();
            groups.clean(|id| !ended.contains(id) && instances.directory.join(id).exists());
        }
        Ok((instances, found))
    }

    fn know(&mut self, order: &Order, home: &Home, attended: bool) {
        let (id, ports) = (order.assigned.id, order.ports.clone());
        let (wanted, told) = watch::channel(Wanted::default());
        if attended {
            let singleton = order.assigned.spec.singleton;
            tokio::spawn(attend(id, home.clone(), singleton, told, self.driver.clone()));
        }
        self.known.insert(id, Known { ports, wanted });
    }

    /// Starts an instance's supervisor.
    pub(crate) fn run(&mut self, assigned: &Arc<Assigned>) {
        let (id, home) = (assigned.id, Home::of(&self.directory, assigned.id));
        if let Err(error) = self.try_run(assigned, &home) {
            let status = Status {
                phase: Phase::Ended,
                detail: format!("its node cannot start it: {error}"),
                ..Status::default()
            };
            drop(home.write_status(&status));
            self.known.entry(id).or_insert_with(|| Known {
                ports: Vec::new(),
                wanted: watch::Sender::default(),
            });
            let (driver, input) = (self.driver.clone(), Input::Instance { id, status });
            tokio::spawn(async move { drop(driver.send(ToAgent::Fact(input)).await) });
        }
    }

    fn try_run(&mut self, assigned: &Arc<Assigned>, home: &Home) -> io::Result<()> {
        if let Some(why) = self.means.uncontained.as_ref().filter(|_| assigned.spec.singleton) {
            return Err(io::Error::other(format!(
                "it is a singleton, and this node cannot contain what it runs: {why}"
            )));
        }
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
            contained: self.means.uncontained.is_none(),
            group: self.means.groups.as_ref().map(|groups| groups.of(assigned.id)),
        };
        replace(&home.order(), &serde_json::to_vec(&order)?)?;
        start(home)?;
        self.know(&order, home, true);
        Ok(())
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
        let home = Home::of(&self.directory, id);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = fs::remove_dir_all(&home.0)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %home.0.display(), %error, "cannot remove what an instance left");
            }
        });
    }

    /// Reads what an instance wrote.
    pub(crate) fn read_log(&self, request: log::Request) {
        let (directory, driver) = (Home::of(&self.directory, request.id).logs(), self.driver.clone());
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

/// Starts the supervisor of what is written down.
fn start(home: &Home) -> io::Result<()> {
    let log = files::create(&home.0.join("supervisor.log"), 0o600)?;
    let mut child = Command::new(own_binary())
        .arg("supervise")
        .arg(&home.0)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    // It goes on by itself; while this agent is its parent, its end is taken note of.
    tokio::spawn(async move { drop(child.wait().await) });
    Ok(())
}
