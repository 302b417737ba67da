//! The logic of WyneOS for both roles: deterministic and free of I/O.
//!
//! Time, randomness and results of I/O are inputs; work for the outside is emitted as effects. The coordinator
//! ([`engine::Coordinator`]) and the agent ([`agent::Agent`]) are state machines with the same four methods: `handle`,
//! `handle_timeout`, `poll_effect` and `poll_timeout`.

pub mod access;
pub mod agent;
pub mod autonomy;
mod backoff;
pub mod behaviour;
pub mod coherence;
pub mod command;
mod ctx;
pub mod effect;
pub mod engine;
pub mod event;
pub mod id;
pub mod integrity;
pub mod limits;
pub mod mesh;
pub mod node;
pub mod placement;
pub mod predictive;
pub mod protocol;
pub mod recycled;
pub mod registry;
pub mod standing;
pub mod store;
pub mod supervisor;
mod systems;
pub mod telemetry;
pub mod text;
pub mod time;
pub mod timer;
pub mod transit;
pub mod workload;

pub use engine as coordinator;
