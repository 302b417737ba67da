//! Workloads: what should run, as an operator declares it.

mod spec;
#[cfg(test)]
mod tests;

pub use spec::{BadSpec, Check, Constraint, Kind, Operator, Probe, Resources, Restart, Spec, Stop, Update, limits};
