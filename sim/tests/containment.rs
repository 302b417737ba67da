//! Machines whose kernels do not contain processes: where singletons are placed, and whether the check for two copies
//! can fail.

// The lint's exemption for tests does not apply to helpers of an integration test.
#![allow(clippy::unwrap_used)]

use wyneos_sim::{Report, Scenario, run};

/// A singleton whose processes cannot be identified starts on node-1; then the agent and the supervisors of node-1 are
/// killed permanently.
fn killed(cluster: &str, seed: u64) -> Report {
    let text = format!(
        "name = \"x\"\nduration = \"150s\"\n[cluster]\nnodes = 3\n{cluster}\n\
         [[command]]\nat = \"1s\"\nverb = \"cordon\"\ntargets = [\"node-2\", \"node-3\"]\n\
         [[workload]]\nat = \"5s\"\nname = \"leader\"\nprogram = \"wandering\"\nsingleton = true\nreschedule_delay = \"0s\"\n\
         [[command]]\nat = \"10s\"\nverb = \"uncordon\"\ntargets = [\"all\"]\n\
         [[fault]]\nat = \"30s\"\nkind = \"kill-all\"\ntargets = [\"node-1\"]\n"
    );
    let scenario: Scenario = text.parse().unwrap();
    run(&scenario, seed, |_| true)
}

/// Returns the nodes on which programs were started, in order.
fn starts(report: &Report) -> Vec<&str> {
    let programs = report.programs.iter().filter(|program| program.started);
    programs.map(|program| &*program.node).collect()
}

#[test]
fn a_singleton_goes_from_one_contained_machine_to_another() {
    for seed in 1..=5 {
        let report = killed("uncontained = [\"node-2\"]", seed);
        assert!(report.passed(), "{:?}", report.failures);
        assert_eq!(starts(&report), ["node-1", "node-3"]);
    }
}

#[test]
fn a_singleton_waits_where_no_machine_is_contained() {
    for seed in 1..=5 {
        let report = killed("uncontained = [\"all\"]", seed);
        assert!(report.passed(), "{:?}", report.failures);
        assert_eq!(starts(&report), [""; 0]);
    }
}

#[test]
fn a_machine_that_claims_to_contain_and_does_not_runs_a_second_one() {
    for seed in 1..=5 {
        let report = killed("overstated = [\"node-1\"]", seed);
        let two = "two of the singleton leader run";
        assert!(
            report.failures.iter().any(|failure| failure.contains(two)),
            "{:?}",
            report.failures
        );
    }
}

#[test]
fn a_stopped_supervisor_is_ended_by_its_kernel_before_the_lease_is_over() {
    // Pauses of any length and phase: the program either ended a second before the lease, or continued.
    for (seed, tenths) in (1..).zip((200..1_000).step_by(37)) {
        let text = format!(
            "name = \"x\"\nduration = \"250s\"\n[cluster]\nnodes = 3\nclock_drift = 0.03\n\
             [[workload]]\nat = \"5s\"\nname = \"leader\"\nprogram = \"wandering\"\nsingleton = true\nreschedule_delay = \"0s\"\n\
             [[fault]]\nat = \"30s\"\nfor = \"{tenths}00ms\"\nkind = \"supervisor-pause\"\ntargets = [\"all\"]\n\
             [[fault]]\nat = \"33s\"\nfor = \"{tenths}00ms\"\nkind = \"cut\"\ntargets = [\"node-1\"]\n\
             [[fault]]\nat = \"36s\"\nfor = \"{tenths}00ms\"\nkind = \"kill\"\ntargets = [\"node-2\"]\n\
             [[fault]]\nat = \"39s\"\nfor = \"{tenths}00ms\"\nkind = \"pause\"\ntargets = [\"node-3\"]\n\
             [[expect]]\nworkload = \"leader\"\nrunning = 1\nat_end = true\n"
        );
        let scenario: Scenario = text.parse().unwrap();
        let report = run(&scenario, seed, |_| true);
        assert!(report.passed(), "seed {seed}: {:?}\n{text}", report.failures);
        let ends = report.programs.iter().filter(|program| !program.started);
        let ended = ends.map(|program| program.at).next();
        let stood = 30.0 + f64::from(tenths) / 10.0;
        assert!(
            ended.is_some_and(|at| at < 92.0) || stood < 92.0,
            "ended at {ended:?}\n{text}"
        );
    }
}
