//! Islands: groups of nodes that reach one another over working links. They are searched only around links that are
//! down.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::cuts::{Across, Pair, Picture, pair, places};
use crate::id::NodeIndex;

/// Number of visited nodes, beyond the number of links that are down, from which a node is assumed to be in the main
/// part. Any part that is cut off has at least as many links across the cut as it has nodes, since a plan is an
/// expander.
const BEYOND: usize = 8;

/// Parts of the mesh that no working link joins.
#[derive(Debug, Default)]
pub(super) struct Islands {
    /// All parts but the main one.
    pub(super) parts: Vec<BTreeSet<NodeIndex>>,
    /// Visited nodes of the main part.
    pub(super) main: BTreeSet<NodeIndex>,
    /// Whether the main part has further, unvisited nodes.
    pub(super) beyond: bool,
}

impl<P: Fn(NodeIndex) -> Vec<NodeIndex>, A: Fn(Pair) -> Across> Picture<'_, P, A> {
    /// Returns the islands that result from the links that are `down`.
    pub(super) fn islands(&self, down: &BTreeSet<Pair>) -> Islands {
        let limit = down.len() + BEYOND;
        let mut islands = Islands::default();
        let mut met: BTreeSet<NodeIndex> = BTreeSet::new();
        for start in down.iter().flat_map(|&(one, other)| [one, other]) {
            if met.contains(&start) || islands.main.contains(&start) {
                continue;
            }
            let (island, is_main) = self.island(start, limit, &islands.main);
            met.extend(&island);
            if is_main {
                islands.beyond = true;
                islands.main.extend(island);
            } else {
                islands.parts.push(island);
            }
        }
        if islands.parts.len() > 1 || (islands.parts.len() == 1 && !islands.beyond) {
            self.join(&mut islands, down);
        }
        if !islands.beyond {
            let parts = &mut islands.parts;
            // Of parts of equal size, the one with the lowest node id is the main part.
            let largest = (0..parts.len()).max_by_key(|&at| (parts[at].len(), Reverse(self.first_of(&parts[at]))));
            if let Some(largest) = largest {
                islands.main = parts.swap_remove(largest);
            }
            parts.sort();
        }
        islands
    }

    /// Returns the nodes that `start` reaches, and whether these are the main part.
    fn island(&self, start: NodeIndex, limit: usize, main: &BTreeSet<NodeIndex>) -> (BTreeSet<NodeIndex>, bool) {
        let mut island = BTreeSet::from([start]);
        let mut edge = vec![start];
        let mut is_main = false;
        while let Some(node) = edge.pop() {
            for next in (self.partners)(node) {
                if island.contains(&next) || (self.across)(pair(node, next)) != Across::Good {
                    continue;
                }
                is_main |= main.contains(&next);
                island.insert(next);
                edge.push(next);
            }
            if is_main || island.len() > limit {
                return (island, true);
            }
        }
        (island, false)
    }

    /// Joins islands by the label that leaves the fewest of them: with few probed links, nodes of one side may have no
    /// working link between them. Islands with a link between them that is down are never joined.
    fn join(&self, islands: &mut Islands, down: &BTreeSet<Pair>) {
        let mut best: Option<Islands> = None;
        for groups in self.groups {
            let joined = joined(islands, groups, down);
            let fewest = best.as_ref().map_or(islands.parts.len(), |best| best.parts.len());
            if joined.parts.len() < fewest {
                best = Some(joined);
            }
        }
        if let Some(best) = best {
            *islands = best;
        }
    }
}

fn joined(islands: &Islands, groups: &[&BTreeSet<NodeIndex>], down: &BTreeSet<Pair>) -> Islands {
    let mut part_of: BTreeMap<NodeIndex, usize> = BTreeMap::new();
    let all = islands.parts.iter().chain([&islands.main]);
    for (at, part) in all.enumerate() {
        part_of.extend(part.iter().map(|node| (*node, at)));
    }
    let (main, mut parts) = (islands.parts.len(), islands.parts.clone());
    parts.push(islands.main.clone());
    // The parts of each group, and the groups that a link which is down contradicts.
    let group_of = places(groups, &part_of);
    let mut of_groups: BTreeMap<usize, (usize, BTreeSet<usize>)> = BTreeMap::new();
    for (node, group) in &group_of {
        let (visited, parts) = of_groups.entry(*group).or_default();
        *visited += 1;
        parts.extend(part_of.get(node));
    }
    let contradicted: BTreeSet<usize> = down
        .iter()
        .filter_map(|(one, other)| {
            group_of
                .get(one)
                .filter(|group| group_of.get(other) == Some(group))
                .copied()
        })
        .collect();
    // The part that each one has been joined to, and the pairs of parts with links between them that are down.
    let mut leads: Vec<usize> = (0..parts.len()).collect();
    let mut apart: BTreeSet<(usize, usize)> = BTreeSet::new();
    for (one, other) in down {
        if let (Some(&one), Some(&other)) = (part_of.get(one), part_of.get(other)) {
            apart.extend([(one, other), (other, one)]);
        }
    }
    for (group, (visited, mut of_group)) in of_groups {
        if contradicted.contains(&group) {
            continue;
        }
        if islands.beyond && groups[group].len() > visited {
            // Unvisited nodes are in the main part.
            of_group.insert(main);
        }
        let list: BTreeSet<usize> = of_group.into_iter().map(|at| leads[at]).collect();
        let list: Vec<usize> = list.into_iter().collect();
        let mut pairs = list
            .iter()
            .enumerate()
            .flat_map(|(at, &one)| list[at + 1..].iter().map(move |&other| (one, other)));
        if let (Some(&to), false) = (list.last(), pairs.any(|pair| apart.contains(&pair))) {
            let joined = |at: usize| if list.contains(&at) { to } else { at };
            leads.iter_mut().for_each(|lead| *lead = joined(*lead));
            apart = apart
                .into_iter()
                .map(|(one, other)| (joined(one), joined(other)))
                .collect();
        }
    }
    let mut merged: BTreeMap<usize, BTreeSet<NodeIndex>> = BTreeMap::new();
    for (at, part) in parts.into_iter().enumerate() {
        merged.entry(leads[at]).or_default().extend(part);
    }
    let main = merged.remove(&leads[main]).unwrap_or_default();
    Islands {
        parts: merged.into_values().filter(|part| !part.is_empty()).collect(),
        main,
        beyond: islands.beyond,
    }
}
