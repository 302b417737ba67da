//! Proximity: places a workload close to another one with which it communicates.

use std::{collections::BTreeMap, time::Duration};

use super::{Fleet, Node};
use crate::{
    mesh::Coordinate,
    node::NodeIndex,
    workload::{Spec, Table},
};

/// Maximum number of nodes of the other workload considered, those of its oldest instances.
const NEAR: usize = 64;

/// Round-trip time at which the closeness is half of the maximum.
const HALF: Duration = Duration::from_millis(1);

/// Nodes of the workload that instances are to be close to.
#[derive(Clone, Debug, Default)]
pub(super) struct Near(BTreeMap<NodeIndex, Option<Coordinate>>);

impl Near {
    /// Closeness of a node to the nearest of them, 0 to 1,000; 0 if unknown.
    pub(super) fn closeness(&self, node: &Node) -> i64 {
        if self.0.contains_key(&node.index) {
            return super::fit::FULL;
        }
        let Some(here) = node.coordinate else { return 0 };
        let ways = self.0.values().flatten().map(|there| here.distance(there));
        ways.min().map_or(0, |way| {
            let (half, way) = (HALF.as_micros(), way.as_micros());
            i64::try_from(half * super::fit::FULL as u128 / (half + way)).unwrap_or(0)
        })
    }
}

impl Fleet {
    /// Collects the nodes of the workload that `spec` is to be close to.
    pub(super) fn near(&self, table: &Table, spec: &Spec) -> Near {
        let Some(other) = table.declared(&spec.near) else {
            return Near::default();
        };
        let mut near = BTreeMap::new();
        for held in table.instances(other).filter(|held| held.is_wanted()) {
            if near.len() >= NEAR {
                break;
            }
            let node = self.node(held.index);
            near.insert(held.index, node.and_then(|node| node.coordinate));
        }
        Near(near)
    }
}
