//! The Coherence Engine: rows of nodes in snapshots, and invariants across systems.

mod checks;
pub(crate) mod rows;

use super::{behaviour::Behaviour, guardian::Guardian};
use crate::{coherence::Report, ctx::Ctx, mesh::Topology, telemetry::Matrix, workload::Table};
use std::time::Duration;

/// Pace of the last cycles.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// Number of cycles skipped before the newest one.
    pub(crate) skipped: u32,
    /// Delay of the newest cycle's start.
    pub(crate) lateness: Duration,
    /// Number of subscribers when the newest snapshot was published.
    pub(crate) subscribers: u32,
    /// Number of subscribers that had not received the previous snapshot.
    pub(crate) lagging: u32,
}

/// State that is checked.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) ctx: &'a Ctx,
    pub(crate) guardian: &'a Guardian,
    pub(crate) topology: &'a Topology,
    pub(crate) matrix: &'a Matrix,
    pub(crate) behaviour: &'a Behaviour,
    pub(crate) work: &'a Table,
    pub(crate) pace: Pace,
    /// Number of hellos with an outdated incarnation or session since the newest cycle.
    pub(crate) stale_hellos: u32,
}

/// Checks all invariants across systems.
pub(crate) fn check(seen: &Seen<'_>) -> Report {
    seen.checked()
}
