//! Nodes that are forgotten among faults are really forgotten, and no sooner than their leases allow.

// The lint's leave for tests does not reach helpers of an integration test.
#![allow(clippy::unwrap_used)]

use wyneos_sim::{Report, Scenario, run};

/// When a node became known: transitions of one that was not known before.
fn became_known(report: &Report, node: &str) -> Vec<f64> {
    let new = report.transitions.iter();
    let new = new.filter(|one| one.node == node && one.from.is_none());
    new.map(|one| one.at).collect()
}

#[test]
fn who_was_forgotten_comes_back_as_one_that_is_not_known() {
    let text = include_str!("../../scenarios/nodes-forgotten-among-faults.toml");
    let scenario: Scenario = text.parse().unwrap();
    let report = run(&scenario, 7, |_| true);
    assert!(report.passed(), "{:#?}", report.failures);
    for node in ["node-1", "node-2", "node-3"] {
        let known = became_known(&report, node);
        assert_eq!(known.len(), 2, "{node}: {known:?}");
        assert!(known[0] < 10.0 && known[1] > 200.0, "{node}: {known:?}");
    }
    // These were there all the time, and were met again when the coordinator was started again.
    for node in ["node-4", "node-5"] {
        let known = became_known(&report, node);
        assert!(known.iter().all(|at| *at < 130.0), "{node}: {known:?}");
    }
    // One copy at a time, and the second one only once the lease of the first is over.
    let leader: Vec<_> = report
        .programs
        .iter()
        .filter(|program| program.workload == "leader")
        .collect();
    let mut running = 0i32;
    for program in leader {
        running += if program.started { 1 } else { -1 };
        assert!((0..=1).contains(&running), "{} leaders at {}", running, program.at);
    }
}
