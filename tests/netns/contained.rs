//! Singletons whose agents and supervisors are killed or stopped, of programs by which nothing tells whose they are: the kernel ends them in time,
//! there are never two of one, and in the end each runs.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use wyneos_netns::{Network, PATIENCE, Stopped};

use super::skipped;

/// So many that those that are silent are few.
const AGENTS: usize = 18;

/// Two nodes are for one singleton: it begins on the first, and the second takes it over.
const SPARE: usize = 6;

/// Longer than a lease of a minute, what clocks may differ by, and a start on a busy machine.
const WATCHED: Duration = Duration::from_secs(120);

/// Longer than a node that is back takes to say what it runs, and a second one would to be started.
const AFTERWARDS: Duration = Duration::from_secs(20);

/// How long a kernel may take to end what was killed, on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(10);

/// What happens on the machine that a singleton runs on, which has the fault's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Its agent and supervisor are killed together, and the agent stays away.
    Killed = 1,
    /// Its supervisor is killed; its agent is well.
    SupervisorKilled,
    /// Its supervisor is stopped; its agent is well.
    SupervisorStopped,
    /// Its supervisor is stopped, and its agent killed.
    StoppedAndKilled,
    /// Both are stopped.
    BothStopped,
    /// Its supervisor is stopped, and its cable pulled out.
    StoppedAndUnplugged,
}

use Fault::*;

const ALL: [Fault; 6] = [
    Killed,
    SupervisorKilled,
    SupervisorStopped,
    StoppedAndKilled,
    BothStopped,
    StoppedAndUnplugged,
];

impl Fault {
    const fn host(self) -> usize {
        self as usize
    }

    fn workload(self) -> String {
        format!("leader-{}", self.host())
    }

    /// A number that no other process of this machine has in its command line.
    fn mark(self) -> String {
        format!("{}{}", 700_000_000 + std::process::id(), self.host())
    }

    fn begin(self, network: &mut Network) -> Option<Stopped> {
        let host = self.host();
        let stopped = match self {
            Killed => {
                assert_eq!(network.kill_all(host), 1);
                return None;
            }
            SupervisorKilled => {
                assert_eq!(network.kill_supervisors(host), 1);
                return None;
            }
            _ => network.stop_supervisors(host),
        };
        match self {
            StoppedAndKilled => network.kill(host),
            BothStopped => network.signal(host, Signal::STOP),
            StoppedAndUnplugged => network.link(host, false),
            _ => {}
        }
        Some(stopped)
    }

    fn end(self, network: &mut Network, stopped: Option<Stopped>) {
        let host = self.host();
        stopped.into_iter().for_each(Stopped::go_on);
        match self {
            Killed | StoppedAndKilled => network.spawn_agent(host),
            BothStopped => network.signal(host, Signal::CONT),
            StoppedAndUnplugged => network.link(host, true),
            SupervisorKilled | SupervisorStopped => {}
        }
    }

    /// The worker has another user, session and parent, and no environment; and the program that started it runs on.
    fn declare(self, network: &Network) {
        let (host, spare) = (self.host(), self.host() + SPARE);
        let text = format!(
            "name = \"{}\"\nsingleton = true\nreschedule_delay = \"0s\"\nuser = \"root\"\ncommand = \"/bin/sh\"\n\
             args = [\"-c\", \"setpriv --reuid 65534 --clear-groups env -i setsid -f sleep {}; exec sleep 100000\"]\n\
             constraints = [{{ key = \"node.name\", operator = \"in\", values = [\"node-{host}\", \"node-{spare}\"] }}]\n\
             affinity = [{{ key = \"node.name\", operator = \"in\", values = [\"node-{host}\"] }}]\n[stop]\ngrace = \"1s\"\n",
            self.workload(),
            self.mark()
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let path = file.path().display().to_string();
        network.wynectl(&["apply", "-f", &path]).unwrap();
    }
}

/// How many workers there are of each singleton.
fn running() -> BTreeMap<usize, usize> {
    let mut counts: BTreeMap<usize, usize> = ALL.map(|fault| (fault.host(), 0)).into();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let is = |fault: &&Fault| command == format!("sleep\0{}\0", fault.mark()).as_bytes();
        if let Some(fault) = ALL.iter().find(is) {
            *counts.entry(fault.host()).or_default() += 1;
        }
    }
    counts
}

#[derive(Default)]
struct Seen {
    ended: BTreeMap<usize, Duration>,
    back: BTreeMap<usize, Duration>,
}

impl Seen {
    /// Looks until `enough`, and at no time sees two of one.
    fn watch(&mut self, began: Instant, mut enough: impl FnMut(&Seen) -> bool) {
        while !enough(self) {
            for (host, count) in running() {
                let at = began.elapsed();
                assert!(count <= 1, "{:?}: {count} run {at:?} after it", ALL[host - 1]);
                if count == 0 {
                    self.ended.entry(host).or_insert(at);
                } else if self.ended.contains_key(&host) {
                    self.back.entry(host).or_insert(at);
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn the_kernel_ends_a_singleton_in_time_whoever_is_killed_or_stopped() {
    if skipped() {
        return;
    }
    let mut network = Network::start(AGENTS, &[]);
    for fault in ALL {
        fault.declare(&network);
    }
    network.until("each runs once", PATIENCE, |_| {
        running().values().all(|count| *count == 1).then_some(())
    });
    let began = Instant::now();
    let stopped: Vec<_> = ALL.map(|fault| fault.begin(&mut network)).into();
    let mut seen = Seen::default();
    seen.watch(began, |seen| seen.back.len() == ALL.len() || began.elapsed() > WATCHED);
    let Seen { ended, back } = &seen;
    for fault in ALL {
        let (ended, back) = (ended.get(&fault.host()), back.get(&fault.host()));
        assert!(
            ended.is_some() && back.is_some(),
            "{fault:?}: ended {ended:?}, back {back:?}"
        );
        if matches!(fault, Killed | SupervisorKilled) {
            assert!(ended.is_some_and(|at| *at < AT_ONCE), "{fault:?}: ended {ended:?}");
        }
    }
    for (fault, stopped) in ALL.into_iter().zip(stopped) {
        fault.end(&mut network, stopped);
    }
    // Whoever comes back must not start what runs elsewhere.
    let ended = Instant::now();
    seen.watch(began, |_| ended.elapsed() > AFTERWARDS);
    network.until("each runs once", PATIENCE, |_| {
        running().values().all(|count| *count == 1).then_some(())
    });
    for fault in ALL {
        network.wynectl(&["delete", &fault.workload()]).unwrap();
    }
    network.until("all are gone", PATIENCE, |_| {
        running().values().all(|count| *count == 0).then_some(())
    });
}
