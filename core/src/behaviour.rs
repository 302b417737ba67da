//! The Behaviour Loop: directives, from issue to account.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{node::NodeIndex, text::Span, time::Time};

/// Directives under way at most, in the whole cluster; at the limit a command is refused.
pub const MAX_PENDING: usize = 10_000;

/// Directives under way at most for one node.
pub const MAX_PENDING_OF_NODE: usize = 16;

/// Shortest heartbeat interval.
pub const HEARTBEAT_MIN: Duration = Duration::from_millis(100);

/// Longest heartbeat interval.
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(60);

/// Message for a heartbeat interval that is shorter than [`HEARTBEAT_MIN`] or longer than [`HEARTBEAT_MAX`].
pub(crate) fn out_of_range(interval: Duration) -> String {
    let [interval, least, most] = [interval, HEARTBEAT_MIN, HEARTBEAT_MAX].map(Span);
    format!("{interval} is not between {least} and {most}")
}

/// What an agent is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Measure and report now.
    Refresh,
    /// Change the heartbeat interval, [`HEARTBEAT_MIN`] to [`HEARTBEAT_MAX`].
    SetHeartbeat(Duration),
}

impl Order {
    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Order::Refresh => "refresh",
            Order::SetHeartbeat(_) => "set-heartbeat",
        }
    }
}

/// An order to one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Unique in the cluster's life.
    pub id: u64,
    /// Epoch of the coordinator that issued it.
    pub epoch: u64,
    /// Session it is meant for.
    pub session: u64,
    /// The agent does not begin it later than this after its receipt.
    pub expires_in: Duration,
    /// What to do.
    pub order: Order,
}

/// Where a directive is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Decided.
    Issued,
    /// Given to the session.
    Delivered,
    /// The agent has it.
    Acknowledged,
    /// Done.
    Done,
    /// Tried and could not.
    Failed,
    /// Fenced, expired or unknown to the agent.
    Refused,
    /// Its time ran out.
    Expired,
}

impl State {
    /// True when nothing comes after it.
    pub const fn is_final(self) -> bool {
        matches!(self, State::Done | State::Failed | State::Refused | State::Expired)
    }

    /// Its name, as people read it.
    pub const fn name(self) -> &'static str {
        match self {
            State::Issued => "issued",
            State::Delivered => "delivered",
            State::Acknowledged => "acknowledged",
            State::Done => "done",
            State::Failed => "failed",
            State::Refused => "refused",
            State::Expired => "expired",
        }
    }
}

/// Where a directive is, for the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectiveRecord {
    /// Its id.
    pub id: u64,
    /// Its order's name.
    pub order: String,
    /// Its state.
    pub state: State,
    /// For `failed`, `refused` and `expired`: why.
    pub detail: String,
    /// Deliveries tried.
    pub attempts: u32,
}

/// A directive under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Its id.
    pub id: u64,
    /// The node it is for.
    pub node: NodeIndex,
    /// What to do.
    pub order: Order,
    /// Its state.
    pub state: State,
    /// Deliveries tried.
    pub attempts: u32,
    /// When its time runs out.
    pub expires: Time,
}

impl Pending {
    /// For the record.
    pub fn record(&self, detail: &str) -> DirectiveRecord {
        let (id, state, attempts) = (self.id, self.state, self.attempts);
        DirectiveRecord {
            id,
            order: self.order.name().to_owned(),
            state,
            detail: detail.to_owned(),
            attempts,
        }
    }
}

/// Counts since the coordinator started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Directives issued.
    pub issued: u64,
    /// Deliveries, repeats included.
    pub deliveries: u64,
    /// Directives acknowledged.
    pub acknowledged: u64,
    /// Directives done.
    pub done: u64,
    /// Directives that failed or were refused.
    pub failed: u64,
    /// Directives that expired.
    pub expired: u64,
}

/// The directives under way.
#[derive(Debug, Default)]
pub struct BehaviourLoop {
    epoch: u64,
    pending: BTreeMap<u64, Pending>,
    counts: Counts,
}

impl BehaviourLoop {
    /// The loop of `epoch`.
    pub fn new(epoch: u64) -> BehaviourLoop {
        BehaviourLoop {
            epoch,
            ..BehaviourLoop::default()
        }
    }

    /// Issues a directive; `None` at a limit ([`MAX_PENDING`], [`MAX_PENDING_OF_NODE`]).
    pub fn issue(&mut self, node: NodeIndex, order: Order, expires: Time) -> Option<Pending> {
        let of_node = self.pending.values().filter(|pending| pending.node == node).count();
        if self.pending.len() >= MAX_PENDING || of_node >= MAX_PENDING_OF_NODE {
            return None;
        }
        self.counts.issued += 1;
        let id = self.epoch << 32 | self.counts.issued;
        let pending = Pending {
            id,
            node,
            order,
            state: State::Issued,
            attempts: 0,
            expires,
        };
        self.pending.insert(id, pending);
        Some(pending)
    }

    /// A delivery to session `session`: the message to send, while the directive waits for its acknowledgement.
    pub fn deliver(&mut self, id: u64, session: u64, now: Time) -> Option<Directive> {
        let pending = self.pending.get_mut(&id)?;
        if pending.state > State::Delivered || pending.expires <= now {
            return None;
        }
        pending.state = State::Delivered;
        pending.attempts += 1;
        self.counts.deliveries += 1;
        let expires_in = pending.expires.since(now);
        Some(Directive {
            id,
            epoch: self.epoch,
            session,
            expires_in,
            order: pending.order,
        })
    }

    /// Moves a directive of `node` on to what its agent reports; `None` when that says nothing new.
    pub fn update(&mut self, id: u64, node: NodeIndex, state: State) -> Option<Pending> {
        let pending = self
            .pending
            .get_mut(&id)
            .filter(|pending| pending.node == node && pending.state < state)?;
        if pending.state < State::Acknowledged {
            self.counts.acknowledged += 1;
        }
        pending.state = state;
        let moved = *pending;
        match state {
            State::Done => self.counts.done += 1,
            State::Failed | State::Refused => self.counts.failed += 1,
            State::Expired => self.counts.expired += 1,
            State::Issued | State::Delivered | State::Acknowledged => {}
        }
        if state.is_final() {
            self.pending.remove(&id);
        }
        Some(moved)
    }

    /// Gives a directive up if its time ran out.
    pub fn expire(&mut self, id: u64, now: Time) -> Option<Pending> {
        let mut pending = *self.pending.get(&id).filter(|pending| pending.expires <= now)?;
        self.pending.remove(&id);
        self.counts.expired += 1;
        pending.state = State::Expired;
        Some(pending)
    }

    /// A node is forgotten: its directives are given up.
    pub fn forget(&mut self, node: NodeIndex) -> Vec<Pending> {
        let (gone, kept) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|(_, pending)| pending.node == node);
        self.pending = kept;
        let gone: BTreeMap<u64, Pending> = gone;
        self.counts.expired += gone.len() as u64;
        let expired = |pending: Pending| Pending {
            state: State::Expired,
            ..pending
        };
        gone.into_values().map(expired).collect()
    }

    /// A directive under way.
    pub fn get(&self, id: u64) -> Option<&Pending> {
        self.pending.get(&id)
    }

    /// The directives of a node that its agent has not acknowledged.
    pub fn undelivered(&self, node: NodeIndex) -> Vec<u64> {
        let waits = |pending: &&Pending| pending.node == node && pending.state < State::Acknowledged;
        self.pending.values().filter(waits).map(|pending| pending.id).collect()
    }

    /// The directives under way, oldest first.
    pub fn pending(&self) -> impl Iterator<Item = &Pending> {
        self.pending.values()
    }

    /// Counts since the coordinator started.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Directives that were issued and neither ended nor are under way: none, unless something is wrong.
    pub fn unaccounted(&self) -> u64 {
        let ended = self.counts.done + self.counts.failed + self.counts.expired;
        self.counts.issued.abs_diff(ended + self.pending.len() as u64)
    }
}
