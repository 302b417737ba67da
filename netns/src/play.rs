//! Execution of a simulator scenario on a real network.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use wyneos_sim::{
    Scenario,
    scenario::{Fault, Kind},
};

use crate::{net::Network, supervisors::Stopped};

/// Stopped supervisors, by the fault that stopped them.
type AllStopped = BTreeMap<usize, Vec<Stopped>>;

/// A step of the scenario: its time, the number of the fault, and whether the fault begins (or ends).
type Step = (Duration, usize, bool);

/// Starts the cluster of the scenario, executes its faults in real time, and returns the network in its final state.
/// Panics for faults that cannot be injected on a real network.
pub fn play(scenario: &Scenario) -> Network {
    let cluster = &scenario.cluster;
    let timings = [
        ("--cycle", cluster.cycle),
        ("--heartbeat", cluster.heartbeat),
        ("--probe-interval", cluster.probe_interval),
        ("--suspect-grace", cluster.suspect_grace),
        ("--restart-grace", cluster.restart_grace),
    ];
    let mut network = Network::start(cluster.nodes, &timings);
    let mut stopped = AllStopped::new();
    let began = Instant::now();
    for (at, number, begins) in steps(scenario) {
        // Steps follow the clock alone: no condition is awaited.
        thread::sleep(at.saturating_sub(began.elapsed()));
        make(&mut network, &mut stopped, scenario, number, begins);
    }
    thread::sleep(scenario.duration.saturating_sub(began.elapsed()));
    network
}

fn steps(scenario: &Scenario) -> Vec<Step> {
    let mut steps = Vec::new();
    for (number, fault) in scenario.faults.iter().enumerate() {
        let end = fault.lasts.map_or(scenario.duration, |lasts| fault.at + lasts);
        let Some(period) = fault.period else {
            steps.push((fault.at, number, true));
            steps.extend(fault.lasts.map(|_| (end, number, false)));
            continue;
        };
        let (mut at, mut on) = (fault.at, true);
        while at < end {
            steps.push((at, number, on));
            (at, on) = (at + period, !on);
        }
        steps.push((end, number, false));
    }
    steps.sort();
    steps
}

/// Returns the hosts that the names refer to; the coordinator is host 0.
fn hosts(scenario: &Scenario, names: &[String]) -> Vec<usize> {
    let (nodes, coordinator) = scenario.machines(names).expect("machines that do not depend on a seed");
    let nodes = nodes.into_iter().map(|node| node + 1);
    coordinator.then_some(0).into_iter().chain(nodes).collect()
}

fn make(network: &mut Network, stopped: &mut AllStopped, scenario: &Scenario, number: usize, begins: bool) {
    let fault = &scenario.faults[number];
    let targets = hosts(scenario, &fault.targets);
    match fault.kind {
        Kind::Crash => targets.into_iter().for_each(|host| power(network, host, !begins)),
        Kind::Kill if begins => targets.into_iter().for_each(|host| network.kill(host)),
        Kind::Kill => targets.into_iter().for_each(|host| network.spawn_agent(host)),
        Kind::KillAll if begins => targets.into_iter().for_each(|host| {
            network.kill_all(host);
        }),
        Kind::KillAll => targets.into_iter().for_each(|host| network.spawn_agent(host)),
        Kind::SupervisorKill => targets.into_iter().for_each(|host| {
            network.kill_supervisors(host);
        }),
        Kind::SupervisorPause if begins => {
            let all = targets.into_iter().map(|host| network.stop_supervisors(host));
            stopped.insert(number, all.collect());
        }
        Kind::SupervisorPause => stopped.remove(&number).into_iter().flatten().for_each(Stopped::go_on),
        Kind::Pause => targets.into_iter().for_each(|host| stop(network, host, begins)),
        Kind::CoordinatorCrash if begins => network.kill(0),
        Kind::CoordinatorCrash => network.spawn_coordinator(),
        Kind::CoordinatorPause => stop(network, 0, begins),
        Kind::Cut | Kind::CoordinatorCut | Kind::Flap => packets(network, scenario, number, begins, ""),
        Kind::Loss => {
            let percent = fault.loss.unwrap_or_default() * 100.0;
            let which = format!("numgen random mod 100 < {percent:.0}");
            packets(network, scenario, number, begins, &which);
        }
        Kind::LargeLoss => packets(network, scenario, number, begins, "meta length >= 1400"),
        Kind::Starve
        | Kind::Restart
        | Kind::Delay
        | Kind::ClockJump
        | Kind::Load
        | Kind::Lie
        | Kind::DiskStall
        | Kind::CoordinatorRestore
        | Kind::Misplace
        | Kind::DiskFail => {
            panic!("{:?} cannot be made on a real network", fault.kind)
        }
    }
}

/// Switches the power of a host: without power it neither sends nor answers.
fn power(network: &mut Network, host: usize, on: bool) {
    if on {
        network.link(host, true);
        network.spawn_agent(host);
    } else {
        network.link(host, false);
        network.kill(host);
    }
}

fn stop(network: &Network, host: usize, stops: bool) {
    network.signal(host, if stops { Signal::STOP } else { Signal::CONT });
}

fn packets(network: &Network, scenario: &Scenario, number: usize, begins: bool, which: &str) {
    let fault = &scenario.faults[number];
    let every = 0..=network.agents();
    if !begins {
        every.for_each(|host| network.heal(number, host));
        return;
    }
    let from = hosts(scenario, &fault.targets);
    let pairs = pairs(fault, &from, &hosts(scenario, &fault.peers), every);
    let both = |(one, other)| [Some((one, other)), (!fault.one_way).then_some((other, one))];
    // Each direction once, even if the fault names both ends as targets: a packet must not be lost twice.
    let ways: BTreeSet<(usize, usize)> = pairs.into_iter().flat_map(both).flatten().collect();
    for (one, other) in ways {
        network.drop_packets(number, one, other, which);
    }
}

fn pairs(fault: &Fault, from: &[usize], peers: &[usize], every: impl Iterator<Item = usize>) -> Vec<(usize, usize)> {
    let to: Vec<usize> = match (fault.kind, peers) {
        (Kind::CoordinatorCut, _) => vec![0],
        (_, []) => every.filter(|host| !from.contains(host)).collect(),
        (_, peers) => peers.to_vec(),
    };
    let across = from.iter().flat_map(|&one| to.iter().map(move |&other| (one, other)));
    across.filter(|(one, other)| one != other).collect()
}
