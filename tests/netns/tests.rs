use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::net::{Network, missing};

const SECOND: Duration = Duration::from_secs(1);

/// How long a verdict may take here. The figures are in docs/performance.md; a test only wants that it comes.
const SOON: Duration = Duration::from_secs(20);

/// True when this cannot run here; says so.
fn skipped() -> bool {
    let Some(why) = missing() else { return false };
    let required = std::env::var_os("WYNEOS_TOOLS_REQUIRED").is_some() && rustix::process::geteuid().is_root();
    assert!(!required, "{why}");
    eprintln!("skipped: {why}; .ci/run installs it");
    true
}

/// Looks for so long that nobody is declared offline.
fn nobody_goes(network: &Network, hosts: &[usize]) {
    for &host in hosts {
        let transitions = network.transitions(host);
        assert!(
            !transitions.contains(&"offline".to_owned()),
            "node-{host}: {transitions:?}"
        );
    }
}

#[test]
fn deaths_are_told_from_cuts_and_each_is_named() {
    if skipped() {
        return;
    }
    let mut network = Network::start(6);

    // kill -9 while the host lives: connections are refused.
    let killed = Instant::now();
    network.signal(6, Signal::KILL);
    network.becomes(6, "OFFLINE", SOON);
    eprintln!("kill -9 to offline, as a client sees it: {:?}", killed.elapsed());
    network.finds("NODES_DOWN", &[6], &[], SOON);
    let events = network.events();
    let cause = events
        .iter()
        .rfind(|event| event["nodeName"] == "node-6" && event["liveness"]["to"] == "LIVENESS_OFFLINE");
    assert_eq!(cause.unwrap()["liveness"]["cause"], "LIVENESS_CAUSE_AGENT_GONE");
    network.spawn_agent(6);
    network.becomes(6, "ONLINE", SOON);

    // A pulled cable: silence.
    let pulled = Instant::now();
    network.link(5, false);
    network.becomes(5, "OFFLINE", SOON);
    eprintln!("pulled cable to offline, as a client sees it: {:?}", pulled.elapsed());
    network.link(5, true);
    network.becomes(5, "ONLINE", 2 * SOON);

    // A process that stands still.
    let stopped = Instant::now();
    network.signal(4, Signal::STOP);
    network.becomes(4, "OFFLINE", SOON);
    eprintln!("SIGSTOP to offline, as a client sees it: {:?}", stopped.elapsed());
    network.signal(4, Signal::CONT);
    network.becomes(4, "ONLINE", 2 * SOON);
    nobody_goes(&network, &[1, 2, 3]);
}

#[test]
fn cuts_are_named_and_nobody_goes_for_them() {
    if skipped() {
        return;
    }
    let network = Network::start(6);
    let everybody = [1, 2, 3, 4, 5, 6];

    // One link.
    network.cut(&[1], &[2]);
    network.finds("LINK_DOWN", &[1], &[2], SOON);
    network.heal();

    // Two groups; the coordinator reaches both, and so does nobody else.
    network.cut(&[1, 2], &[3, 4]);
    network.finds("GROUP_SPLIT", &[1, 2], &[3, 4], 2 * SOON);
    network.heal();

    // A node that no peer reaches, and the coordinator does: a gray failure.
    network.cut(&[5], &[1, 2, 3, 4, 6]);
    network.finds("PEERS_CUT", &[5], &[], 2 * SOON);
    network.heal();
    for host in everybody {
        assert_eq!(network.transitions(host), ["online"]);
    }

    // A node that only its peers reach.
    network.cut(&[3], &[0]);
    network.becomes(3, "UNREACHABLE", SOON);
    network.finds("COORDINATOR_CUT", &[3], &[], SOON);
    network.heal();
    network.becomes(3, "ONLINE", 3 * SOON);

    // The coordinator on its own: it knows that it does not know.
    network.link(0, false);
    // The cut itself is what is tested: longer than every window and grace.
    std::thread::sleep(15 * SECOND);
    network.link(0, true);
    for host in everybody {
        network.becomes(host, "ONLINE", 3 * SOON);
    }
    nobody_goes(&network, &everybody);
}

#[test]
fn loss_and_restarts_move_nobody() {
    if skipped() {
        return;
    }
    let mut network = Network::start(5);
    let everybody = [1, 2, 3, 4, 5];

    // Four packets of five that one node sends are lost.
    for to in [0, 2, 3, 4, 5] {
        network.lose(1, to, 80);
    }
    network.finds("LINK_LOSSY", &[1], &[], 2 * SOON);
    // For long enough to be given up, many times over.
    std::thread::sleep(20 * SECOND);
    network.heal();
    network.becomes(1, "ONLINE", 4 * SOON);

    // The coordinator is killed and started again, and stands still.
    network.restart_coordinator();
    for host in everybody {
        network.becomes(host, "ONLINE", 3 * SOON);
    }
    network.signal(0, Signal::STOP);
    // The pause itself is what is tested.
    std::thread::sleep(10 * SECOND);
    network.signal(0, Signal::CONT);
    for host in everybody {
        network.becomes(host, "ONLINE", 3 * SOON);
    }
    nobody_goes(&network, &everybody);
}
