//! Names and ids of nodes.

use wyneos_core::id::{NodeId, Uuid};

/// Id of the cluster.
pub(crate) const CLUSTER: Uuid = Uuid(*b"simulated-------");

/// Name of a node.
pub(crate) fn name(node: usize) -> String {
    format!("node-{}", node + 1)
}

pub(crate) fn id_of(node: usize) -> NodeId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(node as u64 + 1).to_be_bytes());
    Uuid(id)
}

/// Index of the node with this id, from 0.
pub(crate) fn node_of(id: NodeId) -> usize {
    let mut number = [0; 8];
    number.copy_from_slice(&id.0[..8]);
    (u64::from_be_bytes(number) as usize).saturating_sub(1)
}
