//! Tests of the production binaries as separate processes, under faults.

// The lint's exemption for tests does not apply to helpers of an integration test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod audit;
mod backup;
mod bad_input;
mod clocks;
mod configuration;
mod content;
mod descriptors;
mod dev;
mod docs;
mod durability;
mod enrolment;
mod floods;
mod forgetting;
mod fresh;
mod harness;
mod headers;
mod intruders;
mod limits;
mod liveness;
mod long_input;
mod modes;
mod operators;
mod plans;
mod raw;
mod reads;
mod renewal;
mod requests;
mod rights;
mod roles;
mod secrets;
mod secure;
mod stalled;
mod tools;
mod untyped;
mod watching;
mod work;
mod workloads;
