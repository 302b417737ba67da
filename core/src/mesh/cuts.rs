//! Cuts: a small set of pairs of groups that explains the links that are down. Every cut is verified: no link across it
//! works.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use super::{beacons::Direction, sight::Trouble};
use crate::id::{NodeId, NodeIndex};

/// Maximum number of reported cuts of a single link each.
pub(super) const SINGLES: usize = 64;

/// Minimum number of links between two groups for them to be reported as one cut within a larger part; fewer are
/// reported one by one.
const STAR: usize = 4;

/// Maximum number of nodes of a connected part for which groups are grown from single nodes. In larger parts, only
/// complete separations and groups that labels suggest are considered.
const GREEDY: usize = 256;

/// Two groups with degraded links between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The smaller group; empty if the degraded links are everywhere.
    pub near: BTreeSet<NodeIndex>,
    /// The other group; empty for all other nodes.
    pub far: BTreeSet<NodeIndex>,
    /// Severity.
    pub trouble: Trouble,
    /// The direction in which nothing passes, if the other direction works.
    pub way: Option<Direction>,
    /// Nodes that no observed link assigns to a side.
    pub unsure: BTreeSet<NodeIndex>,
}

impl Cut {
    pub(super) fn new(near: BTreeSet<NodeIndex>, far: BTreeSet<NodeIndex>, trouble: Trouble) -> Cut {
        Cut {
            near,
            far,
            trouble,
            way: None,
            unsure: BTreeSet::new(),
        }
    }

    /// Returns whether this pair crosses the cut.
    pub(super) fn covers(&self, (one, other): Pair) -> bool {
        let crosses = |near, far| {
            self.near.contains(&near) && !self.near.contains(&far) && (self.far.is_empty() || self.far.contains(&far))
        };
        (self.near.is_empty() && self.far.is_empty()) || crosses(one, other) || crosses(other, one)
    }
}

/// A pair of nodes, the lower index first.
pub(super) type Pair = (NodeIndex, NodeIndex);

pub(super) fn pair(one: NodeIndex, other: NodeIndex) -> Pair {
    (one.min(other), one.max(other))
}

/// State of a pair across a potential cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Across {
    /// The link is degraded.
    Bad,
    /// The link works.
    Good,
    /// The state is unknown, or not known well enough.
    Unknown,
}

/// Nodes by label: a list per label, a group per value.
pub type Groups<'a> = Vec<Vec<&'a BTreeSet<NodeIndex>>>;

/// Returns the groups of one label by node. The cost per group is that of the smaller of the group and `nodes`.
pub(super) fn places<V>(groups: &[&BTreeSet<NodeIndex>], nodes: &BTreeMap<NodeIndex, V>) -> BTreeMap<NodeIndex, usize> {
    let mut places = BTreeMap::new();
    for (at, group) in groups.iter().enumerate() {
        match group.len() <= nodes.len() {
            true => places.extend(
                group
                    .iter()
                    .filter(|node| nodes.contains_key(node))
                    .map(|node| (*node, at)),
            ),
            false => places.extend(nodes.keys().filter(|node| group.contains(node)).map(|node| (*node, at))),
        }
    }
    places
}

/// State of the links, as a search for cuts reads it.
pub(super) struct Picture<'a, P, A> {
    /// Returns the live nodes that a node has a link with.
    pub(super) partners: P,
    /// Returns the state of a pair.
    pub(super) across: A,
    /// Nodes by label.
    pub(super) groups: &'a Groups<'a>,
    /// Node ids: of two sides of the same size, the one with the lowest id is the far one.
    pub(super) ids: &'a BTreeMap<NodeIndex, NodeId>,
}

pub(super) type Links = BTreeMap<NodeIndex, BTreeSet<NodeIndex>>;

pub(super) fn links(pairs: impl IntoIterator<Item = Pair>) -> Links {
    let mut links = Links::new();
    for (one, other) in pairs {
        links.entry(one).or_default().insert(other);
        links.entry(other).or_default().insert(one);
    }
    links
}

/// Two groups with only degraded or unknown links between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sides {
    pub(super) near: BTreeSet<NodeIndex>,
    pub(super) far: BTreeSet<NodeIndex>,
}

impl Sides {
    /// Returns the pairs of `links` between the two groups.
    pub(super) fn pairs(&self, links: &Links) -> Vec<Pair> {
        let of = |node: &NodeIndex| links.get(node).into_iter().flatten();
        let crossing = self.near.iter().flat_map(|node| of(node).map(move |far| (*node, *far)));
        crossing
            .filter(|(_, far)| self.far.contains(far))
            .map(|(near, far)| pair(near, far))
            .collect()
    }
}

impl<P: Fn(NodeIndex) -> Vec<NodeIndex>, A: Fn(Pair) -> Across> Picture<'_, P, A> {
    /// Returns the lowest id of these nodes.
    pub(super) fn first_of(&self, nodes: &BTreeSet<NodeIndex>) -> Option<NodeId> {
        nodes.iter().filter_map(|node| self.ids.get(node).copied()).min()
    }

    /// Orders two groups: the smaller one is near. For groups of equal size, the one with the lowest id is far; for two
    /// single nodes, it is near.
    pub(super) fn ordered(&self, near: BTreeSet<NodeIndex>, far: BTreeSet<NodeIndex>) -> Sides {
        let is_later = self.first_of(&near) > self.first_of(&far);
        let is_near = match near.len().cmp(&far.len()) {
            Ordering::Less => true,
            Ordering::Equal => is_later == (near.len() > 1),
            Ordering::Greater => false,
        };
        match is_near {
            true => Sides { near, far },
            false => Sides { near: far, far: near },
        }
    }

    /// Returns a small number of group pairs that explain `pairs` and cross no other observed link.
    pub(super) fn sides(&self, pairs: &BTreeSet<Pair>) -> Vec<Sides> {
        let mut left = links(pairs.iter().copied());
        let mut found = Vec::new();
        let mut singles = 0;
        while let Some(&start) = left.keys().next() {
            let (near, far, has_two) = two_sides(&left, start);
            let met: BTreeSet<NodeIndex> = near.union(&far).copied().collect();
            let mut part: Links = met
                .iter()
                .filter_map(|node| Some((*node, left.remove(node)?)))
                .collect();
            let whole = Sides { near, far };
            if has_two && self.holds(&whole) {
                found.push(self.completed(whole));
                continue;
            }
            while let Some(sides) = self.largest(&part) {
                let pairs = sides.pairs(&part);
                take(&mut part, &pairs);
                found.push(self.completed(sides));
            }
            let rest = part
                .iter()
                .flat_map(|(&one, others)| others.iter().map(move |&other| (one, other)));
            for (one, other) in rest.filter(|(one, other)| one < other) {
                singles += 1;
                if singles <= SINGLES {
                    let (near, far) = (BTreeSet::from([one]), BTreeSet::from([other]));
                    found.push(Sides { near, far });
                }
            }
        }
        let ordered = found.into_iter().map(|Sides { near, far }| self.ordered(near, far));
        ordered.collect()
    }

    /// Returns whether no observed link across works.
    fn holds(&self, sides: &Sides) -> bool {
        let (few, many) = match sides.near.len() <= sides.far.len() {
            true => (&sides.near, &sides.far),
            false => (&sides.far, &sides.near),
        };
        few.iter().all(|&node| {
            let across = (self.partners)(node).into_iter();
            let mut across = across.filter(|partner| many.contains(partner));
            across.all(|partner| (self.across)(pair(node, partner)) != Across::Good)
        })
    }

    /// Returns the groups with the most pairs between them, or `None` if these are too few to be significant.
    fn largest(&self, part: &Links) -> Option<Sides> {
        let by_label = self.labelled(part);
        let grown = part.keys().filter(|_| part.len() <= GREEDY);
        let grown = grown.map(|&node| self.grown(part, node));
        let all = by_label
            .into_iter()
            .chain(grown)
            .map(|sides| (sides.pairs(part).len(), sides));
        let is_plain = |pairs: usize, sides: &Sides| pairs >= STAR.min(sides.near.len() * sides.far.len()).max(STAR);
        let enough = all.filter(|(pairs, sides)| is_plain(*pairs, sides));
        let largest = enough.min_by_key(|(pairs, sides)| (usize::MAX - pairs, sides.near.len() + sides.far.len()));
        largest.map(|(_, sides)| sides)
    }

    /// Returns the groups that labels suggest and no link contradicts.
    fn labelled(&self, part: &Links) -> Vec<Sides> {
        let mut suggested = Vec::new();
        for groups in self.groups {
            let of = places(groups, part);
            let mut pairs: BTreeSet<(usize, usize)> = BTreeSet::new();
            for (one, others) in part {
                for other in others {
                    if let (Some(&one), Some(&other)) = (of.get(one), of.get(other))
                        && one < other
                    {
                        pairs.insert((one, other));
                    }
                }
            }
            for (one, other) in pairs {
                let of_part = |group: &BTreeSet<NodeIndex>| -> BTreeSet<NodeIndex> {
                    group.iter().copied().filter(|node| part.contains_key(node)).collect()
                };
                let sides = Sides {
                    near: of_part(groups[one]),
                    far: of_part(groups[other]),
                };
                if self.holds(&sides) {
                    suggested.push(sides);
                }
            }
        }
        suggested
    }

    /// Grows groups from one node: adds nodes while that increases the number of pairs between the groups.
    fn grown(&self, part: &Links, start: NodeIndex) -> Sides {
        let works = |one, other| (self.across)(pair(one, other)) == Across::Good;
        let mut sides = Sides {
            near: BTreeSet::from([start]),
            far: part[&start].clone(),
        };
        let mut pairs = sides.far.len();
        let others: BTreeSet<NodeIndex> = sides.far.iter().flat_map(|far| part[far].iter().copied()).collect();
        for &next in others.iter().filter(|next| **next != start) {
            if sides.far.contains(&next) {
                continue;
            }
            let mut more = sides.clone();
            more.near.insert(next);
            more.far.retain(|&far| !works(next, far));
            let among = more.pairs(part).len();
            if among > pairs {
                (sides, pairs) = (more, among);
            }
        }
        for (&node, others) in part {
            let is_new = !sides.near.contains(&node) && !sides.far.contains(&node);
            if is_new
                && others.iter().any(|other| sides.near.contains(other))
                && sides.near.iter().all(|&near| !works(near, node))
            {
                sides.far.insert(node);
            }
        }
        // Drop nodes without a degraded link across.
        let far = sides.far.clone();
        sides.near.retain(|near| part[near].intersection(&far).next().is_some());
        let near = sides.near.clone();
        sides.far.retain(|far| part[far].intersection(&near).next().is_some());
        sides
    }

    /// Extends a side to all nodes of a label if the missing ones are few and have no link across.
    fn completed(&self, mut sides: Sides) -> Sides {
        for turn in [false, true] {
            let (side, other) = match turn {
                false => (&sides.near, &sides.far),
                true => (&sides.far, &sides.near),
            };
            if side.len() < 4 {
                continue;
            }
            let groups = self.groups.iter().flatten().copied();
            let mut fitting =
                groups.filter(|group| side.is_subset(group) && 4 * (group.len() - side.len()) <= side.len());
            let silent = |group: &&BTreeSet<NodeIndex>| {
                let mut more = group.difference(side);
                more.all(|node| {
                    let mut partners = (self.partners)(*node).into_iter();
                    !other.contains(node) && partners.all(|partner| !other.contains(&partner))
                })
            };
            let whole = fitting.find(silent).cloned();
            if let Some(whole) = whole {
                *(if turn { &mut sides.far } else { &mut sides.near }) = whole;
            }
        }
        sides
    }
}

fn take(part: &mut Links, pairs: &[Pair]) {
    for (one, other) in pairs {
        for (one, other) in [(one, other), (other, one)] {
            if let Some(others) = part.get_mut(one) {
                others.remove(other);
            }
        }
    }
    part.retain(|_, others| !others.is_empty());
}

/// Splits the part connected to `start` into two sides. Returns false as the last value if a link joins two nodes of
/// one side.
pub(super) fn two_sides(links: &Links, start: NodeIndex) -> (BTreeSet<NodeIndex>, BTreeSet<NodeIndex>, bool) {
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
