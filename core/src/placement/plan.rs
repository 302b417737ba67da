//! What is to be done so that what runs becomes what was declared: desired × observed → plan.
//!
//! A workload has slots; each wants one instance. An instance that has to leave its place (its node is drained, its declaration is
//! old) stays until its successor has been healthy for long enough, where that is possible; otherwise it goes first. One that was
//! lost with its node is replaced after a delay; a singleton only once the one before cannot run any more.

mod fill;
mod leave;
mod moves;
mod preempt;
mod update;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Claim, Fleet, Score, Standing, Waiting};
use crate::{
    autonomy::{Loss, Why},
    backoff::doubled,
    node::{Cause, NodeIndex},
    time::Time,
    workload::{AssignmentId, Declared, Goal, Held, Phase, Spec, Table},
};

/// How long an instance whose agent is gone, and which may well be running, is left alone by default.
pub const AGENT_GONE_DELAY: Duration = Duration::from_secs(30);

/// While nothing is known for certain, it is looked again so often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Reasons that are told one by one, for which slots of a workload wait.
const REASONS: usize = 64;

/// The first wait of a slot whose instance failed; doubles with every failure in a row.
const BACKOFF: Duration = Duration::from_secs(5);
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// Where an instance is, as far as its node is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Its node is there, or not known to be gone.
    There,
    /// Its node is to be emptied: until when at the latest.
    Leaves(Option<Time>),
    /// The same, but of daemons, which stay.
    LeavesUnlessDaemon(Option<Time>),
    /// Its node was given up.
    Lost {
        /// When.
        since: Time,
        /// Why.
        cause: Cause,
        /// Until when a lease that it was given may run.
        lease: Time,
        /// The decision that gave it up; `None` where that is not known.
        decision: Option<u64>,
    },
}

/// How many of what was lost may be replaced now, and how many may be stopped to make room: what is left of the budgets.
#[derive(Clone, Copy, Debug)]
pub struct Allowance<'a> {
    /// Instances that were lost and may be replaced.
    pub heals: usize,
    /// Those that may be replaced whatever is left, each with the decision that an operator approved.
    pub approved: &'a BTreeMap<AssignmentId, u64>,
    /// Instances that may be stopped to make room for what has a higher priority.
    pub evictions: usize,
}

/// What a plan is made from, beyond the workload.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Now.
    pub now: Time,
    /// Everything that is known.
    pub table: &'a Table,
    /// What is known of the nodes of the workload's instances; of others, that they are there.
    pub places: &'a BTreeMap<NodeIndex, Place>,
    /// Whether much is silent, and it is not known why: what is lost is not replaced.
    pub ambiguous: bool,
    /// What may be done by itself.
    pub may: Allowance<'a>,
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
    /// Why.
    pub why: Why,
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
    pub stops: Vec<(AssignmentId, Why)>,
    /// Those of them that nothing takes the place of, on nodes that are there: the declaration does not mean these nodes.
    pub unreplaced: Vec<AssignmentId>,
    /// Run already as a newer declaration wants it.
    pub revised: Vec<AssignmentId>,
    /// Lost, and replaced.
    pub healed: Vec<AssignmentId>,
    /// Lost, and not replaced, as that is not to be done by itself: which, and why they are lost.
    pub held_back: Vec<(AssignmentId, Why)>,
    /// Of other workloads, stopped to make room.
    pub preempted: Vec<AssignmentId>,
    /// Slots for which room is being made.
    pub roomed: Vec<u32>,
    /// Of other workloads, not stopped, as that is not to be done by itself: which, and why they would be.
    pub would_preempt: Vec<(AssignmentId, Why)>,
    /// Room that is being made on nodes.
    pub claims: Vec<Claim>,
    /// Slots that wait.
    pub waiting: Vec<Waiting>,
    /// Instances that leave their places later, as only so many do at once.
    pub later: u32,
    /// Of a daemon: nodes that should have an instance and have none yet.
    pub absent: u32,
    /// No node takes an instance of the present declaration: why not.
    pub unplaced: Option<String>,
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
        let mut reason = reason.into();
        if self.waiting.len() >= REASONS && self.waiting.iter().all(|waiting| waiting.reason != reason) {
            reason = "further reasons, as those above".to_owned();
        }
        match self.waiting.iter_mut().find(|waiting| waiting.reason == reason) {
            Some(waiting) => waiting.slots += slots,
            None => self.waiting.push(Waiting {
                slots,
                reason,
                nodes: Vec::new(),
                failures: 0,
                given_up: false,
            }),
        }
    }
}

impl Plan {
    /// Slots whose instances failed so many times in a row; `given_up`: they are not tried again.
    fn wait_after(&mut self, failures: u32, given_up: bool, reason: String) {
        self.wait(1, reason.clone());
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.reason == reason) {
            (waiting.failures, waiting.given_up) = (failures, given_up);
        }
    }
}

/// An instance by name, as people know it.
fn named(held: &Held) -> String {
    held.instance().to_string()
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
        _ => doubled(BACKOFF, failures - 1, BACKOFF_MAX),
    }
}

/// What is to be done for `declared`. What it starts is promised in `fleet`.
pub fn plan(input: &Input<'_>, declared: &Declared, fleet: &mut Fleet) -> Plan {
    let Some(spec) = declared.record.spec() else {
        return Plan::default();
    };
    for claim in &declared.claims {
        fleet.release(claim.node, claim.resources, &[]);
    }
    let planner = Planner {
        input,
        may: input.may,
        declared,
        spec,
        standing: fleet.standing(input.table, declared, input.now),
        slots: BTreeMap::new(),
        ended: BTreeMap::new(),
        gone: BTreeMap::new(),
        lost: BTreeMap::new(),
        full: BTreeMap::new(),
        stopped: BTreeMap::new(),
        plan: Plan::default(),
    };
    planner.run(fleet)
}

/// Which nodes take an instance of a declaration beside what runs: two of them, if there are so many; and why all others do not.
#[derive(Debug)]
struct Full {
    takes: Vec<NodeIndex>,
    why: String,
}

#[derive(Default)]
struct Ended<'a> {
    /// The slot of a batch is done.
    done: bool,
    /// The newest, if it failed.
    failed: Option<&'a Held>,
    /// Failures in a row before the newest, if its host ended that one.
    before: u32,
}

struct Planner<'a> {
    input: &'a Input<'a>,
    /// What is left of what may be done.
    may: Allowance<'a>,
    declared: &'a Declared,
    spec: &'a Arc<Spec>,
    standing: Standing,
    /// Instances that are wanted, by slot.
    slots: BTreeMap<u32, Vec<&'a Held>>,
    /// What became of instances that are no longer there, by slot.
    ended: BTreeMap<u32, Ended<'a>>,
    /// Of slots whose last instance is gone: that instance, and why a new one is wanted.
    gone: BTreeMap<u32, (AssignmentId, Why)>,
    /// Instances whose nodes were given up, and which are to be replaced, by slot; and why.
    lost: BTreeMap<u32, Vec<(&'a Held, Why)>>,
    /// By revision, once an instance of it found no place beside what runs.
    full: BTreeMap<u64, Full>,
    /// Instances that were told to end and have not yet, by slot.
    stopped: BTreeMap<u32, &'a Held>,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn run(mut self, fleet: &mut Fleet) -> Plan {
        if self.declared.record.deleted {
            let wanted = self.instances().filter(|held| held.is_wanted());
            let stops: Vec<_> = wanted.map(|held| (held.record.id, Why::Deleted)).collect();
            self.plan.stops = stops;
            return self.plan;
        }
        self.take_stock();
        self.replace_lost();
        self.drop_surplus(fleet);
        self.move_on(fleet);
        self.fill(fleet);
        self.give_up_lost();
        self.judge_update();
        self.plan
    }

    fn instances(&self) -> impl Iterator<Item = &'a Held> + use<'a> {
        self.input.table.instances(self.declared)
    }

    fn place(&self, held: &Held) -> Place {
        match self.input.places.get(&held.index).copied().unwrap_or(Place::There) {
            Place::LeavesUnlessDaemon(_) if self.spec.replicas().is_none() => Place::There,
            Place::LeavesUnlessDaemon(until) => Place::Leaves(until),
            place => place,
        }
    }

    fn stop(&mut self, held: &Held, why: Why) {
        self.plan.stops.push((held.record.id, why));
    }

    fn take_stock(&mut self) {
        let batch = self.spec.kind.is_batch();
        let record = &self.declared.record;
        // What ended before this run of a batch says nothing of it.
        let is_of_run = |held: &&Held| held.is_there() || record.is_of_run(held.record.id);
        for held in self.instances().filter(is_of_run) {
            let slot = match self.spec.replicas() {
                Some(_) => held.record.slot,
                // Its node's place, which may be another one since this coordinator started.
                None => held.index.0,
            };
            if held.is_wanted() {
                self.slots.entry(slot).or_default().push(held);
            } else if held.is_there() {
                *self.standing.leaving.entry(held.index).or_default() += 1;
                self.stopped.insert(slot, held);
            } else if !self.is_outdated(held) {
                // Whether it was meant to end tells whether its end was a failure.
                let failed = held.record.goal == Goal::Run && !held.status.complete;
                let asked = batch && failed && self.is_to_run_again(held);
                let cut_off = failed && self.is_rerun(held);
                let again = asked || cut_off;
                let ended = self.ended.entry(slot).or_default();
                ended.done |= batch && record.is_done(held);
                ended.failed = (failed && !again).then_some(held);
                ended.before = if cut_off && !asked { held.record.attempt } else { 0 };
                let why = match asked {
                    true => Why::Restarted,
                    false => Why::Interrupted(held.status.detail.clone()),
                };
                match again {
                    true => self.gone.insert(slot, (held.record.id, why)),
                    false => self.gone.remove(&slot),
                };
            }
        }
    }

    /// Its host ended it, which is no failure of its program.
    fn is_rerun(&self, held: &Held) -> bool {
        held.status.interrupted && !held.status.unknown && self.spec.reruns_what_was_cut_off()
    }

    /// A restart that was asked for after it had failed. What of a batch is done stays done.
    fn is_to_run_again(&self, held: &Held) -> bool {
        let asked = self.declared.record.restarted;
        asked.is_some_and(|(_, before)| held.record.id < before)
    }

    /// Whether an instance that was lost may be replaced, which is counted then.
    fn may_heal(&mut self, id: AssignmentId) -> bool {
        if self.may.approved.contains_key(&id) {
            return true;
        }
        let left = self.may.heals.checked_sub(1);
        self.may.heals = left.unwrap_or_default();
        left.is_some()
    }

    /// Instances whose nodes were given up leave their slots, when their time has come.
    fn replace_lost(&mut self) {
        let now = self.input.now;
        let daemon = self.spec.replicas().is_none();
        for (slot, instances) in std::mem::take(&mut self.slots) {
            let mut left = Vec::new();
            for held in instances {
                let Place::Lost {
                    since,
                    cause,
                    lease,
                    decision,
                } = self.place(held)
                else {
                    left.push(held);
                    continue;
                };
                let loss = Loss {
                    node: held.record.node,
                    cause,
                    decision,
                };
                if daemon {
                    // Its place is its node, and no other.
                    self.lost.entry(slot).or_default().push((held, Why::Lost(loss)));
                    continue;
                }
                if !self.spec.reruns_what_was_cut_off() && !self.is_to_run_again(held) {
                    let why = "is on a node that is gone, and is not run again by itself (on_interruption)";
                    self.plan.wait(1, format!("{} {why}: {}", named(held), cause.meaning()));
                    left.push(held);
                    continue;
                }
                let delay = self.spec.reschedule_delay.unwrap_or(match cause {
                    Cause::AgentGone | Cause::Goodbye | Cause::Awaited => AGENT_GONE_DELAY,
                    _ => Duration::ZERO,
                });
                let mut due = since + delay;
                if self.spec.singleton {
                    due = due.max(lease);
                }
                if self.input.ambiguous {
                    due = due.max(now + LOOK_AGAIN);
                }
                if due > now {
                    self.plan.wake_at(due);
                    left.push(held);
                    continue;
                }
                if !self.may_heal(held.record.id) {
                    self.plan.held_back.push((held.record.id, Why::Lost(loss)));
                    left.push(held);
                    continue;
                }
                self.gone.insert(slot, (held.record.id, Why::LostBefore(loss)));
                self.lost.entry(slot).or_default().push((held, Why::Lost(loss)));
            }
            if !left.is_empty() {
                self.slots.insert(slot, left);
            }
        }
    }

    /// Gives up those that were lost and whose slots have others now, or are wanted no longer. Where nothing takes their place they stay what they
    /// are: their nodes may come back, and they run.
    fn give_up_lost(&mut self) {
        for (slot, lost) in std::mem::take(&mut self.lost) {
            let beyond = self.spec.replicas().is_some_and(|replicas| slot >= replicas);
            let held = self.slots.get(&slot).into_iter().flatten().copied();
            let has_other = held.filter(|other| other.status.phase == Phase::Running).count() > 0;
            // A daemon's place is its node, which is gone.
            let replaced = |start: &Start| self.spec.replicas().is_some() && start.slot == slot;
            let started = self.plan.starts.iter().any(replaced);
            for (held, why) in lost {
                if started || has_other {
                    self.plan.healed.push(held.record.id);
                    self.stop(held, why);
                } else if beyond {
                    self.stop(held, Why::ScaledDown);
                }
            }
        }
    }

    /// Slots beyond what is wanted, and nodes that a daemon is no longer meant for.
    fn drop_surplus(&mut self, fleet: &Fleet) {
        let beyond = |slot: u32| self.spec.replicas().is_some_and(|replicas| slot >= replicas);
        let surplus: Vec<u32> = self.slots.keys().copied().filter(|slot| beyond(*slot)).collect();
        for slot in surplus {
            for held in self.slots.remove(&slot).unwrap_or_default() {
                self.stop(held, Why::ScaledDown);
            }
        }
        if self.spec.replicas().is_some() {
            return;
        }
        for (slot, instances) in std::mem::take(&mut self.slots) {
            let (stay, go): (Vec<_>, Vec<_>) = instances.into_iter().partition(|held| self.is_meant_for(held, fleet));
            for held in go {
                if self.place(held) == Place::There {
                    self.plan.unreplaced.push(held.record.id);
                }
                self.stop(held, Why::NotMeant);
            }
            if !stay.is_empty() {
                self.slots.insert(slot, stay);
            }
        }
    }

    fn is_meant_for(&self, held: &Held, fleet: &Fleet) -> bool {
        let node = fleet.node(held.index);
        let meets = node.is_none_or(|node| {
            let met = |constraint: &crate::workload::Constraint| constraint.is_met_by(node.label(&constraint.key));
            self.spec.constraints.iter().all(met)
        });
        meets && !matches!(self.place(held), Place::Leaves(_))
    }
}
