//! Admission: join tokens, operators, node identities and barred nodes.

mod barred;
mod joining;
mod operators;
mod tokens;

use std::{sync::Arc, time::Duration};

use crate::{
    access::{Access, CREDENTIAL_LIFE},
    command::Refusal,
    ctx::Ctx,
    event::EventBody,
    id::NodeId,
    integrity::Digest,
    text::Span,
    time::WallTime,
};

pub(crate) use joining::{Enrolled, no_room, recognise, rule};

/// Validity range of join tokens and operators: 1 second to 366 days.
const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = CREDENTIAL_LIFE;

fn after(now: WallTime, ttl: Duration) -> Result<WallTime, Refusal> {
    if !(TTL_MIN..=TTL_MAX).contains(&ttl) {
        let reason = format!("{} is not between {} and 366 days", Span(ttl), Span(TTL_MIN));
        return Err(Refusal::Invalid { field: "ttl", reason });
    }
    Ok(WallTime(now.0.saturating_add(ttl.as_millis() as i64)))
}

/// Join tokens, operators, and revoked nodes that were forgotten.
#[derive(Clone, Debug)]
pub(crate) struct Admissions {
    access: Arc<Access>,
}

impl Admissions {
    /// Creates the system from durable state.
    pub(crate) fn new(access: Arc<Access>) -> Admissions {
        Admissions { access }
    }

    /// Whether a node without a record is barred, by its id or its key.
    pub(crate) fn is_barred(&self, node: NodeId, key: Option<&Digest>) -> bool {
        self.access.is_barred(node, key)
    }
}

/// Records a command that concerns no node.
fn noted(ctx: &mut Ctx, verb: &str, detail: String, by: &str) {
    let summary = format!("{verb}: {detail}, by {by}");
    let (verb, by) = (verb.to_owned(), by.to_owned());
    ctx.record(None, summary, EventBody::Command { verb, detail, by });
}
