//! Islands: which nodes reach one another over working links, looked for only around links that are down.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::cuts::{Across, Pair, Picture, pair};
use crate::id::NodeIndex;

/// Nodes beyond the number of links that are down that are visited before a node is taken to be in the main part. Every part of
/// the mesh that is cut off has at least as many links across the cut as it has nodes, for a plan is an expander.
const BEYOND: usize = 8;

/// Parts of the mesh that no working link joins.
#[derive(Debug, Default)]
pub(super) struct Islands {
    /// Each but the main one.
    pub(super) parts: Vec<BTreeSet<NodeIndex>>,
    /// Visited nodes of the main one.
    pub(super) main: BTreeSet<NodeIndex>,
    /// More of the main one was not visited.
    pub(super) beyond: bool,
}

impl Picture<'_> {
    /// The islands that `down` links make.
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
            // Of equal ones the main one is that with the node that comes first.
            let largest = (0..parts.len()).max_by_key(|&at| (parts[at].len(), Reverse(self.first_of(&parts[at]))));
            if let Some(largest) = largest {
                islands.main = parts.swap_remove(largest);
            }
            parts.sort();
        }
        islands
    }

    /// Everybody whom `start` reaches, and whether that is the main part.
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

    /// Joins islands by the label that explains them with the fewest: where few links are probed, nodes of one side may have no working link to one
    /// another. Islands with a link that is down between them are never joined.
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

fn joined(islands: &Islands, groups: &[BTreeSet<NodeIndex>], down: &BTreeSet<Pair>) -> Islands {
    let mut place: BTreeMap<NodeIndex, usize> = BTreeMap::new();
    let all = islands.parts.iter().chain([&islands.main]);
    for (at, part) in all.enumerate() {
        place.extend(part.iter().map(|node| (*node, at)));
    }
    let (main, mut parts) = (islands.parts.len(), islands.parts.clone());
    parts.push(islands.main.clone());
    let mut leads: Vec<usize> = (0..parts.len()).collect();
    let lead = |leads: &[usize], mut at: usize| {
        while leads[at] != at {
            at = leads[at];
        }
        at
    };
    for group in groups {
        let is_whole = |&(one, other): &Pair| !(group.contains(&one) && group.contains(&other));
        if !down.iter().all(is_whole) {
            continue;
        }
        let mut of_group: BTreeSet<usize> = group.iter().filter_map(|node| place.get(node).copied()).collect();
        if islands.beyond && group.iter().any(|node| !place.contains_key(node)) {
            // Whoever was not visited is in the main part.
            of_group.insert(main);
        }
        let of_group: BTreeSet<usize> = of_group.into_iter().map(|at| lead(&leads, at)).collect();
        let apart = |one: usize, other: usize| {
            let within = |node: &NodeIndex, at: usize| place.get(node).is_some_and(|&of| lead(&leads, of) == at);
            !down
                .iter()
                .any(|(a, b)| (within(a, one) && within(b, other)) || (within(a, other) && within(b, one)))
        };
        let list: Vec<usize> = of_group.into_iter().collect();
        let may = list
            .iter()
            .enumerate()
            .all(|(at, &one)| list[at + 1..].iter().all(|&other| apart(one, other)));
        if let (true, Some(&to)) = (may, list.last()) {
            for at in list {
                leads[at] = to;
            }
        }
    }
    let mut merged: BTreeMap<usize, BTreeSet<NodeIndex>> = BTreeMap::new();
    for (at, part) in parts.into_iter().enumerate() {
        merged.entry(lead(&leads, at)).or_default().extend(part);
    }
    let main = merged.remove(&lead(&leads, main)).unwrap_or_default();
    Islands {
        parts: merged.into_values().filter(|part| !part.is_empty()).collect(),
        main,
        beyond: islands.beyond,
    }
}
