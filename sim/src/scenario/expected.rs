//! Expectations on the engine.

use std::time::Duration;

use serde::Deserialize;
use wyneos_core::{mesh::FindingKind, node::Liveness};

use crate::span::some_span;

/// An expectation.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Nodes concerned, as for faults; all nodes if empty.
    #[serde(default)]
    pub targets: Vec<String>,
    /// Expected liveness.
    #[serde(default)]
    pub liveness: Option<Liveness>,
    /// Liveness that targets without a session are told via their peers.
    #[serde(default)]
    pub told: Option<Liveness>,
    /// Rule of a decision about each target.
    #[serde(default)]
    pub decision: Option<String>,
    /// Whether each target's lease expires.
    #[serde(default)]
    pub lapse: bool,
    /// A finding of the mesh, with exactly these sides.
    #[serde(default)]
    pub finding: Option<FindingKind>,
    /// For a finding: the nodes concerned.
    #[serde(default)]
    pub near: Vec<String>,
    /// For a finding: the other side.
    #[serde(default)]
    pub far: Vec<String>,
    /// The expectation is met at some time between `after` and this.
    #[serde(default, deserialize_with = "some_span")]
    pub by: Option<Duration>,
    /// The expectation is never met from `after` on.
    #[serde(default)]
    pub never: bool,
    /// The expectation is met at the end of the scenario.
    #[serde(default)]
    pub at_end: bool,
    /// Start of the period; the first fault if absent.
    #[serde(default, deserialize_with = "some_span")]
    pub after: Option<Duration>,
    /// A workload: `running` of its programs run, or at most `starts_at_most` are started.
    #[serde(default)]
    pub workload: Option<String>,
    /// Number of running programs of the workload.
    #[serde(default)]
    pub running: Option<u32>,
    /// Number of parts of the workload that have succeeded by the end.
    #[serde(default)]
    pub done: Option<usize>,
    /// Maximum number of programs of the workload started from `after` on.
    #[serde(default)]
    pub starts_at_most: Option<usize>,
    /// Maximum number of liveness changes of each target from `after` on.
    #[serde(default)]
    pub transitions_at_most: Option<usize>,
}
