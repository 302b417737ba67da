//! Directives: issued, delivered, acknowledged, done; retried, fenced, expired.

use std::time::Duration;

use crate::{
    behaviour::{BehaviourLoop, Counts, Order, Pending, State},
    coherence::{BehaviourOverview, PendingRow},
    ctx::{Ctx, alarm::Timer, outbox::Then},
    event::EventBody,
    node::NodeIndex,
    protocol::Message,
};

/// Time in which a directive must be done.
const EXPIRES: Duration = Duration::from_secs(30);

/// A directive that is not acknowledged is delivered again after this.
const REDELIVER: Duration = Duration::from_secs(2);

/// Directives that a snapshot lists at most.
const PENDING_LISTED: usize = 64;

/// The directives under way.
#[derive(Debug)]
pub(crate) struct Behaviour {
    directives: BehaviourLoop,
}

impl Behaviour {
    /// No directives, in `epoch`.
    pub(crate) fn new(epoch: u64) -> Behaviour {
        Behaviour {
            directives: BehaviourLoop::new(epoch),
        }
    }

    /// Issues a directive; it is delivered once it is durable. `None` at a limit.
    pub(crate) fn issue(&mut self, ctx: &mut Ctx, index: NodeIndex, order: Order) -> Option<u64> {
        let pending = self.directives.issue(index, order, ctx.clock.now + EXPIRES)?;
        note(ctx, index, &pending, "");
        ctx.outbox.then(Then::Deliver(pending.id));
        Some(pending.id)
    }

    /// Delivers a directive (again) if its node has a session, or gives it up when its time ran out.
    pub(crate) fn redeliver(&mut self, ctx: &mut Ctx, id: u64) {
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

    /// An agent says how a directive fares. Returns the order that it has done.
    pub(crate) fn update(
        &mut self,
        ctx: &mut Ctx,
        index: NodeIndex,
        id: u64,
        state: State,
        detail: &str,
    ) -> Option<Order> {
        let moved = self.directives.update(id, index, state)?;
        note(ctx, index, &moved, detail);
        (state == State::Done).then_some(moved.order)
    }

    /// Directives of a node that were not delivered in its session.
    pub(crate) fn undelivered(&self, index: NodeIndex) -> Vec<u64> {
        self.directives.undelivered(index)
    }

    /// Directives by their states.
    pub(crate) fn counts(&self) -> Counts {
        self.directives.counts()
    }

    /// Directives that are neither under way nor ended; more than none is a fault.
    pub(crate) fn unaccounted(&self) -> u64 {
        self.directives.unaccounted()
    }

    /// The Behaviour Loop at a glance, for the snapshot.
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

    /// Forgets a node: what was under way for it ends.
    pub(crate) fn forget(&mut self, ctx: &mut Ctx, index: NodeIndex) {
        for directive in self.directives.forget(index) {
            note(ctx, index, &directive, "its node is forgotten");
        }
    }
}

/// Records how a directive fares.
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
