//! Placement: selects the node of each instance and explains why other nodes were not selected.
//!
//! Nodes are filtered, then scored; the result is deterministic. A node's resources are never overcommitted. Instances
//! of a workload are identical, so a node is scored once per workload, and again only after an instance was placed on
//! it: the cost is one pass over the nodes per workload plus a logarithm of their number per instance.

mod fit;
mod near;
mod plan;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
};

pub use fit::{Node, Unfit};
use near::Near;
pub use plan::{AGENT_GONE_DELAY, Allowance, Input, Place, Plan, Start, backoff, plan};

pub use crate::workload::{Claim, Score, Waiting};
use crate::{
    node::NodeIndex,
    time::Time,
    workload::{Declared, FixedPort, Resources, Spec, Table, without},
};

/// All nodes with their reservations.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    nodes: Vec<Node>,
}

/// State of a workload's instances as input to placement.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Number of instances per node.
    pub instances: BTreeMap<NodeIndex, u32>,
    /// Number of them that are leaving the node; the spread considers only those that stay.
    pub leaving: BTreeMap<NodeIndex, u32>,
    /// Number of recent failures per node.
    pub failures: BTreeMap<NodeIndex, u32>,
    /// Nodes of the `near` workload.
    near: Near,
}

impl Standing {
    /// Number of instances that stay on a node.
    fn staying(&self, node: NodeIndex) -> u32 {
        let of = |counts: &BTreeMap<NodeIndex, u32>| counts.get(&node).copied().unwrap_or(0);
        of(&self.instances).saturating_sub(of(&self.leaving))
    }
}

/// A selected node and its score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The node.
    pub node: NodeIndex,
    /// The node's score.
    pub score: Score,
}

/// Result of placing a workload's instances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Placed instances.
    pub placed: Vec<Placed>,
    /// Number of instances without a node.
    pub pending: u32,
    /// The next candidates, best first.
    pub next: Vec<Placed>,
    /// Number of unsuitable nodes per reason.
    pub unfit: BTreeMap<&'static str, u32>,
}

/// A candidate node: nodes with the fewest instances of the workload come first, then the best score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Offer {
    fewest: std::cmp::Reverse<u32>,
    score: Score,
    node: NodeIndex,
}

/// Maximum number of next candidates reported.
const NEXT: usize = 3;

/// Nodes with the same value of the spread label.
#[derive(Debug, Default)]
struct Group {
    instances: u32,
    offers: BinaryHeap<Offer>,
}

/// Groups by value of the spread label.
type Groups = BTreeMap<Option<Arc<str>>, Group>;

impl Fleet {
    /// Creates a fleet from nodes sorted by index.
    pub fn new(nodes: Vec<Node>) -> Fleet {
        Fleet { nodes }
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Position of a node in the list; `None` if it was forgotten.
    fn at(&self, index: NodeIndex) -> Option<usize> {
        let own = self.nodes.get(index.get()).is_some_and(|node| node.index == index);
        // After the index of a forgotten node, all others are further to the front.
        let search = || self.nodes.binary_search_by_key(&index, |node| node.index).ok();
        if own { Some(index.get()) } else { search() }
    }

    /// Finds a node.
    pub fn node(&self, index: NodeIndex) -> Option<&Node> {
        self.nodes.get(self.at(index)?)
    }

    fn node_mut(&mut self, index: NodeIndex) -> Option<&mut Node> {
        let at = self.at(index)?;
        self.nodes.get_mut(at)
    }

    /// Collects the state of a workload's instances.
    pub fn standing(&self, table: &Table, declared: &Declared, now: Time) -> Standing {
        let mut standing = Standing::default();
        for held in table.instances(declared).filter(|held| held.is_there()) {
            *standing.instances.entry(held.index).or_default() += 1;
        }
        standing.failures = declared.failures_lately(now);
        if let Some(spec) = declared.record.spec() {
            standing.near = self.near(table, spec);
        }
        standing
    }

    /// Reason why a node does not take another instance of a workload, if any.
    pub fn unfit(&self, spec: &Spec, standing: &Standing, node: &Node) -> Option<Unfit> {
        fit::unfit(spec, node, standing.instances.get(&node.index).copied().unwrap_or(0))
    }

    /// Selects nodes for `count` further instances of a workload and reserves their resources.
    pub fn place(&mut self, spec: &Spec, standing: &mut Standing, count: u32) -> Outcome {
        let mut outcome = Outcome::default();
        let mut groups = self.groups(spec, standing, &mut outcome.unfit);
        for _ in 0..count {
            let Some((value, offer)) = take(&mut groups) else { break };
            let Some(node) = self.node_mut(offer.node) else {
                break;
            };
            node.promised = node.promised.plus(spec.resources);
            node.taken.extend(spec.fixed_ports.values());
            let instances = standing.instances.entry(offer.node).or_default();
            *instances += 1;
            let (node, score) = (offer.node, offer.score);
            outcome.placed.push(Placed { node, score });
            if let Some(group) = groups.get_mut(&value) {
                group.instances += 1;
                match self.offer(spec, standing, node) {
                    Ok(offer) => group.offers.push(offer),
                    Err(unfit) => *outcome.unfit.entry(unfit.kind()).or_default() += 1,
                }
            }
        }
        outcome.pending = count - outcome.placed.len() as u32;
        while let Some((_, Offer { node, score, .. })) = take(&mut groups).filter(|_| outcome.next.len() < NEXT) {
            outcome.next.push(Placed { node, score });
        }
        outcome
    }

    /// Selects a node for one further instance, excluding `off`.
    pub fn place_off(&mut self, spec: &Spec, standing: &mut Standing, off: Option<NodeIndex>) -> Outcome {
        let was = off.and_then(|off| Some((off, self.node(off)?.eligibility)));
        if let Some((off, _)) = was {
            self.close(off);
        }
        let outcome = self.place(spec, standing, 1);
        if let Some((off, eligibility)) = was
            && let Some(node) = self.node_mut(off)
        {
            node.eligibility = eligibility;
        }
        outcome
    }

    /// Excludes a node from further placement.
    pub fn close(&mut self, node: NodeIndex) {
        if let Some(node) = self.node_mut(node) {
            node.eligibility = crate::node::Eligibility::Draining;
        }
    }

    /// Marks ports as in use that a node's agent has assigned.
    pub fn hand_out(&mut self, node: NodeIndex, ports: impl Iterator<Item = FixedPort>) {
        if let Some(node) = self.node_mut(node) {
            node.taken.extend(ports);
        }
    }

    /// Restores a reservation on a node that was released for a trial.
    fn keep(&mut self, node: NodeIndex, resources: Resources, ports: &[FixedPort]) {
        if let Some(node) = self.node_mut(node) {
            node.promised = node.promised.plus(resources);
            node.taken.extend(ports);
        }
    }

    /// Reserves room for a workload that waits for it.
    pub fn claim(&mut self, claim: Claim) {
        if let Some(node) = self.node_mut(claim.node) {
            node.promised = node.promised.plus(claim.resources);
        }
    }

    /// Releases an instance's reservation.
    pub fn release(&mut self, node: NodeIndex, resources: Resources, ports: &[FixedPort]) {
        if let Some(node) = self.node_mut(node) {
            node.promised = node.promised.less(resources);
            without(&mut node.taken, ports);
        }
    }

    fn offer(&self, spec: &Spec, standing: &Standing, index: NodeIndex) -> Result<Offer, Unfit> {
        let node = self.node(index).ok_or(Unfit::Admission)?;
        let instances = standing.instances.get(&index).copied().unwrap_or(0);
        if let Some(unfit) = fit::unfit(spec, node, instances) {
            return Err(unfit);
        }
        Ok(Offer {
            fewest: std::cmp::Reverse(standing.staying(index)),
            score: self.score(spec, standing, node),
            node: index,
        })
    }

    /// Score of a node for a further instance.
    fn score(&self, spec: &Spec, standing: &Standing, node: &Node) -> Score {
        let failures = standing.failures.get(&node.index).copied().unwrap_or(0);
        fit::score(spec, node, failures, standing.near.closeness(node))
    }

    /// Candidates grouped by the value of the spread label; unsuitable nodes are counted per reason in `unfit`.
    fn groups(&self, spec: &Spec, standing: &Standing, unfit: &mut BTreeMap<&'static str, u32>) -> Groups {
        let mut groups = Groups::new();
        let mut offers: BTreeMap<Option<&str>, (u32, Vec<Offer>)> = BTreeMap::new();
        for node in &self.nodes {
            let value = match spec.spread.as_str() {
                "" => None,
                key => node.label(key),
            };
            let offer = self.offer(spec, standing, node.index);
            let group = offers.entry(value).or_default();
            group.0 += standing.staying(node.index);
            match offer {
                Ok(offer) => group.1.push(offer),
                Err(why) => *unfit.entry(why.kind()).or_default() += 1,
            }
        }
        for (value, (instances, offers)) in offers {
            let offers = BinaryHeap::from(offers);
            groups.insert(value.map(Into::into), Group { instances, offers });
        }
        groups
    }
}

/// Takes the best candidate from the groups with the fewest instances.
fn take(groups: &mut Groups) -> Option<(Option<Arc<str>>, Offer)> {
    let open = groups.iter().filter_map(|(value, group)| {
        let best = group.offers.peek()?;
        Some(((std::cmp::Reverse(group.instances), *best), value.clone()))
    });
    let (_, value) = open.max()?;
    let offer = groups.get_mut(&value)?.offers.pop()?;
    Some((value, offer))
}
