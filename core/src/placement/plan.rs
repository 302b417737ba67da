//! What is to be done so that what runs becomes what was declared: desired × observed → plan.
//!
//! A workload has slots; each wants one instance. An instance that has to leave its place (its node is drained, its declaration is
//! old) stays until its successor has been healthy for long enough, where that is possible; otherwise it goes first. One that was
//! lost with its node is replaced after a delay; a singleton only once the one before cannot run any more.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Fleet, Score, Standing};
use crate::{
    node::{Cause, NodeIndex},
    time::Time,
    workload::{AssignmentId, Declared, Goal, Held, Kind, Phase, Spec, Table},
};

/// How long an instance whose agent is gone, and which may well be running, is left alone by default.
pub const AGENT_GONE_DELAY: Duration = Duration::from_secs(30);

/// While nothing is known for certain, it is looked again so often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The first wait of a slot whose instance failed; doubles with every failure in a row.
const BACKOFF: Duration = Duration::from_secs(5);
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// Restarts of an instance of a new declaration that was never well, after which the update has failed.
const CRASHES: u32 = 3;

/// Nodes that were considered and not taken, which a plan names at most.
const RUNNERS_UP: usize = 3;

/// Where an instance is, as far as its node is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Its node is there, or not known to be gone.
    There,
    /// Its node is to be emptied: until when at the latest.
    Leaves(Option<Time>),
    /// Its node was given up.
    Lost {
        /// When.
        since: Time,
        /// Why.
        cause: Cause,
        /// Until when a lease that it was given may run.
        lease: Time,
    },
}

/// What a plan is made from, beyond the workload.
pub struct World<'a> {
    /// Now.
    pub now: Time,
    /// Everything that is known.
    pub table: &'a Table,
    /// What is known of a node.
    pub presence: &'a dyn Fn(NodeIndex) -> Presence,
    /// Whether much is silent, and it is not known why: what is lost is not replaced.
    pub ambiguous: bool,
    /// Whether an instance that was lost may be replaced now.
    pub may_heal: &'a dyn Fn(AssignmentId) -> bool,
}

/// A slot that has no instance, and what it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// How many slots wait for the same.
    pub slots: u32,
    /// For what, for people.
    pub reason: String,
}

/// An instance to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Its slot.
    pub slot: u32,
    /// Its node.
    pub node: NodeIndex,
    /// By what that won.
    pub score: Score,
    /// Why, for people.
    pub reason: String,
    /// The instance whose place it takes.
    pub replaces: Option<AssignmentId>,
    /// Failures of this slot in a row.
    pub attempt: u32,
    /// The declaration that it runs by.
    pub revision: u64,
}

/// What is to be done for one workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be started.
    pub starts: Vec<Start>,
    /// To be stopped, and why.
    pub stops: Vec<(AssignmentId, String)>,
    /// Run already as a newer declaration wants it.
    pub revised: Vec<AssignmentId>,
    /// Lost, and replaced.
    pub healed: Vec<AssignmentId>,
    /// Lost, and not replaced, as that is not to be done by itself: which, and why they are lost.
    pub held_back: Vec<(AssignmentId, String)>,
    /// Slots that wait.
    pub waiting: Vec<Waiting>,
    /// Instances that leave their places later, as only so many do at once.
    pub later: u32,
    /// Whoever runs by the present declaration is well, and nobody runs by another.
    pub settled: bool,
    /// The update has failed: why.
    pub failed: Option<String>,
    /// When to look again, if nothing happens before.
    pub wake: Option<Time>,
    /// Nodes that were considered and not taken: what, and why not.
    pub considered: Vec<(String, String)>,
}

impl Plan {
    /// True when nothing is to be done.
    pub fn is_idle(&self) -> bool {
        self.starts.is_empty() && self.stops.is_empty() && self.revised.is_empty() && self.failed.is_none()
    }

    fn wake_at(&mut self, at: Time) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    fn wait(&mut self, slots: u32, reason: impl Into<String>) {
        let reason = reason.into();
        match self.waiting.iter_mut().find(|waiting| waiting.reason == reason) {
            Some(waiting) => waiting.slots += slots,
            None => self.waiting.push(Waiting { slots, reason }),
        }
    }
}

fn times(count: u32) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        _ => format!("{count} times"),
    }
}

/// How long a slot waits after so many failures in a row.
pub fn backoff(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        _ => BACKOFF_MAX.min(BACKOFF * 2u32.saturating_pow((failures - 1).min(10))),
    }
}

/// What is to be done for `declared`. What it starts is promised in `fleet`.
pub fn plan(world: &World<'_>, declared: &Declared, fleet: &mut Fleet) -> Plan {
    let Some(spec) = declared.record.spec() else {
        return Plan::default();
    };
    let planner = Planner {
        world,
        declared,
        spec,
        standing: world.table.standing(declared, world.now),
        slots: BTreeMap::new(),
        ended: BTreeMap::new(),
        gone: BTreeMap::new(),
        plan: Plan::default(),
    };
    planner.run(fleet)
}

#[derive(Default)]
struct Ended<'a> {
    /// The slot of a batch is done.
    done: bool,
    /// The newest, if it failed.
    failed: Option<&'a Held>,
}

struct Planner<'a> {
    world: &'a World<'a>,
    declared: &'a Declared,
    spec: &'a Arc<Spec>,
    standing: Standing,
    /// Instances that are wanted, by slot.
    slots: BTreeMap<u32, Vec<&'a Held>>,
    /// What became of instances that are no longer there, by slot.
    ended: BTreeMap<u32, Ended<'a>>,
    /// Of slots whose last instance is gone: that instance, and why a new one is wanted.
    gone: BTreeMap<u32, (AssignmentId, String)>,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn run(mut self, fleet: &mut Fleet) -> Plan {
        if self.declared.record.deleted {
            let wanted = self.instances().filter(|held| held.is_wanted());
            let stops: Vec<_> = wanted
                .map(|held| (held.record.id, "the workload was deleted".to_owned()))
                .collect();
            self.plan.stops = stops;
            return self.plan;
        }
        self.take_stock();
        self.replace_lost();
        self.drop_surplus(fleet);
        self.move_on(fleet);
        self.fill(fleet);
        self.judge_update();
        self.plan
    }

    fn instances(&self) -> impl Iterator<Item = &'a Held> + use<'a> {
        self.world.table.instances(self.declared)
    }

    fn presence(&self, held: &Held) -> Presence {
        (self.world.presence)(held.index)
    }

    fn stop(&mut self, held: &Held, reason: impl Into<String>) {
        self.plan.stops.push((held.record.id, reason.into()));
    }

    fn take_stock(&mut self) {
        let batch = self.spec.kind.is_batch();
        for held in self.instances() {
            let slot = held.record.slot;
            if held.is_wanted() {
                self.slots.entry(slot).or_default().push(held);
            } else if !held.is_there() && !self.is_outdated(held) {
                // Whether it was meant to end tells whether its end was a failure.
                let failed = held.record.goal == Goal::Run && !held.status.complete;
                let ended = self.ended.entry(slot).or_default();
                ended.done |= batch && held.record.goal == Goal::Run && held.status.complete;
                ended.failed = failed.then_some(held);
            }
        }
    }

    /// Instances whose nodes were given up leave their slots, when their time has come.
    fn replace_lost(&mut self) {
        let now = self.world.now;
        for (slot, instances) in std::mem::take(&mut self.slots) {
            let mut left = Vec::new();
            for held in instances {
                let Presence::Lost { since, cause, lease } = self.presence(held) else {
                    left.push(held);
                    continue;
                };
                let delay = self.spec.reschedule_delay.unwrap_or(match cause {
                    Cause::AgentGone | Cause::Goodbye => AGENT_GONE_DELAY,
                    _ => Duration::ZERO,
                });
                let mut due = since + delay;
                if self.spec.singleton {
                    due = due.max(lease);
                }
                if self.world.ambiguous {
                    due = due.max(now + LOOK_AGAIN);
                }
                if due > now {
                    self.plan.wake_at(due);
                    left.push(held);
                    continue;
                }
                let reason = format!("its node is gone: {}", cause.meaning());
                if !(self.world.may_heal)(held.record.id) {
                    self.plan.held_back.push((held.record.id, reason));
                    left.push(held);
                    continue;
                }
                self.plan.healed.push(held.record.id);
                self.gone.insert(
                    slot,
                    (held.record.id, format!("the one before was lost: {}", cause.meaning())),
                );
                self.stop(held, reason);
            }
            if !left.is_empty() {
                self.slots.insert(slot, left);
            }
        }
    }

    /// Slots beyond what is wanted, and nodes that a daemon is no longer meant for.
    fn drop_surplus(&mut self, fleet: &Fleet) {
        let beyond = |slot: u32| self.spec.replicas().is_some_and(|replicas| slot >= replicas);
        let surplus: Vec<u32> = self.slots.keys().copied().filter(|slot| beyond(*slot)).collect();
        for slot in surplus {
            for held in self.slots.remove(&slot).unwrap_or_default() {
                self.stop(held, "scaled down");
            }
        }
        if self.spec.replicas().is_some() {
            return;
        }
        for (slot, instances) in std::mem::take(&mut self.slots) {
            let (stay, go): (Vec<_>, Vec<_>) = instances.into_iter().partition(|held| self.is_meant_for(held, fleet));
            for held in go {
                self.stop(held, "its node no longer meets the constraints, or takes no work");
            }
            if !stay.is_empty() {
                self.slots.insert(slot, stay);
            }
        }
    }

    fn is_meant_for(&self, held: &Held, fleet: &Fleet) -> bool {
        let node = fleet.nodes().get(held.index.get());
        let meets = node.is_none_or(|node| {
            let met = |constraint: &crate::workload::Constraint| constraint.is_met_by(node.label(&constraint.key));
            self.spec.constraints.iter().all(met)
        });
        meets && !matches!(self.presence(held), Presence::Leaves(_))
    }

    /// Why an instance has to leave its place.
    fn leaves(&self, held: &Held, fleet: &Fleet) -> Option<String> {
        let record = &self.declared.record;
        if matches!(self.presence(held), Presence::Leaves(_)) {
            return Some("its node is to be emptied".to_owned());
        }
        if self.is_outdated(held) {
            return Some(format!(
                "revision {} takes the place of {}",
                record.revision, held.record.revision
            ));
        }
        if record.restarted.is_some_and(|(_, before)| held.record.id < before) {
            return Some("a restart was asked for".to_owned());
        }
        if !held.record.leaving.is_empty() {
            return Some(held.record.leaving.clone());
        }
        match self.is_meant_for(held, fleet) {
            true => None,
            false => Some("its node no longer meets the constraints".to_owned()),
        }
    }

    fn is_outdated(&self, held: &Held) -> bool {
        let record = &self.declared.record;
        held.record.revision != record.revision
            && record
                .revisions
                .get(&held.record.revision)
                .is_none_or(|old| !old.runs_like(self.spec))
    }

    /// True when it has been well for long enough.
    fn is_settled(&mut self, held: &Held) -> bool {
        let Some(since) = held.healthy_since else { return false };
        let due = since + self.spec.update.min_healthy;
        if due > self.world.now {
            self.plan.wake_at(due);
        }
        due <= self.world.now
    }

    /// Instances that leave their places, a few at a time.
    fn move_on(&mut self, fleet: &mut Fleet) {
        let now = self.world.now;
        let batch = self.spec.kind.is_batch();
        let first = self.spec.singleton || self.spec.replicas().is_none();
        let (mut unsettled, mut candidates) = (0u32, Vec::new());
        let slots: Vec<(u32, Vec<&Held>)> = self.slots.iter().map(|(slot, held)| (*slot, held.clone())).collect();
        for (slot, instances) in slots {
            let leaving: Vec<(&Held, String)> = instances
                .iter()
                .filter_map(|held| Some((*held, self.leaves(held, fleet)?)))
                .collect();
            let staying: Vec<&Held> = instances
                .iter()
                .copied()
                .filter(|held| !leaving.iter().any(|(one, _)| one.record.id == held.record.id))
                .collect();
            for held in &staying {
                if held.record.revision != self.declared.record.revision {
                    self.plan.revised.push(held.record.id);
                }
            }
            // Of several that may stay, the newest that is well does: whoever looks for it finds that one. Until one is, all do.
            let settled = staying.iter().copied().filter(|held| self.is_settled(held)).last();
            if let Some(keeper) = settled.or(staying.last().copied()) {
                for held in staying.iter().filter(|held| held.record.id != keeper.record.id) {
                    if settled.is_some() {
                        self.stop(held, "another instance has its slot");
                    }
                }
                if settled.is_some() {
                    for (held, reason) in leaving {
                        self.stop(held, reason);
                    }
                } else {
                    unsettled += 1;
                    self.overdue(&leaving);
                }
                continue;
            }
            let Some((held, reason)) = leaving.into_iter().next_back() else {
                continue;
            };
            candidates.push((held.healthy_since.is_some(), slot, held, reason));
        }
        if let Some(replicas) = self.spec.replicas() {
            unsettled += (0..replicas)
                .filter(|slot| !self.slots.contains_key(slot) && !self.is_done(*slot))
                .count() as u32;
        }
        if self.spec.replicas().is_none() {
            let going = self
                .instances()
                .filter(|held| held.is_there() && held.record.goal == Goal::Stop);
            unsettled += going.count() as u32;
        }
        let stuck = self.update_failure().is_some();
        let canaries = self.canaries_left();
        // Those that are not well anyway go first.
        candidates.sort_by_key(|(well, slot, ..)| (*well, *slot));
        let mut budget = self.spec.update.max_parallel.saturating_sub(unsettled);
        let mut canaries = canaries.map(|canaries| canaries.saturating_sub(unsettled));
        for (_, slot, held, reason) in candidates {
            let deadline = match self.presence(held) {
                Presence::Leaves(deadline) => deadline,
                _ => None,
            };
            if let Some(deadline) = deadline {
                if deadline <= now {
                    self.stop(held, format!("{reason}, and the time for that is over"));
                    self.gone.insert(slot, (held.record.id, reason));
                    self.slots.remove(&slot);
                    continue;
                }
                self.plan.wake_at(deadline);
            }
            let emptied = matches!(self.presence(held), Presence::Leaves(_));
            let update = self.is_outdated(held) && !emptied;
            let held_back = update && (stuck || canaries == Some(0));
            if budget == 0 || held_back {
                self.plan.later += 1;
                continue;
            }
            if !first && !batch && self.start_beside(slot, held, &reason, fleet) {
                budget -= 1;
                canaries = canaries.map(|left| left - u32::from(update));
                continue;
            }
            // Without room beside it, it goes first; from a node that is to be emptied only when another one will take it.
            let leaves = matches!(self.presence(held), Presence::Leaves(_)) || !held.record.leaving.is_empty();
            let emptying = leaves && self.spec.replicas().is_some();
            if emptying && !(self.spec.singleton && self.has_room(fleet)) {
                self.plan.later += 1;
                self.plan.wait(1, format!("no other node takes it: {reason}"));
                continue;
            }
            budget -= 1;
            canaries = canaries.map(|left| left - u32::from(update));
            self.stop(held, reason.clone());
            self.gone.insert(slot, (held.record.id, reason));
            self.slots.remove(&slot);
        }
    }

    /// Whoever leaves a node whose time is over does not wait for its successor.
    fn overdue(&mut self, leaving: &[(&Held, String)]) {
        for (held, reason) in leaving {
            if let Presence::Leaves(Some(deadline)) = self.presence(held) {
                if deadline <= self.world.now {
                    self.stop(held, format!("{reason}, and the time for that is over"));
                } else {
                    self.plan.wake_at(deadline);
                }
            }
        }
    }

    fn has_room(&self, fleet: &Fleet) -> bool {
        let mut trial = fleet.clone();
        let mut standing = self.standing.clone();
        !trial.place(self.spec, &mut standing, 1).placed.is_empty()
    }

    fn start_beside(&mut self, slot: u32, held: &Held, reason: &str, fleet: &mut Fleet) -> bool {
        if let Some(until) = self
            .declared
            .not_before
            .get(&slot)
            .filter(|until| **until > self.world.now)
        {
            self.plan.wake_at(*until);
            return false;
        }
        // What leaves because of its node does not go back to it.
        let off = (!held.record.leaving.is_empty()).then_some(held.index);
        let outcome = fleet.place_off(self.spec, &mut self.standing, off);
        let Some(placed) = outcome.placed.first() else {
            return false;
        };
        self.plan.starts.push(Start {
            slot,
            node: placed.node,
            score: placed.score,
            reason: format!("{} is to leave: {reason}", held.record.id),
            replaces: Some(held.record.id),
            attempt: self.failures(slot).0,
            revision: self.declared.record.revision,
        });
        true
    }

    /// Whether a slot of a batch is done.
    fn is_done(&self, slot: u32) -> bool {
        self.ended.get(&slot).is_some_and(|ended| ended.done)
    }

    /// Failures of a slot in a row, and the instance that failed last.
    fn failures(&self, slot: u32) -> (u32, Option<&'a Held>) {
        let failed = self.ended.get(&slot).and_then(|ended| ended.failed);
        (failed.map_or(0, |held| held.record.attempt + 1), failed)
    }

    /// Slots without an instance get one.
    fn fill(&mut self, fleet: &mut Fleet) {
        let now = self.world.now;
        if self.spec.replicas().is_none() {
            self.fill_daemon(fleet);
            return;
        }
        let replicas = self.spec.replicas().unwrap_or_default();
        let mut empty = Vec::new();
        for slot in (0..replicas).filter(|slot| !self.slots.contains_key(slot)) {
            if self.is_done(slot) {
                continue;
            }
            let (failures, failed) = self.failures(slot);
            if let Kind::Batch { retries, .. } = self.spec.kind
                && failures > retries
            {
                let detail = failed.map(|held| held.status.detail.clone()).unwrap_or_default();
                self.plan.wait(
                    1,
                    format!("failed {}, and is not tried again: {detail}", times(failures)),
                );
                continue;
            }
            if let Some(until) = self.declared.not_before.get(&slot).filter(|until| **until > now) {
                self.plan.wake_at(*until);
                let detail = failed.map(|held| held.status.detail.clone()).unwrap_or_default();
                self.plan.wait(
                    1,
                    format!(
                        "failed {} in a row, and is tried again in a while: {detail}",
                        times(failures)
                    ),
                );
                continue;
            }
            empty.push((slot, failures, failed));
        }
        if empty.is_empty() || self.spec.singleton && self.waits_for_the_one_before() {
            return;
        }
        // What was lost while canaries are looked at, or an update has failed, is replaced by what is known to be well.
        let record = &self.declared.record;
        let held_back = self.canaries_left().is_some() || self.update_failure().is_some();
        let (revision, spec) = match record.revisions.get(&record.stable) {
            Some(stable) if held_back => (record.stable, stable),
            _ => (record.revision, self.spec),
        };
        let outcome = fleet.place(spec, &mut self.standing, empty.len() as u32);
        for ((slot, attempt, failed), placed) in empty.into_iter().zip(&outcome.placed) {
            let (replaces, reason) = match self.gone.remove(&slot) {
                Some((id, reason)) => (Some(id), reason),
                None => match failed {
                    Some(held) => (
                        Some(held.record.id),
                        format!("the one before failed: {}", held.status.detail),
                    ),
                    None => (None, "declared".to_owned()),
                },
            };
            self.plan.starts.push(Start {
                slot,
                node: placed.node,
                score: placed.score,
                reason,
                replaces,
                attempt,
                revision,
            });
        }
        if outcome.pending > 0 {
            let why = self.why_not(fleet);
            self.plan.wait(outcome.pending, why);
        }
        if !self.plan.starts.is_empty() {
            self.consider(fleet);
        }
    }

    /// One on every node that takes one; its slot is the node's place.
    fn fill_daemon(&mut self, fleet: &mut Fleet) {
        let now = self.world.now;
        let nodes = fleet.nodes().len() as u32;
        let outcome = fleet.place(self.spec, &mut self.standing, nodes);
        for placed in outcome.placed {
            let slot = placed.node.0;
            let (attempt, failed) = self.failures(slot);
            if let Some(until) = self.declared.not_before.get(&slot).filter(|until| **until > now) {
                self.plan.wake_at(*until);
                self.plan.wait(
                    1,
                    format!("failed {} in a row, and is tried again in a while", times(attempt)),
                );
                fleet.release(placed.node, self.spec.resources);
                continue;
            }
            self.plan.starts.push(Start {
                slot,
                node: placed.node,
                score: placed.score,
                reason: "declared for every node that fits".to_owned(),
                replaces: failed.map(|held| held.record.id),
                attempt,
                revision: self.declared.record.revision,
            });
        }
    }

    /// A singleton is started only once no process of the one before can be there.
    fn waits_for_the_one_before(&mut self) -> bool {
        let now = self.world.now;
        let before: Vec<&Held> = self.instances().filter(|held| held.is_there()).collect();
        let mut waits = false;
        for held in before {
            match self.presence(held) {
                // What was declared without it ends by no lease.
                Presence::Lost { lease, .. } if lease <= now && self.runs_by_lease(held) => {}
                Presence::Lost { .. } if !self.runs_by_lease(held) => {
                    let why = "runs without a lease on a node that was given up: there must never be two";
                    self.plan.wait(1, format!("{} {why}", held.record.id));
                    waits = true;
                }
                Presence::Lost { lease, .. } => {
                    self.plan.wake_at(lease);
                    self.plan.wait(
                        1,
                        format!(
                            "{} on a node that was given up may run until its lease is over",
                            held.record.id
                        ),
                    );
                    waits = true;
                }
                _ => {
                    self.plan.wait(
                        1,
                        format!("{} has not ended yet, and there must never be two", held.record.id),
                    );
                    waits = true;
                }
            }
        }
        waits
    }

    fn runs_by_lease(&self, held: &Held) -> bool {
        let spec = self.declared.record.revisions.get(&held.record.revision);
        spec.is_some_and(|spec| spec.singleton)
    }

    /// Why no node takes another one, as counts.
    fn why_not(&self, fleet: &Fleet) -> String {
        let mut reasons: BTreeMap<String, u32> = BTreeMap::new();
        for node in fleet.nodes() {
            if let Some(unfit) = fleet.unfit(self.spec, &self.standing, node) {
                *reasons.entry(unfit.kind().to_owned()).or_default() += 1;
            }
        }
        if reasons.is_empty() {
            return "there are no nodes".to_owned();
        }
        let mut reasons: Vec<(String, u32)> = reasons.into_iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let told: Vec<String> = reasons
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        format!("no node takes it: {}", told.join(", "))
    }

    /// The nodes that would have been next, and what kept the others out.
    fn consider(&mut self, fleet: &mut Fleet) {
        let mut trial = fleet.clone();
        let mut standing = self.standing.clone();
        let next = trial.place(self.spec, &mut standing, RUNNERS_UP as u32);
        for placed in next.placed {
            if let Some(node) = fleet.nodes().get(placed.node.get()) {
                let because = format!("scores {} with what is placed now", placed.score.total);
                self.plan
                    .considered
                    .push((format!("place it on {}", node.name()), because));
            }
        }
        let others = self.why_not(fleet);
        if others.starts_with("no node") {
            self.plan
                .considered
                .push(("place it on another node".to_owned(), others));
        }
    }

    /// Why the update under way has failed, if it has.
    fn update_failure(&self) -> Option<String> {
        let record = &self.declared.record;
        if record.revision == record.stable || record.stable == 0 {
            return None;
        }
        let now = self.world.now;
        for held in self
            .instances()
            .filter(|held| held.record.revision == record.revision && held.record.goal == Goal::Run)
        {
            let name = format!("{}.{}", held.record.workload, held.record.slot);
            if !held.is_there() && !held.status.complete {
                return Some(format!("{name} failed: {}", held.status.detail));
            }
            if held.is_there() && !held.was_healthy && held.status.restarts >= CRASHES {
                return Some(format!(
                    "{name} ended {} times before it was ever well: {}",
                    held.status.restarts, held.status.detail
                ));
            }
            let patience = self.spec.update.deadline;
            if held.is_there() && !held.was_healthy && now.since(held.known_since) >= patience {
                return Some(format!("{name} was not healthy within {patience:?}"));
            }
        }
        None
    }

    fn judge_update(&mut self) {
        let record = &self.declared.record;
        if record.revision == record.stable {
            return;
        }
        self.plan.failed = self.update_failure();
        if self.plan.failed.is_some() {
            return;
        }
        let deadline = self.spec.update.deadline;
        let mut all = self.plan.starts.is_empty() && self.plan.waiting.is_empty() && self.plan.later == 0;
        let instances: Vec<&Held> = self.instances().filter(|held| held.is_wanted()).collect();
        for held in instances {
            let well = held.record.revision == record.revision || self.plan.revised.contains(&held.record.id);
            let settled = self.is_settled(held);
            all &= well && settled;
            if held.healthy_since.is_none() && held.status.phase != Phase::Ended {
                self.plan
                    .wake_at((held.known_since + deadline).max(self.world.now + LOOK_AGAIN));
            }
        }
        self.plan.settled = all;
    }

    /// How many may still run by a declaration that waits for approval; `None` when it waits for none.
    fn canaries_left(&self) -> Option<u32> {
        let record = &self.declared.record;
        let canaries = self.spec.update.canary;
        if canaries == 0 || record.stable == 0 || record.revision == record.stable || record.promoted == record.revision
        {
            return None;
        }
        let now = self
            .instances()
            .filter(|held| held.is_wanted() && held.record.revision == record.revision && !self.is_outdated(held));
        Some(canaries.saturating_sub(now.count() as u32))
    }
}
