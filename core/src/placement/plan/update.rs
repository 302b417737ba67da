//! Whether an update is over, has failed, or waits for its canaries.

use super::{LOOK_AGAIN, Planner};
use crate::{
    text::{Span, count},
    workload::{Goal, Held, Phase},
};

/// Restarts of an instance of a new declaration that was never well, after which the update has failed.
const CRASHES: u32 = 3;

impl Planner<'_> {
    /// Why the update under way has failed, if it has.
    pub(super) fn update_failure(&self) -> Option<String> {
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
                    "{name} ended {} before it was ever well: {}",
                    count(held.status.restarts, "time"),
                    held.status.detail
                ));
            }
            let patience = self.spec.update.deadline;
            if held.is_there() && !held.was_healthy && now.since(held.known_since) >= patience {
                return Some(format!("{name} was not healthy within {}", Span(patience)));
            }
        }
        None
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
    pub(super) fn canaries_left(&self) -> Option<u32> {
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
