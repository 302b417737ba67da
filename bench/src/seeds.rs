//! Many seeds of one scenario, on as many threads as there are CPUs.

use std::{
    ops::RangeInclusive,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use wyneos_sim::{Report, Scenario};

/// Returns the number of simulation threads.
pub(crate) fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Runs the scenario with each of these seeds, in any order, and passes each report to `look`.
pub(crate) fn each(scenario: &Scenario, seeds: RangeInclusive<u64>, look: impl Fn(Report) + Sync) {
    let next = AtomicU64::new(*seeds.start());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !seeds.contains(&seed) {
                return;
            }
            look(wyneos_sim::run(scenario, seed, |_| true));
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(work);
        }
    });
}
