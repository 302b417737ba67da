//! Verdicts in generated clusters, with any network, fault and phase, checked against the reference model. Failing
//! cases are shrunk and printed as scenarios.
//!
//! A short run is part of all tests; `PROPTEST_CASES=20000 PROPTEST_RNG_SEED=7` runs more and other cases.

// The lint's exemption for tests does not apply to helpers of an integration test.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod broken;
mod generate;

use std::{collections::BTreeMap, env, str::FromStr};

use generate::{Case, What, deaths, faults, networks};
use proptest::{
    prelude::*,
    test_runner::{RngSeed, TestCaseResult},
};
use wyneos_core::{mesh::FindingKind, node::Liveness};
use wyneos_sim::{Report, Scenario, run};

/// Reads a number from the environment.
fn set<T: FromStr>(name: &str) -> Option<T> {
    env::var(name).ok()?.parse().ok()
}

/// The same cases each time, unless the environment selects others.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases: set("PROPTEST_CASES").unwrap_or(cases),
        max_shrink_iters: 400,
        rng_seed: RngSeed::Fixed(set("PROPTEST_RNG_SEED").unwrap_or(1)),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn play(case: &Case) -> (String, Report) {
    let text = case.scenario();
    let scenario: Scenario = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
    (text, run(&scenario, case.seed, |_| true))
}

/// Returns the coordinator's final conclusion about each node.
fn believed(report: &Report) -> BTreeMap<&str, &str> {
    let changes = report.transitions.iter();
    changes
        .map(|change| (change.node.as_str(), change.to.as_str()))
        .collect()
}

/// Returns whether a finding of this kind is open at the end.
fn is_open(report: &Report, kind: FindingKind) -> bool {
    let told = report.findings.iter().rfind(|found| found.kind == kind.name());
    told.is_some_and(|found| found.open)
}

/// Returns the nodes that are dead at the end, with the time of death in seconds.
fn dead(report: &Report, case: &Case) -> BTreeMap<String, f64> {
    let for_ever = case.steps.iter().filter(|step| step.lasts().is_none());
    let ends = for_ever.filter(|step| matches!(step.what, What::Crash | What::Kill));
    let met = ends.flat_map(|step| case.met(step));
    let names: Vec<String> = met.map(|node| format!("node-{}", node + 1)).collect();
    let deaths = report.detections.iter();
    let deaths = deaths.filter(|death| names.contains(&death.node) && report.unheard.contains(&death.node));
    deaths.map(|death| (death.node.clone(), death.died)).collect()
}

/// At the end, dead nodes are offline and returned nodes are online, unless the engine reports why it cannot tell.
fn settles(case: &Case, report: &Report, text: &str) -> TestCaseResult {
    // In clusters of one and two nodes, the coordinator counts too.
    let voices = case.nodes as usize + usize::from(case.nodes <= 2);
    let pending: Vec<String> = (case.nodes + 1..=case.nodes + case.pending)
        .map(|node| format!("node-{node}"))
        .collect();
    let unheard = report.unheard.iter().filter(|name| !pending.contains(name));
    let unsure = [FindingKind::Breaker, FindingKind::Flapping];
    if 2 * unheard.count() > voices || unsure.into_iter().any(|kind| is_open(report, kind)) {
        return Ok(());
    }
    let believed = believed(report);
    let dead = dead(report, case);
    let is_over = case.steps.iter().all(|step| {
        step.lasts().is_some() || matches!(step.what, What::Crash | What::Kill | What::Restart | What::ClockJump(_))
    });
    for node in 1..=case.nodes {
        let name = format!("node-{node}");
        let now = believed.get(name.as_str()).copied().unwrap_or_default();
        if dead.contains_key(&name) {
            let offline = now == Liveness::Offline.name();
            prop_assert!(
                offline,
                "seed {}: {name} is dead, and {now} in the end\n{text}",
                case.seed
            );
        } else if is_over {
            let online = now == Liveness::Online.name();
            prop_assert!(
                online,
                "seed {}: {name} is there, and {now} in the end\n{text}",
                case.seed
            );
        }
    }
    Ok(())
}

fn holds(case: &Case) -> TestCaseResult {
    let (text, report) = play(case);
    prop_assert!(report.passed(), "seed {}: {:#?}\n{text}", case.seed, report.failures);
    settles(case, &report, &text)
}

/// Maximum detection time of a single failure, in seconds; 99% are detected half a second sooner.
fn bound(case: &Case) -> f64 {
    match case.nodes {
        2 => 3.0,
        _ => 2.5,
    }
}

proptest! {
    #![proptest_config(config(40))]

    #[test]
    fn in_any_network_that_is_connected_nobody_is_offline_who_lives(case in networks()) {
        holds(&case)?;
    }
}

proptest! {
    #![proptest_config(config(80))]

    #[test]
    fn whatever_happens_nobody_is_offline_who_is_there_and_whoever_died_is(case in faults(false)) {
        holds(&case)?;
    }
}

proptest! {
    #![proptest_config(config(40))]

    #[test]
    fn one_death_is_found_within_its_bound(case in deaths(0)) {
        let (text, report) = play(&case);
        prop_assert!(report.passed(), "seed {}: {:#?}\n{text}", case.seed, report.failures);
        let bound = bound(&case);
        for death in &report.detections {
            let found = death.after.is_some_and(|after| after <= bound);
            prop_assert!(found, "seed {}: {death:?}, more than {bound} s\n{text}", case.seed);
        }
    }
}
