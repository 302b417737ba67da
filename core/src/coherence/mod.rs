//! The Coherence Engine: the snapshot, and whether the systems in it agree.

mod report;
mod snapshot;

pub use report::{Check, Invariant, NAMED, Report, Severity};
pub use snapshot::{
    BehaviourOverview, IntegrityOverview, NodeDetail, NodeRow, Nodes, PendingRow, RowState, Snapshot, TelemetryOverview,
};
