//! Singletons whose agents and supervisors are killed or stopped, of programs by which nothing tells whose they are: the kernel ends them in time,
//! there are never two of one, and in the end each runs.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use wyneos_netns::{Network, Stopped};

use super::{
    leaders::{Leaders, declare},
    skipped,
};

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
        let program = format!(
            "user = \"root\"\ncommand = \"/bin/sh\"\n\
             args = [\"-c\", \"setpriv --reuid 65534 --clear-groups env -i setsid -f sleep {}; exec sleep 100000\"]",
            self.mark()
        );
        declare(network, self.host(), self.host() + SPARE, &program);
    }
}

/// The machine whose singleton's worker has a command line.
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
    // Whoever comes back must not start what runs elsewhere.
    let ended = Instant::now();
    leaders.watch(began, |_| ended.elapsed() > AFTERWARDS);
    leaders.each_runs_once(&network);
    leaders.delete(&network);
}
