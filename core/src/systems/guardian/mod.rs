//! The Guardian Mesh: which nodes are alive and reachable, and whose reports on that count.

pub(crate) mod climate;
mod conduct;
mod evidence;
mod plan;
mod relay;
mod survey;
mod transition;
mod verdict;
pub(crate) mod vitals;

use std::sync::Arc;

use crate::{
    autonomy::Evidence,
    ctx::Ctx,
    id::EventNo,
    mesh::{Findings, Mesh, ObserverLinks, Topology},
    node::{LifeKey, Liveness, NodeIndex},
    time::Time,
};

/// State of the Guardian Mesh beyond the rows of the registry.
#[derive(Debug)]
pub(crate) struct Guardian {
    mesh: Mesh,
    findings: Findings,
    /// Nodes that went offline, and when, until they are reported as a group.
    fallen: Vec<(Time, NodeIndex)>,
    /// Groups of nodes that failed together and have not returned.
    down: Vec<survey::Fallen>,
    reckoning: climate::Reckoning,
    /// Whether a timer for recomputing the probe plan is set.
    planning: bool,
    /// Number of pings sent.
    pings: u64,
    key: LifeKey,
}

/// A change of a node's liveness. If `from` equals `to`, only the cause changed.
#[derive(Debug)]
#[must_use]
pub(crate) struct Transition {
    pub(crate) node: NodeIndex,
    pub(crate) from: Liveness,
    pub(crate) to: Liveness,
    pub(crate) evidence: Vec<Evidence>,
    /// Number of the event that records the change; `None` if only the cause changed.
    pub(crate) event: Option<EventNo>,
}

impl Guardian {
    /// Creates the mesh at startup; `seed` determines the probe plan.
    pub(crate) fn new(seed: u64) -> Guardian {
        Guardian {
            mesh: Mesh::new(seed),
            findings: Findings::default(),
            fallen: Vec::new(),
            down: Vec::new(),
            reckoning: climate::Reckoning::default(),
            planning: false,
            pings: 0,
            key: LifeKey::cut(),
        }
    }

    /// Copies the state for planning, which reads no links.
    pub(crate) fn to_plan_with(&self, seed: u64) -> Guardian {
        Guardian {
            reckoning: self.reckoning,
            ..Guardian::new(seed)
        }
    }

    /// Condition of the links, for the snapshot.
    pub(crate) fn topology(&mut self) -> Arc<Topology> {
        self.mesh.topology()
    }

    /// All links, for the snapshot.
    pub(crate) fn links(&mut self) -> Arc<Vec<Arc<ObserverLinks>>> {
        self.mesh.rows()
    }

    #[cfg(test)]
    pub(crate) fn mesh(&mut self) -> &mut Mesh {
        &mut self.mesh
    }

    /// Number of observers of a node that reach it, and number of those that do not.
    pub(crate) fn seen_by_peers(&self, index: NodeIndex) -> (u32, u32) {
        self.mesh.seen_by_peers(index)
    }

    /// Discards observations of a node from before its new session.
    pub(crate) fn begin(&mut self, index: NodeIndex) {
        self.mesh.silence(index);
    }

    /// Closes the findings about a node that is being forgotten.
    pub(crate) fn close_findings(&mut self, ctx: &mut Ctx, index: NodeIndex) {
        for finding in self.findings.forget(index) {
            self.record_finding(ctx, &finding, false);
        }
    }

    /// Removes a forgotten node. Returns whether it was in the probe plan.
    pub(crate) fn forget(&mut self, ctx: &mut Ctx, index: NodeIndex) -> bool {
        self.fallen.retain(|(_, fallen)| *fallen != index);
        for down in &mut self.down {
            down.remove(&index);
        }
        self.down.retain(|down| !down.is_empty());
        let passed_on = ctx.registry.iter();
        let passed_on = passed_on.filter(|(_, node)| node.relayed.is_some_and(|(via, _)| via == index));
        let passed_on: Vec<NodeIndex> = passed_on.map(|(other, _)| other).collect();
        for other in passed_on {
            ctx.registry[other].relayed = None;
        }
        self.mesh.forget(index)
    }
}
