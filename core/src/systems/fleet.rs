//! Nodes as input to placement.

use std::sync::Arc;

use super::predictive::Predictive;
use crate::{
    ctx::Ctx,
    node::NodeIndex,
    placement::{Fleet, Node},
    workload::{Held, Resources, Table},
};

/// State read by placement and rebalancing: nodes, work and forecasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cluster<'a> {
    pub(crate) ctx: &'a Ctx,
    pub(crate) table: &'a Table,
    pub(crate) predictive: &'a Predictive,
}

impl Cluster<'_> {
    /// Load of a node in percent: the observed or the predicted one, whichever is higher.
    pub(crate) fn heat(self, index: NodeIndex) -> u32 {
        let session = self.ctx.registry[index].session.as_ref();
        let load = session.map_or(0.0, |session| session.load) * 100.0;
        (load.round() as u32).max(self.predictive.outlook(index))
    }

    /// The nodes as input to placement.
    pub(crate) fn fleet(self) -> Fleet {
        let nodes = self.ctx.registry.iter().map(|(index, node)| {
            let (record, facts) = (&node.record, &node.record.facts);
            let load = node.session.as_ref().map_or(0.0, |session| session.load) * 100.0;
            Node {
                index,
                record: Arc::clone(record),
                admission: record.admission,
                liveness: node.liveness(),
                eligibility: record.eligibility,
                capacity: Resources {
                    cpu_millis: facts.capacity.cpu_millis,
                    memory_bytes: facts.capacity.memory_bytes,
                },
                promised: self.table.promised(index),
                taken: self.table.taken(index).to_vec(),
                load_percent: (load.round() as u32).max(self.predictive.outlook(index)),
                trust_percent: 100,
                coordinate: node.coordinate,
            }
        });
        let mut fleet = Fleet::new(nodes.collect());
        for claim in self.table.claims() {
            fleet.claim(claim);
        }
        if self.table.has_fixed_ports() {
            self.hand_out(&mut fleet);
        }
        fleet
    }

    /// Reports dynamically assigned ports to placement, so that no fixed port conflicts with one.
    pub(crate) fn hand_out(self, fleet: &mut Fleet) {
        for (index, _) in self.ctx.registry.iter() {
            let ports = self.table.of_node(index).flat_map(Held::handed_out);
            fleet.hand_out(index, ports);
        }
    }
}
