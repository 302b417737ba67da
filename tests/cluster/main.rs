//! The production binaries as separate processes, and what may happen to them.

// The lint's leave for tests does not reach helpers of an integration test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod bad_input;
mod configuration;
mod dev;
mod durability;
mod harness;
mod limits;
mod liveness;
mod raw;
mod tools;
mod watching;
