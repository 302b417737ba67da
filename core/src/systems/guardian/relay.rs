//! Relays: the coordinator's answers to nodes that only their peers can reach, and the evidence in their questions.

use super::Guardian;
use crate::{ctx::Ctx, node::NodeIndex, standing::Question, time::Time};

impl Guardian {
    /// The nodes that forwarded a question before `via`, if every pair of consecutive nodes observe one another. A node
    /// that cannot receive a new plan asks via its previous subjects; only an observer's report proves that it is
    /// alive.
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

    /// The peer that last forwarded this node's question, and when, if that peer is still reliable.
    pub(crate) fn relayed(&self, ctx: &Ctx, index: NodeIndex) -> Option<(NodeIndex, Time)> {
        ctx.registry[index]
            .relayed
            .filter(|(via, _)| self.is_heard_well(ctx, *via))
    }

    /// Whether the node currently asks via its peers.
    pub(crate) fn is_reached(&self, ctx: &Ctx, index: NodeIndex) -> bool {
        self.relayed(ctx, index)
            .is_some_and(|(_, at)| ctx.clock.now.since(at) < ctx.config.rules.asked_for)
    }
}
