//! The simulator: the shipped core of coordinator and agents, in virtual time.
//!
//! All deciding code is real: both state machines, the conversions, the encoded messages, the canonical snapshots and
//! their seals. The environment is simulated: time, network, disks, processes and clocks. All random choices derive
//! from one seed; the same scenario with the same seed yields the same trace on every machine.

use std::collections::BTreeMap;

mod clock;
mod declared;
mod event;
mod expect;
mod host;
mod known;
mod machines;
mod names;
mod net;
mod pins;
mod presence;
mod queue;
mod report;
pub mod scenario;
mod scene;
mod script;
mod span;
mod stage;
mod truth;
mod verdicts;
mod wires;
mod witness;
mod world;

pub use pins::Pin;
pub use report::{Detection, Report, Transition};
pub use scenario::{BadScenario, Scenario};
pub use wyneos_core::coordinator::Rules;

/// Runs `scenario`. `go_on` is called periodically with the simulated seconds and ends the run by returning false.
pub fn run(scenario: &Scenario, seed: u64, go_on: impl FnMut(f64) -> bool) -> Report {
    run_with(scenario, seed, Rules::default(), go_on)
}

/// Runs `scenario` like [`run`], with verdict rules other than the shipped ones, to show that a deliberately broken
/// rule is detected.
pub fn run_with(scenario: &Scenario, seed: u64, rules: Rules, mut go_on: impl FnMut(f64) -> bool) -> Report {
    world::World::new(scenario, seed, rules, false).run(&mut go_on).0
}

/// Runs `scenario` to its end and also returns hashes of its behaviour by category.
pub fn run_pinned(scenario: &Scenario, seed: u64) -> (Report, BTreeMap<Pin, String>) {
    world::World::new(scenario, seed, Rules::default(), true).run(&mut |_| true)
}
