//! Workloads: what should run, as an operator declares it, and the instances of it that are placed.

mod last;
pub mod log;
mod record;
mod secret;
pub(crate) mod size;
mod spec;
mod status;
mod table;
#[cfg(test)]
mod tests;
mod view;

pub use last::LastLine;
pub use record::{Assignment, AssignmentId, End, Goal, Workload};
pub use secret::Secret;
pub use spec::{
    BadSpec, Check, Constraint, Kind, Limits, Operator, Probe, Resources, Restart, Spec, Stop, Update, is_user, limits,
};
pub use status::{Assigned, Exit, Phase, Status};
pub use table::{Declared, Held, Table};
pub use view::{AssignmentRow, Doubt, Rows, View, WorkloadRow};
