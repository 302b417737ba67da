//! The scenarios that ship, each with several seeds, and each seed twice.

use std::{collections::BTreeSet, fs, path::Path};

use wyneos_core::{mesh::FindingKind, node::Liveness};
use wyneos_sim::{Scenario, run, scenario::Kind};

#[test]
fn every_scenario_holds_every_run_can_be_repeated_and_all_of_it_is_seen() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let mut failures = Vec::new();
    let (mut faults, mut verdicts, mut causes, mut findings) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let scenario: Scenario = text
            .parse()
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(
            text.starts_with("# "),
            "{}: no word on what it stands for",
            path.display()
        );
        faults.extend(scenario.faults.iter().map(|fault| fault.kind));
        for seed in 1..=3 {
            let report = run(&scenario, seed, |_| true);
            let again = run(&scenario, seed, |_| true);
            assert_eq!(report, again, "{} differs with seed {seed}", path.display());
            if !report.passed() {
                failures.push(format!("{} with seed {seed}: {:#?}", path.display(), report.failures));
            }
            for transition in report.transitions {
                verdicts.insert(transition.to);
                causes.insert(transition.cause);
            }
            findings.extend(report.findings.into_iter().map(|found| (found.kind, found.open)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(faults, Kind::ALL.into(), "kinds of faults that no scenario has");
    for liveness in [
        Liveness::Online,
        Liveness::Suspect,
        Liveness::Unreachable,
        Liveness::Offline,
        Liveness::Left,
    ] {
        assert!(verdicts.contains(liveness.name()), "nobody is ever {}", liveness.name());
    }
    assert_eq!(causes.len(), 10, "causes that were seen: {causes:?}");
    for kind in FindingKind::ALL {
        let seen = findings.contains(&(kind.name().to_owned(), true));
        assert!(seen, "{} is never found", kind.name());
    }
    assert!(findings.iter().any(|(_, open)| !open), "nothing is ever over");
}

#[test]
fn another_seed_is_another_run() {
    let text = include_str!("../../scenarios/machine-dies.toml");
    let scenario: Scenario = text.parse().unwrap();
    let hashes: BTreeSet<String> = (1..=3).map(|seed| run(&scenario, seed, |_| true).trace_hash).collect();
    assert_eq!(hashes.len(), 3);
}

#[test]
fn a_run_that_is_ended_early_says_so() {
    let text = include_str!("../../scenarios/machine-dies.toml");
    let scenario: Scenario = text.parse().unwrap();
    let report = run(&scenario, 1, |seconds| seconds < 5.0);
    assert!(!report.complete && report.seconds < scenario.duration.as_secs_f64());
}

#[test]
fn an_expectation_that_does_not_hold_fails() {
    let text = "name = \"x\"\nduration = \"10s\"\n[cluster]\nnodes = 3\n\
        [[expect]]\nliveness = \"offline\"\nby = \"9s\"\n";
    let scenario: Scenario = text.parse().unwrap();
    let report = run(&scenario, 1, |_| true);
    assert!(!report.passed());
    assert_eq!(report.failures.len(), 3, "{:?}", report.failures);
}
