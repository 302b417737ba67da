//! The scenarios that ship, each with several seeds, and each seed twice.

use std::{fs, path::Path};

use wyneos_sim::{Scenario, run};

#[test]
fn every_scenario_holds_and_every_run_can_be_repeated() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let mut failures = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let scenario: Scenario = text
            .parse()
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for seed in 1..=3 {
            let report = run(&scenario, seed, |_| true);
            let again = run(&scenario, seed, |_| true);
            assert_eq!(report, again, "{} differs with seed {seed}", path.display());
            if !report.passed() {
                failures.push(format!("{} with seed {seed}: {:#?}", path.display(), report.failures));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
