//! The Coherence Engine: the snapshot, and checks that the systems agree.

mod report;
mod snapshot;

pub use report::{Check, Invariant, NAMED, Report, Severity};
pub use snapshot::{
    BehaviourOverview, IntegrityOverview, NodeDetail, NodeRow, Nodes, PendingRow, RowState, Snapshot, TelemetryOverview,
};
