//! Directives: fenced by epoch and session, and executed at most once.

use std::{collections::VecDeque, time::Duration};

use super::ctx::Ctx;
use crate::{
    behaviour::{Directive, HEARTBEAT_MAX, HEARTBEAT_MIN, Order, State, out_of_range},
    id::{DirectiveId, Epoch, SessionNo},
    protocol::FromAgent,
};

/// Maximum number of directives remembered to detect repetition.
const REMEMBERED: usize = 64;

/// Recent directives and their states.
#[derive(Debug, Default)]
pub(super) struct Directives {
    remembered: VecDeque<(DirectiveId, State)>,
    /// Refresh directives of this session that complete with the next heartbeat.
    refreshing: Vec<DirectiveId>,
}

/// Action that a directive requires of other parts.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(super) enum Asked {
    /// Send a heartbeat now.
    Refresh,
    /// Send a heartbeat now, and use this interval from now on.
    SetHeartbeat(Duration),
}

impl Directives {
    /// Starts a session: pending refresh directives of the previous one are dropped.
    pub(super) fn new_session(&mut self) {
        self.refreshing.clear();
    }

    /// Handles a directive received in session `session`; `epoch` is the newest known epoch.
    pub(super) fn take(
        &mut self,
        ctx: &mut Ctx,
        directive: &Directive,
        epoch: Epoch,
        session: SessionNo,
    ) -> Option<Asked> {
        let id = directive.id;
        let before = self
            .remembered
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, state)| *state);
        if let Some(state) = before {
            // The previous answer was lost. It is repeated; the order is not executed again.
            answer(ctx, id, state, String::new());
            return None;
        }
        if directive.epoch < epoch {
            let detail = format!("epoch {} is older than the known epoch {epoch}", directive.epoch);
            answer(ctx, id, State::Refused, detail);
            return None;
        }
        if directive.session != session {
            let detail = format!("session {:x} is not this session {session:x}", directive.session);
            answer(ctx, id, State::Refused, detail);
            return None;
        }
        if directive.expires_in.is_zero() {
            answer(ctx, id, State::Refused, "expired".to_owned());
            return None;
        }
        self.remember(id, State::Acknowledged);
        answer(ctx, id, State::Acknowledged, String::new());
        match directive.order {
            Order::Refresh => {
                self.refreshing.push(id);
                Some(Asked::Refresh)
            }
            Order::SetHeartbeat(interval) if (HEARTBEAT_MIN..=HEARTBEAT_MAX).contains(&interval) => {
                self.finish(ctx, id, State::Done, String::new());
                Some(Asked::SetHeartbeat(interval))
            }
            Order::SetHeartbeat(interval) => {
                let detail = format!("interval: {}", out_of_range(interval));
                self.finish(ctx, id, State::Failed, detail);
                None
            }
        }
    }

    /// Completes pending refresh directives after a heartbeat was sent.
    pub(super) fn refreshed(&mut self, ctx: &mut Ctx) {
        for id in std::mem::take(&mut self.refreshing) {
            self.finish(ctx, id, State::Done, String::new());
        }
    }

    /// Records and reports the final state of a directive.
    fn finish(&mut self, ctx: &mut Ctx, id: DirectiveId, state: State, detail: String) {
        self.remember(id, state);
        answer(ctx, id, state, detail);
    }

    fn remember(&mut self, id: DirectiveId, state: State) {
        if let Some(known) = self.remembered.iter_mut().find(|(known, _)| *known == id) {
            known.1 = state;
            return;
        }
        if self.remembered.len() == REMEMBERED {
            self.remembered.pop_front();
        }
        self.remembered.push_back((id, state));
    }
}

fn answer(ctx: &mut Ctx, id: DirectiveId, state: State, detail: String) {
    if let Some(conn) = ctx.link.conn {
        ctx.send(conn, FromAgent::Directive { id, state, detail });
    }
}
