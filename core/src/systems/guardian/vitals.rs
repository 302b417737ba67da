//! What is known of a node by its own sessions, as evidence.

use std::time::Duration;

use super::Guardian;
use crate::{
    autonomy::{Ending, Evidence, Fact, Source},
    ctx::Ctx,
    node::NodeIndex,
};

/// Sessions that end over the same thing within so long of one another are one failure, told once.
pub(crate) const CONTENT_AGAIN: Duration = Duration::from_secs(600);

impl Guardian {
    /// When the node was last heard, as evidence.
    pub(crate) fn last_heard(&self, ctx: &Ctx, index: NodeIndex) -> Evidence {
        let node = &ctx.registry[index];
        let time = node.last_seen.map_or(node.liveness_since, |at| ctx.clock.wall.at(at));
        let sequence = node.session.as_ref().map_or(0, |session| session.sequence);
        let fact = match node.last_seen {
            None => Fact::NeverHeard,
            Some(_) => Fact::LastHeard {
                heartbeat: (sequence > 0).then_some(sequence),
            },
        };
        Evidence::new(time, Source::Session, fact)
    }

    /// That an earlier session ended over its content, as evidence beside what ended this one.
    pub(crate) fn over_before(&self, ctx: &Ctx, index: NodeIndex, ending: Option<&Ending>) -> Option<Evidence> {
        let (over, at) = ctx.registry[index].unreadable.as_ref()?;
        let over = Ending::Content(over.clone());
        let is_news = ending != Some(&over) && ctx.clock.now.since(*at) < CONTENT_AGAIN;
        is_news.then(|| Evidence::new(ctx.wall_now(), Source::Session, Fact::EndedBefore(over)))
    }
}
