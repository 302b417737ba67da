//! Planning: derives the next actions from the desired and the observed state of a workload.
//!
//! A workload has slots with one instance each. An instance that has to leave its node (because the node is drained or
//! the revision is outdated) stays, where possible, until its replacement has been healthy for long enough; otherwise
//! it is stopped first. An instance lost with its node is replaced after a delay; a singleton only once its predecessor
//! can no longer run.

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
    id::{DecisionId, Revision},
    node::{Cause, NodeIndex},
    time::Time,
    workload::{AssignmentId, Declared, Goal, Held, Phase, Spec, Table},
};

/// Default delay before the replacement of an instance whose agent is gone, and which may still be running.
pub const AGENT_GONE_DELAY: Duration = Duration::from_secs(30);

/// Re-evaluation interval while the situation is uncertain.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Maximum number of distinct reasons reported for slots of a workload.
const REASONS: usize = 64;

/// Initial back-off of a failed slot; doubles with every consecutive failure up to `BACKOFF_MAX`.
const BACKOFF: Duration = Duration::from_secs(5);
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// State of an instance's node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The node is present, or not known to be gone.
    There,
    /// The node is being drained, with an optional deadline.
    Leaves(Option<Time>),
    /// The node is being drained except for daemons, with an optional deadline.
    LeavesUnlessDaemon(Option<Time>),
    /// The node was given up.
    Lost {
        /// Time at which it was given up.
        since: Time,
        /// Reason.
        cause: Cause,
        /// Time until which a lease granted to the node may be valid.
        lease: Time,
        /// The decision that gave it up; `None` if unknown.
        decision: Option<DecisionId>,
    },
}

/// Remaining budgets for automatic replacement and preemption.
#[derive(Clone, Copy, Debug)]
pub struct Allowance<'a> {
    /// Number of lost instances that may be replaced.
    pub heals: usize,
    /// Lost instances that may be replaced regardless of the budget, each with the decision that an operator approved.
    pub approved: &'a BTreeMap<AssignmentId, DecisionId>,
    /// Number of instances that may be preempted.
    pub evictions: usize,
}

/// Input to a plan besides the workload.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The current time.
    pub now: Time,
    /// All workloads and instances.
    pub table: &'a Table,
    /// State of the nodes of the workload's instances; nodes not listed are present.
    pub places: &'a BTreeMap<NodeIndex, Place>,
    /// Whether many nodes are silent for an unknown reason; lost instances are not replaced then.
    pub ambiguous: bool,
    /// Budgets for automatic actions.
    pub may: Allowance<'a>,
}

/// An instance to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The slot of the instance.
    pub slot: u32,
    /// The node.
    pub node: NodeIndex,
    /// The node's score.
    pub score: Score,
    /// Reason for the start.
    pub why: Why,
    /// The instance that it replaces.
    pub replaces: Option<AssignmentId>,
    /// Number of consecutive failures of the slot.
    pub attempt: u32,
    /// The revision to run.
    pub revision: Revision,
}

/// Planned actions for one workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Instances to start.
    pub starts: Vec<Start>,
    /// Instances to stop, with reasons.
    pub stops: Vec<(AssignmentId, Why)>,
    /// Stopped instances without a replacement on nodes that are present: the specification excludes these nodes.
    pub unreplaced: Vec<AssignmentId>,
    /// Instances that already satisfy a newer revision.
    pub revised: Vec<AssignmentId>,
    /// Lost instances that are replaced.
    pub healed: Vec<AssignmentId>,
    /// Lost instances that are not replaced automatically, with the reasons for their loss.
    pub held_back: Vec<(AssignmentId, Why)>,
    /// Preempted instances of other workloads.
    pub preempted: Vec<AssignmentId>,
    /// Slots for which room is being made.
    pub roomed: Vec<u32>,
    /// Instances of other workloads whose preemption requires approval, with reasons.
    pub would_preempt: Vec<(AssignmentId, Why)>,
    /// Room being made on nodes.
    pub claims: Vec<Claim>,
    /// Slots without an instance, and the reasons.
    pub waiting: Vec<Waiting>,
    /// Number of instances to be moved later because of the limit on parallel moves.
    pub later: u32,
    /// For a daemon: number of nodes that should have an instance and have none yet.
    pub absent: u32,
    /// Reason why no node takes an instance of the current revision, if so.
    pub unplaced: Option<String>,
    /// Whether all instances are healthy and run the current revision.
    pub settled: bool,
    /// Reason why the update has failed, if so.
    pub failed: Option<String>,
    /// Time of the next evaluation if nothing changes before.
    pub wake: Option<Time>,
    /// Nodes considered and rejected, with reasons.
    pub considered: Vec<(String, String)>,
}

impl Plan {
    /// Whether the plan contains no action.
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
    /// Adds a slot that waits after `failures` consecutive failures; with `given_up` it is not retried.
    fn wait_after(&mut self, failures: u32, given_up: bool, reason: String) {
        self.wait(1, reason.clone());
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.reason == reason) {
            (waiting.failures, waiting.given_up) = (failures, given_up);
        }
    }
}

/// Display name of an instance.
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

/// Back-off of a slot after this many consecutive failures.
pub fn backoff(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        _ => doubled(BACKOFF, failures - 1, BACKOFF_MAX),
    }
}

/// Plans the next actions for `declared` and reserves the resources of its starts in `fleet`.
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

/// Nodes that take an instance of a revision in addition to the running ones (up to two), and why all others do not.
#[derive(Debug)]
struct Full {
    takes: Vec<NodeIndex>,
    why: String,
}

#[derive(Default)]
struct Ended<'a> {
    /// Whether the slot of a batch is completed.
    done: bool,
    /// The newest instance, if it failed.
    failed: Option<&'a Held>,
    /// Number of consecutive failures before the newest instance, if its host ended that one.
    before: u32,
}

struct Planner<'a> {
    input: &'a Input<'a>,
    /// Remaining budgets.
    may: Allowance<'a>,
    declared: &'a Declared,
    spec: &'a Arc<Spec>,
    standing: Standing,
    /// Wanted instances, by slot.
    slots: BTreeMap<u32, Vec<&'a Held>>,
    /// Results of ended instances, by slot.
    ended: BTreeMap<u32, Ended<'a>>,
    /// For slots whose last instance is gone: that instance and the reason for its replacement.
    gone: BTreeMap<u32, (AssignmentId, Why)>,
    /// Instances to be replaced because their nodes were given up, by slot, with reasons.
    lost: BTreeMap<u32, Vec<(&'a Held, Why)>>,
    /// By revision: set once an instance of it found no node beside the running ones.
    full: BTreeMap<Revision, Full>,
    /// Instances that were told to stop and have not ended, by slot.
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
        // Instances that ended before the current run of a batch are ignored.
        let is_of_run = |held: &&Held| held.is_there() || record.is_of_run(held.record.id);
        for held in self.instances().filter(is_of_run) {
            let slot = match self.spec.replicas() {
                Some(_) => held.record.slot,
                // The node's index, which may have changed since this coordinator started.
                None => held.index.0,
            };
            if held.is_wanted() {
                self.slots.entry(slot).or_default().push(held);
            } else if held.is_there() {
                *self.standing.leaving.entry(held.index).or_default() += 1;
                self.stopped.insert(slot, held);
            } else if !self.is_outdated(held) {
                // The end was a failure only if the instance was not meant to stop.
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

    /// Whether an instance was ended by its host, which is not a failure of its program.
    fn is_rerun(&self, held: &Held) -> bool {
        held.status.interrupted && !held.status.unknown && self.spec.reruns_what_was_cut_off()
    }

    /// Whether a restart was requested after the instance had failed. Completed parts of a batch stay completed.
    fn is_to_run_again(&self, held: &Held) -> bool {
        let asked = self.declared.record.restarted;
        asked.is_some_and(|(_, before)| held.record.id < before)
    }

    /// Charges the replacement of a lost instance to the budget; returns whether it is allowed.
    fn may_heal(&mut self, id: AssignmentId) -> bool {
        if self.may.approved.contains_key(&id) {
            return true;
        }
        let left = self.may.heals.checked_sub(1);
        self.may.heals = left.unwrap_or_default();
        left.is_some()
    }

    /// Removes instances on given-up nodes from their slots once they may be replaced.
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
                    // A daemon's instance cannot be replaced elsewhere.
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

    /// Stops lost instances whose slots have replacements or are no longer wanted. Lost instances without a replacement
    /// are kept: their nodes may return with them running.
    fn give_up_lost(&mut self) {
        for (slot, lost) in std::mem::take(&mut self.lost) {
            let beyond = self.spec.replicas().is_some_and(|replicas| slot >= replicas);
            let held = self.slots.get(&slot).into_iter().flatten().copied();
            let has_other = held.filter(|other| other.status.phase == Phase::Running).count() > 0;
            // A daemon's slot is its node, which is gone.
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

    /// Stops instances of surplus slots, and daemon instances on nodes that are no longer intended.
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
