//! The scenarios in the library, each with several seeds, and each seed twice.

// The lint's exemption for tests does not apply to helpers of an integration test.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
};

use wyneos_core::{agent::Agent, coordinator::Coordinator, mesh::FindingKind, node::Liveness};
use wyneos_sim::{Pin, Scenario, run, run_pinned, scenario::Kind};

/// Observations of all runs.
#[derive(Default)]
struct Seen {
    failures: Vec<String>,
    faults: BTreeSet<Kind>,
    verdicts: BTreeSet<String>,
    causes: BTreeSet<String>,
    findings: BTreeSet<(String, bool)>,
    timers: BTreeSet<&'static str>,
    /// One line per scenario and seed: a hash of the run.
    pins: BTreeSet<String>,
}

impl Seen {
    /// Runs a scenario with several seeds, each twice.
    fn run(&mut self, path: &Path) {
        let (text, shown) = (fs::read_to_string(path).unwrap(), path.display());
        let scenario: Scenario = text.parse().unwrap_or_else(|error| panic!("{shown}: {error}"));
        assert!(text.starts_with("# "), "{shown}: no word on what it stands for");
        self.faults.extend(scenario.faults.iter().map(|fault| fault.kind));
        for seed in 1..=3 {
            let report = run(&scenario, seed, |_| true);
            let (again, pins) = run_pinned(&scenario, seed);
            let name = path.file_stem().unwrap().to_string_lossy();
            let pins: Vec<String> = pins.values().cloned().collect();
            self.pins.insert(format!("{name} {seed} {}", pins.join(" ")));
            assert_eq!(report, again, "{shown} differs with seed {seed}");
            if !report.passed() {
                let failed = format!("{shown} with seed {seed}: {:#?}", report.failures);
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
        self.pins.extend(other.pins);
    }
}

/// Compares all runs with the pinned ones, so that unintended changes of behaviour are detected. An intended change
/// rewrites the file with `WYNEOS_PIN=1`, and states so.
fn check_pins(pins: &BTreeSet<String>) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pins.txt");
    let names: Vec<&str> = Pin::ALL.iter().map(|pin| pin.name()).collect();
    let head = format!("# scenario seed {}\n", names.join(" "));
    if std::env::var_os("WYNEOS_PIN").is_some() {
        let lines: String = pins.iter().map(|line| format!("{line}\n")).collect();
        return fs::write(file, format!("{head}{lines}")).unwrap();
    }
    let text = fs::read_to_string(file).unwrap();
    let on_file: BTreeSet<String> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    let other: Vec<String> = pins
        .symmetric_difference(&on_file)
        .filter(|line| pins.contains(*line))
        .map(|line| {
            let mut words = line.split(' ');
            let run = [words.next().unwrap_or_default(), words.next().unwrap_or_default()].join(" ");
            let before = on_file.iter().find(|line| line.starts_with(&format!("{run} ")));
            let before: Vec<&str> = before.map_or_else(Vec::new, |line| line.split(' ').skip(2).collect());
            let differs = words.enumerate().filter(|(at, hash)| before.get(*at) != Some(hash));
            let differs: Vec<&str> = differs.filter_map(|(at, _)| names.get(at).copied()).collect();
            format!("{run}: {}", differs.join(", "))
        })
        .collect();
    assert!(
        other.is_empty() && pins.len() == on_file.len(),
        "runs do other things than those on file (WYNEOS_PIN=1 writes them anew):\n{}",
        other.join("\n")
    );
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
    check_pins(&seen.pins);
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
        // Logs are read by operators, of which there are none here.
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
