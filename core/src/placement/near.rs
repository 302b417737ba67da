//! Nearness: a workload that talks much to another one is placed where the way to it is short.

use std::{collections::BTreeMap, time::Duration};

use super::{Fleet, Node};
use crate::{
    mesh::Coordinate,
    node::NodeIndex,
    workload::{Spec, Table},
};

/// Nodes of the other workload that are looked at, those of its oldest instances.
const NEAR: usize = 64;

/// The round-trip time that is worth half as much as none.
const HALF: Duration = Duration::from_millis(1);

/// The nodes that a workload's instances are to be near to.
#[derive(Clone, Debug, Default)]
pub(super) struct Near(BTreeMap<NodeIndex, Option<Coordinate>>);

impl Near {
    /// How near a node is to the nearest of them; 0 to 1,000, and 0 where the way is not known.
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
    /// Where the instances are that those of `spec` are to be near to.
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
