//! Configuration of an agent, given at its start.

use std::sync::Arc;

use crate::{
    id::{ClusterId, ProcessId},
    integrity::Digest,
    node::Facts,
    workload::{Assigned, AssignmentId, Status},
};

/// Configuration of an agent.
#[derive(Clone, Debug)]
pub struct Config {
    /// Facts that the agent reports of its node.
    pub facts: Facts,
    /// Number of starts of this agent, including this one.
    pub incarnation: u64,
    /// Addresses of the coordinators (`host:port`), tried in turn.
    pub coordinators: Vec<String>,
    /// Seed of the jitter.
    pub seed: u64,
    /// Random identifier of this process.
    pub process_id: ProcessId,
    /// Digest that identifies the machine; zero when unknown.
    pub machine: Digest,
    /// Instances found on the host, with their status; includes instances of which only the start is recorded.
    pub instances: Vec<Found>,
    /// Further instances that may have been started here.
    pub begun: Begun,
}

/// Instances that earlier agents of this node may have started although nothing of them was found. They are not run: a process may still exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Begun {
    /// None.
    #[default]
    None,
    /// Instances of this cluster with a lower id.
    Below(ClusterId, AssignmentId),
    /// Every instance that the coordinator had assigned before it welcomed this process: the record of starts is lost.
    Any,
}

/// An instance left by an earlier agent.
#[derive(Clone, Debug)]
pub struct Found {
    /// The instance.
    pub id: AssignmentId,
    /// The order of the instance; `None` when its file cannot be read.
    pub assigned: Option<Arc<Assigned>>,
    /// The status.
    pub status: Status,
    /// Whether the instance was given to another node, as when `node-id` was replaced: its lease is not renewed, and it is stopped after the
    /// first welcome.
    pub of_another: bool,
}
