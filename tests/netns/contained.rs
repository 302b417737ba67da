//! Singletons whose agents and supervisors are killed or stopped, with programs whose processes cannot be identified as
//! theirs: the kernel ends them in time, there are never two copies, and finally each runs.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use wyneos_netns::{Network, Stopped};

use super::{
    leaders::{Leaders, declare},
    skipped,
};

/// Number of agents; large enough that silent nodes are a minority.
const AGENTS: usize = 18;

/// Number of spare nodes: a singleton has two nodes, starts on the first, and moves to the second.
const SPARE: usize = 6;

/// Longer than a lease of a minute, the maximum clock difference, and a start on a busy machine.
const WATCHED: Duration = Duration::from_secs(120);

/// Longer than a returning node takes to report what it runs, and a second copy would take to start.
const AFTERWARDS: Duration = Duration::from_secs(20);

/// Maximum time for the kernel to end killed processes on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(10);

/// The fault on the machine of a singleton; the machine has the fault's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The agent and the supervisor are killed together, and the agent is not restarted.
    Killed = 1,
    /// The supervisor is killed; the agent is healthy.
    SupervisorKilled,
    /// The supervisor is stopped; the agent is healthy.
    SupervisorStopped,
    /// The supervisor is stopped, and the agent is killed.
    StoppedAndKilled,
    /// Both are stopped.
    BothStopped,
    /// The supervisor is stopped, and the network cable is disconnected.
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

    /// Returns a number that no other process of this machine has in its command line.
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

    /// Declares a singleton whose worker has another user, session and parent, and no environment, while the program
    /// that started it continues.
    fn declare(self, network: &Network) {
        let program = format!(
            "user = \"root\"\ncommand = \"/bin/sh\"\n\
             args = [\"-c\", \"setpriv --reuid 65534 --clear-groups env -i setsid -f sleep {}; exec sleep 100000\"]",
            self.mark()
        );
        declare(network, self.host(), self.host() + SPARE, &program);
    }
}

/// Returns the machine to whose singleton a worker's command line belongs.
fn whose(command: &[u8]) -> Option<usize> {
    let is = |fault: &&Fault| command == format!("sleep\0{}\0", fault.mark()).as_bytes();
    ALL.iter().find(is).map(|fault| fault.host())
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
    let mut leaders = Leaders::new(ALL.len(), whose);
    leaders.each_runs_once(&network);
    let began = Instant::now();
    let stopped: Vec<_> = ALL.map(|fault| fault.begin(&mut network)).into();
    leaders.watch(began, |seen| seen.back.len() == ALL.len() || began.elapsed() > WATCHED);
    for fault in ALL {
        let (ended, back) = leaders.seen(fault.host());
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
    // A returning node must not start what runs elsewhere.
    let ended = Instant::now();
    leaders.watch(began, |_| ended.elapsed() > AFTERWARDS);
    leaders.each_runs_once(&network);
    leaders.delete(&network);
}
