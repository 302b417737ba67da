//! Forgetting of nodes among faults: nodes are forgotten completely, and not before their leases expire.

// The lint's exemption for tests does not apply to helpers of an integration test.
#![allow(clippy::unwrap_used)]

use wyneos_sim::{Report, Scenario, run};

/// Returns the times at which a node became known: its transitions from unknown.
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
    // These nodes were present throughout, and were recognised when the coordinator restarted.
    for node in ["node-4", "node-5"] {
        let known = became_known(&report, node);
        assert!(known.iter().all(|at| *at < 130.0), "{node}: {known:?}");
    }
    // One copy at a time; the second one starts only after the lease of the first.
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
