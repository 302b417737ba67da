//! The Coherence Engine: what a snapshot shows of nodes, and what must hold across the systems.

mod checks;
pub(crate) mod rows;

use super::{behaviour::Behaviour, guardian::Guardian};
use crate::{coherence::Report, ctx::Ctx, mesh::Topology, telemetry::Matrix, workload::Table};
use std::time::Duration;

/// How the last cycles went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// Cycles skipped since the one before the newest.
    pub(crate) skipped: u32,
    /// How late the newest cycle began.
    pub(crate) lateness: Duration,
    /// Subscribers when the newest snapshot was published.
    pub(crate) subscribers: u32,
    /// Subscribers that had not got the one before.
    pub(crate) lagging: u32,
}

/// What is checked.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) ctx: &'a Ctx,
    pub(crate) guardian: &'a Guardian,
    pub(crate) topology: &'a Topology,
    pub(crate) matrix: &'a Matrix,
    pub(crate) behaviour: &'a Behaviour,
    pub(crate) work: &'a Table,
    pub(crate) pace: Pace,
    /// Hellos of an incarnation or session older than known, since the newest cycle.
    pub(crate) stale_hellos: u32,
}

/// Checks what must hold across the systems.
pub(crate) fn check(seen: &Seen<'_>) -> Report {
    seen.checked()
}
