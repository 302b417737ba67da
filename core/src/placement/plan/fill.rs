//! Slots without an instance get one, or say what they wait for.

use std::collections::BTreeMap;

use super::{Planner, Presence, Start, times};
use crate::{
    placement::Fleet,
    workload::{Held, Kind},
};

/// Nodes that were considered and not taken, which a plan names at most.
const RUNNERS_UP: usize = 3;

impl<'a> Planner<'a> {
    /// Whether a slot of a batch is done.
    pub(super) fn is_done(&self, slot: u32) -> bool {
        self.ended.get(&slot).is_some_and(|ended| ended.done)
    }

    /// Failures of a slot in a row, and the instance that failed last.
    pub(super) fn failures(&self, slot: u32) -> (u32, Option<&'a Held>) {
        let failed = self.ended.get(&slot).and_then(|ended| ended.failed);
        (failed.map_or(0, |held| held.record.attempt + 1), failed)
    }

    /// Slots without an instance get one.
    pub(super) fn fill(&mut self, fleet: &mut Fleet) {
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
    pub(super) fn fill_daemon(&mut self, fleet: &mut Fleet) {
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
    pub(super) fn waits_for_the_one_before(&mut self) -> bool {
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

    pub(super) fn runs_by_lease(&self, held: &Held) -> bool {
        let spec = self.declared.record.revisions.get(&held.record.revision);
        spec.is_some_and(|spec| spec.singleton)
    }

    /// Why no node takes another one, as counts.
    pub(super) fn why_not(&self, fleet: &Fleet) -> String {
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
    pub(super) fn consider(&mut self, fleet: &mut Fleet) {
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
}
