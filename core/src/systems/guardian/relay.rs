//! Relays: what the coordinator tells a node that only its peers can reach, and what it learns of that node's own peers.

use super::Guardian;
use crate::{ctx::Ctx, node::NodeIndex, standing::Question, time::Time};

impl Guardian {
    /// The nodes that passed a question on before `via`, if each was asked by a node that it observes or is observed by. A node that cannot be
    /// told of a new plan asks whom it probed before; only an observer's word says that it is there.
    pub(crate) fn path(
        &self,
        ctx: &Ctx,
        via: NodeIndex,
        asker: NodeIndex,
        question: &Question,
    ) -> Option<Vec<NodeIndex>> {
        if !self.vouches(ctx, via) {
            return None;
        }
        let path = question.path.iter().map(|node| ctx.registry.find(*node));
        let path: Vec<NodeIndex> = path.collect::<Option<_>>()?;
        let chain: Vec<NodeIndex> = [asker].into_iter().chain(path.iter().copied()).chain([via]).collect();
        let are_paired = |pair: &[NodeIndex]| self.mesh.are_paired(pair[0], pair[1]);
        chain.windows(2).all(are_paired).then_some(path)
    }

    /// By whose way it asked last, and when, if that peer can still be counted on.
    pub(crate) fn relayed(&self, ctx: &Ctx, index: NodeIndex) -> Option<(NodeIndex, Time)> {
        ctx.registry[index]
            .relayed
            .filter(|(via, _)| self.is_heard_well(ctx, *via))
    }

    /// True when the node asks by way of its peers now.
    pub(crate) fn is_reached(&self, ctx: &Ctx, index: NodeIndex) -> bool {
        self.relayed(ctx, index)
            .is_some_and(|(_, at)| ctx.clock.now.since(at) < ctx.config.rules.asked_for)
    }
}
