//! Timers of the coordinator.

use crate::id::DirectiveId;
use crate::{node::NodeIndex, timer::Kinds};

/// A timer of the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// Start of a cycle.
    Pulse,
    /// Re-evaluation of a node's liveness; stale unless the token is that of the node's newest timer.
    Liveness(NodeIndex, u64),
    /// End of the restart grace period: nodes still unseen are declared `offline`.
    RestartGrace,
    /// Recomputation of the probe plan.
    Plan,
    /// Survey of the mesh.
    Survey,
    /// Redelivery or expiry of a directive.
    Directive(DirectiveId),
    /// Reconciliation of workloads; stale unless the token is that of the newest timer.
    Reconcile(u64),
    /// Delivery of the remaining assignments to nodes.
    Tell,
    /// Timeout of a log read.
    Read(u64),
    /// Publication of changed nodes and workloads to readers.
    View,
    /// End of the period in which agents report their instances after a restoration from a backup.
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
