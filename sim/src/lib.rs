//! The simulator: the shipped core of coordinator and agents, in virtual time.
//!
//! Everything that decides is real: both state machines, the conversions, the bytes on the wire, the canonical snapshots and
//! their seals. What is simulated is what surrounds them: time, network, disks, processes and clocks. Everything that is
//! drawn is drawn from one seed; the same scenario with the same seed gives the same trace on every machine.

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

/// Runs `scenario`. `go_on` is told the simulated seconds from time to time, and ends the run by answering false.
pub fn run(scenario: &Scenario, seed: u64, go_on: impl FnMut(f64) -> bool) -> Report {
    run_with(scenario, seed, Rules::default(), go_on)
}

/// Runs `scenario` with other rules for verdicts than those that ship, as [`run`] does: a rule that is broken on purpose must show.
pub fn run_with(scenario: &Scenario, seed: u64, rules: Rules, mut go_on: impl FnMut(f64) -> bool) -> Report {
    world::World::new(scenario, seed, rules, false).run(&mut go_on).0
}

/// Runs `scenario` to its end, and tells besides what it did, as a hash of each sort.
pub fn run_pinned(scenario: &Scenario, seed: u64) -> (Report, BTreeMap<Pin, String>) {
    world::World::new(scenario, seed, Rules::default(), true).run(&mut |_| true)
}
