//! The scenarios that ship, each with several seeds, and each seed twice.

// The lint's leave for tests does not reach helpers of an integration test.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
};

use wyneos_core::{agent::Agent, coordinator::Coordinator, mesh::FindingKind, node::Liveness};
use wyneos_sim::{Scenario, run, scenario::Kind};

/// What was seen in some runs.
#[derive(Default)]
struct Seen {
    failures: Vec<String>,
    faults: BTreeSet<Kind>,
    verdicts: BTreeSet<String>,
    causes: BTreeSet<String>,
    findings: BTreeSet<(String, bool)>,
    timers: BTreeSet<&'static str>,
}

impl Seen {
    /// Runs a scenario with several seeds, and each seed twice.
    fn run(&mut self, path: &Path) {
        let (text, path) = (fs::read_to_string(path).unwrap(), path.display());
        let scenario: Scenario = text.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(text.starts_with("# "), "{path}: no word on what it stands for");
        self.faults.extend(scenario.faults.iter().map(|fault| fault.kind));
        for seed in 1..=3 {
            let report = run(&scenario, seed, |_| true);
            let again = run(&scenario, seed, |_| true);
            assert_eq!(report, again, "{path} differs with seed {seed}");
            if !report.passed() {
                let failed = format!("{path} with seed {seed}: {:#?}", report.failures);
                self.failures.push(failed);
            }
            for transition in report.transitions {
                self.verdicts.insert(transition.to);
                self.causes.insert(transition.cause);
            }
            self.timers.extend(report.timers);
            let found = report.findings.into_iter().map(|found| (found.kind, found.open));
            self.findings.extend(found);
        }
    }

    fn add(&mut self, other: Seen) {
        self.failures.extend(other.failures);
        self.faults.extend(other.faults);
        self.verdicts.extend(other.verdicts);
        self.causes.extend(other.causes);
        self.findings.extend(other.findings);
        self.timers.extend(other.timers);
    }
}

#[test]
fn every_scenario_holds_every_run_can_be_repeated_and_all_of_it_is_seen() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let entries = fs::read_dir(directory).unwrap();
    let paths = Mutex::new(entries.map(|entry| entry.unwrap().path()).collect::<Vec<PathBuf>>());
    let work = || {
        let mut seen = Seen::default();
        loop {
            let next = paths.lock().unwrap().pop();
            let Some(path) = next else { return seen };
            seen.run(&path);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut seen = Seen::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            seen.add(worker.join().unwrap());
        }
    });
    assert!(seen.failures.is_empty(), "{}", seen.failures.join("\n"));
    assert_eq!(seen.faults, Kind::ALL.into(), "kinds of faults that no scenario has");
    for liveness in [
        Liveness::Online,
        Liveness::Suspect,
        Liveness::Unreachable,
        Liveness::Offline,
        Liveness::Left,
    ] {
        let name = liveness.name();
        assert!(seen.verdicts.contains(name), "nobody is ever {name}");
    }
    assert_eq!(seen.causes.len(), 10, "causes that were seen: {:?}", seen.causes);
    for kind in FindingKind::ALL {
        let found = seen.findings.contains(&(kind.name().to_owned(), true));
        assert!(found, "{} is never found", kind.name());
    }
    assert!(seen.findings.iter().any(|(_, open)| !open), "nothing is ever over");
    for timer in [Agent::TIMERS, Coordinator::TIMERS].concat() {
        // Logs are read by operators, and there are none here.
        if timer == "coordinator.read" {
            continue;
        }
        assert!(seen.timers.contains(timer), "the timer {timer} never fires");
    }
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
