//! The servers on a real network: a coordinator and agents, each in a network namespace of its own with its own address, and
//! faults made by nftables, `ip` and signals. Wants root, iproute2 and nftables ([`missing`] says what is not there).
//!
//! A harness for tests and benchmarks: what cannot be set up panics.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod net;
mod play;
mod story;
mod supervisors;

pub use net::{Network, PATIENCE, missing};
pub use play::play;
pub use story::{Found, Story, Verdict};
pub use supervisors::Stopped;
