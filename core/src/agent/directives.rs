//! Directives, as the agent takes them: fenced, and each done once.

use super::{Agent, Phase, REMEMBERED, Report};
use crate::behaviour::{Directive, HEARTBEAT_MAX, HEARTBEAT_MIN, Order, State, out_of_range};

impl Agent {
    pub(super) fn directive(&mut self, directive: Directive) {
        let Phase::Live(live) = &self.phase else { return };
        let id = directive.id;
        let before = self
            .remembered
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, state)| *state);
        if let Some(state) = before {
            // Repeated: the answer before was lost. It is given again, the order is not carried out again.
            self.answer(id, state, String::new());
            return;
        }
        if directive.epoch < self.epoch {
            let detail = format!("epoch {} is older than the known epoch {}", directive.epoch, self.epoch);
            self.answer(id, State::Refused, detail);
            return;
        }
        if directive.session != live.session {
            let detail = format!("session {:x} is not this session {:x}", directive.session, live.session);
            self.answer(id, State::Refused, detail);
            return;
        }
        if directive.expires_in.is_zero() {
            self.answer(id, State::Refused, "expired".to_owned());
            return;
        }
        self.remember(id, State::Acknowledged);
        self.answer(id, State::Acknowledged, String::new());
        match directive.order {
            Order::Refresh => {
                if let Phase::Live(live) = &mut self.phase {
                    live.refreshing.push(id);
                }
                self.measure();
            }
            Order::SetHeartbeat(interval) if (HEARTBEAT_MIN..=HEARTBEAT_MAX).contains(&interval) => {
                self.interval = interval;
                self.finish(id, State::Done, String::new());
                self.beat(self.ctx.now);
            }
            Order::SetHeartbeat(interval) => {
                let detail = format!("interval: {}", out_of_range(interval));
                self.finish(id, State::Failed, detail);
            }
        }
    }

    /// A directive came to its end.
    pub(super) fn finish(&mut self, id: u64, state: State, detail: String) {
        self.remember(id, state);
        self.answer(id, state, detail);
    }

    fn remember(&mut self, id: u64, state: State) {
        if let Some(known) = self.remembered.iter_mut().find(|(known, _)| *known == id) {
            known.1 = state;
            return;
        }
        if self.remembered.len() == REMEMBERED {
            self.remembered.pop_front();
        }
        self.remembered.push_back((id, state));
    }

    fn answer(&mut self, id: u64, state: State, detail: String) {
        if let Some(conn) = self.conn() {
            self.ctx.send(conn, Report::Directive { id, state, detail });
        }
    }
}
