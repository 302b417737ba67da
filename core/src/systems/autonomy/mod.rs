//! Autonomy: records decisions and acts on work by itself, within the policy and budgets, and evaluates the results.

pub(crate) mod approvals;
mod foresight;
mod healing;
mod liveness;
mod looking_back;
mod placing;
mod preempt;
pub(crate) mod rebalance;
mod spread;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use approvals::Pending;
use looking_back::Aim;

use crate::{
    autonomy::{Decision, Ledger, Overview, Policy},
    ctx::Ctx,
    id::{DecisionId, Epoch},
    node::NodeIndex,
    time::Time,
    workload::AssignmentId,
};

/// Length of the budget window.
const WINDOW: Duration = Duration::from_secs(300);

/// The decision ledger and the state of Autonomy's actions.
#[derive(Debug)]
pub(crate) struct Autonomy {
    ledger: Ledger,
    policy: Policy,
    /// Times of recent actions that count towards the budgets: replacements after node losses, moves for load, and
    /// preemptions.
    heals: VecDeque<Time>,
    moves: VecDeque<Time>,
    preemptions: VecDeque<Time>,
    /// Whether healing has exhausted its budget and waits for operators.
    breaker: bool,
    /// Number of instances that are meant to run, as of the last reconciliation.
    instances: usize,
    /// Workloads for which room was requested, and when.
    asked: BTreeMap<Arc<str>, Time>,
    /// Lost instances whose replacement an operator approved, each with the decision that asked for it; and lost
    /// instances reported as not replaced.
    approved: BTreeMap<AssignmentId, DecisionId>,
    told: BTreeSet<AssignmentId>,
    pending: BTreeMap<DecisionId, Pending>,
    /// Number of consecutive cycles for which nodes have been hot.
    hot: BTreeMap<NodeIndex, u32>,
    /// Times of the last move off each node, and of the last move of each instance.
    left: BTreeMap<NodeIndex, Time>,
    moved: BTreeMap<Arc<str>, BTreeMap<u32, Time>>,
    checks: VecDeque<(Time, Arc<Decision>, Aim)>,
}

impl Autonomy {
    /// Creates the system for `epoch`, in a cluster that has taken `total` decisions so far.
    pub(crate) fn new(epoch: Epoch, total: u64, policy: Policy) -> Autonomy {
        Autonomy {
            ledger: Ledger::new(epoch, total),
            policy,
            heals: VecDeque::new(),
            moves: VecDeque::new(),
            preemptions: VecDeque::new(),
            breaker: false,
            instances: 0,
            asked: BTreeMap::new(),
            approved: BTreeMap::new(),
            told: BTreeSet::new(),
            pending: BTreeMap::new(),
            hot: BTreeMap::new(),
            left: BTreeMap::new(),
            moved: BTreeMap::new(),
            checks: VecDeque::new(),
        }
    }

    /// Copies the state for planning; decisions on the copy are discarded.
    pub(crate) fn to_plan_with(&self, epoch: Epoch) -> Autonomy {
        Autonomy {
            ledger: Ledger::new(epoch, 0),
            policy: self.policy,
            heals: self.heals.clone(),
            moves: self.moves.clone(),
            preemptions: self.preemptions.clone(),
            breaker: self.breaker,
            instances: self.instances,
            asked: self.asked.clone(),
            approved: self.approved.clone(),
            told: self.told.clone(),
            pending: self.pending.clone(),
            hot: self.hot.clone(),
            left: self.left.clone(),
            moved: self.moved.clone(),
            checks: self.checks.clone(),
        }
    }

    /// Begins a reconciliation with the number of instances that are meant to run.
    pub(crate) fn begin(&mut self, instances: usize) {
        self.instances = instances;
    }

    /// Number of decisions in the cluster's lifetime.
    pub(crate) fn total(&self) -> u64 {
        self.ledger.total()
    }

    /// Summary for readers.
    pub(crate) fn overview(&self) -> Overview {
        self.ledger.overview()
    }

    /// Resolves open decisions about a node that is being forgotten.
    pub(crate) fn close(&mut self, ctx: &mut Ctx, index: NodeIndex) {
        for decision in self.ledger.forget(index) {
            ctx.record_decision(Some(index), decision);
        }
    }

    /// Removes a forgotten node.
    pub(crate) fn forget(&mut self, index: NodeIndex) {
        self.hot.remove(&index);
        self.left.remove(&index);
        self.checks
            .retain(|(.., aim)| !matches!(aim, Aim::Cools(cooled, _) if *cooled == index));
    }
}
