//! Autonomy: what is decided, and what it does of itself to work: in the mode that operators set, within budgets, and looked at afterwards.

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
    node::NodeIndex,
    time::Time,
    workload::AssignmentId,
};

/// A window of the budgets.
const WINDOW: Duration = Duration::from_secs(300);

/// The decisions, and what is under way of them.
#[derive(Debug)]
pub(crate) struct Autonomy {
    ledger: Ledger,
    policy: Policy,
    /// When instances were placed elsewhere for their nodes' loss, and for load; and when some were stopped to make room.
    heals: VecDeque<Time>,
    moves: VecDeque<Time>,
    preemptions: VecDeque<Time>,
    /// Healing has used up its budget, and waits for operators.
    breaker: bool,
    /// Instances that are meant to run, as the last look at work had them.
    instances: usize,
    /// Workloads for which room was asked for, and when.
    asked: BTreeMap<Arc<str>, Time>,
    /// Lost instances that an operator wants replaced, each with the decision that asked for it, and those of which it was said that they are not.
    approved: BTreeMap<AssignmentId, u64>,
    told: BTreeSet<AssignmentId>,
    pending: BTreeMap<u64, Pending>,
    /// For how many cycles nodes have been hot.
    hot: BTreeMap<NodeIndex, u32>,
    /// When something last left a node, and when an instance was moved.
    left: BTreeMap<NodeIndex, Time>,
    moved: BTreeMap<Arc<str>, BTreeMap<u32, Time>>,
    checks: VecDeque<(Time, Arc<Decision>, Aim)>,
}

impl Autonomy {
    /// Autonomy in `epoch`, in a cluster that took `total` decisions so far.
    pub(crate) fn new(epoch: u64, total: u64, policy: Policy) -> Autonomy {
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

    /// A copy for plans, whose decisions nobody keeps.
    pub(crate) fn to_plan_with(&self, epoch: u64) -> Autonomy {
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

    /// A look at work begins, with so many instances that are meant to run.
    pub(crate) fn begin(&mut self, instances: usize) {
        self.instances = instances;
    }

    /// Decisions in the cluster's life.
    pub(crate) fn total(&self) -> u64 {
        self.ledger.total()
    }

    /// Autonomy at a glance.
    pub(crate) fn overview(&self) -> Overview {
        self.ledger.overview()
    }

    /// Resolves what is open about a node that is forgotten.
    pub(crate) fn close(&mut self, ctx: &mut Ctx, index: NodeIndex) {
        for decision in self.ledger.forget(index) {
            ctx.record_decision(Some(index), decision);
        }
    }

    /// Forgets a node.
    pub(crate) fn forget(&mut self, index: NodeIndex) {
        self.hot.remove(&index);
        self.left.remove(&index);
        self.checks
            .retain(|(.., aim)| !matches!(aim, Aim::Cools(cooled, _) if *cooled == index));
    }
}
