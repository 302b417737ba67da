//! Placement: which node an instance runs on, and for every other node why not.
//!
//! First a filter, then a score; deterministic. Nodes are never given more than they have of what was requested. Instances of one
//! workload are alike, so that a node's score is reckoned once a workload, and again only where one was placed: a workload costs the
//! nodes it looks at and the logarithm of them an instance.

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

/// The nodes, and what is promised of them.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    nodes: Vec<Node>,
}

/// What is known of a workload's instances.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Instances that a node has.
    pub instances: BTreeMap<NodeIndex, u32>,
    /// How many of them are to leave it: what is spread evenly is what stays.
    pub leaving: BTreeMap<NodeIndex, u32>,
    /// How often instances failed on a node lately.
    pub failures: BTreeMap<NodeIndex, u32>,
    /// Where those are that it is to be near to.
    near: Near,
}

impl Standing {
    /// Instances that a node has, and keeps.
    fn staying(&self, node: NodeIndex) -> u32 {
        let of = |counts: &BTreeMap<NodeIndex, u32>| counts.get(&node).copied().unwrap_or(0);
        of(&self.instances).saturating_sub(of(&self.leaving))
    }
}

/// An instance's place, and by what it won.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The node.
    pub node: NodeIndex,
    /// What it scored.
    pub score: Score,
}

/// What became of a workload's instances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Those that have a place.
    pub placed: Vec<Placed>,
    /// Those that have none.
    pub pending: u32,
    /// The nodes that would have been next, best first.
    pub next: Vec<Placed>,
    /// Nodes that take no further one, by why not.
    pub unfit: BTreeMap<&'static str, u32>,
}

/// A node that instances may go to: the one with the fewest of the workload first, then the best score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Offer {
    fewest: std::cmp::Reverse<u32>,
    score: Score,
    node: NodeIndex,
}

/// Nodes that would have been next, which are told at most.
const NEXT: usize = 3;

/// Nodes with the same value of the label over which a workload is spread.
#[derive(Debug, Default)]
struct Group {
    instances: u32,
    offers: BinaryHeap<Offer>,
}

/// By that value.
type Groups = BTreeMap<Option<Arc<str>>, Group>;

impl Fleet {
    /// A fleet of these nodes, in the order of their indexes.
    pub fn new(nodes: Vec<Node>) -> Fleet {
        Fleet { nodes }
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The position of a node of the registry; `None` when it was forgotten.
    fn at(&self, index: NodeIndex) -> Option<usize> {
        let own = self.nodes.get(index.get()).is_some_and(|node| node.index == index);
        // Behind the place of one that was forgotten all others are further to the front.
        let search = || self.nodes.binary_search_by_key(&index, |node| node.index).ok();
        if own { Some(index.get()) } else { search() }
    }

    /// A node.
    pub fn node(&self, index: NodeIndex) -> Option<&Node> {
        self.nodes.get(self.at(index)?)
    }

    fn node_mut(&mut self, index: NodeIndex) -> Option<&mut Node> {
        let at = self.at(index)?;
        self.nodes.get_mut(at)
    }

    /// What placement is to know of a workload's instances.
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

    /// Why a node takes no further instance of a workload.
    pub fn unfit(&self, spec: &Spec, standing: &Standing, node: &Node) -> Option<Unfit> {
        fit::unfit(spec, node, standing.instances.get(&node.index).copied().unwrap_or(0))
    }

    /// Finds places for `count` further instances of a workload, and promises them.
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

    /// Finds a place for one further instance, anywhere but on `off`.
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

    /// Has a node take nothing more.
    pub fn close(&mut self, node: NodeIndex) {
        if let Some(node) = self.node_mut(node) {
            node.eligibility = crate::node::Eligibility::Draining;
        }
    }

    /// Takes note of ports that a node's agent has handed out.
    pub fn hand_out(&mut self, node: NodeIndex, ports: impl Iterator<Item = FixedPort>) {
        if let Some(node) = self.node_mut(node) {
            node.taken.extend(ports);
        }
    }

    /// Promises a node's room, and fixed ports there, that it had been asked to give back.
    fn keep(&mut self, node: NodeIndex, resources: Resources, ports: &[FixedPort]) {
        if let Some(node) = self.node_mut(node) {
            node.promised = node.promised.plus(resources);
            node.taken.extend(ports);
        }
    }

    /// Keeps room for a workload that waits for it.
    pub fn claim(&mut self, claim: Claim) {
        if let Some(node) = self.node_mut(claim.node) {
            node.promised = node.promised.plus(claim.resources);
        }
    }

    /// Takes back what was promised to an instance.
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

    /// What a node scores for a further instance.
    fn score(&self, spec: &Spec, standing: &Standing, node: &Node) -> Score {
        let failures = standing.failures.get(&node.index).copied().unwrap_or(0);
        fit::score(spec, node, failures, standing.near.closeness(node))
    }

    /// Where instances may go, by the value of the label over which they are spread; and how many nodes take none, by why not.
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

/// The best offer of the group that has the fewest instances; of several such groups, the best of all.
fn take(groups: &mut Groups) -> Option<(Option<Arc<str>>, Offer)> {
    let open = groups.iter().filter_map(|(value, group)| {
        let best = group.offers.peek()?;
        Some(((std::cmp::Reverse(group.instances), *best), value.clone()))
    });
    let (_, value) = open.max()?;
    let offer = groups.get_mut(&value)?.offers.pop()?;
    Some((value, offer))
}
