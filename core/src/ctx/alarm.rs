//! Every timer of the coordinator's logic.

use crate::{node::NodeIndex, timer::Kinds};

/// Every timer of the coordinator's logic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// A cycle begins.
    Pulse,
    /// A node's liveness is to be looked at again; stale unless the number is that of the node's newest timer.
    Liveness(NodeIndex, u64),
    /// The nodes that were not seen since the start are given up.
    RestartGrace,
    /// The probe plan is made anew.
    Plan,
    /// The mesh is surveyed.
    Survey,
    /// A directive is delivered again, or given up.
    Directive(u64),
    /// Workloads are looked at; stale unless the number is that of the newest.
    Reconcile(u64),
    /// Nodes are told the rest of what they are to run.
    Tell,
    /// What an instance wrote was not read in time.
    Read(u64),
    /// Readers see how nodes and workloads are.
    View,
    /// Agents had the time to tell what they have, after a restoration.
    Settle,
}

impl Kinds for Timer {
    const NAMES: &'static [&'static str] = &[
        "coordinator.pulse",
        "coordinator.liveness",
        "coordinator.restart-grace",
        "coordinator.plan",
        "coordinator.survey",
        "coordinator.directive",
        "coordinator.reconcile",
        "coordinator.tell",
        "coordinator.read",
        "coordinator.view",
        "coordinator.settle",
    ];

    fn kind(&self) -> usize {
        match self {
            Timer::Pulse => 0,
            Timer::Liveness(..) => 1,
            Timer::RestartGrace => 2,
            Timer::Plan => 3,
            Timer::Survey => 4,
            Timer::Directive(_) => 5,
            Timer::Reconcile(_) => 6,
            Timer::Tell => 7,
            Timer::Read(_) => 8,
            Timer::View => 9,
            Timer::Settle => 10,
        }
    }
}
