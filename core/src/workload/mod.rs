//! Workloads as declared by operators, and their instances.

mod last;
pub mod log;
mod numbers;
mod place;
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
pub(crate) use numbers::Numbers;
pub use place::{Claim, Score, Waiting};
pub use record::{Assignment, AssignmentId, End, Goal, Instance, Workload};
pub use secret::Secret;
pub use spec::{
    BadSpec, Check, Constraint, FixedPort, Interruption, Kind, Limits, Operator, Order, Probe, Protocol, Resources,
    Restart, Spec, Stop, Update, is_user, limits,
};
pub use status::{Assigned, Exit, Phase, Status};
pub(crate) use table::without;
pub use table::{Declared, Held, Table};
pub use view::{AssignmentRow, Doubt, Rows, View, WorkloadRow};
