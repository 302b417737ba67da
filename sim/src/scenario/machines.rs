//! Names of machines.

use std::collections::BTreeSet;

use super::Cluster;

/// A set of machines.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Group {
    /// The coordinator's machine.
    Coordinator,
    /// All nodes.
    All,
    /// A node, from 0.
    Node(usize),
    /// The nodes of a zone, from 0.
    Zone(usize),
    /// A percentage of the nodes.
    Share(f64),
}

impl Group {
    /// Parses a name.
    pub(crate) fn parse(text: &str, cluster: &Cluster) -> Result<Group, String> {
        let numbered = |prefix: &str, count: usize| {
            let number: usize = text.strip_prefix(prefix)?.parse().ok()?;
            (1..=count).contains(&number).then(|| number - 1)
        };
        let share = || {
            text.strip_suffix('%')?
                .parse()
                .ok()
                .filter(|share| (0.0..=100.0).contains(share))
        };
        match text {
            "coordinator" => Ok(Group::Coordinator),
            "all" => Ok(Group::All),
            _ => numbered("node-", cluster.nodes)
                .map(Group::Node)
                .or_else(|| numbered("zone-", cluster.zones).map(Group::Zone))
                .or_else(|| share().map(Group::Share))
                .ok_or_else(|| {
                    let (nodes, zones) = (cluster.nodes, cluster.zones);
                    format!("{text:?} is none of node-1 to node-{nodes}, zone-1 to zone-{zones}, all, coordinator, 30%")
                }),
        }
    }
}

/// Resolves names to nodes (from 0) and whether the coordinator is among them; `draw` selects a given number of random
/// nodes.
pub(crate) fn resolve(
    names: &[String],
    cluster: &Cluster,
    draw: &mut impl FnMut(usize) -> BTreeSet<usize>,
) -> (BTreeSet<usize>, bool) {
    let (mut nodes, mut coordinator) = (BTreeSet::new(), false);
    for name in names {
        match Group::parse(name, cluster) {
            Ok(Group::Coordinator) => coordinator = true,
            Ok(Group::All) => nodes.extend(0..cluster.nodes),
            Ok(Group::Node(node)) => {
                nodes.insert(node);
            }
            Ok(Group::Zone(zone)) => nodes.extend((0..cluster.nodes).filter(|node| node % cluster.zones == zone)),
            Ok(Group::Share(share)) => nodes.extend(draw((cluster.nodes as f64 * share / 100.0).round() as usize)),
            // Validated when the scenario was parsed.
            Err(_) => {}
        }
    }
    (nodes, coordinator)
}
