//! The servers on a real network: a coordinator and agents, each in a network namespace of its own with its own address, and
//! faults made by nftables, `ip` and signals. Wants root, iproute2 and nftables ([`missing`] says what is not there). Also a proxy in front of
//! what they run, and clients that count what fails; these want no namespace.
//!
//! A harness for tests and benchmarks: what cannot be set up panics.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod load;
mod net;
mod play;
mod proxy;
mod story;
mod supervisors;

pub use load::{Failed, Load};
pub use net::{Network, PATIENCE, missing};
pub use play::play;
pub use proxy::{Proxy, SERVICE};
pub use story::{Found, Story, Verdict};
pub use supervisors::Stopped;
