//! Stalled disks: every process that writes to or queries them waits in the kernel, and cannot be killed.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    process::{Command, Stdio},
};

use super::*;
use crate::harness::{binary, skip};

/// Number of coordinator cycles for which a node is observed: four times the time until it is suspect, and twice the
/// time until it is offline.
const CYCLES: u64 = 20;

/// The minimum lease of a singleton, and the time by which one without renewal has ended.
const LEASE: Duration = Duration::from_secs(30);
const ENDS: Duration = Duration::from_secs(60);

fn run_tool(program: &str, args: &[&str]) -> std::io::Result<Output> {
    Command::new(program).args(args).output()
}

fn did(ran: &std::io::Result<Output>) -> bool {
    ran.as_ref().is_ok_and(|output| output.status.success())
}

/// A block device, mounted at a directory. It is thawed and unmounted when dropped.
pub struct Device(PathBuf);

impl Device {
    /// Returns `None`, with a message, if this machine does not permit one.
    pub fn mount(at: PathBuf) -> Option<Device> {
        fs::create_dir_all(&at).unwrap();
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: a device is mounted and frozen by root alone");
            return None;
        }
        let image = at.with_extension("ext4");
        File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let (image, point) = (image.display().to_string(), at.display().to_string());
        let steps: [(&str, &[&str]); 4] = [
            ("mkfs.ext4", &["-q", "-F", &image]),
            ("mount", &["-o", "loop", &image, &point]),
            ("fsfreeze", &["-f", &point]),
            ("fsfreeze", &["-u", &point]),
        ];
        let device = Device(at);
        for (program, args) in steps {
            let ran = run_tool(program, args);
            if !did(&ran) {
                skip(&format!(
                    "a device cannot be mounted and frozen: {program} {args:?}: {ran:?}"
                ));
                return None;
            }
        }
        Some(device)
    }

    fn fsfreeze(&self, flag: &str) {
        let ran = run_tool("fsfreeze", &[flag, &self.0.display().to_string()]);
        assert!(did(&ran), "{ran:?}");
    }

    /// Blocks all writes from now on.
    pub fn freeze(&self) {
        self.fsfreeze("-f");
    }

    pub fn thaw(&self) {
        self.fsfreeze("-u");
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let point = self.0.display().to_string();
        drop(run_tool("fsfreeze", &["-u", &point]));
        drop(run_tool("umount", &["-l", &point]));
    }
}

/// A file system over a directory that answers no request, so that every access waits. When dropped, these accesses
/// fail.
struct Mute {
    _server: File,
    at: PathBuf,
}

/// Lengths of the kernel's first message and of the answer: `fuse_in_header`, `fuse_out_header` and `fuse_init_out` in
/// `fuse.h`.
const FUSE_IN: usize = 40;
const FUSE_OUT: usize = 16;
const FUSE_INIT_OUT: usize = 64;

impl Mute {
    /// Returns `None`, with a message, if this machine does not permit one.
    fn mount(at: PathBuf) -> Option<Mute> {
        let server = File::options().read(true).write(true).open("/dev/fuse");
        let mut server = match server {
            Ok(server) => server,
            Err(error) => {
                skip(&format!("/dev/fuse: {error}"));
                return None;
            }
        };
        let mounted = Command::new("mount")
            .args([
                "-i",
                "-t",
                "fuse",
                "-o",
                "fd=0,rootmode=40000,user_id=0,group_id=0,allow_other",
                "wyneos-test",
            ])
            .arg(&at)
            .stdin(server.try_clone().unwrap())
            .output();
        if !did(&mounted) {
            skip(&format!("a FUSE cannot be mounted: {mounted:?}"));
            return None;
        }
        // The first request is answered, because each later one would wait for that instead.
        let mut request = vec![0; 1 << 17];
        let read = server.read(&mut request).unwrap();
        assert!(read > FUSE_IN, "{read}");
        let mut answer = vec![0; FUSE_OUT + FUSE_INIT_OUT];
        answer[..4].copy_from_slice(&((FUSE_OUT + FUSE_INIT_OUT) as u32).to_ne_bytes());
        answer[8..16].copy_from_slice(&request[8..16]);
        // Version 7.31.
        answer[16..20].copy_from_slice(&7u32.to_ne_bytes());
        answer[20..24].copy_from_slice(&31u32.to_ne_bytes());
        server.write_all(&answer).unwrap();
        Some(Mute { _server: server, at })
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        drop(run_tool("umount", &["-l", &self.at.display().to_string()]));
    }
}

fn service(name: &str) -> String {
    format!("name = \"{name}\"\ncommand = \"/bin/sleep\"\nargs = [\"1000\"]\n[stop]\ngrace = \"1s\"\n")
}

/// Returns a program that writes continuously to its log on the disk.
fn loud(name: &str, more: &str) -> String {
    format!(
        "name = \"{name}\"\n{more}\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"while :; do echo here; sleep 0.05; done\"]\n[stop]\ngrace = \"1s\"\n"
    )
}

/// Returns the start time of a process, in ticks of its host; proc_pid_stat(5), field 22.
fn started(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    rest.split(' ').nth(19).unwrap().parse().unwrap()
}

/// Returns the supervisor of a program: programs start concurrently, supervisors in order.
fn supervisor(program: u32) -> u32 {
    let supervises = |pid: u32| {
        let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split('\0').any(|argument| argument == "supervise")
    };
    let parent = |pid: u32| -> u32 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        rest.split(' ').nth(1).unwrap().parse().unwrap()
    };
    let mut line = std::iter::successors(Some(program), |pid| Some(parent(*pid)).filter(|parent| *parent > 1));
    line.find(|pid| supervises(*pid)).unwrap()
}

impl Site {
    /// Returns whether the coordinator reports that the disk of a node does not accept writes.
    async fn disk_is_stalled(&self) -> bool {
        let mesh = self.cluster.snapshot().await.mesh.unwrap_or_default();
        let mut findings = mesh.findings.iter();
        findings.any(|finding| finding.kind() == v1::FindingKind::DiskStalled)
    }

    /// Asserts that a node is online in each of [`CYCLES`] cycles.
    async fn stays_online(&self, name: &str) {
        let first = self.cluster.snapshot().await.cycle;
        wait_until("cycles go by", async || {
            let snapshot = self.cluster.snapshot().await;
            let row = snapshot.nodes.iter().find(|node| node.name == name).unwrap();
            assert_eq!(row.liveness(), Liveness::Online, "in cycle {}: {row:?}", snapshot.cycle);
            (snapshot.cycle >= first + CYCLES).then_some(())
        })
        .await;
    }

    /// Asserts that a node that joined once has been online since.
    async fn was_online_throughout(&self, name: &str) {
        let transitions = self.cluster.transitions(name).await;
        assert_eq!(transitions.last(), Some(&Liveness::Online), "{transitions:?}");
        assert!(
            !transitions
                .iter()
                .any(|to| matches!(to, Liveness::Suspect | Liveness::Offline)),
            "{transitions:?}"
        );
    }
}

/// Heartbeats for which a shared machine is fast enough, so that a miss is caused by the disk.
const CALM: &[&str] = &["--heartbeat", "1s", "--suspect-grace", "2s"];

async fn calm() -> Site {
    Site {
        agents: Vec::new(),
        flags: BTreeMap::new(),
        cluster: Cluster::start_with(CALM).await,
    }
}

/// Starts a cluster of one node whose data_dir is on a device of its own.
async fn on_a_device() -> Result<(Site, Device), Site> {
    let mut site = calm().await;
    let Some(device) = Device::mount(site.cluster.directory.path().join("one")) else {
        return Err(site);
    };
    site.agents.push(("one".to_owned(), None));
    site.start_agent("one").await;
    Ok((site, device))
}

#[tokio::test]
async fn an_agent_whose_disk_is_frozen_is_heard_and_carries_out_later_what_it_was_told() {
    let (mut site, device) = match on_a_device().await {
        Ok(there) => there,
        Err(site) => return site.ends().await,
    };
    site.apply(&loud("goes", ""));
    site.apply(&service("stays"));
    let (goes, stays) = (site.runs("goes", 1).await, site.runs("stays", 1).await);
    device.freeze();
    let late = ["late-a", "late-b", "late-c"];
    for name in late {
        site.apply(&service(name));
        wait_until("it is placed", async || {
            (site.instances(name).await.len() == 1).then_some(())
        })
        .await;
    }
    // Stopping an instance requires no disk access.
    assert!(site.ctl(&["delete", "goes"]).status.success());
    wait_until("the stalled disk is reported", async || {
        site.disk_is_stalled().await.then_some(())
    })
    .await;
    site.stays_online("one").await;
    wait_until("it has ended", async || (!lives(pids(&goes)[0])).then_some(())).await;
    for name in late {
        let rows = site.instances(name).await;
        assert_eq!(
            rows.iter().map(phase).collect::<Vec<_>>(),
            [InstancePhase::Assigned],
            "{name}"
        );
    }
    // An instance that was ordered and is no longer wanted is not started.
    assert!(site.ctl(&["delete", "late-b"]).status.success());
    assert_eq!(pids(&site.runs("stays", 1).await), pids(&stays));
    device.thaw();
    let (first, last) = (site.runs("late-a", 1).await, site.runs("late-c", 1).await);
    assert!(
        started(supervisor(pids(&first)[0])) <= started(supervisor(pids(&last)[0])),
        "in the order in which they came"
    );
    for name in ["goes", "late-b"] {
        wait_until("it is forgotten", async || {
            let rows = site.instances(name).await;
            rows.iter().all(|row| phase(row) == InstancePhase::Ended).then_some(())
        })
        .await;
    }
    wait_until("the disk is well", async || {
        (!site.disk_is_stalled().await).then_some(())
    })
    .await;
    site.was_online_throughout("one").await;
    // Everything that was reported as done is on the disk.
    site.kill_agent("one").await;
    site.start_agent("one").await;
    for (name, before) in [("stays", &stays), ("late-a", &first), ("late-c", &last)] {
        assert_eq!(pids(&site.runs(name, 1).await), pids(before), "{name}");
    }
    drop(device);
    site.ends().await;
}

#[tokio::test]
async fn a_singleton_on_a_frozen_disk_has_its_lease_and_ends_with_it() {
    let (mut site, device) = match on_a_device().await {
        Ok(there) => there,
        Err(site) => return site.ends().await,
    };
    let names = ["only", "another"];
    names
        .iter()
        .for_each(|name| drop(site.apply(&loud(name, "singleton = true"))));
    let rows = [site.runs(names[0], 1).await, site.runs(names[1], 1).await].concat();
    let all = pids(&rows);
    device.freeze();
    // The agent has work that requires the disk.
    site.apply(&service("late"));
    let frozen = Instant::now();
    while frozen.elapsed() < LEASE + Duration::from_secs(5) {
        site.stays_online("one").await;
        let live = all.iter().all(|pid| lives(*pid));
        assert!(live, "leases are not extended while the disk is stalled");
    }
    site.cluster.kill().await;
    // One instance is ended by its supervisor. The supervisor of the other is stopped, and no process of WyneOS is left
    // to end it: the kernel does.
    let supervises = |pid: &i32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(&id(&rows[1]))
    };
    let stopped = site.supervisors("one").into_iter().find(supervises).unwrap();
    kill(stopped, Signal::STOP);
    let agent = site.agents[0].1.as_ref().unwrap();
    agent.signal(Signal::STOP);
    let cut = Instant::now();
    while all.iter().any(|pid| lives(*pid)) {
        let left: Vec<&u32> = all.iter().filter(|pid| lives(**pid)).collect();
        assert!(
            cut.elapsed() < ENDS,
            "{left:?} of {all:?} run although their leases are over"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(device);
    site.ends().await;
}

#[tokio::test]
async fn an_agent_that_cannot_even_look_at_its_instances_is_heard() {
    let mut site = calm().await;
    site.agents.push(("one".to_owned(), None));
    site.start_agent("one").await;
    for name in ["one-of-them", "another"] {
        site.apply(&service(name));
    }
    let before = [site.runs("one-of-them", 1).await, site.runs("another", 1).await];
    let Some(mute) = Mute::mount(site.cluster.directory.path().join("one/instances")) else {
        return site.ends().await;
    };
    // Connections to supervisors, for commands and status, use paths in their directories.
    assert!(site.ctl(&["delete", "another"]).status.success());
    site.apply(&service("late"));
    site.stays_online("one").await;
    site.stays_online("one").await;
    drop(mute);
    wait_until("it has ended", async || (!lives(pids(&before[1])[0])).then_some(())).await;
    site.runs("late", 1).await;
    assert_eq!(pids(&site.runs("one-of-them", 1).await), pids(&before[0]));
    site.was_online_throughout("one").await;
    site.ends().await;
}

#[tokio::test]
async fn an_agent_whose_log_nobody_reads_is_heard() {
    let site = calm().await;
    let mut agent = Command::new(binary("wyneos-agent"))
        .args(site.cluster.agent_args("one"))
        .args(["--log", "trace"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    site.cluster.node_is("one", Liveness::Online).await;
    site.stays_online("one").await;
    site.stays_online("one").await;
    site.was_online_throughout("one").await;
    // An unread log neither blocks the agent nor its shutdown.
    let pid = Pid::from_raw(i32::try_from(agent.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    wait_until("it ends", async || agent.try_wait().unwrap()).await;
}
