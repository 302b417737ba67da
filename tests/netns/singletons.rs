//! Singletons on machines that are cut off in every way at the same time: there are never two copies, and finally each
//! runs.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use wyneos_netns::{Network, PATIENCE};

use super::{
    leaders::{Leaders, declare, name},
    skipped,
};

/// Number of agents; large enough that silent nodes are a minority.
const AGENTS: usize = 20;

/// Number of spare nodes: a singleton has two nodes, starts on the first, and moves to the second.
const SPARE: usize = 10;

/// Longer than a lease of a minute, the maximum clock difference, and a start on a busy machine.
const WATCHED: Duration = Duration::from_secs(90);

/// Longer than a returning node takes to report what it runs.
const AFTERWARDS: Duration = Duration::from_secs(15);

/// The fault on the machine of a singleton; the machine has the fault's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The network cable is disconnected.
    Unplugged = 1,
    /// The coordinator and the node do not hear each other; the peers hear both.
    OffCoordinator,
    /// Packets from the node are lost.
    Mute,
    /// Packets to the node are lost.
    Deaf,
    /// The peers and the node do not hear one another; the coordinator hears both.
    OffPeers,
    /// Four of five packets are lost in both directions.
    Lossy,
    /// The agent is stopped; its machine runs.
    Hung,
    /// The agent is killed.
    Killed,
}

use Fault::*;

const ALL: [Fault; 8] = [Unplugged, OffCoordinator, Mute, Deaf, OffPeers, Lossy, Hung, Killed];

impl Fault {
    /// Returns the affected machine.
    const fn host(self) -> usize {
        self as usize
    }

    /// Returns the end of the program's command line.
    fn mark(self) -> String {
        format!("4711{:02}815", self.host())
    }

    /// Returns whether the node remains reachable on some path, so that the singleton stays.
    const fn stays(self) -> bool {
        matches!(self, OffCoordinator | OffPeers)
    }

    /// Returns whether the outcome varies, except that there are never two copies.
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

/// Returns the machine to whose singleton a command line belongs.
fn whose(command: &[u8]) -> Option<usize> {
    let line = command.strip_suffix(b"\0").unwrap_or(command);
    let is = |fault: &&Fault| line.ends_with(fault.mark().as_bytes());
    ALL.iter().find(is).map(|fault| fault.host())
}

/// Returns the node on which a singleton runs, as reported by the coordinator.
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
    // A returning node must not start what runs elsewhere.
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
