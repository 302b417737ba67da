//! What Autonomy does of itself to work: healing and rebalancing, in the mode that operators set, within budgets, and looked at
//! afterwards.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{Answer, Coordinator, Refusal};
use crate::{
    autonomy::{Alternative, Decision, Evidence, Kind, Mode, Outcome, Policy, PolicyChange, Proposal},
    event::EventBody,
    node::NodeIndex,
    placement::{Allowance, Plan},
    time::Time,
    workload::{AssignmentId, Goal, Phase},
};

/// A window of the budgets.
pub(super) const WINDOW: Duration = Duration::from_secs(300);

/// Instances that are placed elsewhere in a window because their nodes were lost: so many in any case, and this share of all. Beyond,
/// the rest waits for an operator.
const HEALS: usize = 10;
const HEALS_SHARE: usize = 2;

/// How long a decision waits for an operator.
pub(super) const EXPIRY: Duration = Duration::from_secs(600);

/// Decisions that wait at most.
const WAITING: usize = 256;

/// When it is looked whether a decision helped.
const RUNS_BY: Duration = Duration::from_secs(30);
const COOLS_BY: Duration = Duration::from_secs(120);

/// Decisions that are looked at afterwards at most; further ones are not.
const CHECKED: usize = 1_024;

/// What a decision is for.
#[derive(Clone, Debug)]
pub(super) enum Aim {
    /// These slots of a workload run.
    Runs(Arc<str>, Vec<u32>),
    /// A node has less load than this, in hundredths.
    Cools(NodeIndex, u32),
}

#[derive(Clone, Debug)]
pub(super) enum Wish {
    /// These may be replaced.
    Heal(Arc<str>, BTreeSet<AssignmentId>),
    /// This one may leave its node.
    Move(AssignmentId, String),
    /// These may be stopped, each for its reason, to make room for a workload.
    MakeRoom(Arc<str>, Vec<(AssignmentId, String)>),
}

#[derive(Clone, Debug)]
pub(super) struct Pending {
    decision: Arc<Decision>,
    wish: Wish,
    pub(super) expires: Time,
}

/// What is under way of it.
#[derive(Clone, Debug)]
pub(super) struct Steering {
    pub(super) policy: Policy,
    /// When instances were placed elsewhere for their nodes' loss, and for load; and when some were stopped to make room.
    heals: VecDeque<Time>,
    pub(super) moves: VecDeque<Time>,
    pub(super) preemptions: VecDeque<Time>,
    /// Healing has used up its budget, and waits for operators.
    breaker: bool,
    /// Instances that are meant to run, as the last look at work had them.
    pub(super) instances: usize,
    /// Workloads for which room was asked for, and when.
    pub(super) asked: BTreeMap<Arc<str>, Time>,
    /// Lost instances that an operator wants replaced, and those of which it was said that they are not.
    approved: BTreeSet<AssignmentId>,
    told: BTreeSet<AssignmentId>,
    pub(super) pending: BTreeMap<u64, Pending>,
    /// For how many cycles nodes have been hot.
    pub(super) hot: BTreeMap<NodeIndex, u32>,
    /// When something last left a node, and when an instance was moved.
    pub(super) left: BTreeMap<NodeIndex, Time>,
    pub(super) moved: BTreeMap<Arc<str>, BTreeMap<u32, Time>>,
    checks: VecDeque<(Time, Arc<Decision>, Aim)>,
}

impl Steering {
    pub(super) fn new(policy: Policy) -> Steering {
        Steering {
            policy,
            heals: VecDeque::new(),
            moves: VecDeque::new(),
            preemptions: VecDeque::new(),
            breaker: false,
            instances: 0,
            asked: BTreeMap::new(),
            approved: BTreeSet::new(),
            told: BTreeSet::new(),
            pending: BTreeMap::new(),
            hot: BTreeMap::new(),
            left: BTreeMap::new(),
            moved: BTreeMap::new(),
            checks: VecDeque::new(),
        }
    }

    /// A look at work begins, with so many instances that are meant to run.
    pub(super) fn begin(&mut self, instances: usize) {
        self.instances = instances;
    }

    pub(super) fn policy(&self) -> Policy {
        self.policy
    }

    /// A node is forgotten.
    pub(super) fn forget(&mut self, index: NodeIndex) {
        self.hot.remove(&index);
        self.left.remove(&index);
        self.checks
            .retain(|(.., aim)| !matches!(aim, Aim::Cools(cooled, _) if *cooled == index));
    }
}

impl Coordinator {
    /// What a plan may do now by itself.
    pub(super) fn allowance(&self) -> Allowance<'_> {
        let steering = &self.steering;
        let budget = HEALS.max(steering.instances / HEALS_SHARE);
        let recent = steering
            .heals
            .iter()
            .filter(|at| self.ctx.clock.now.since(**at) < WINDOW);
        Allowance {
            heals: match steering.policy.heal {
                Mode::Act => budget.saturating_sub(recent.count()),
                Mode::Observe | Mode::Advise => 0,
            },
            approved: &steering.approved,
            evictions: self.evictions_left(),
        }
    }

    /// When more may be done than now, if a budget is what stands against a plan.
    pub(super) fn budget_returns(&self, plan: &Plan) -> Option<Time> {
        let (steering, now) = (&self.steering, self.ctx.clock.now);
        let returns = |stands: bool, mode: Mode, spent: &VecDeque<Time>| {
            let oldest = spent.iter().find(|at| now.since(**at) < WINDOW);
            oldest.filter(|_| stands && mode == Mode::Act).map(|at| *at + WINDOW)
        };
        let heals = returns(!plan.held_back.is_empty(), steering.policy.heal, &steering.heals);
        let room = returns(
            !plan.would_preempt.is_empty(),
            steering.policy.preempt,
            &steering.preemptions,
        );
        heals.into_iter().chain(room).min()
    }

    /// What a plan healed counts, and what it held back is said.
    pub(super) fn healed(&mut self, plan: &Plan) {
        let now = self.ctx.clock.now;
        let steering = &mut self.steering;
        steering.heals.retain(|at| now.since(*at) < WINDOW);
        for id in &plan.healed {
            steering.told.remove(id);
            if !steering.approved.remove(id) {
                steering.heals.push_back(now);
            }
        }
        if steering.breaker && plan.held_back.is_empty() && steering.heals.len() < HEALS {
            steering.breaker = false;
        }
    }

    /// What was lost and is not replaced by itself is said once, and waits for an operator where that is the mode, or where the budget
    /// is used up.
    pub(super) fn hold_back(&mut self, name: &Arc<str>, plan: &Plan) {
        let news: BTreeSet<AssignmentId> = plan
            .held_back
            .iter()
            .map(|(id, _)| *id)
            .filter(|id| !self.steering.told.contains(id))
            .collect();
        if news.is_empty() {
            return;
        }
        let asked = self.steering.policy.heal;
        let mode = match asked {
            Mode::Act => Mode::Advise,
            mode => mode,
        };
        if asked == Mode::Act && !std::mem::replace(&mut self.steering.breaker, true) {
            let summary =
                "healing has used up its budget: what else was lost waits for `wynectl decisions approve`".to_owned();
            self.ctx.record_workload(name, summary);
        }
        let wall = self.ctx.wall_now();
        let evidence = plan.held_back.iter().filter(|(id, _)| news.contains(id)).take(32);
        let evidence: Vec<Evidence> = evidence
            .filter_map(|(id, why)| {
                let held = self.table.held(*id)?;
                let node = self.ctx.registry[held.index].name();
                Some(Evidence::new(
                    wall,
                    "placement",
                    format!("{name}.{} on {node} was lost: {why}", held.record.slot),
                ))
            })
            .collect();
        let proposal = Proposal {
            index: None,
            node: None,
            time: wall,
            cycle: self.ctx.clock.cycle,
            rule: "lost-is-replaced",
            action: format!("{name}: place {} elsewhere", news.len()),
            evidence,
            alternatives: vec![Alternative::new("wait until its node is back", "it was given up")],
        };
        let decision = self.autonomy.about(name, Kind::Heal, mode, proposal);
        self.steering.told.retain(|id| self.table.held(*id).is_some());
        self.steering.approved.retain(|id| self.table.held(*id).is_some());
        self.steering.told.extend(&news);
        self.wait_for_approval(mode, &decision, Wish::Heal(Arc::clone(name), news));
        self.ctx.record_decision(None, decision);
    }

    pub(super) fn wait_for_approval(&mut self, mode: Mode, decision: &Arc<Decision>, wish: Wish) {
        if mode != Mode::Advise {
            return;
        }
        if self.steering.pending.len() >= WAITING
            && let Some((_, oldest)) = self.steering.pending.pop_first()
        {
            self.give_up(&oldest, Outcome::Expired);
        }
        let pending = Pending {
            decision: Arc::clone(decision),
            wish,
            expires: self.ctx.clock.now + EXPIRY,
        };
        self.steering.pending.insert(decision.id, pending);
    }

    pub(super) fn give_up(&mut self, pending: &Pending, outcome: Outcome) {
        let decision = self.autonomy.conclude(&pending.decision, outcome);
        let index = decision.node.and_then(|node| self.ctx.registry.find(node));
        self.ctx.record_decision(index, decision);
        // It is said again if it is still so.
        if outcome == Outcome::Expired
            && let Wish::Heal(name, ids) = &pending.wish
        {
            for id in ids {
                self.steering.told.remove(id);
            }
            self.dirty(Arc::clone(name));
        }
    }

    /// An operator answers a decision.
    pub(super) fn decide(&mut self, id: u64, approve: bool, by: &str) -> Result<Answer, Refusal> {
        let pending = self.steering.pending.remove(&id).ok_or_else(|| Refusal::Unknown {
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
        self.ctx.record(None, summary, body);
        if !approve {
            let decision = self.autonomy.conclude(&pending.decision, Outcome::Rejected);
            self.ctx.record_decision(None, Arc::clone(&decision));
            return Ok(Answer::Decision(decision));
        }
        let decision = self.autonomy.conclude(&pending.decision, Outcome::Done);
        self.ctx.record_decision(None, Arc::clone(&decision));
        match pending.wish {
            Wish::Heal(name, ids) => {
                self.steering.approved.extend(ids);
                self.dirty(name);
            }
            Wish::Move(id, reason) => self.leave(id, &reason),
            Wish::MakeRoom(name, ids) => self.make_room(name, ids),
        }
        Ok(Answer::Decision(decision))
    }

    /// Sets what Autonomy may do.
    pub(super) fn set_policy(&mut self, change: PolicyChange, by: &str) -> Answer {
        let before = self.steering.policy;
        let policy = Policy {
            heal: change.heal.unwrap_or(before.heal),
            rebalance: change.rebalance.unwrap_or(before.rebalance),
            preempt: change.preempt.unwrap_or(before.preempt),
        };
        if policy == before {
            return Answer::Policy { policy, event: 0 };
        }
        self.steering.policy = policy;
        self.ctx.outbox.keep_policy(self.steering.policy());
        // Under another mode it is said anew what is not done.
        self.steering.told.clear();
        self.steering.asked.clear();
        let detail = format!(
            "heal {}, rebalance {}, preempt {}",
            policy.heal.name(),
            policy.rebalance.name(),
            policy.preempt.name()
        );
        let summary = format!("autonomy: {detail}");
        let (verb, by) = ("autonomy".to_owned(), by.to_owned());
        let event = self.ctx.record(None, summary, EventBody::Command { verb, detail, by });
        let names: Vec<Arc<str>> = self.table.workloads().map(|(name, _)| Arc::clone(name)).collect();
        for name in names {
            self.dirty(name);
        }
        Answer::Policy { policy, event }
    }

    /// Has it looked later whether a decision helped.
    pub(super) fn check_later(&mut self, decision: Arc<Decision>, aim: Aim) {
        let after = match aim {
            Aim::Runs(..) => RUNS_BY,
            Aim::Cools(..) => COOLS_BY,
        };
        if self.steering.checks.len() < CHECKED {
            self.steering
                .checks
                .push_back((self.ctx.clock.now + after, decision, aim));
        }
    }

    pub(super) fn look_back(&mut self) {
        let now = self.ctx.clock.now;
        let (due, later) = std::mem::take(&mut self.steering.checks)
            .into_iter()
            .partition(|(at, ..)| *at <= now);
        self.steering.checks = later;
        let due: VecDeque<(Time, Arc<Decision>, Aim)> = due;
        for (_, decision, aim) in due {
            let helped = match &aim {
                Aim::Runs(name, slots) => self.table.declared(name).is_none_or(|declared| {
                    slots.iter().all(|slot| {
                        self.table.instances(declared).any(|held| {
                            let runs = held.status.phase == Phase::Running || held.status.complete;
                            held.record.slot == *slot && held.record.goal == Goal::Run && runs
                        })
                    })
                }),
                Aim::Cools(index, before) => self.heat(*index) < *before,
            };
            let outcome = if helped { Outcome::Helped } else { Outcome::DidNotHelp };
            let decision = self.autonomy.conclude(&decision, outcome);
            let index = decision.node.and_then(|node| self.ctx.registry.find(node));
            self.ctx.record_decision(index, decision);
        }
    }
}
