//! The Behaviour Loop: the life cycle of directives.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    id::{DirectiveId, Epoch, SessionNo},
    node::NodeIndex,
    text::Span,
    time::Time,
};

/// Maximum number of pending directives in the cluster; at the limit a command is refused.
pub const MAX_PENDING: usize = 10_000;

/// Maximum number of pending directives per node.
pub const MAX_PENDING_OF_NODE: usize = 16;

/// Minimum heartbeat interval.
pub const HEARTBEAT_MIN: Duration = Duration::from_millis(100);

/// Maximum heartbeat interval.
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(60);

/// Message for a heartbeat interval below [`HEARTBEAT_MIN`] or above [`HEARTBEAT_MAX`].
pub(crate) fn out_of_range(interval: Duration) -> String {
    let [interval, least, most] = [interval, HEARTBEAT_MIN, HEARTBEAT_MAX].map(Span);
    format!("{interval} is not between {least} and {most}")
}

/// An order for an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Measure the host and send a heartbeat now.
    Refresh,
    /// Change the heartbeat interval, [`HEARTBEAT_MIN`] to [`HEARTBEAT_MAX`].
    SetHeartbeat(Duration),
}

impl Order {
    /// Name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Order::Refresh => "refresh",
            Order::SetHeartbeat(_) => "set-heartbeat",
        }
    }
}

/// An order to one agent, with its fencing data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Unique id within the cluster's lifetime.
    pub id: DirectiveId,
    /// Epoch of the issuing coordinator.
    pub epoch: Epoch,
    /// Session that it is valid for.
    pub session: SessionNo,
    /// Time after its receipt within which the agent must start it.
    pub expires_in: Duration,
    /// The order.
    pub order: Order,
}

/// State of a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Created.
    Issued,
    /// Sent on the session.
    Delivered,
    /// Received by the agent.
    Acknowledged,
    /// Completed.
    Done,
    /// Attempted without success.
    Failed,
    /// Rejected by the agent: fenced, expired or unknown.
    Refused,
    /// Not completed in time.
    Expired,
}

impl State {
    /// Whether the state is final.
    pub const fn is_final(self) -> bool {
        matches!(self, State::Done | State::Failed | State::Refused | State::Expired)
    }

    /// Display name.
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

/// State of a directive for events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectiveRecord {
    /// Id of the directive.
    pub id: DirectiveId,
    /// Name of the order.
    pub order: String,
    /// State of the directive.
    pub state: State,
    /// Reason for `failed`, `refused` and `expired`.
    pub detail: String,
    /// Number of delivery attempts.
    pub attempts: u32,
}

/// A pending directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Id of the directive.
    pub id: DirectiveId,
    /// The node it is for.
    pub node: NodeIndex,
    /// The order.
    pub order: Order,
    /// The state.
    pub state: State,
    /// Number of delivery attempts.
    pub attempts: u32,
    /// Time of expiry.
    pub expires: Time,
}

impl Pending {
    /// The record for an event.
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

/// Counters since the coordinator started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Directives issued.
    pub issued: u64,
    /// Deliveries, including redeliveries.
    pub deliveries: u64,
    /// Directives acknowledged.
    pub acknowledged: u64,
    /// Directives completed.
    pub done: u64,
    /// Directives that failed or were refused.
    pub failed: u64,
    /// Directives that expired.
    pub expired: u64,
}

/// All pending directives.
#[derive(Debug, Default)]
pub struct BehaviourLoop {
    epoch: Epoch,
    pending: BTreeMap<DirectiveId, Pending>,
    counts: Counts,
}

impl BehaviourLoop {
    /// Creates the loop for `epoch`.
    pub fn new(epoch: Epoch) -> BehaviourLoop {
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
        let id = DirectiveId(self.epoch.number(self.counts.issued));
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

    /// Prepares a delivery on session `session`; `None` if the directive is acknowledged, expired or unknown.
    pub fn deliver(&mut self, id: DirectiveId, session: SessionNo, now: Time) -> Option<Directive> {
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

    /// Applies an agent's report on a directive of `node`; `None` if it contains nothing new.
    pub fn update(&mut self, id: DirectiveId, node: NodeIndex, state: State) -> Option<Pending> {
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

    /// Expires a directive if its time is over.
    pub fn expire(&mut self, id: DirectiveId, now: Time) -> Option<Pending> {
        let mut pending = *self.pending.get(&id).filter(|pending| pending.expires <= now)?;
        self.pending.remove(&id);
        self.counts.expired += 1;
        pending.state = State::Expired;
        Some(pending)
    }

    /// Expires the directives of a node that is being forgotten.
    pub fn forget(&mut self, node: NodeIndex) -> Vec<Pending> {
        let (gone, kept) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|(_, pending)| pending.node == node);
        self.pending = kept;
        let gone: BTreeMap<DirectiveId, Pending> = gone;
        self.counts.expired += gone.len() as u64;
        let expired = |pending: Pending| Pending {
            state: State::Expired,
            ..pending
        };
        gone.into_values().map(expired).collect()
    }

    /// Finds a pending directive.
    pub fn get(&self, id: DirectiveId) -> Option<&Pending> {
        self.pending.get(&id)
    }

    /// Directives of a node that its agent has not acknowledged.
    pub fn undelivered(&self, node: NodeIndex) -> Vec<DirectiveId> {
        let waits = |pending: &&Pending| pending.node == node && pending.state < State::Acknowledged;
        self.pending.values().filter(waits).map(|pending| pending.id).collect()
    }

    /// Pending directives, oldest first.
    pub fn pending(&self) -> impl Iterator<Item = &Pending> {
        self.pending.values()
    }

    /// Counters since the coordinator started.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Number of issued directives that are neither ended nor pending; a value above 0 is a defect.
    pub fn unaccounted(&self) -> u64 {
        let ended = self.counts.done + self.counts.failed + self.counts.expired;
        self.counts.issued.abs_diff(ended + self.pending.len() as u64)
    }
}
