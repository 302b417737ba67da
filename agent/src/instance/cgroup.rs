//! Control groups: resource limits of instances, enforced by the kernel.
//!
//! Each instance has its own group below the agent's (`wyneos/<node>.<place>.<instance>`), beside the groups of
//! services and sessions, as in Nomad and Kubernetes: actions of systemd on the agent's unit do not affect the work.
//! Memory is a hard limit without swap, CPU a weight according to the reservation and a quota if one is declared, and
//! processes are counted.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use wyneos_core::{id::NodeId, workload::AssignmentId, workload::Spec};

#[cfg(test)]
mod tests;

/// The required controllers.
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

/// Period of a CPU quota in microseconds: the kernel's default, and Kubernetes'.
const PERIOD: u64 = 100_000;

/// The interface of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Version {
    /// A hierarchy for each controller.
    V1,
    /// One hierarchy.
    V2,
}

/// Number of attempts to empty a group, and the delay between them.
const TRIES: u32 = 50;
const AGAIN: Duration = Duration::from_millis(20);

/// A control group: its directories, in the order of [`CONTROLLERS`]; one and the same with v2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Group {
    version: Version,
    directories: [PathBuf; 3],
}

/// The groups of an agent's instances.
#[derive(Clone, Debug)]
pub(crate) struct Groups {
    /// The agent's group.
    parent: Group,
    /// The prefix of the names of this agent's groups.
    prefix: Prefix,
}

/// The prefix of the names of an agent's groups: its node's id, and its `data_dir` by the directory's own number. A
/// host may have several agents, and a copied directory contains the same node's id: actions by name must not affect
/// the original.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prefix(String);

impl Prefix {
    /// The prefix for a node whose agent stores its state in `data_dir`, which exists.
    ///
    /// The directory cannot be examined.
    pub(crate) fn new(node: NodeId, data_dir: &Path) -> io::Result<Prefix> {
        let found = fs::metadata(data_dir)?;
        let place = blake3::hash(format!("{} {}", found.dev(), found.ino()).as_bytes()).to_hex();
        Ok(Prefix(format!("{node}.{}.", &place[..12])))
    }

    fn name(&self, id: AssignmentId) -> String {
        format!("{}{id}", self.0)
    }
}

impl Groups {
    /// Detects the interface of this host, creates the group `below` (a path from the root of the hierarchies), and
    /// tries everything that an instance's group needs.
    ///
    /// The reason for which instances cannot be limited here, for people.
    pub(crate) fn find(below: &str, prefix: Prefix, cpus: u32) -> Result<Groups, String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")
            .map_err(|error| format!("cannot read /proc/self/mountinfo: {error}"))?;
        let root = Group::root(&mounts)?;
        let groups = Groups {
            parent: root.below(below),
            prefix,
        };
        let tried = groups.prepare(&root, below, cpus).and_then(|()| {
            let trial = groups.parent.below(&format!("{}trial", groups.prefix.0));
            trial.make(&Spec::new("trial", ""))?;
            trial.remove()
        });
        tried.map_err(|error| format!("{} cannot be used: {error}", groups.parent.directories[0].display()))?;
        Ok(groups)
    }

    /// `v1` or `v2`.
    pub(crate) fn version(&self) -> &'static str {
        match self.parent.version {
            Version::V1 => "v1",
            Version::V2 => "v2",
        }
    }

    /// The group of one instance.
    pub(super) fn of(&self, id: AssignmentId) -> Group {
        self.parent.below(&self.prefix.name(id))
    }

    /// Removes groups of this node's instances that no longer exist, with any processes left in them.
    pub(super) fn clean(&self, is_there: impl Fn(&str) -> bool) {
        let mut left: Vec<String> = Vec::new();
        for directory in self.parent.each() {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            let names =
                entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_prefix(&self.prefix.0)?.to_owned()));
            left.extend(names.filter(|id| !is_there(id)));
        }
        for id in left {
            match self.parent.below(&format!("{}{id}", self.prefix.0)).end() {
                Ok(()) => tracing::info!(instance = id, "removed the control group of an instance that is gone"),
                Err(error) => {
                    tracing::warn!(instance = id, %error, "cannot remove the control group of an instance that is gone")
                }
            }
        }
    }

    /// Creates the agent's group. The total weight equals the host's CPUs, which is the maximum of their reservations.
    fn prepare(&self, root: &Group, below: &str, cpus: u32) -> io::Result<()> {
        let mut group = root.clone();
        group.delegate()?;
        for part in below.split('/') {
            group = group.below(part);
            group.create()?;
            group.delegate()?;
        }
        self.parent.weigh(u64::from(cpus) * 1_000)
    }
}

impl Group {
    /// Returns whether this is the group of this agent's instance, wherever the agent's groups are.
    pub(super) fn is_of(&self, prefix: &Prefix, id: AssignmentId) -> bool {
        let name = prefix.name(id);
        let named = |directory: &PathBuf| directory.file_name().is_some_and(|own| *own == *name);
        self.directories.iter().all(named)
    }

    /// The root of the hierarchies, from `/proc/self/mountinfo`.
    fn root(mounts: &str) -> Result<Group, String> {
        let mounts: Vec<Mount<'_>> = mounts.lines().filter_map(Mount::parse).collect();
        let unified = mounts
            .iter()
            .find(|mount| mount.kind == "cgroup2" && mount.has_controllers());
        if let Some(mount) = unified {
            let directories = CONTROLLERS.map(|_| PathBuf::from(mount.point));
            let version = Version::V2;
            return Ok(Group { version, directories });
        }
        let hierarchy = |controller: &str| {
            let with =
                |mount: &&Mount<'_>| mount.kind == "cgroup" && mount.options.split(',').any(|one| one == controller);
            let found = mounts.iter().find(with).map(|mount| PathBuf::from(mount.point));
            found.ok_or_else(|| format!("no controller {controller:?} is mounted, neither by cgroup v2 nor by v1"))
        };
        let [memory, cpu, pids] = CONTROLLERS;
        let directories = [hierarchy(memory)?, hierarchy(cpu)?, hierarchy(pids)?];
        let version = Version::V1;
        Ok(Group { version, directories })
    }

    fn below(&self, name: &str) -> Group {
        let directories = self.directories.clone().map(|directory| directory.join(name));
        Group { directories, ..*self }
    }

    /// Directories of the group, each once.
    fn each(&self) -> &[PathBuf] {
        match self.version {
            Version::V1 => &self.directories,
            Version::V2 => &self.directories[..1],
        }
    }

    fn create(&self) -> io::Result<()> {
        for directory in self.each() {
            match fs::create_dir(directory) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(of(directory, error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Enables limits in groups below; with v1 they are always enabled.
    fn delegate(&self) -> io::Result<()> {
        match self.version {
            Version::V1 => Ok(()),
            Version::V2 => write(&self.directories[0], "cgroup.subtree_control", "+memory +cpu +pids"),
        }
    }

    /// Creates it, with its limits. An existing group is updated.
    pub(super) fn make(&self, spec: &Spec) -> io::Result<()> {
        self.create()?;
        let [memory, cpu, pids] = &self.directories;
        let bytes = spec.resources.memory_bytes.to_string();
        let (limit, swap, no_swap) = match self.version {
            // The limit of memory and swap together.
            Version::V1 => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", bytes.as_str()),
            Version::V2 => ("memory.max", "memory.swap.max", "0"),
        };
        write(memory, limit, &bytes)?;
        if memory.join(swap).exists() {
            // Skipped if the kernel does not count swap.
            write(memory, swap, no_swap)?;
        }
        self.weigh(spec.resources.cpu_millis)?;
        if spec.limits.cpu_millis > 0 {
            let quota = spec.limits.cpu_millis * PERIOD / 1_000;
            match self.version {
                Version::V1 => {
                    write(cpu, "cpu.cfs_period_us", &PERIOD.to_string())?;
                    write(cpu, "cpu.cfs_quota_us", &quota.to_string())?;
                }
                Version::V2 => write(cpu, "cpu.max", &format!("{quota} {PERIOD}"))?,
            }
        }
        write(pids, "pids.max", &spec.limits.pids.to_string())
    }

    /// Sets its share of CPU under contention, in thousandths of a CPU. One CPU corresponds to the kernel's default
    /// weight.
    fn weigh(&self, cpu_millis: u64) -> io::Result<()> {
        let cpu = &self.directories[1];
        match self.version {
            Version::V1 => write(
                cpu,
                "cpu.shares",
                &(cpu_millis * 1_024 / 1_000).clamp(2, 262_144).to_string(),
            ),
            Version::V2 => write(cpu, "cpu.weight", &(cpu_millis / 10).clamp(1, 10_000).to_string()),
        }
    }

    /// Adds this process, and thus all processes that it starts.
    pub(super) fn join(&self) -> io::Result<()> {
        // "0" means the writing process.
        self.each()
            .iter()
            .try_for_each(|directory| write(directory, "cgroup.procs", "0"))
    }

    /// Number of its processes that the kernel has killed for lack of memory.
    pub(super) fn out_of_memory(&self) -> u64 {
        let file = match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let text = fs::read_to_string(self.directories[0].join(file)).unwrap_or_default();
        let kills = text
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
        kills.unwrap_or(0)
    }

    /// Prevents new processes, and kills the processes in it; returns them.
    pub(super) fn kill(&self) -> Vec<i32> {
        // Otherwise killing processes that start others as fast as they are killed would never end.
        let _ = write(&self.directories[2], "pids.max", "0");
        if self.version == Version::V2 {
            // Available from Linux 5.14.
            let _ = write(&self.directories[0], "cgroup.kill", "1");
        }
        let left = self.processes();
        super::processes::kill(&left);
        left
    }

    fn processes(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        for directory in self.each() {
            let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            // A process of another namespace appears as 0.
            let seen = text
                .lines()
                .filter_map(|pid| pid.parse::<i32>().ok())
                .filter(|pid| *pid > 0);
            pids.extend(seen);
        }
        pids
    }

    /// Ends the processes in it, and removes it. Takes a second at most, and usually a moment.
    pub(super) fn end(&self) -> io::Result<()> {
        let mut tries = TRIES;
        loop {
            self.kill();
            match self.remove() {
                // Killed processes may be about to end.
                Err(_) if tries > 0 => tries -= 1,
                removed => return removed,
            }
            std::thread::sleep(AGAIN);
        }
    }

    /// Removes the empty group. A missing one counts as removed.
    pub(super) fn remove(&self) -> io::Result<()> {
        for directory in self.each() {
            match fs::remove_dir(directory) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(of(directory, error)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A line of `/proc/self/mountinfo`.
struct Mount<'a> {
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl Mount<'_> {
    fn parse(line: &str) -> Option<Mount<'_>> {
        let (mount, system) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?;
        let mut system = system.split(' ');
        let (kind, options) = (system.next()?, system.nth(1)?);
        Some(Mount { point, kind, options })
    }

    fn has_controllers(&self) -> bool {
        let there = fs::read_to_string(Path::new(self.point).join("cgroup.controllers")).unwrap_or_default();
        CONTROLLERS
            .iter()
            .all(|wanted| there.split_whitespace().any(|one| one == *wanted))
    }
}

fn write(directory: &Path, file: &str, text: &str) -> io::Result<()> {
    let path = directory.join(file);
    fs::write(&path, text).map_err(|error| of(&path, error))
}

fn of(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
