//! Cuts: which few groups of nodes explain the links that do badly.

use std::collections::{BTreeMap, BTreeSet};

use super::sight::Trouble;
use crate::node::NodeIndex;

/// Share of a node's links that do badly from which the node is what they have in common.
const CENTRE: f64 = 0.6;

/// So many links of one node that were touched at the same time are no chance.
const SEVERAL: usize = 3;

/// Cuts of one link each that are told at most.
const SINGLES: usize = 64;

/// Links between two groups do badly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// One side, the smaller one; empty when the links are everywhere.
    pub near: BTreeSet<NodeIndex>,
    /// The other side; empty for all other nodes.
    pub far: BTreeSet<NodeIndex>,
    /// How badly they do.
    pub trouble: Trouble,
}

/// A pair of nodes, the lower first.
pub(super) type Pair = (NodeIndex, NodeIndex);

/// Pairs that do badly, and whom each node has a link with.
pub(super) struct Evidence<'a, F> {
    /// How badly; pairs that do well are left out.
    pub(super) pairs: &'a BTreeMap<Pair, Trouble>,
    /// Everybody a node has an observed link with.
    pub(super) partners: F,
    /// Nodes of the mesh.
    pub(super) members: usize,
}

impl<F: Fn(NodeIndex) -> BTreeSet<NodeIndex>> Evidence<'_, F> {
    /// The cuts that explain the pairs.
    pub(super) fn cuts(&self) -> Vec<Cut> {
        let centres = self.centres();
        if !centres.is_empty() && 3 * centres.len() >= 2 * self.members {
            let (near, far) = (BTreeSet::new(), BTreeSet::new());
            let trouble = Trouble::Shaky;
            return vec![Cut { near, far, trouble }];
        }
        let mut cuts = Vec::new();
        for trouble in [Trouble::Down, Trouble::Shaky] {
            let near: BTreeSet<NodeIndex> = centres
                .iter()
                .filter(|(_, of)| **of == trouble)
                .map(|(&node, _)| node)
                .collect();
            if !near.is_empty() {
                cuts.push(self.around(near, trouble));
            }
        }
        for trouble in [Trouble::Down, Trouble::Shaky] {
            let rest = self.pairs.iter().filter(|((one, other), of)| {
                **of == trouble && !centres.contains_key(one) && !centres.contains_key(other)
            });
            cuts.extend(self.groups(rest.map(|(&pair, _)| pair), trouble));
        }
        cuts
    }

    /// Nodes most of whose links do badly, not counting links to those that were found before them.
    fn centres(&self) -> BTreeMap<NodeIndex, Trouble> {
        let mut bad: BTreeMap<NodeIndex, BTreeMap<NodeIndex, Trouble>> = BTreeMap::new();
        for (&(one, other), &trouble) in self.pairs {
            bad.entry(one).or_default().insert(other, trouble);
            bad.entry(other).or_default().insert(one, trouble);
        }
        let partners: BTreeMap<NodeIndex, BTreeSet<NodeIndex>> =
            bad.keys().map(|&node| (node, (self.partners)(node))).collect();
        let mut centres = BTreeMap::new();
        loop {
            let worst = bad
                .iter()
                .filter(|(_, links)| links.len() >= 2)
                .map(|(&node, links)| {
                    let left = partners[&node].iter().filter(|partner| !centres.contains_key(*partner));
                    (links.len() as f64 / left.count().max(links.len()) as f64, node)
                })
                .max_by(|one, other| one.0.total_cmp(&other.0).then(other.1.cmp(&one.1)));
            let Some((_, node)) = worst.filter(|(share, _)| *share >= CENTRE) else {
                return centres;
            };
            let links = bad.remove(&node).unwrap_or_default();
            let worst = links.values().max().copied().unwrap_or(Trouble::Touched);
            if worst >= Trouble::Shaky || links.len() >= SEVERAL {
                let down = links.values().all(|trouble| *trouble == Trouble::Down);
                centres.insert(node, if down { Trouble::Down } else { Trouble::Shaky });
            }
            for partner in links.into_keys() {
                if let Some(links) = bad.get_mut(&partner) {
                    links.remove(&node);
                }
            }
        }
    }

    /// The cut around centres. The other side is everybody, or those that they do not reach when they reach some.
    fn around(&self, near: BTreeSet<NodeIndex>, trouble: Trouble) -> Cut {
        let mut far = BTreeSet::new();
        let mut reached = false;
        for &node in &near {
            for partner in (self.partners)(node).difference(&near) {
                let pair = (node.min(*partner), node.max(*partner));
                if self.pairs.contains_key(&pair) {
                    far.insert(*partner);
                } else {
                    reached = true;
                }
            }
        }
        if !reached || trouble != Trouble::Down {
            far.clear();
        }
        Cut { near, far, trouble }
    }

    /// Pairs that hang together, as two sides where they have two.
    fn groups(&self, pairs: impl Iterator<Item = Pair>, trouble: Trouble) -> Vec<Cut> {
        let mut links: BTreeMap<NodeIndex, BTreeSet<NodeIndex>> = BTreeMap::new();
        for (one, other) in pairs {
            links.entry(one).or_default().insert(other);
            links.entry(other).or_default().insert(one);
        }
        let mut cuts = Vec::new();
        while let Some(&start) = links.keys().next() {
            let sides = two_sides(&links, start);
            let met: BTreeSet<NodeIndex> = sides.0.union(&sides.1).copied().collect();
            if sides.2 && self.crosses_nowhere(&links, &sides.0, &sides.1) {
                let (near, far) = if sides.0.len() <= sides.1.len() {
                    (sides.0, sides.1)
                } else {
                    (sides.1, sides.0)
                };
                cuts.push(Cut { near, far, trouble });
            } else {
                let singles = met
                    .iter()
                    .flat_map(|&one| links[&one].iter().map(move |&other| (one, other)));
                for (one, other) in singles.filter(|(one, other)| one < other).take(SINGLES) {
                    let (near, far) = (BTreeSet::from([one]), BTreeSet::from([other]));
                    cuts.push(Cut { near, far, trouble });
                }
            }
            links.retain(|node, _| !met.contains(node));
        }
        cuts
    }

    /// True when no observed link across does well.
    fn crosses_nowhere(
        &self,
        links: &BTreeMap<NodeIndex, BTreeSet<NodeIndex>>,
        near: &BTreeSet<NodeIndex>,
        far: &BTreeSet<NodeIndex>,
    ) -> bool {
        near.iter().all(|node| {
            let across = (self.partners)(*node);
            across
                .iter()
                .all(|partner| !far.contains(partner) || links[node].contains(partner))
        })
    }
}

/// Two sides of everything that hangs together with `start`; false when a link joins two nodes of one side.
fn two_sides(
    links: &BTreeMap<NodeIndex, BTreeSet<NodeIndex>>,
    start: NodeIndex,
) -> (BTreeSet<NodeIndex>, BTreeSet<NodeIndex>, bool) {
    let (mut near, mut far) = (BTreeSet::from([start]), BTreeSet::new());
    let mut edge = vec![(start, true)];
    let mut has_two = true;
    while let Some((node, is_near)) = edge.pop() {
        for &next in &links[&node] {
            let (same, opposite) = if is_near { (&near, &mut far) } else { (&far, &mut near) };
            if same.contains(&next) {
                has_two = false;
            } else if opposite.insert(next) {
                edge.push((next, !is_near));
            }
        }
    }
    (near, far, has_two)
}
