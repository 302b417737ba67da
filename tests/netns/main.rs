//! The servers on a real network: a coordinator and agents, each in a network namespace of the test's own with its own address,
//! and faults made by nftables, `ip` and signals. The same faults as in scenarios/, and the real verdicts must be the simulated
//! ones. Wants root, iproute2 and nftables; .ci/run has them, elsewhere it says that it was skipped.

// The lint's leave for tests does not reach helpers of an integration test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod net;
mod tests;
