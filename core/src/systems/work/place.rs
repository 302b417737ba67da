//! State of a node as the location of an instance.

use crate::{
    ctx::Ctx,
    node::{Eligibility, Liveness, NodeIndex},
    placement::Place,
};

/// Evaluates a node as the location of an instance.
pub(crate) fn place(ctx: &Ctx, index: NodeIndex) -> Place {
    let node = &ctx.registry[index];
    if matches!(node.liveness(), Liveness::Offline | Liveness::Left) {
        return Place::Lost {
            since: node.since(),
            cause: node.cause(),
            lease: ctx.lease_ends(index),
            decision: node.record.departed_by,
        };
    }
    match node.record.eligibility {
        Eligibility::Draining if node.record.drain_keeps_daemons => Place::LeavesUnlessDaemon(node.drain_until),
        Eligibility::Draining => Place::Leaves(node.drain_until),
        Eligibility::Isolated => Place::Leaves(None),
        Eligibility::Eligible | Eligibility::Cordoned => Place::There,
    }
}
