//! Reads the Linux host: telemetry, the facts an agent states about its machine, and this process's own use.
//!
//! Kernels and containers differ in what they show, so a missing, unreadable or odd file costs the channels that come
//! from it and nothing else.

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
