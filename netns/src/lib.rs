//! The servers on a real network: a coordinator and agents, each in its own network namespace with its own address, and
//! faults that are injected with nftables, `ip` and signals. Requires root, iproute2 and nftables ([`missing`] reports
//! which requirement is not met). The crate also provides a proxy in front of the workloads, and clients that count
//! failed requests; these require no namespace.
//!
//! It is a harness for tests and benchmarks: a failure of the set-up panics.

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
