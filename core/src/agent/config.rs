//! What an agent is told at its start.

use std::sync::Arc;

use crate::{
    id::ClusterId,
    integrity::Digest,
    node::Facts,
    workload::{Assigned, AssignmentId, Status},
};

/// What the agent's logic is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it states of its node.
    pub facts: Facts,
    /// Starts of this agent, this one included.
    pub incarnation: u64,
    /// The coordinators, as host:port; tried in turn.
    pub coordinators: Vec<String>,
    /// Seeds the jitter.
    pub seed: u64,
    /// Drawn when the process started.
    pub instance: [u8; 16],
    /// Of the machine that it is on; zero when that does not tell.
    pub machine: Digest,
    /// Instances that were found on the host, and how they are; also those of which nothing but that they were begun is known.
    pub instances: Vec<Found>,
    /// What may have been begun here besides.
    pub begun: Begun,
}

/// Instances that earlier agents of this node may have begun though nothing of them is found. They are not run: a process of one may be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Begun {
    /// None.
    #[default]
    None,
    /// Those of this cluster with a lower id.
    Below(ClusterId, AssignmentId),
    /// All that the coordinator knew of before it welcomed this process: the list of what was begun is lost.
    Any,
}

/// An instance that an earlier agent left.
#[derive(Clone, Debug)]
pub struct Found {
    /// The instance.
    pub id: AssignmentId,
    /// The order of the instance; `None` when its file cannot be read.
    pub assigned: Option<Arc<Assigned>>,
    /// The status.
    pub status: Status,
    /// True when the instance was given to another node, as when `node-id` was replaced: its lease is not renewed, and it is stopped after the
    /// first welcome.
    pub of_another: bool,
}
