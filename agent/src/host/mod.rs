//! Reads the Linux host: telemetry, the facts that an agent reports about its machine, and the resource use of this
//! process.
//!
//! Kernels and containers differ in what they expose, so a missing, unreadable or unusual file affects only the
//! channels that are read from it.

mod counters;
mod disks;
mod facts;
mod mounts;
mod paced;
mod parse;
mod sampler;
mod usage;

#[cfg(test)]
mod tests;

pub(crate) use facts::{HostError, Own, facts, machine, own};
pub(crate) use sampler::Sampler;
