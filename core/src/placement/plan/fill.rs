//! Filling of slots that have no instance, or reporting what they wait for.

use std::{collections::BTreeMap, sync::Arc};

use super::{Place, Planner, Start, times};
use crate::{
    autonomy::Why,
    id::{NodeId, Revision},
    placement::{Fleet, Outcome, fit::nodes_that},
    workload::{Held, Kind, Numbers, Spec},
};

/// Maximum number of unsuitable nodes listed individually.
const REJECTIONS: usize = 16;

impl<'a> Planner<'a> {
    /// Whether a slot of a batch is completed.
    pub(super) fn is_done(&self, slot: u32) -> bool {
        self.ended.get(&slot).is_some_and(|ended| ended.done)
    }

    /// Number of consecutive failures of a slot, and the instance that failed last.
    pub(super) fn failures(&self, slot: u32) -> (u32, Option<&'a Held>) {
        let Some(ended) = self.ended.get(&slot) else {
            return (0, None);
        };
        (
            ended.failed.map_or(ended.before, |held| held.record.attempt + 1),
            ended.failed,
        )
    }

    /// Number of further parts of a batch that may run; `None` for no limit.
    fn turns(&self) -> Option<u32> {
        let there = self.slots.len() + self.stopped.values().filter(|held| !self.is_lost(held)).count();
        (self.spec.parallelism > 0).then(|| self.spec.parallelism.saturating_sub(there as u32))
    }

    /// Fills slots that have no instance.
    pub(super) fn fill(&mut self, fleet: &mut Fleet) {
        let now = self.input.now;
        if self.spec.replicas().is_none() {
            self.fill_daemon(fleet);
            return;
        }
        let replicas = self.spec.replicas().unwrap_or_default();
        let mut turns = self.turns();
        let mut empty = Vec::new();
        for slot in (0..replicas).filter(|slot| !self.slots.contains_key(slot)) {
            if self.is_done(slot) {
                continue;
            }
            let (failures, failed) = self.failures(slot);
            if self.spec.stops_first()
                && let Some(before) = self.stopped.get(&slot).filter(|held| !self.is_lost(held))
            {
                let why = "has not ended yet, and ends before another one starts (update.order)";
                self.plan.wait(1, format!("{} {why}", super::named(before)));
                continue;
            }
            if self.spec.kind.is_batch()
                && let Some(held) = failed.filter(|held| held.status.unknown)
            {
                self.plan.wait(1, outcome_unknown(held));
                continue;
            }
            if let Kind::Batch { retries, .. } = self.spec.kind
                && failures > retries
            {
                let detail = failed.map(|held| held.status.detail.clone()).unwrap_or_default();
                let reason = format!("failed {}, and is not tried again: {detail}", times(failures));
                self.plan.wait_after(failures, true, reason);
                continue;
            }
            if turns == Some(0) {
                self.plan.wait(
                    1,
                    format!(
                        "waits for its turn: {} run at once (parallelism)",
                        self.spec.parallelism
                    ),
                );
                continue;
            }
            if let Some(until) = self.declared.not_before.get(&slot).filter(|until| **until > now) {
                self.plan.wake_at(*until);
                let reason = tried_again(failures, failed);
                self.plan.wait_after(failures, false, reason);
                continue;
            }
            turns = turns.map(|left| left - 1);
            empty.push((slot, failures, failed));
        }
        if empty.is_empty() || self.spec.singleton && self.waits_for_the_one_before() {
            return;
        }
        let mut empty = empty.into_iter();
        for (revision, spec, count) in self.revisions_for(empty.len() as u32) {
            let outcome = fleet.place(spec, &mut self.standing, count);
            let slots: Vec<_> = empty.by_ref().take(count as usize).collect();
            let unplaced: Vec<u32> = slots
                .iter()
                .skip(outcome.placed.len())
                .map(|(slot, ..)| *slot)
                .collect();
            let these: Vec<u32> = slots.iter().map(|(slot, ..)| *slot).collect();
            for ((slot, attempt, failed), placed) in slots.into_iter().zip(&outcome.placed) {
                let (replaces, why) = match self.gone.remove(&slot) {
                    Some((id, why)) => (Some(id), why),
                    None => match (failed, self.stopped.get(&slot)) {
                        (Some(held), _) => (Some(held.record.id), Why::Failed(held.status.detail.clone())),
                        (None, Some(held)) => (None, Why::StoppedBefore(held.record.stop_reason.clone())),
                        (None, None) => (None, Why::Declared),
                    },
                };
                self.plan.starts.push(Start {
                    slot,
                    node: placed.node,
                    score: placed.score,
                    why,
                    replaces,
                    attempt,
                    revision,
                });
            }
            let mut pending = outcome.pending;
            if pending > 0 {
                let rooms = self.make_room(spec, pending, fleet);
                if rooms > 0 {
                    pending -= rooms;
                    self.plan.roomed.extend(unplaced.into_iter().take(rooms as usize));
                    self.plan.wait(rooms, "room is being made for it");
                }
            }
            if pending > 0 {
                let (reason, nodes) = (why_not(&outcome.unfit), self.rejections(spec, fleet));
                if revision == self.declared.record.revision {
                    self.plan.unplaced = Some(reason.clone());
                }
                self.plan.wait(pending, reason.as_str());
                let waiting = self.plan.waiting.iter_mut().find(|waiting| waiting.reason == reason);
                waiting.into_iter().for_each(|waiting| waiting.nodes.clone_from(&nodes));
            }
            if !outcome.placed.is_empty() {
                self.consider(&these, &outcome, fleet);
            }
        }
    }

    /// Revisions for `count` empty slots: the new revision up to the number of trials left, the stable revision for the
    /// rest.
    fn revisions_for(&self, count: u32) -> Vec<(Revision, &'a Arc<Spec>, u32)> {
        let record = &self.declared.record;
        let newest = self.trials_left().map_or(count, |left| {
            let starts = self.plan.starts.iter();
            left.saturating_sub(starts.filter(|start| start.revision == record.revision).count() as u32)
        });
        let newest = newest.min(count);
        match record.revisions.get(&record.stable) {
            Some(stable) if newest < count => vec![
                (record.revision, self.spec, newest),
                (record.stable, stable, count - newest),
            ],
            _ => vec![(record.revision, self.spec, count)],
        }
    }

    /// Fills every suitable node with one instance of a daemon. Slots are keyed by node index here; instances have
    /// numbers of their own.
    pub(super) fn fill_daemon(&mut self, fleet: &mut Fleet) {
        let now = self.input.now;
        let ending = self.stopped.iter().filter(|(slot, held)| {
            !self.slots.contains_key(slot) && !self.is_lost(held) && self.is_meant_for(held, fleet)
        });
        let ending: Vec<String> = ending.map(|(_, held)| super::named(held)).collect();
        for name in ending {
            self.plan.absent += 1;
            self.plan
                .wait(1, format!("{name} has not ended yet, and another one follows it"));
        }
        let nodes = fleet.nodes().len() as u32;
        let mut numbers = Numbers::of(self.instances());
        // A replacement on the same node takes over its predecessor's number.
        let before: BTreeMap<_, u32> = self.instances().map(|held| (held.index, held.record.slot)).collect();
        for (revision, spec, count) in self.revisions_for(nodes) {
            let mut outcome = fleet.place(spec, &mut self.standing, count);
            outcome.placed.sort_by_key(|placed| placed.node);
            for placed in outcome.placed {
                let slot = placed.node.0;
                let (attempt, failed) = self.failures(slot);
                if let Some(until) = self.declared.not_before.get(&slot).filter(|until| **until > now) {
                    self.plan.wake_at(*until);
                    self.plan.absent += 1;
                    self.plan.wait(1, tried_again(attempt, failed));
                    let ports: Vec<_> = spec.fixed_ports.values().copied().collect();
                    fleet.release(placed.node, spec.resources, &ports);
                    continue;
                }
                self.plan.starts.push(Start {
                    slot: numbers.take(before.get(&placed.node).copied()),
                    node: placed.node,
                    score: placed.score,
                    why: Why::DeclaredForNode,
                    replaces: failed.map(|held| held.record.id),
                    attempt,
                    revision,
                });
            }
        }
    }

    /// Checks whether a singleton must wait because a process of its predecessor may still exist.
    pub(super) fn waits_for_the_one_before(&mut self) -> bool {
        let now = self.input.now;
        let before: Vec<&Held> = self.instances().filter(|held| held.is_there()).collect();
        let mut waits = false;
        if let Some((id, until)) = self.declared.may_still_run(now) {
            self.plan.wake_at(until);
            let why = "was lost by its node, and may run until its lease is over: there must never be two";
            self.plan.wait(1, format!("{id} {why}"));
            waits = true;
        }
        for held in before {
            match self.place(held) {
                // An instance started before the workload was a singleton is not ended by a lease.
                Place::Lost { lease, .. } if lease <= now && self.runs_by_lease(held) => {}
                Place::Lost { .. } if !self.runs_by_lease(held) => {
                    let why = "runs without a lease on a node that was given up: there must never be two";
                    self.plan.wait(1, format!("{} {why}", held.record.id));
                    waits = true;
                }
                Place::Lost { lease, .. } => {
                    self.plan.wake_at(lease);
                    self.plan.wait(
                        1,
                        format!(
                            "{} on a node that was given up may run until its lease is over",
                            super::named(held)
                        ),
                    );
                    waits = true;
                }
                _ => {
                    self.plan.wait(
                        1,
                        format!("{} has not ended yet, and there must never be two", super::named(held)),
                    );
                    waits = true;
                }
            }
        }
        waits
    }

    pub(super) fn runs_by_lease(&self, held: &Held) -> bool {
        let spec = self.declared.record.revisions.get(&held.record.revision);
        spec.is_some_and(|spec| spec.singleton)
    }

    /// Reasons why the first nodes do not take another instance.
    fn rejections(&self, spec: &Spec, fleet: &Fleet) -> Vec<(NodeId, String, String)> {
        let rejections = fleet.nodes().iter().filter_map(|node| {
            let unfit = fleet.unfit(spec, &self.standing, node)?;
            Some((node.id(), node.name().to_owned(), unfit.to_string()))
        });
        rejections.take(REJECTIONS).collect()
    }

    /// Records the alternatives for the instances of these slots: the next candidates, and the reasons against all
    /// others. A node selected for one of them is no alternative.
    fn consider(&mut self, slots: &[u32], outcome: &Outcome, fleet: &Fleet) {
        let name = &self.spec.name;
        let which = match slots {
            [] => return,
            [slot] => format!("{name}.{slot}"),
            [first, .., last] => format!("one of {name}.{first} to {name}.{last}"),
        };
        let taken = |node| outcome.placed.iter().any(|placed| placed.node == node);
        for placed in outcome.next.iter().filter(|next| !taken(next.node)) {
            if let Some(node) = fleet.node(placed.node) {
                let because = format!("scores {} with what is placed now", placed.score.total);
                let what = format!("place {which} on {}", node.name());
                self.plan.considered.push((what, because));
            }
        }
        if !outcome.unfit.is_empty() {
            let what = format!("place {which} on another node");
            self.plan.considered.push((what, why_not(&outcome.unfit)));
        }
    }
}

/// Explains why a part of a batch with an unknown result is not run again; `retries` cover only known failures.
fn outcome_unknown(held: &Held) -> String {
    let (name, detail) = (&held.record.workload, &held.status.detail);
    format!(
        "its outcome is not known, and it is not run again by itself; `wynectl restart {name}` runs it again: {detail}"
    )
}

/// Explains what a slot waits for after its last instance ended.
fn tried_again(failures: u32, failed: Option<&Held>) -> String {
    let detail = failed.map_or("", |held| held.status.detail.as_str());
    match failures {
        0 => "the one before ended, and another one is started in a moment".to_owned(),
        _ => format!(
            "failed {} in a row, and is tried again in a while: {detail}",
            times(failures)
        ),
    }
}

/// Counts the reasons why no node takes another instance.
pub(super) fn why_not(unfit: &BTreeMap<&str, u32>) -> String {
    if unfit.is_empty() {
        return "there are no nodes".to_owned();
    }
    let mut reasons: Vec<(&str, u32)> = unfit.iter().map(|(reason, count)| (*reason, *count)).collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let told: Vec<String> = reasons
        .iter()
        .map(|(reason, count)| nodes_that(*count, reason))
        .collect();
    format!("no node takes it: {}", told.join(", "))
}
