//! Scenarios on a real network of namespaces and in the simulator, which must lead to the same conclusions. Requires
//! root, iproute2 and nftables; .ci/run provides them, elsewhere the tests report that they were skipped.

// The lint's exemption for tests does not apply to helpers of an integration test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod contained;
mod leaders;
mod proxied;
mod singletons;

use std::collections::BTreeSet;

use wyneos_netns::{Network, Story, missing, play};
use wyneos_sim::Scenario;

/// Seeds of the simulated runs: enough that they include what happens in one real run in a hundred.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=200;

/// Returns whether the tests cannot run here, and reports the reason.
fn skipped() -> bool {
    let Some(why) = missing() else { return false };
    let required = std::env::var_os("WYNEOS_TOOLS_REQUIRED").is_some() && rustix::process::geteuid().is_root();
    assert!(!required, "{why}");
    eprintln!("skipped: {why}; .ci/run installs it");
    true
}

/// Plays a scenario on a real network and in the simulator. The real run must reach every conclusion that all seeds
/// share, and no verdict or finding that no seed reaches.
fn agrees(text: &str) -> Option<Network> {
    if skipped() {
        return None;
    }
    let scenario: Scenario = text.parse().unwrap();
    let simulated: Vec<Story> = SEEDS
        .map(|seed| {
            let report = wyneos_sim::run(&scenario, seed, |_| true);
            assert!(report.passed(), "seed {seed}: {:?}", report.failures);
            Story::simulated(&report)
        })
        .collect();
    let network = play(&scenario);
    network.settle();
    let events = network.events();
    let real = Story::real(&events);
    let told = || {
        let line = |event: &serde_json::Value| format!("{} {}\n", event["time"], event["summary"]);
        events.iter().map(line).collect::<String>()
    };
    let verdicts = simulated.iter().map(|story| &story.verdicts).collect();
    is_between(&real.verdicts, verdicts).unwrap_or_else(|why| panic!("{why}\n{}", told()));
    let found = simulated.iter().map(|story| &story.found).collect();
    is_between(&real.found, found).unwrap_or_else(|why| panic!("{why}\n{}", told()));
    Some(network)
}

/// Checks that `real` contains everything that all simulated runs contain, and nothing that none contains.
fn is_between<T: Ord + std::fmt::Debug>(real: &BTreeSet<T>, simulated: Vec<&BTreeSet<T>>) -> Result<(), String> {
    let ever: BTreeSet<&T> = simulated.iter().flat_map(|one| one.iter()).collect();
    if let Some(beyond) = real.iter().find(|one| !ever.contains(one)) {
        return Err(format!("{beyond:?} is in no simulated run; those have {ever:?}"));
    }
    let always = |one: &&&T| simulated.iter().all(|all| all.contains(**one));
    match ever.iter().filter(always).find(|one| !real.contains(**one)) {
        Some(missing) => Err(format!("{missing:?} is in every simulated run, and not here")),
        None => Ok(()),
    }
}

#[test]
fn deaths() {
    agrees(include_str!("deaths.toml"));
}

#[test]
fn cuts() {
    let Some(network) = agrees(include_str!("cuts.toml")) else {
        return;
    };
    // Node-4, which only its peers reached, learned its standing through one of them.
    let node = network.wynectl(&["node", "node-4"]).unwrap();
    let via = node["relayed"]["viaName"].as_str().unwrap_or_default();
    assert!(via.starts_with("node-"), "{node}");
    let events = network.events();
    let unreachable = |event: &&serde_json::Value| event["liveness"]["to"] == "LIVENESS_UNREACHABLE";
    let names: BTreeSet<&str> = events
        .iter()
        .filter(unreachable)
        .filter_map(|event| event["nodeName"].as_str())
        .collect();
    assert_eq!(names, BTreeSet::from(["node-4"]));
}

/// Which nodes are in doubt and which links are lossy varies by chance; which nodes are declared offline does not.
#[test]
fn loss() {
    if skipped() {
        return;
    }
    let scenario: Scenario = include_str!("loss.toml").parse().unwrap();
    for seed in SEEDS.step_by(10) {
        let report = wyneos_sim::run(&scenario, seed, |_| true);
        assert!(report.passed(), "seed {seed}: {:?}", report.failures);
    }
    let network = play(&scenario);
    let events = network.events();
    let changes: Vec<_> = events.iter().filter(|event| event["liveness"].is_object()).collect();
    let offline = |event: &&&serde_json::Value| event["liveness"]["to"] == "LIVENESS_OFFLINE";
    let names: BTreeSet<&str> = changes
        .iter()
        .filter(offline)
        .filter_map(|event| event["nodeName"].as_str())
        .collect();
    let told: Vec<String> = changes
        .iter()
        .map(|event| format!("{} {}", event["time"], event["summary"]))
        .collect();
    println!("{}", told.join("\n"));
    assert_eq!(names, BTreeSet::from(["node-3"]), "{}", told.join("\n"));
}

#[test]
fn the_coordinator() {
    agrees(include_str!("coordinator.toml"));
}
