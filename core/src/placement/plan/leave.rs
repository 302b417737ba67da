//! Instances that leave their places, a few at a time: their nodes are to be emptied, or their declaration is old.

use super::{Planner, Presence, Start};
use crate::{
    placement::{Fleet, Node},
    workload::{Goal, Held},
};

impl Planner<'_> {
    /// Why an instance has to leave its place.
    pub(super) fn leaves(&self, held: &Held, fleet: &Fleet) -> Option<String> {
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

    pub(super) fn is_outdated(&self, held: &Held) -> bool {
        let record = &self.declared.record;
        held.record.revision != record.revision
            && record
                .revisions
                .get(&held.record.revision)
                .is_none_or(|old| !old.runs_like(self.spec))
    }

    /// True when it has been well for long enough.
    pub(super) fn is_settled(&mut self, held: &Held) -> bool {
        let Some(since) = held.healthy_since else { return false };
        let due = since + self.spec.update.min_healthy;
        if due > self.world.now {
            self.plan.wake_at(due);
        }
        due <= self.world.now
    }

    /// Instances that leave their places, a few at a time.
    pub(super) fn move_on(&mut self, fleet: &mut Fleet) {
        let now = self.world.now;
        let batch = self.spec.kind.is_batch();
        let first = self.spec.singleton || self.spec.replicas().is_none();
        let (mut unsettled, mut empty, mut candidates) = (0u32, 0u32, Vec::new());
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
            let wants = |slot: &u32| !self.slots.contains_key(slot) && !self.is_done(*slot);
            empty += (0..replicas).filter(wants).count() as u32;
        }
        if self.spec.replicas().is_none() {
            let going = self
                .instances()
                .filter(|held| held.is_there() && held.record.goal == Goal::Stop);
            empty += going.count() as u32;
        }
        unsettled += empty;
        let stuck = self.update_failure().is_some();
        let canaries = self.canaries_left();
        // Those that are not well anyway go first.
        candidates.sort_by_key(|(well, slot, ..)| (*well, *slot));
        let mut budget = self.spec.update.max_parallel.saturating_sub(unsettled);
        // Slots that are empty are filled with canaries first.
        let mut canaries = canaries.map(|canaries| canaries.saturating_sub(empty));
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
            // Without room beside it, it goes first; from a node that does not take it back only when another one will take it.
            let leaves = matches!(self.presence(held), Presence::Leaves(_)) || !held.record.leaving.is_empty();
            // A singleton that runs where none is placed any more has no way back.
            let leaves = leaves || self.spec.singleton && !is_contained(held, fleet);
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
    pub(super) fn overdue(&mut self, leaving: &[(&Held, String)]) {
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

    pub(super) fn has_room(&self, fleet: &Fleet) -> bool {
        let mut nodes = fleet.nodes().iter();
        nodes.any(|node| fleet.unfit(self.spec, &self.standing, node).is_none())
    }

    pub(super) fn start_beside(&mut self, slot: u32, held: &Held, reason: &str, fleet: &mut Fleet) -> bool {
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
            reason: format!("{} is to leave: {reason}", super::named(held)),
            replaces: Some(held.record.id),
            attempt: self.failures(slot).0,
            revision: self.declared.record.revision,
        });
        true
    }
}

fn is_contained(held: &Held, fleet: &Fleet) -> bool {
    fleet.nodes().get(held.index.get()).is_none_or(Node::contains)
}
