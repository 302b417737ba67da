//! Directives: issued, delivered, acknowledged, done; retried, fenced, expired.

use std::time::Duration;

use super::{Coordinator, Message, Timer};
use crate::{
    behaviour::{Order, Pending, State},
    ctx::outbox::Then,
    event::EventBody,
    node::{ConnId, NodeIndex},
};

/// Time in which a directive must be done.
const EXPIRES: Duration = Duration::from_secs(30);

/// A directive that is not acknowledged is delivered again after this.
const REDELIVER: Duration = Duration::from_secs(2);

impl Coordinator {
    /// Issues a directive; it is delivered once it is durable. `None` at a limit.
    pub(super) fn issue(&mut self, index: NodeIndex, order: Order) -> Option<u64> {
        let pending = self.behaviour.issue(index, order, self.ctx.clock.now + EXPIRES)?;
        self.note(index, &pending, "");
        self.ctx.outbox.then(Then::Deliver(pending.id));
        Some(pending.id)
    }

    /// Delivers a directive (again) if its node has a session, or gives it up when its time ran out.
    pub(super) fn redeliver(&mut self, id: u64) {
        let now = self.ctx.clock.now;
        if let Some(expired) = self.behaviour.expire(id, now) {
            let delivered = expired.attempts > 0;
            let why = if delivered {
                "its time ran out before the agent had done it"
            } else {
                "the node had no session"
            };
            self.note(expired.node, &expired, why);
            return;
        }
        let Some(pending) = self.behaviour.get(id).copied() else {
            return;
        };
        let session = self.ctx.registry[pending.node]
            .live_session()
            .map(|session| (session.conn, session.number));
        if let Some((conn, number)) = session
            && let Some(directive) = self.behaviour.deliver(id, number, now)
        {
            self.ctx.send(conn, Message::Directive(directive));
        }
        self.ctx
            .timers
            .set((now + REDELIVER).min(pending.expires), Timer::Directive(id));
    }

    pub(super) fn directive_update(&mut self, conn: ConnId, id: u64, state: State, detail: &str) {
        let Some(index) = self.ctx.registry.of_conn(conn) else {
            self.no_session(conn, "directive");
            return;
        };
        if state < State::Acknowledged || state == State::Expired {
            self.invalid(
                conn,
                format!("directive.state: {} is not for an agent to report", state.name()),
            );
            return;
        }
        let Some(moved) = self.behaviour.update(id, index, state) else {
            return;
        };
        self.note(index, &moved, detail);
        if let (Order::SetHeartbeat(interval), State::Done) = (moved.order, state) {
            self.keeps_interval(index, interval);
        }
    }

    /// The agent keeps to a new heartbeat interval from now on.
    fn keeps_interval(&mut self, index: NodeIndex, interval: Duration) {
        if let Some(session) = &mut self.ctx.registry[index].session {
            session.interval = interval;
            let at = self.ctx.clock.now + self.ctx.silence_limit(index);
            self.guardian.look_later(&mut self.ctx, index, at);
        }
    }

    pub(super) fn note(&mut self, index: NodeIndex, pending: &Pending, detail: &str) {
        let because = if detail.is_empty() {
            String::new()
        } else {
            format!(": {detail}")
        };
        let name = self.ctx.registry[index].name();
        let summary = format!(
            "{} for {name} is {}{because}",
            pending.order.name(),
            pending.state.name()
        );
        self.ctx
            .record(Some(index), summary, EventBody::Directive(pending.record(detail)));
    }
}
