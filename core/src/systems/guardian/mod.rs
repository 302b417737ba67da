//! The Guardian Mesh: who is alive, who can be reached, and whose word on that counts.

pub(crate) mod climate;
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
    mesh::{Findings, Mesh, ObserverLinks, Topology},
    node::{Liveness, NodeIndex},
    time::Time,
};

/// What the Guardian Mesh knows beside the rows of the registry.
#[derive(Debug)]
pub(crate) struct Guardian {
    mesh: Mesh,
    findings: Findings,
    /// Nodes that went offline, and when, until they are told of together.
    fallen: Vec<(Time, NodeIndex)>,
    /// Groups of nodes that failed together and are not back.
    down: Vec<survey::Fallen>,
    reckoning: climate::Reckoning,
    /// A timer makes the probe plan anew.
    planning: bool,
    /// Pings that were sent.
    pings: u64,
}

/// The liveness of a node changed. Where `from` is `to`, its cause alone did.
#[derive(Debug)]
#[must_use]
pub(crate) struct Transition {
    pub(crate) node: NodeIndex,
    pub(crate) from: Liveness,
    pub(crate) to: Liveness,
    pub(crate) evidence: Vec<Evidence>,
    /// The event that records it; `None` where its cause alone changed.
    pub(crate) event: Option<u64>,
}

impl Guardian {
    /// The Guardian Mesh of a coordinator that starts; `seed` draws the probe plan.
    pub(crate) fn new(seed: u64) -> Guardian {
        Guardian {
            mesh: Mesh::new(seed),
            findings: Findings::default(),
            fallen: Vec::new(),
            down: Vec::new(),
            reckoning: climate::Reckoning::default(),
            planning: false,
            pings: 0,
        }
    }

    /// A copy for plans, which look at no links.
    pub(crate) fn to_plan_with(&self, seed: u64) -> Guardian {
        Guardian {
            reckoning: self.reckoning,
            ..Guardian::new(seed)
        }
    }

    /// How the links are, for the snapshot.
    pub(crate) fn topology(&mut self) -> Arc<Topology> {
        self.mesh.topology()
    }

    /// Every link, for the snapshot.
    pub(crate) fn links(&mut self) -> Arc<Vec<Arc<ObserverLinks>>> {
        self.mesh.rows()
    }

    #[cfg(test)]
    pub(crate) fn mesh(&mut self) -> &mut Mesh {
        &mut self.mesh
    }

    /// How many observers of a node reach it, and how many do not.
    pub(crate) fn seen_by_peers(&self, index: NodeIndex) -> (u32, u32) {
        self.mesh.seen_by_peers(index)
    }

    /// Nothing that was seen of a node before its new session counts any more.
    pub(crate) fn begin(&mut self, index: NodeIndex) {
        self.mesh.silence(index);
    }

    /// Closes the findings about a node that is forgotten.
    pub(crate) fn close_findings(&mut self, ctx: &mut Ctx, index: NodeIndex) {
        for finding in self.findings.forget(index) {
            self.record_finding(ctx, &finding, false);
        }
    }

    /// Forgets a node. Returns true when it was in the probe plan.
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
