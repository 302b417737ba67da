//! What is expected of the engine.

use std::time::Duration;

use serde::Deserialize;
use wyneos_core::{mesh::FindingKind, node::Liveness};

use crate::span::some_span;

/// What is expected of the engine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Whom it is about, as for faults; all nodes when empty.
    #[serde(default)]
    pub targets: Vec<String>,
    /// The liveness.
    #[serde(default)]
    pub liveness: Option<Liveness>,
    /// The liveness that targets whose session is lost are told by way of their peers.
    #[serde(default)]
    pub told: Option<Liveness>,
    /// The rule of a decision about each target.
    #[serde(default)]
    pub decision: Option<String>,
    /// The lease of each target runs out.
    #[serde(default)]
    pub lapse: bool,
    /// Something that the mesh finds, with exactly these sides.
    #[serde(default)]
    pub finding: Option<FindingKind>,
    /// For a finding: whom it is about.
    #[serde(default)]
    pub near: Vec<String>,
    /// For a finding: the other side.
    #[serde(default)]
    pub far: Vec<String>,
    /// Each target has it, or it is found, at some time between `after` and this.
    #[serde(default, deserialize_with = "some_span")]
    pub by: Option<Duration>,
    /// No target ever has it, or it is never found, from `after` on.
    #[serde(default)]
    pub never: bool,
    /// Each target has it, or it is not over, when the scenario ends.
    #[serde(default)]
    pub at_end: bool,
    /// From when on; from the first fault when absent.
    #[serde(default, deserialize_with = "some_span")]
    pub after: Option<Duration>,
    /// A workload: `running` of its programs run, or no more than `starts_at_most` are started.
    #[serde(default)]
    pub workload: Option<String>,
    /// Programs of the workload that run.
    #[serde(default)]
    pub running: Option<u32>,
    /// Parts of the workload whose programs have ended with success by the end.
    #[serde(default)]
    pub done: Option<usize>,
    /// Programs of the workload that are started from `after` on, at most.
    #[serde(default)]
    pub starts_at_most: Option<usize>,
    /// No target changes its liveness more often than this from `after` on.
    #[serde(default)]
    pub transitions_at_most: Option<usize>,
}
