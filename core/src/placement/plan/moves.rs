//! Moves of instances, a few at a time.

use std::sync::Arc;

use super::{Place, Planner, leave::is_contained};
use crate::{
    autonomy::Why,
    id::Revision,
    placement::Fleet,
    workload::{Goal, Held, Spec},
};

/// An instance that is to leave, in a slot without another healthy instance.
struct Candidate<'a> {
    slot: u32,
    held: &'a Held,
    why: Why,
}

/// Remaining number of moves.
struct Budget {
    /// Moves at once.
    parallel: u32,
    /// Moves to a revision not known to be healthy; `None` for no limit.
    trials: Option<u32>,
}

impl Budget {
    fn allows(&self, update: bool) -> bool {
        self.parallel > 0 && !(update && self.trials == Some(0))
    }

    /// Charges a move; `own_room` states that the replacement uses room that no other move relies on.
    fn spend(&mut self, update: bool, own_room: bool) {
        // Room elsewhere is reserved only when it is used, so no second move may rely on it.
        self.parallel = if own_room { self.parallel - 1 } else { 0 };
        self.trials = self.trials.map(|left| left - u32::from(update));
    }
}

impl<'a> Planner<'a> {
    /// Moves instances within the limits.
    pub(super) fn move_on(&mut self, fleet: &mut Fleet) {
        let (unsettled, mut candidates) = self.candidates(fleet);
        let mut budget = self.budget(unsettled);
        // Unhealthy instances are moved first.
        candidates.sort_by_key(|one| (one.held.healthy_since.is_some(), one.slot));
        for candidate in candidates {
            self.move_one(candidate, &mut budget, fleet);
        }
    }

    /// Classifies all slots: returns the number of slots without a settled instance, and the instances to move from
    /// slots in which none stays.
    fn candidates(&mut self, fleet: &Fleet) -> (u32, Vec<Candidate<'a>>) {
        let (mut unsettled, mut candidates) = (0, Vec::new());
        let slots: Vec<(u32, Vec<&'a Held>)> = self.slots.iter().map(|(slot, held)| (*slot, held.clone())).collect();
        for (slot, instances) in slots {
            let leaving: Vec<(&'a Held, Why)> = instances
                .iter()
                .filter_map(|held| Some((*held, self.leaves(held, fleet)?)))
                .collect();
            for (held, _) in &leaving {
                *self.standing.leaving.entry(held.index).or_default() += 1;
            }
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
            if !staying.is_empty() {
                unsettled += u32::from(!self.keep_one(&staying, leaving));
            } else if let Some((held, why)) = leaving.into_iter().next_back() {
                candidates.push(Candidate { slot, held, why });
            }
        }
        (unsettled, candidates)
    }

    /// Keeps the newest settled instance of a slot and stops the others, since clients may already use it. Returns
    /// false, and keeps all of them, while none has settled.
    fn keep_one(&mut self, staying: &[&Held], leaving: Vec<(&Held, Why)>) -> bool {
        let settled = staying.iter().copied().filter(|held| self.is_settled(held)).last();
        let Some(keeper) = settled else {
            self.overdue(&leaving);
            return false;
        };
        for held in staying.iter().filter(|held| held.record.id != keeper.record.id) {
            self.stop(held, Why::SlotTaken);
        }
        for (held, why) in leaving {
            self.stop(held, why);
        }
        true
    }

    /// Number of empty slots; for a daemon, whose slots are nodes, the number of instances that are stopping.
    fn empty(&self) -> u32 {
        match self.spec.replicas() {
            Some(replicas) => {
                let wants = |slot: &u32| !self.slots.contains_key(slot) && !self.is_done(*slot);
                (0..replicas).filter(wants).count() as u32
            }
            None => {
                let going = |held: &&Held| held.is_there() && held.record.goal == Goal::Stop;
                self.instances().filter(going).count() as u32
            }
        }
    }

    fn budget(&self, unsettled: u32) -> Budget {
        let empty = self.empty();
        Budget {
            parallel: match self.spec.kind.is_batch() {
                // Parts of a batch are not awaited to become healthy.
                true => u32::MAX,
                false => self.spec.update.max_parallel.saturating_sub(unsettled + empty),
            },
            // Empty slots are filled with trials first.
            trials: self.trials_left().map(|trials| trials.saturating_sub(empty)),
        }
    }

    /// Moves an instance if the limits allow it.
    fn move_one(&mut self, candidate: Candidate<'a>, budget: &mut Budget, fleet: &mut Fleet) {
        let Candidate { slot, held, why } = candidate;
        if self.is_overdue(held) {
            self.stop(held, Why::Overdue(Box::new(why.clone())));
            self.leave_empty(slot, held, why);
            return;
        }
        let leaves_node = matches!(self.place(held), Place::Leaves(_)) || !held.record.leaving.is_empty();
        // While the current revision is not known to be healthy, only trials are moved to it.
        let update = self.is_outdated(held) && !(leaves_node && budget.trials.is_some());
        if !budget.allows(update) || self.failed_lately(slot) {
            self.plan.later += 1;
            return;
        }
        let by = self.successor(held, update);
        let (batch, daemon) = (self.spec.kind.is_batch(), self.spec.replicas().is_none());
        let stops_first = self.spec.stops_first() || daemon || batch;
        if !stops_first && self.start_beside(slot, held, &why, &by, fleet) {
            budget.spend(update, true);
            return;
        }
        // Without room beside it, an instance is stopped first, and only if a node will take its replacement. A
        // singleton on a node that no longer qualifies for singletons could not return there.
        let leaves = leaves_node || self.spec.singleton && !is_contained(held, fleet);
        let emptying = leaves && !daemon;
        if let Some(reason) = self.stays(&why).filter(|_| emptying) {
            self.plan.later += 1;
            self.plan.wait(1, reason);
            return;
        }
        match self.successor_fits(held, emptying, &by, fleet) {
            Ok(own_room) => {
                budget.spend(update, own_room);
                self.stop(held, why.clone());
                self.leave_empty(slot, held, why);
            }
            Err(unfit) => {
                self.plan.later += 1;
                self.plan
                    .wait(1, format!("what runs stays until a node takes its successor: {unfit}"));
                if !leaves_node && !self.waits_for_its_node(held, fleet) {
                    self.plan.unplaced = Some(unfit);
                }
            }
        }
    }

    /// Whether an instance's drain deadline has passed; schedules an evaluation for it otherwise.
    fn is_overdue(&mut self, held: &Held) -> bool {
        let Place::Leaves(Some(deadline)) = self.place(held) else {
            return false;
        };
        let over = deadline <= self.input.now;
        if !over {
            self.plan.wake_at(deadline);
        }
        over
    }

    /// Whether a failed replacement is still in back-off; schedules an evaluation for its end.
    fn failed_lately(&mut self, slot: u32) -> bool {
        let until = self.declared.not_before.get(&slot).copied();
        let until = until.filter(|until| *until > self.input.now);
        if let Some(until) = until {
            self.plan.wake_at(until);
        }
        until.is_some()
    }

    /// Revision of an instance's replacement: the same one unless it leaves because of an update.
    fn successor(&self, held: &Held, update: bool) -> (Revision, Arc<Spec>) {
        let record = &self.declared.record;
        let own = match update || !self.is_outdated(held) {
            true => None,
            false => record.revisions.get(&held.record.revision),
        };
        match own {
            Some(own) => (held.record.revision, Arc::clone(own)),
            None => (record.revision, Arc::clone(self.spec)),
        }
    }

    /// Reason why an instance does not leave a drained node before its replacement has another one, if any.
    fn stays(&self, why: &Why) -> Option<String> {
        if self.spec.kind.is_batch() {
            return Some(format!(
                "{why}: a part of a batch stays until it is done, or the time for that is over"
            ));
        }
        (!self.spec.stops_first()).then(|| format!("no other node takes it: {why}"))
    }
}
