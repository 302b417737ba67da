//! Report of a run.

use std::collections::BTreeSet;

use serde::Serialize;

/// A change of a node's liveness.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Transition {
    /// Time in seconds since the start.
    pub at: f64,
    /// Name of the node.
    pub node: String,
    /// Previous liveness; absent for a node that was unknown.
    pub from: Option<String>,
    /// New liveness.
    pub to: String,
    /// Cause of the change.
    pub cause: String,
    /// Facts behind the change.
    pub evidence: Vec<String>,
    /// For `offline`: false if the node was alive, running, and had a path to the coordinator.
    pub right: bool,
}

/// A finding of the mesh that was opened or closed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    /// Time in seconds since the start.
    pub at: f64,
    /// Kind of finding, as named in docs/failure-detection.md.
    pub kind: String,
    /// Whether it was opened.
    pub open: bool,
    /// Names of the nodes concerned; empty for all.
    pub near: Vec<String>,
    /// The other side of a cut; empty for all other nodes.
    pub far: Vec<String>,
    /// Details.
    pub detail: String,
}

/// An instance that was placed or told to stop.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moved {
    /// Time in seconds since the start.
    pub at: f64,
    /// Workload and slot.
    pub instance: String,
    /// Name of the node.
    pub node: String,
    /// `start` or `stop`.
    pub what: String,
    /// Reason.
    pub reason: String,
}

/// A start or end of an instance's program.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Program {
    /// Time in seconds since the start.
    pub at: f64,
    /// Name of the workload.
    pub workload: String,
    /// Name of the node.
    pub node: String,
    /// Whether it started.
    pub started: bool,
}

/// Detection of a node's death.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Detection {
    /// Name of the node.
    pub node: String,
    /// Time of death in seconds since the start.
    pub died: f64,
    /// Seconds until it was `offline`; absent if it never was.
    pub after: Option<f64>,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Name of the scenario.
    pub scenario: String,
    /// Seed of all random choices.
    pub seed: u64,
    /// Simulated seconds.
    pub seconds: f64,
    /// Whether the run reached the scenario's end.
    pub complete: bool,
    /// All transitions, in order.
    pub transitions: Vec<Transition>,
    /// All findings of the mesh, in order.
    pub findings: Vec<Found>,
    /// Detections of all deaths.
    pub detections: Vec<Detection>,
    /// Nodes that the coordinator cannot hear directly at the end: dead, stalled, or cut off.
    pub unheard: BTreeSet<String>,
    /// Number of transitions to `offline` of nodes that were present.
    pub false_verdicts: usize,
    /// Lease expirations: time in seconds since the start, and name of the node.
    pub lapses: Vec<(f64, String)>,
    /// Instances placed and stopped, in order.
    pub moves: Vec<Moved>,
    /// Programs started and ended, in order.
    pub programs: Vec<Program>,
    /// Kinds of timers that fired, of both roles.
    pub timers: BTreeSet<&'static str>,
    /// Violated expectations and invariants, human-readable.
    pub failures: Vec<String>,
    /// Number of simulated events.
    pub events: u64,
    /// Digest of everything delivered and concluded, in hexadecimal.
    pub trace_hash: String,
}

impl Report {
    /// Whether there was no violation.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}
