//! Evaluation of an update: settled, failed, or waiting for its canaries.

use std::sync::Arc;

use super::{LOOK_AGAIN, Place, Planner};
use crate::{
    id::Revision,
    text::{Span, count},
    time::Time,
    workload::{Goal, Held, Phase, Spec},
};

/// Total restarts of instances of a new revision after which the update fails; for large workloads a quarter of the
/// instances if that is more.
const RESTARTS: u32 = 3;

impl Planner<'_> {
    /// The stable specification, if the current one differs from it in more than the replica count; restoring the
    /// stable one is no update.
    ///
    /// A batch has no updates: its parts are independent, and failures are retried according to `retries`.
    fn tested(&self) -> Option<&Arc<Spec>> {
        if self.spec.kind.is_batch() {
            return None;
        }
        let stable = self.declared.record.revisions.get(&self.declared.record.stable)?;
        (!self.spec.equals_but_for_count(stable)).then_some(stable)
    }

    /// Whether the current revision runs something not known to be healthy.
    fn is_tried(&self) -> bool {
        self.tested().is_some_and(|stable| !self.spec.runs_like(stable))
    }

    /// Whether an instance's node was given up; its state does not reflect on its specification then.
    pub(super) fn is_lost(&self, held: &Held) -> bool {
        matches!(self.place(held), Place::Lost { .. })
    }

    /// Instances of the current revision that are meant to run, on nodes that are present.
    fn newest(&self) -> impl Iterator<Item = &Held> {
        let revision = self.declared.record.revision;
        self.instances().filter(move |held| {
            held.record.revision == revision && held.record.goal == Goal::Run && !self.is_lost(held)
        })
    }

    /// Reason why the current update has failed, if so.
    pub(super) fn update_failure(&self) -> Option<String> {
        self.tested()?;
        let trouble = self.is_tried().then(|| self.trouble()).flatten();
        trouble.or_else(|| {
            let (_, since, reason) = self.unplaced()?;
            let deadline = self.spec.update.deadline;
            let over = self.input.now.since(*since) >= deadline;
            over.then(|| format!("none was placed within {}: {reason}", Span(deadline)))
        })
    }

    /// Time since which no node takes the current revision, and the reason.
    fn unplaced(&self) -> Option<&(Revision, Time, String)> {
        let unplaced = self.declared.unplaced.as_ref();
        unplaced.filter(|(revision, ..)| *revision == self.declared.record.revision)
    }

    /// Reason why the current revision is unhealthy, if so.
    fn trouble(&self) -> Option<String> {
        let (now, update) = (self.input.now, &self.spec.update);
        let patience = update.deadline + update.min_healthy;
        let (mut restarts, mut instances, mut last) = (0, 0, None);
        for held in self.newest() {
            let name = super::named(held);
            if !held.is_there() {
                if !held.status.complete && !held.status.interrupted {
                    return Some(format!("{name} failed: {}", held.status.detail));
                }
                continue;
            }
            instances += 1;
            let restarts_of_its_own = held.status.restarts.saturating_sub(held.status.started_alone);
            let ends = restarts_of_its_own.max(held.status.oom_kills);
            restarts += ends;
            if ends > 0 {
                last = Some((name.clone(), &held.status.detail));
            }
            if !self.has_settled(held) && now.since(held.unwell_since) >= patience {
                let ever = if held.was_healthy { "did not stay" } else { "was not" };
                return Some(format!("{name} {ever} healthy within {}", Span(patience)));
            }
        }
        let (name, detail) = last.filter(|_| restarts >= RESTARTS.max(instances / 4))?;
        Some(format!(
            "its instances ended {}, {name} last: {detail}",
            count(restarts, "time")
        ))
    }

    /// Number of further instances that may run the current revision; `None` for no limit. While it is not known to be
    /// healthy, the number is limited to those tried at once; it is 0 once the update has failed.
    pub(super) fn trials_left(&self) -> Option<u32> {
        if self.update_failure().is_some() {
            return Some(0);
        }
        let trials = match !self.is_tried() || self.is_proven() {
            true => None,
            false => {
                let unsettled = self.newest().filter(|held| held.is_there() && !self.has_settled(held));
                Some(self.spec.update.max_parallel.saturating_sub(unsettled.count() as u32))
            }
        };
        trials.into_iter().chain(self.canaries_left()).min()
    }

    /// Whether the current revision has instances and all of them have settled.
    fn is_proven(&self) -> bool {
        let mut there = self.newest().filter(|held| held.is_there()).peekable();
        there.peek().is_some() && there.all(|held| self.has_settled(held))
    }

    fn has_settled(&self, held: &Held) -> bool {
        held.has_settled(self.spec.update.min_healthy, self.input.now)
    }

    pub(super) fn judge_update(&mut self) {
        let record = &self.declared.record;
        if record.revision == record.stable {
            return;
        }
        self.plan.failed = self.update_failure();
        if self.plan.failed.is_some() {
            return;
        }
        let (deadline, min_healthy) = (self.spec.update.deadline, self.spec.update.min_healthy);
        if self.plan.unplaced.is_some() && self.tested().is_some() {
            let since = self.unplaced().map_or(self.input.now, |(_, since, _)| *since);
            self.plan.wake_at((since + deadline).max(self.input.now + LOOK_AGAIN));
        }
        let mut all = self.plan.starts.is_empty() && self.plan.waiting.is_empty() && self.plan.later == 0;
        let there = |held: &&Held| held.is_wanted() && !self.is_lost(held);
        let instances: Vec<&Held> = self.instances().filter(there).collect();
        for held in instances {
            let well = held.record.revision == record.revision || self.plan.revised.contains(&held.record.id);
            let settled = self.is_settled(held);
            all &= well && settled;
            if !settled && held.status.phase != Phase::Ended {
                let due = held.unwell_since + deadline + min_healthy;
                self.plan.wake_at(due.max(self.input.now + LOOK_AGAIN));
            }
        }
        self.plan.settled = all;
    }

    /// Number of further canaries that may run a revision pending approval; `None` if no approval is pending.
    pub(super) fn canaries_left(&self) -> Option<u32> {
        let record = &self.declared.record;
        let canaries = self.spec.update.canary;
        if canaries == 0
            || record.stable == Revision(0)
            || record.revision == record.stable
            || record.promoted == record.revision
        {
            return None;
        }
        let now = self
            .instances()
            .filter(|held| held.is_wanted() && held.record.revision == record.revision && !self.is_outdated(held));
        Some(canaries.saturating_sub(now.count() as u32))
    }
}
