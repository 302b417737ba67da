//! State shared by all parts of the simulator: the scenario, time, randomness, future events, and the trace of past
//! ones.
//!
//! No decision is made here.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use wyneos_core::time::Time;

use crate::{
    event::What,
    pins::{Pin, Pins},
    queue::{Entry, Queue},
    scenario::{Scenario, resolve},
};

/// Maximum number of reported failures.
const FAILURES: usize = 100;

/// State shared by all parts.
pub(crate) struct Stage<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) now: Time,
    pub(crate) rng: Pcg64Mcg,
    queue: Queue,
    failures: Vec<String>,
    trace: blake3::Hasher,
    /// Hashes of behaviour, if requested.
    pins: Option<Pins>,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(scenario: &'a Scenario, seed: u64, pinned: bool) -> Stage<'a> {
        Stage {
            scenario,
            now: Time(0),
            rng: Pcg64Mcg::seed_from_u64(seed),
            queue: Queue::default(),
            failures: Vec::new(),
            trace: blake3::Hasher::new(),
            pins: pinned.then(Pins::default),
        }
    }

    /// Takes the next event and advances the time to it, unless it is after `end`.
    pub(crate) fn next(&mut self, end: Time) -> Option<What> {
        let entry: Entry = self.queue.pop().filter(|entry| entry.at() <= end)?;
        self.now = entry.at();
        Some(entry.what)
    }

    pub(crate) fn at(&mut self, at: Time, what: What) {
        self.queue.push(at, what);
    }

    /// Schedules an event whose delay is constant.
    pub(crate) fn at_last(&mut self, at: Time, what: What) {
        self.queue.push_ordered(at, what);
    }

    pub(crate) fn later(&mut self, after: Duration, what: What) {
        self.at(self.now + after, what);
    }

    /// Records a failure.
    pub(crate) fn fail(&mut self, what: String) {
        let at = self.now.0 as f64 / 1e9;
        if self.failures.len() < FAILURES {
            self.failures.push(format!("{at:.3} s: {what}"));
        }
    }

    /// Adds to the hashes only, if requested.
    pub(crate) fn pin(&mut self, pin: Pin, what: impl FnOnce() -> (&'static str, Vec<u8>)) {
        if let Some(pins) = &mut self.pins {
            let (what, bytes) = what();
            pins.add(pin, self.now, what, &bytes);
        }
    }

    /// Adds to the trace and the hashes.
    pub(crate) fn note(&mut self, pin: Pin, what: &str, bytes: &[u8]) {
        if let Some(pins) = &mut self.pins {
            pins.add(pin, self.now, what, bytes);
        }
        self.trace.update(&self.now.0.to_le_bytes());
        self.trace.update(what.as_bytes());
        self.trace.update(bytes);
    }

    /// Resolves the nodes that names denote; percentages are drawn randomly.
    pub(crate) fn nodes_of(&mut self, names: &[String]) -> BTreeSet<usize> {
        let cluster = &self.scenario.cluster;
        let (nodes, rng) = (cluster.nodes, &mut self.rng);
        let mut draw = |many: usize| {
            let mut drawn = BTreeSet::new();
            while drawn.len() < many.min(nodes) {
                drawn.insert(rng.random_range(0..nodes));
            }
            drawn
        };
        resolve(names, cluster, &mut draw).0
    }

    /// Failures, the digest of the trace, and the hashes by category if requested.
    pub(crate) fn into_parts(self) -> (Vec<String>, String, BTreeMap<Pin, String>) {
        let pins = self.pins.as_ref().map(Pins::told).unwrap_or_default();
        (self.failures, self.trace.finalize().to_hex().to_string(), pins)
    }
}
