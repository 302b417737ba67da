//! The policy set by operators, and pending decisions that require approval.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::Autonomy;
use crate::{
    autonomy::{Decision, Mode, Outcome, Policy, PolicyChange, Why},
    command::{Command, Refusal, SetPolicy},
    ctx::Ctx,
    event::EventBody,
    id::{DecisionId, EventNo},
    time::Time,
    workload::AssignmentId,
};

/// Time for which a decision is pending before it expires.
pub(super) const EXPIRY: Duration = Duration::from_secs(600);

/// Maximum number of pending decisions.
const WAITING: usize = 256;

/// The action that an operator is asked to approve.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    /// Replace these lost instances.
    Heal(Arc<str>, BTreeSet<AssignmentId>),
    /// Move this instance off its node.
    Move(AssignmentId, String),
    /// Stop these instances, each for its reason, to make room for a workload.
    MakeRoom(Arc<str>, Vec<(AssignmentId, Why)>),
}

/// A decision that is pending approval.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    decision: Arc<Decision>,
    wish: Wish,
    expires: Time,
}

impl Autonomy {
    /// Makes a decision pending if the mode is `advise`. Returns a workload to reconcile if the oldest pending decision
    /// had to give way.
    #[must_use]
    pub(super) fn wait_for_approval(
        &mut self,
        ctx: &mut Ctx,
        mode: Mode,
        decision: &Arc<Decision>,
        wish: Wish,
    ) -> Option<Arc<str>> {
        if mode != Mode::Advise {
            return None;
        }
        let mut again = None;
        if self.pending.len() >= WAITING
            && let Some((_, oldest)) = self.pending.pop_first()
        {
            again = self.give_up(ctx, oldest);
        }
        let pending = Pending {
            decision: Arc::clone(decision),
            wish,
            expires: ctx.clock.now + EXPIRY,
        };
        self.pending.insert(decision.id, pending);
        again
    }

    /// Expires pending decisions that nobody answered in time. Returns the workloads to reconcile.
    #[must_use]
    pub(crate) fn expire(&mut self, ctx: &mut Ctx) -> Vec<Arc<str>> {
        let now = ctx.clock.now;
        let late: Vec<Pending> = self
            .pending
            .extract_if(.., |_, pending| pending.expires <= now)
            .map(|(_, pending)| pending)
            .collect();
        late.into_iter()
            .filter_map(|pending| self.give_up(ctx, pending))
            .collect()
    }

    /// Expires a decision. It is proposed again if its reason persists.
    fn give_up(&mut self, ctx: &mut Ctx, pending: Pending) -> Option<Arc<str>> {
        self.becomes(ctx, &pending.decision, Outcome::Expired);
        let Wish::Heal(name, ids) = pending.wish else {
            return None;
        };
        for id in ids {
            self.told.remove(&id);
        }
        Some(name)
    }

    /// Records the outcome of a decision.
    pub(super) fn becomes(&mut self, ctx: &mut Ctx, decision: &Arc<Decision>, outcome: Outcome) {
        let decision = self.ledger.conclude(decision, outcome);
        let index = decision.node.and_then(|node| ctx.registry.find(node));
        ctx.record_decision(index, decision);
    }

    /// Approves or rejects a pending decision. Returns the decision and, if approved, the action to carry out.
    pub(crate) fn answer(
        &mut self,
        ctx: &mut Ctx,
        id: DecisionId,
        approve: bool,
        by: &str,
    ) -> Result<(Arc<Decision>, Option<Wish>), Refusal> {
        let pending = self.pending.remove(&id).ok_or_else(|| Refusal::Unknown {
            what: "decision that waits",
            name: id.to_string(),
        })?;
        let verb = if approve { "approve" } else { "reject" };
        let body = EventBody::Command {
            verb: verb.to_owned(),
            detail: pending.decision.action.clone(),
            by: by.to_owned(),
        };
        let summary = format!("{verb} decision {id}: {}", pending.decision.action);
        ctx.record(None, summary, body);
        let outcome = if approve { Outcome::Done } else { Outcome::Rejected };
        let decision = self.ledger.conclude(&pending.decision, outcome);
        ctx.record_decision(None, Arc::clone(&decision));
        Ok((decision, approve.then_some(pending.wish)))
    }

    /// Allows the replacement of these lost instances, as approved by `decision`.
    pub(crate) fn approve(&mut self, ids: BTreeSet<AssignmentId>, decision: DecisionId) {
        self.approved.extend(ids.into_iter().map(|id| (id, decision)));
    }

    /// Updates the policy. The event is 0 if nothing changed.
    pub(crate) fn set_policy(&mut self, ctx: &mut Ctx, change: PolicyChange, by: &str) -> (Policy, EventNo) {
        let before = self.policy;
        let policy = Policy {
            heal: change.heal.unwrap_or(before.heal),
            rebalance: change.rebalance.unwrap_or(before.rebalance),
            preempt: change.preempt.unwrap_or(before.preempt),
        };
        if policy == before {
            return (policy, EventNo::default());
        }
        self.policy = policy;
        ctx.outbox.keep_policy(policy);
        // Under the new policy, withheld actions are reported again.
        self.told.clear();
        self.asked.clear();
        let detail = format!(
            "heal {}, rebalance {}, preempt {}",
            policy.heal.name(),
            policy.rebalance.name(),
            policy.preempt.name()
        );
        let summary = format!("autonomy: {detail}");
        let (verb, by) = (SetPolicy::VERB.to_owned(), by.to_owned());
        let event = ctx.record(None, summary, EventBody::Command { verb, detail, by });
        (policy, event)
    }
}
