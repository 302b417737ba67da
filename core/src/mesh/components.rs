//! Connected components.

use std::collections::BTreeMap;

use crate::id::NodeIndex;

/// Returns the connected components of `nodes` joined by `pairs`, each sorted.
pub(super) fn components(
    nodes: impl Iterator<Item = NodeIndex>,
    pairs: impl Iterator<Item = (NodeIndex, NodeIndex)>,
) -> Vec<Vec<NodeIndex>> {
    let nodes: Vec<NodeIndex> = nodes.collect();
    let place: BTreeMap<NodeIndex, usize> = nodes.iter().enumerate().map(|(at, &node)| (node, at)).collect();
    let mut parent: Vec<usize> = (0..nodes.len()).collect();
    for (one, other) in pairs {
        if let (Some(&one), Some(&other)) = (place.get(&one), place.get(&other)) {
            let (one, other) = (root(&mut parent, one), root(&mut parent, other));
            parent[one.max(other)] = one.min(other);
        }
    }
    let mut members: BTreeMap<usize, Vec<NodeIndex>> = BTreeMap::new();
    for (at, &node) in nodes.iter().enumerate() {
        members.entry(root(&mut parent, at)).or_default().push(node);
    }
    members.into_values().collect()
}

fn root(parent: &mut [usize], mut at: usize) -> usize {
    while parent[at] != at {
        // Path halving.
        parent[at] = parent[parent[at]];
        at = parent[at];
    }
    at
}
