//! Singletons on machines that are cut off in every way, all at once: there are never two of one, and in the end each runs.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use wyneos_netns::{Network, PATIENCE};

use super::{
    leaders::{Leaders, declare, name},
    skipped,
};

/// So many that those that are silent are few.
const AGENTS: usize = 20;

/// Two nodes are for one singleton: it begins on the first, and the second takes it over.
const SPARE: usize = 10;

/// Longer than a lease of a minute, what clocks may differ by, and a start on a busy machine.
const WATCHED: Duration = Duration::from_secs(90);

/// Longer than a node that is back takes to say what it runs.
const AFTERWARDS: Duration = Duration::from_secs(15);

/// What happens to the machine that a singleton runs on. Faults have its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Its cable is pulled out.
    Unplugged = 1,
    /// The coordinator and it hear nothing of each other; its peers do.
    OffCoordinator,
    /// Nothing that it sends arrives anywhere.
    Mute,
    /// Nothing that is sent to it arrives.
    Deaf,
    /// Its peers and it hear nothing of one another; the coordinator does.
    OffPeers,
    /// Four of five packets are lost, both ways.
    Lossy,
    /// Its agent stands still; the machine does not.
    Hung,
    /// Its agent is killed.
    Killed,
}

use Fault::*;

const ALL: [Fault; 8] = [Unplugged, OffCoordinator, Mute, Deaf, OffPeers, Lossy, Hung, Killed];

impl Fault {
    /// The machine that it meets.
    const fn host(self) -> usize {
        self as usize
    }

    /// What its program's command line ends with.
    fn mark(self) -> String {
        format!("4711{:02}815", self.host())
    }

    /// True where a way to it exists: it stays where it is.
    const fn stays(self) -> bool {
        matches!(self, OffCoordinator | OffPeers)
    }

    /// True where nobody can tell what comes of it, but that there are never two.
    const fn open(self) -> bool {
        matches!(self, Lossy | Deaf)
    }

    fn begin(self, network: &mut Network) {
        let (number, host) = (self as usize, self.host());
        let peers = (1..=AGENTS).filter(|peer| *peer != host);
        let others: Vec<usize> = match self {
            OffCoordinator => vec![0],
            OffPeers => peers.collect(),
            _ => [0].into_iter().chain(peers).collect(),
        };
        let (out, back) = (self != Deaf, self != Mute);
        let which = if self == Lossy {
            "numgen random mod 100 < 80"
        } else {
            ""
        };
        match self {
            Unplugged => network.link(host, false),
            Hung => network.signal(host, Signal::STOP),
            Killed => network.kill(host),
            _ => {
                for other in others {
                    if out {
                        network.drop_packets(number, host, other, which);
                    }
                    if back {
                        network.drop_packets(number, other, host, which);
                    }
                }
            }
        }
    }

    fn end(self, network: &mut Network) {
        let host = self.host();
        match self {
            Unplugged => network.link(host, true),
            Hung => network.signal(host, Signal::CONT),
            Killed => network.spawn_agent(host),
            _ => (0..=AGENTS).for_each(|other| network.heal(self as usize, other)),
        }
    }

    fn declare(self, network: &Network) {
        let program = format!("command = \"/bin/sleep\"\nargs = [\"{}\"]", self.mark());
        declare(network, self.host(), self.host() + SPARE, &program);
    }
}

/// The machine whose singleton has a command line.
fn whose(command: &[u8]) -> Option<usize> {
    let line = command.strip_suffix(b"\0").unwrap_or(command);
    let is = |fault: &&Fault| line.ends_with(fault.mark().as_bytes());
    ALL.iter().find(is).map(|fault| fault.host())
}

/// The node on which a singleton runs, as the coordinator knows.
fn place(network: &Network, fault: Fault) -> Option<String> {
    let answer = network.wynectl(&["assignments", "--workload", &name(fault.host())])?;
    let rows = answer["assignments"].as_array()?.clone();
    let runs = |row: &&serde_json::Value| row["assignment"]["status"]["phase"] == "INSTANCE_PHASE_RUNNING";
    rows.iter().rfind(runs)?["nodeName"].as_str().map(str::to_owned)
}

#[test]
fn there_are_never_two_of_a_singleton_whatever_is_cut() {
    if skipped() {
        return;
    }
    let mut network = Network::start(AGENTS, &[]);
    network.settle();
    for fault in ALL {
        fault.declare(&network);
    }
    for fault in ALL {
        let first = network.until(&format!("{fault:?}: it runs"), PATIENCE, |network| {
            place(network, fault)
        });
        assert_eq!(first, format!("node-{}", fault.host()));
    }
    for fault in ALL {
        fault.begin(&mut network);
    }
    let began = Instant::now();
    let mut leaders = Leaders::new(ALL.len(), whose);
    leaders.watch(began, |_| began.elapsed() > WATCHED);
    for fault in ALL {
        fault.end(&mut network);
    }
    // Whoever comes back must not start what runs elsewhere.
    leaders.watch(began, |_| began.elapsed() > WATCHED + AFTERWARDS);
    for fault in ALL.into_iter().filter(|fault| !fault.open()) {
        let (ended, back) = leaders.seen(fault.host());
        let stayed = (ended.is_none(), back.is_none());
        assert_eq!(
            stayed,
            (fault.stays(), fault.stays()),
            "{fault:?}: ended {ended:?}, back {back:?}"
        );
        if fault.stays() {
            assert_eq!(place(&network, fault), Some(format!("node-{}", fault.host())));
        }
    }
    leaders.each_runs_once(&network);
    leaders.delete(&network);
}
