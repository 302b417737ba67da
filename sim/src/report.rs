//! What a run showed.

use std::collections::BTreeSet;

use serde::Serialize;

/// A node's liveness changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Transition {
    /// When, in seconds since the start.
    pub at: f64,
    /// The node's name.
    pub node: String,
    /// Before; absent for a node that was not known.
    pub from: Option<String>,
    /// After.
    pub to: String,
    /// Why.
    pub cause: String,
    /// The facts that it rests on.
    pub evidence: Vec<String>,
    /// For `offline`: false when the node was alive, running, and had a way to the coordinator.
    pub right: bool,
}

/// The mesh found something, or it was over.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    /// When, in seconds since the start.
    pub at: f64,
    /// What, as docs/failure-detection.md names it.
    pub kind: String,
    /// False when it was over.
    pub open: bool,
    /// Names of the nodes that it is about; empty for everybody.
    pub near: Vec<String>,
    /// The other side of a cut; empty for all others.
    pub far: Vec<String>,
    /// More about it.
    pub detail: String,
}

/// An instance was placed, or is to stop.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moved {
    /// When, in seconds since the start.
    pub at: f64,
    /// Its workload and slot.
    pub instance: String,
    /// Its node's name.
    pub node: String,
    /// `start` or `stop`.
    pub what: String,
    /// Why.
    pub reason: String,
}

/// A program of an instance was started, or ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Program {
    /// When, in seconds since the start.
    pub at: f64,
    /// Its workload.
    pub workload: String,
    /// Its node's name.
    pub node: String,
    /// False when it ended.
    pub started: bool,
}

/// How a death was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Detection {
    /// The node's name.
    pub node: String,
    /// When it died, in seconds since the start.
    pub died: f64,
    /// Seconds until it was `offline`; absent when it never was.
    pub after: Option<f64>,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// What drew everything that was drawn.
    pub seed: u64,
    /// Seconds simulated.
    pub seconds: f64,
    /// False when the run was ended before the scenario's end.
    pub complete: bool,
    /// Every transition, in order.
    pub transitions: Vec<Transition>,
    /// Everything that the mesh found, in order.
    pub findings: Vec<Found>,
    /// How each death was found.
    pub detections: Vec<Detection>,
    /// Nodes that the coordinator cannot hear itself in the end: dead, standing still, or cut off from it.
    pub unheard: BTreeSet<String>,
    /// Transitions to `offline` of nodes that were there.
    pub false_verdicts: usize,
    /// Whose lease ran out: when, in seconds since the start, and the node's name.
    pub lapses: Vec<(f64, String)>,
    /// Instances that were placed and stopped, in order.
    pub moves: Vec<Moved>,
    /// Programs that were started and ended, in order.
    pub programs: Vec<Program>,
    /// Kinds of timers that fired, of both roles.
    pub timers: BTreeSet<&'static str>,
    /// Expectations and invariants that did not hold, for people.
    pub failures: Vec<String>,
    /// Things that happened.
    pub events: u64,
    /// Digest of everything that was delivered and concluded, in hexadecimal.
    pub trace_hash: String,
}

impl Report {
    /// True when everything was as expected.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}
