//! Directives: issuing, delivery, retries, fencing and expiry.

use std::time::Duration;

use crate::{
    behaviour::{BehaviourLoop, Counts, Order, Pending, State},
    coherence::{BehaviourOverview, PendingRow},
    ctx::{Ctx, alarm::Timer, outbox::Then},
    event::EventBody,
    id::{DirectiveId, Epoch},
    node::NodeIndex,
    protocol::Message,
};

/// Time within which a directive must be completed.
const EXPIRES: Duration = Duration::from_secs(30);

/// Time without acknowledgement after which a directive is redelivered.
const REDELIVER: Duration = Duration::from_secs(2);

/// Maximum number of directives listed in a snapshot.
const PENDING_LISTED: usize = 64;

/// Pending directives.
#[derive(Debug)]
pub(crate) struct Behaviour {
    directives: BehaviourLoop,
}

impl Behaviour {
    /// Creates the system without directives, in `epoch`.
    pub(crate) fn new(epoch: Epoch) -> Behaviour {
        Behaviour {
            directives: BehaviourLoop::new(epoch),
        }
    }

    /// Issues a directive, which is delivered once it is durable. Returns `None` at a limit.
    pub(crate) fn issue(&mut self, ctx: &mut Ctx, index: NodeIndex, order: Order) -> Option<DirectiveId> {
        let pending = self.directives.issue(index, order, ctx.clock.now + EXPIRES)?;
        note(ctx, index, &pending, "");
        ctx.outbox.then(Then::Deliver(pending.id));
        Some(pending.id)
    }

    /// Delivers or redelivers a directive if its node has a session; expires it once its time is over.
    pub(crate) fn redeliver(&mut self, ctx: &mut Ctx, id: DirectiveId) {
        let now = ctx.clock.now;
        if let Some(expired) = self.directives.expire(id, now) {
            let delivered = expired.attempts > 0;
            let why = if delivered {
                "its time ran out before the agent had done it"
            } else {
                "the node had no session"
            };
            note(ctx, expired.node, &expired, why);
            return;
        }
        let Some(pending) = self.directives.get(id).copied() else {
            return;
        };
        let session = ctx.registry[pending.node]
            .live_session()
            .map(|session| (session.conn, session.number));
        if let Some((conn, number)) = session
            && let Some(directive) = self.directives.deliver(id, number, now)
        {
            ctx.send(conn, Message::Directive(directive));
        }
        ctx.timers
            .set((now + REDELIVER).min(pending.expires), Timer::Directive(id));
    }

    /// Handles an agent's report on a directive. Returns the order once it is done.
    pub(crate) fn update(
        &mut self,
        ctx: &mut Ctx,
        index: NodeIndex,
        id: DirectiveId,
        state: State,
        detail: &str,
    ) -> Option<Order> {
        let moved = self.directives.update(id, index, state)?;
        note(ctx, index, &moved, detail);
        (state == State::Done).then_some(moved.order)
    }

    /// Directives of a node that were not delivered in its current session.
    pub(crate) fn undelivered(&self, index: NodeIndex) -> Vec<DirectiveId> {
        self.directives.undelivered(index)
    }

    /// Number of directives per state.
    pub(crate) fn counts(&self) -> Counts {
        self.directives.counts()
    }

    /// Number of directives that are neither pending nor ended; a value above 0 is a defect.
    pub(crate) fn unaccounted(&self) -> u64 {
        self.directives.unaccounted()
    }

    /// Summary of the Behaviour Loop for the snapshot.
    pub(crate) fn overview(&self, ctx: &Ctx) -> BehaviourOverview {
        let named = |directive: &Pending| PendingRow {
            directive: *directive,
            node: ctx.registry[directive.node].record.id(),
        };
        let pending = self.directives.pending().take(PENDING_LISTED).map(named).collect();
        BehaviourOverview {
            counts: self.directives.counts(),
            pending,
        }
    }

    /// Ends the pending directives of a node that is being forgotten.
    pub(crate) fn forget(&mut self, ctx: &mut Ctx, index: NodeIndex) {
        for directive in self.directives.forget(index) {
            note(ctx, index, &directive, "its node is forgotten");
        }
    }
}

/// Records a state change of a directive.
fn note(ctx: &mut Ctx, index: NodeIndex, pending: &Pending, detail: &str) {
    let because = if detail.is_empty() {
        String::new()
    } else {
        format!(": {detail}")
    };
    let name = ctx.registry[index].name();
    let summary = format!(
        "{} for {name} is {}{because}",
        pending.order.name(),
        pending.state.name()
    );
    ctx.record(Some(index), summary, EventBody::Directive(pending.record(detail)));
}
