//! What Autonomy does of itself to work: healing and rebalancing, in the mode that operators set, within budgets, and looked at
//! afterwards.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{Answer, Changed, Coordinator, PlannedStart, Refusal};
use crate::{
    autonomy::{Alternative, Decision, Evidence, Kind, Mode, Outcome, Policy, Proposal},
    event::EventBody,
    node::{Liveness, NodeIndex},
    placement::{Placed, Plan},
    time::Time,
    workload::{AssignmentId, Goal, Kind as WorkKind, Phase},
};

/// A window of the budgets.
const WINDOW: Duration = Duration::from_secs(300);

/// Instances that are placed elsewhere in a window because their nodes were lost: so many in any case, and this share of all. Beyond,
/// the rest waits for an operator.
const HEALS: usize = 10;
const HEALS_SHARE: usize = 2;

/// Instances that are moved in a window because of load: so many in any case, and one in so many of all.
const MOVES: usize = 1;
const MOVES_SHARE: usize = 50;

/// A node is hot from this load on, observed or expected, when it was so for so many cycles; and work goes to nodes below the other.
const HOT: u32 = 85;
const HOT_CYCLES: u32 = 3;
const COOL: u32 = 60;

/// Hundredths of load that two nodes must differ by after a move, at least.
const GAIN: u32 = 20;

/// How long what was moved stays where it is, and how long a node is left alone after something left it.
const REST: Duration = Duration::from_secs(1_800);
const NODE_REST: Duration = Duration::from_secs(60);

/// How long a decision waits for an operator.
const EXPIRY: Duration = Duration::from_secs(600);

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
enum Wish {
    /// These may be replaced.
    Heal(Arc<str>, BTreeSet<AssignmentId>),
    /// This one may leave its node.
    Move(AssignmentId, String),
}

#[derive(Debug)]
struct Pending {
    decision: Arc<Decision>,
    wish: Wish,
    expires: Time,
}

/// What is under way of it.
#[derive(Debug)]
pub(super) struct Steering {
    policy: Policy,
    /// When instances were placed elsewhere for their nodes' loss, and for load.
    heals: VecDeque<Time>,
    moves: VecDeque<Time>,
    /// Healing has used up its budget, and waits for operators.
    breaker: bool,
    /// Instances that are meant to run, as the last look at work had them.
    instances: usize,
    /// Heals of the plan that is being made.
    used: Cell<usize>,
    /// Lost instances that an operator wants replaced, and those of which it was said that they are not.
    approved: BTreeSet<AssignmentId>,
    told: BTreeSet<AssignmentId>,
    pending: BTreeMap<u64, Pending>,
    /// For how many cycles nodes have been hot.
    hot: BTreeMap<NodeIndex, u32>,
    /// When something last left a node, and when an instance was moved.
    left: BTreeMap<NodeIndex, Time>,
    moved: BTreeMap<Arc<str>, BTreeMap<u32, Time>>,
    checks: VecDeque<(Time, Arc<Decision>, Aim)>,
}

impl Steering {
    pub(super) fn new(policy: Policy) -> Steering {
        Steering {
            policy,
            heals: VecDeque::new(),
            moves: VecDeque::new(),
            breaker: false,
            instances: 0,
            used: Cell::new(0),
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
}

/// A move because of load.
struct Shift {
    id: AssignmentId,
    from: NodeIndex,
    to: Placed,
    reason: String,
    load: u32,
}

impl Coordinator {
    /// Whether an instance that was lost may be replaced now.
    pub(super) fn may_heal(&self, id: AssignmentId) -> bool {
        let steering = &self.steering;
        if steering.approved.contains(&id) {
            return true;
        }
        if steering.policy.heal != Mode::Act {
            return false;
        }
        let budget = HEALS.max(steering.instances / HEALS_SHARE);
        let recent = steering.heals.iter().filter(|at| self.now.since(**at) < WINDOW).count();
        let used = steering.used.get();
        if recent + used >= budget {
            return false;
        }
        steering.used.set(used + 1);
        true
    }

    /// What a plan healed counts, and what it held back is said.
    pub(super) fn healed(&mut self, plan: &Plan) {
        let now = self.now;
        let steering = &mut self.steering;
        steering.used.set(0);
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
        self.steering.used.set(0);
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
            self.record_workload(name, summary);
        }
        let wall = self.wall_now();
        let evidence = plan.held_back.iter().filter(|(id, _)| news.contains(id)).take(32);
        let evidence: Vec<Evidence> = evidence
            .filter_map(|(id, why)| {
                let held = self.table.held(*id)?;
                let node = self.registry[held.index].name();
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
            cycle: self.cycle,
            rule: "lost-is-replaced",
            action: format!("{name}: place {} elsewhere", news.len()),
            evidence,
            alternatives: vec![Alternative::new("wait until its node is back", "it was given up")],
        };
        let decision = self.autonomy.about(name, Kind::Heal, mode, proposal);
        self.steering.told.extend(&news);
        self.wait_for_approval(mode, &decision, Wish::Heal(Arc::clone(name), news));
        self.record_decision(None, decision);
    }

    fn wait_for_approval(&mut self, mode: Mode, decision: &Arc<Decision>, wish: Wish) {
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
            expires: self.now + EXPIRY,
        };
        self.steering.pending.insert(decision.id, pending);
    }

    fn give_up(&mut self, pending: &Pending, outcome: Outcome) {
        let decision = self.autonomy.conclude(&pending.decision, outcome);
        let index = decision.node.and_then(|node| self.registry.find(node));
        self.record_decision(index, decision);
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
        self.record(None, summary, body);
        if !approve {
            let decision = self.autonomy.conclude(&pending.decision, Outcome::Rejected);
            self.record_decision(None, Arc::clone(&decision));
            return Ok(Answer::Decision(decision));
        }
        let decision = self.autonomy.conclude(&pending.decision, Outcome::Done);
        self.record_decision(None, Arc::clone(&decision));
        match pending.wish {
            Wish::Heal(name, ids) => {
                self.steering.approved.extend(ids);
                self.dirty(name);
            }
            Wish::Move(id, reason) => self.leave(id, &reason),
        }
        Ok(Answer::Decision(decision))
    }

    /// Sets what Autonomy may do.
    pub(super) fn set_policy(&mut self, heal: Option<Mode>, rebalance: Option<Mode>, by: &str) -> Answer {
        let before = self.steering.policy;
        let policy = Policy {
            heal: heal.unwrap_or(before.heal),
            rebalance: rebalance.unwrap_or(before.rebalance),
        };
        if policy == before {
            return Answer::Policy { policy, event: 0 };
        }
        self.steering.policy = policy;
        self.keep_policy();
        // Under another mode it is said anew what is not done.
        self.steering.told.clear();
        let detail = format!("heal {}, rebalance {}", policy.heal.name(), policy.rebalance.name());
        let summary = format!("autonomy: {detail}");
        let (verb, by) = ("autonomy".to_owned(), by.to_owned());
        let event = self.record(None, summary, EventBody::Command { verb, detail, by });
        let names: Vec<Arc<str>> = self.table.workloads().map(|(name, _)| Arc::clone(name)).collect();
        for name in names {
            self.dirty(name);
        }
        Answer::Policy { policy, event }
    }

    /// What is looked at every cycle: decisions that nobody answered, those that were carried out, and nodes that are hot.
    pub(super) fn rebalance_stage(&mut self) {
        let now = self.now;
        let late: Vec<u64> = self
            .steering
            .pending
            .iter()
            .filter(|(_, pending)| pending.expires <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            if let Some(pending) = self.steering.pending.remove(&id) {
                self.give_up(&pending, Outcome::Expired);
            }
        }
        self.look_back();
        self.watch_heat();
        if self.climate().ambiguous || self.steering.policy.rebalance == Mode::Observe && self.steering.hot.is_empty() {
            return;
        }
        let hot: BTreeSet<NodeIndex> = self
            .steering
            .hot
            .iter()
            .filter(|(_, cycles)| **cycles >= HOT_CYCLES)
            .map(|(index, _)| *index)
            .collect();
        for shift in self.shifts(&hot, COOL) {
            self.propose_shift(shift);
        }
    }

    /// A node's load, observed or expected, whichever is higher, in hundredths.
    fn heat(&self, index: NodeIndex) -> u32 {
        let load = self.registry[index]
            .session
            .as_ref()
            .map_or(0.0, |session| session.load)
            * 100.0;
        (load.round() as u32).max(self.outlooks.get(&index).copied().unwrap_or(0))
    }

    fn watch_heat(&mut self) {
        let heats: Vec<(NodeIndex, u32)> = self
            .registry
            .iter()
            .filter(|(_, node)| node.liveness == Liveness::Online)
            .map(|(index, _)| (index, self.heat(index)))
            .collect();
        let mut hot = BTreeMap::new();
        for (index, heat) in heats {
            if heat >= HOT {
                let before = self.steering.hot.get(&index).copied().unwrap_or(0);
                hot.insert(index, before.saturating_add(1));
            }
        }
        self.steering.hot = hot;
    }

    /// One instance of each of these nodes that had better be elsewhere, and where; as many as the budget has left. Nodes with a load
    /// above `below` take none.
    fn shifts(&self, sources: &BTreeSet<NodeIndex>, below: u32) -> Vec<Shift> {
        let now = self.now;
        let steering = &self.steering;
        let budget = MOVES.max(steering.instances / MOVES_SHARE);
        let recent = steering.moves.iter().filter(|at| now.since(**at) < WINDOW).count();
        let mut left = budget.saturating_sub(recent);
        if sources.is_empty() || left == 0 {
            return Vec::new();
        }
        let mut fleet = self.fleet();
        for (index, _) in self.registry.iter() {
            if sources.contains(&index) || self.heat(index) > below {
                fleet.close(index);
            }
        }
        let mut order: Vec<NodeIndex> = sources.iter().copied().collect();
        order.sort_by_key(|index| std::cmp::Reverse(self.heat(*index)));
        let mut shifts = Vec::new();
        for from in order {
            let rests = steering.left.get(&from).is_some_and(|at| now.since(*at) < NODE_REST);
            if left == 0 || rests {
                continue;
            }
            if let Some(shift) = self.shift(from, &mut fleet) {
                left -= 1;
                shifts.push(shift);
            }
        }
        shifts
    }

    /// The instance of a node that is promised most of those that may be moved, and its place.
    fn shift(&self, from: NodeIndex, fleet: &mut crate::placement::Fleet) -> Option<Shift> {
        let now = self.now;
        let mut movable: Vec<(u64, AssignmentId)> = self
            .table
            .of_node(from)
            .filter(|held| {
                let Some(declared) = self.table.declared(&held.record.workload) else {
                    return false;
                };
                let record = &declared.record;
                let Some(spec) = record.spec() else { return false };
                let service = matches!(spec.kind, WorkKind::Service { .. }) && !spec.singleton;
                let quiet = record.stable == record.revision && declared.waiting.is_empty();
                let rests = self.steering.moved.get(&held.record.workload);
                let rests = rests.and_then(|slots| slots.get(&held.record.slot));
                let rests = rests.is_some_and(|at| now.since(*at) < REST);
                service
                    && quiet
                    && !rests
                    && held.is_wanted()
                    && held.healthy_since.is_some()
                    && held.record.leaving.is_empty()
            })
            .map(|held| (held.resources.cpu_millis, held.record.id))
            .collect();
        movable.sort_by_key(|(cpu, id)| (std::cmp::Reverse(*cpu), *id));
        let heat = self.heat(from);
        for (cpu, id) in movable {
            let held = self.table.held(id)?;
            let declared = self.table.declared(&held.record.workload)?;
            let spec = declared.record.spec()?;
            let mut trial = fleet.clone();
            let mut standing = self.table.standing(declared, now);
            let Some(to) = trial.place(spec, &mut standing, 1).placed.first().copied() else {
                continue;
            };
            let share = |index: NodeIndex| {
                let capacity = self.registry[index].record.facts.capacity.cpu_millis.max(1);
                (cpu * 100 / capacity) as u32
            };
            let after = self.heat(to.node) + share(to.node);
            if heat.saturating_sub(share(from)) < after + GAIN {
                continue;
            }
            *fleet = trial;
            let (here, there) = (self.registry[from].name(), self.registry[to.node].name());
            let reason = format!("{here} has a load of {heat}%, {there} would have {after}%");
            return Some(Shift {
                id,
                from,
                to,
                reason,
                load: heat,
            });
        }
        None
    }

    fn propose_shift(&mut self, shift: Shift) {
        let Some(held) = self.table.held(shift.id) else { return };
        let (name, slot) = (Arc::clone(&held.record.workload), held.record.slot);
        let mode = self.steering.policy.rebalance;
        let (wall, now) = (self.wall_now(), self.now);
        let (from, to) = (
            self.registry[shift.from].name().to_owned(),
            self.registry[shift.to.node].name().to_owned(),
        );
        let cycles = self.steering.hot.get(&shift.from).copied().unwrap_or(0);
        let proposal = Proposal {
            index: Some(shift.from),
            node: Some(self.registry[shift.from].record.id()),
            time: wall,
            cycle: self.cycle,
            rule: "hot-sheds-work",
            action: format!("{name}: move {name}.{slot} from {from} to {to}"),
            evidence: vec![
                Evidence::new(wall, "telemetry", shift.reason.clone()),
                Evidence::new(wall, "telemetry", format!("{from} was hot for {cycles} cycles")),
            ],
            alternatives: vec![Alternative::new(
                "leave it where it is",
                format!("the loads would differ by more than {GAIN}%"),
            )],
        };
        let decision = self.autonomy.about(&name, Kind::Rebalance, mode, proposal);
        self.steering.left.insert(shift.from, now);
        let slots = self.steering.moved.entry(Arc::clone(&name)).or_default();
        slots.insert(slot, now);
        let reason = format!("its node is hot: {}", shift.reason);
        match mode {
            Mode::Observe => {}
            Mode::Advise => self.wait_for_approval(mode, &decision, Wish::Move(shift.id, reason)),
            Mode::Act => {
                self.check_later(Arc::clone(&decision), Aim::Cools(shift.from, shift.load));
                self.leave(shift.id, &reason);
            }
        }
        self.record_decision(Some(shift.from), decision);
    }

    /// Has an instance leave its node, when another one has taken its place.
    fn leave(&mut self, id: AssignmentId, reason: &str) {
        let now = self.now;
        let Some(held) = self.table.held_mut(id) else { return };
        if !held.is_wanted() {
            return;
        }
        let name = Arc::clone(&held.record.workload);
        reason.clone_into(&mut Arc::make_mut(&mut held.record).leaving);
        self.keep_assignment(id);
        self.steering.moves.retain(|at| now.since(*at) < WINDOW);
        self.steering.moves.push_back(now);
        self.dirty(name);
    }

    /// An operator wants load evened out.
    pub(super) fn rebalance_now(&mut self, plan: bool, by: &str) -> Result<Answer, Refusal> {
        let online = self
            .registry
            .iter()
            .filter(|(_, node)| node.liveness == Liveness::Online);
        let heats: Vec<(NodeIndex, u32)> = online.map(|(index, _)| (index, self.heat(index))).collect();
        let mean = heats.iter().map(|(_, heat)| heat).sum::<u32>() / (heats.len() as u32).max(1);
        let sources = heats.iter().filter(|(_, heat)| *heat > mean + GAIN / 2);
        let sources: BTreeSet<NodeIndex> = sources.map(|(index, _)| *index).collect();
        let shifts = self.shifts(&sources, mean);
        let mut told = Vec::new();
        for shift in &shifts {
            let Some(held) = self.table.held(shift.id) else {
                continue;
            };
            told.push(Changed {
                name: held.record.workload.to_string(),
                revision: held.record.revision,
                applied: !plan,
                changed: true,
                starts: vec![PlannedStart {
                    workload: held.record.workload.to_string(),
                    slot: held.record.slot,
                    node: self.registry[shift.to.node].record.id(),
                    node_name: self.registry[shift.to.node].name().to_owned(),
                    score: shift.to.score,
                    reason: shift.reason.clone(),
                }],
                stops: vec![(
                    shift.id,
                    self.registry[shift.from].name().to_owned(),
                    shift.reason.clone(),
                )],
                ..Changed::default()
            });
        }
        if !plan && !shifts.is_empty() {
            let detail = format!("{} instances are moved", shifts.len());
            let summary = format!("rebalance: {detail}");
            let (verb, by) = ("rebalance".to_owned(), by.to_owned());
            let event = self.record(None, summary, EventBody::Command { verb, detail, by });
            told.iter_mut().for_each(|change| change.event = event);
            for shift in shifts {
                let reason = format!("load is evened out: {}", shift.reason);
                self.leave(shift.id, &reason);
            }
        }
        Ok(Answer::Workloads(told))
    }

    /// What would happen if nodes were lost, or emptied.
    pub(super) fn what_if(&self, nodes: &str, drained: bool) -> Result<Answer, Refusal> {
        let gone: BTreeSet<NodeIndex> = match nodes.split_once('=') {
            Some((key, value)) => {
                let has = |labels: crate::node::Labels| labels.get(key).is_some_and(|own| own == value);
                let nodes = self.registry.iter().filter(|(_, node)| has(node.record.labels()));
                nodes.map(|(index, _)| index).collect()
            }
            None => BTreeSet::from([self.registry.resolve(nodes)?]),
        };
        if gone.is_empty() {
            let (what, name) = ("node with the label", nodes.to_owned());
            return Err(Refusal::Unknown { what, name });
        }
        Ok(Answer::Workloads(self.without(&gone, !drained)))
    }

    /// Has it looked later whether a decision helped.
    pub(super) fn check_later(&mut self, decision: Arc<Decision>, aim: Aim) {
        let after = match aim {
            Aim::Runs(..) => RUNS_BY,
            Aim::Cools(..) => COOLS_BY,
        };
        if self.steering.checks.len() < CHECKED {
            self.steering.checks.push_back((self.now + after, decision, aim));
        }
    }

    fn look_back(&mut self) {
        let now = self.now;
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
            let index = decision.node.and_then(|node| self.registry.find(node));
            self.record_decision(index, decision);
        }
    }
}
