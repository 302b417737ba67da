//! Evidence from a node's own sessions.

use std::time::Duration;

use super::Guardian;
use crate::{
    autonomy::{Ending, Evidence, Fact, Source},
    ctx::Ctx,
    node::NodeIndex,
};

/// Period within which sessions that end for the same invalid content count as one failure, reported once.
pub(crate) const CONTENT_AGAIN: Duration = Duration::from_secs(600);

impl Guardian {
    /// Evidence of when the node was last heard.
    pub(crate) fn last_heard(&self, ctx: &Ctx, index: NodeIndex) -> Evidence {
        let node = &ctx.registry[index];
        let time = node.last_seen.map_or(node.liveness_since(), |at| ctx.clock.wall.at(at));
        let sequence = node.session.as_ref().map_or(0, |session| session.sequence);
        let fact = match node.last_seen {
            None => Fact::NeverHeard,
            Some(_) => Fact::LastHeard {
                heartbeat: (sequence > 0).then_some(sequence),
            },
        };
        Evidence::new(time, Source::Session, fact)
    }

    /// Evidence that an earlier session ended because of its content, if it adds to the ending of this one.
    pub(crate) fn over_before(&self, ctx: &Ctx, index: NodeIndex, ending: Option<&Ending>) -> Option<Evidence> {
        let (over, at) = ctx.registry[index].unreadable.as_ref()?;
        let over = Ending::Content(over.clone());
        let is_news = ending != Some(&over) && ctx.clock.now.since(*at) < CONTENT_AGAIN;
        is_news.then(|| Evidence::new(ctx.wall_now(), Source::Session, Fact::EndedBefore(over)))
    }
}
