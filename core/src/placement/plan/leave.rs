//! Instances that leave their places, a few at a time: their nodes are to be emptied, or their declaration is old.

use std::{collections::BTreeMap, sync::Arc};

use super::{Full, Place, Planner, Start};
use crate::{
    autonomy::Why,
    node::{Admission, Eligibility, Liveness},
    placement::{Fleet, Node, Unfit},
    workload::{Goal, Held, Spec},
};

impl<'a> Planner<'a> {
    /// Why an instance has to leave its place.
    pub(super) fn leaves(&self, held: &Held, fleet: &Fleet) -> Option<Why> {
        let record = &self.declared.record;
        if matches!(self.place(held), Place::Leaves(_)) {
            return Some(Why::NodeEmptied);
        }
        if self.is_outdated(held) {
            let (to, from) = (record.revision, held.record.revision);
            return Some(Why::Revised { to, from });
        }
        if record.restarted.is_some_and(|(_, before)| held.record.id < before) {
            return Some(Why::Restarted);
        }
        if !held.record.leaving.is_empty() {
            return Some(Why::Leaves {
                reason: held.record.leaving.clone(),
                because: held.record.leaving_because,
            });
        }
        match self.is_meant_for(held, fleet) {
            true => None,
            false => Some(Why::Unfit),
        }
    }

    pub(super) fn is_outdated(&self, held: &Held) -> bool {
        self.declared.record.is_outdated(held.record.revision)
    }

    /// True when it has been well for long enough.
    pub(super) fn is_settled(&mut self, held: &Held) -> bool {
        let Some(since) = held.healthy_since else { return false };
        let due = since + self.spec.update.min_healthy;
        if due > self.input.now {
            self.plan.wake_at(due);
        }
        held.has_settled(self.spec.update.min_healthy, self.input.now)
    }

    /// Instances that leave their places, a few at a time.
    pub(super) fn move_on(&mut self, fleet: &mut Fleet) {
        let now = self.input.now;
        let batch = self.spec.kind.is_batch();
        let first = self.spec.stops_first() || self.spec.replicas().is_none();
        let (mut unsettled, mut empty, mut candidates) = (0u32, 0u32, Vec::new());
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
            // Of several that may stay, the newest that is well does: whoever looks for it finds that one. Until one is, all do.
            let settled = staying.iter().copied().filter(|held| self.is_settled(held)).last();
            if let Some(keeper) = settled.or(staying.last().copied()) {
                for held in staying.iter().filter(|held| held.record.id != keeper.record.id) {
                    if settled.is_some() {
                        self.stop(held, Why::SlotTaken);
                    }
                }
                if settled.is_some() {
                    for (held, why) in leaving {
                        self.stop(held, why);
                    }
                } else {
                    unsettled += 1;
                    self.overdue(&leaving);
                }
                continue;
            }
            let Some((held, why)) = leaving.into_iter().next_back() else {
                continue;
            };
            candidates.push((held.healthy_since.is_some(), slot, held, why));
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
        let trials = self.trials_left();
        // Those that are not well anyway go first.
        candidates.sort_by_key(|(well, slot, ..)| (*well, *slot));
        let mut budget = match batch {
            // Nobody waits for a part of it to be well.
            true => u32::MAX,
            false => self.spec.update.max_parallel.saturating_sub(unsettled),
        };
        // Slots that are empty are filled with what is tried first.
        let mut trials = trials.map(|trials| trials.saturating_sub(empty));
        for (_, slot, held, why) in candidates {
            let deadline = match self.place(held) {
                Place::Leaves(deadline) => deadline,
                _ => None,
            };
            if let Some(deadline) = deadline {
                if deadline <= now {
                    self.stop(held, Why::Overdue(Box::new(why.clone())));
                    self.leave_empty(slot, held, why);
                    continue;
                }
                self.plan.wake_at(deadline);
            }
            let leaves_node = matches!(self.place(held), Place::Leaves(_)) || !held.record.leaving.is_empty();
            // While it is not known whether the present declaration is well, nothing is moved onto it but what is tried.
            let update = self.is_outdated(held) && !(leaves_node && trials.is_some());
            if budget == 0 || update && trials == Some(0) {
                self.plan.later += 1;
                continue;
            }
            let by = match update || !self.is_outdated(held) {
                true => (self.declared.record.revision, Arc::clone(self.spec)),
                false => match self.declared.record.revisions.get(&held.record.revision) {
                    Some(own) => (held.record.revision, Arc::clone(own)),
                    None => (self.declared.record.revision, Arc::clone(self.spec)),
                },
            };
            if let Some(until) = self.declared.not_before.get(&slot).filter(|until| **until > now) {
                // Its successor failed, and is tried again later.
                self.plan.wake_at(*until);
                self.plan.later += 1;
                continue;
            }
            if !first && !batch && self.start_beside(slot, held, &why, &by, fleet) {
                budget -= 1;
                trials = trials.map(|left| left - u32::from(update));
                continue;
            }
            // Without room beside it, it goes first; and only when a node will take its successor.
            // A singleton that runs where none is placed any more has no way back.
            let leaves = leaves_node || self.spec.singleton && !is_contained(held, fleet);
            let emptying = leaves && self.spec.replicas().is_some();
            if emptying && batch {
                self.plan.later += 1;
                self.plan.wait(
                    1,
                    format!("{why}: a part of a batch stays until it is done, or the time for that is over"),
                );
                continue;
            }
            if emptying && !self.spec.stops_first() {
                self.plan.later += 1;
                self.plan.wait(1, format!("no other node takes it: {why}"));
                continue;
            }
            let own_room = match self.successor_fits(held, emptying, &by, fleet) {
                Ok(own_room) => own_room,
                Err(unfit) => {
                    self.plan.later += 1;
                    self.plan
                        .wait(1, format!("what runs stays until a node takes its successor: {unfit}"));
                    if !leaves_node && !self.waits_for_its_node(held, fleet) {
                        self.plan.unplaced = Some(unfit);
                    }
                    continue;
                }
            };
            // Room elsewhere is promised only when it is taken: no second one counts on it.
            budget = if own_room { budget - 1 } else { 0 };
            trials = trials.map(|left| left - u32::from(update));
            self.stop(held, why.clone());
            self.leave_empty(slot, held, why);
        }
    }

    /// A slot waits for another instance from now on; the one that it had may not have ended yet.
    fn leave_empty(&mut self, slot: u32, held: &'a Held, why: Why) {
        self.gone.insert(slot, (held.record.id, why));
        self.stopped.insert(slot, held);
        self.slots.remove(&slot);
    }

    /// A daemon's instance on a node that takes no work now: that says nothing of the declaration.
    fn waits_for_its_node(&self, held: &Held, fleet: &Fleet) -> bool {
        let takes_work = |node: &Node| {
            (node.admission, node.liveness, node.eligibility)
                == (Admission::Admitted, Liveness::Online, Eligibility::Eligible)
        };
        self.spec.replicas().is_none() && !fleet.node(held.index).is_some_and(takes_work)
    }

    /// Whether the successor of an instance has a place once that is gone, and whether that is its own room, which counts unless it leaves its
    /// node; or why no node takes it. Nobody else's room counts.
    fn successor_fits(
        &mut self,
        held: &Held,
        leaves: bool,
        by: &(u64, Arc<Spec>),
        fleet: &mut Fleet,
    ) -> Result<bool, String> {
        let (revision, spec) = by;
        let own = self.own_room(held, spec, fleet);
        if !leaves && own.is_none() {
            return Ok(true);
        }
        if spec.replicas().is_none() {
            return Err(own.map_or_else(String::new, |why| format!("its node does not: {why}")));
        }
        if !self.full.contains_key(revision) {
            let full = self.who_takes(spec, fleet);
            self.full.insert(*revision, full);
        }
        match self.full.get(revision) {
            Some(full) if full.takes.iter().all(|node| *node == held.index) => Err(full.why.clone()),
            _ => Ok(false),
        }
    }

    /// Why an instance's own node would not take its successor once it is gone.
    fn own_room(&mut self, held: &Held, spec: &Spec, fleet: &mut Fleet) -> Option<Unfit> {
        let there = self.standing.instances.get(&held.index).copied().unwrap_or(0);
        self.standing.instances.insert(held.index, there.saturating_sub(1));
        let ports: Vec<_> = held.ports.iter().copied().chain(held.handed_out()).collect();
        fleet.release(held.index, held.resources, &ports);
        let node = fleet.node(held.index);
        let unfit = node.map_or(Some(Unfit::Admission), |node| fleet.unfit(spec, &self.standing, node));
        fleet.keep(held.index, held.resources, &ports);
        self.standing.instances.insert(held.index, there);
        unfit
    }

    /// Which nodes take an instance as they are now, and why all others do not.
    fn who_takes(&self, spec: &Spec, fleet: &Fleet) -> Full {
        let (mut takes, mut unfit) = (Vec::new(), BTreeMap::new());
        for node in fleet.nodes() {
            match fleet.unfit(spec, &self.standing, node) {
                None if takes.len() < 2 => takes.push(node.index),
                None => {}
                Some(why) => *unfit.entry(why.kind()).or_default() += 1,
            }
        }
        let why = super::fill::why_not(&unfit);
        Full { takes, why }
    }

    /// Whoever leaves a node whose time is over does not wait for its successor.
    pub(super) fn overdue(&mut self, leaving: &[(&Held, Why)]) {
        for (held, why) in leaving {
            if let Place::Leaves(Some(deadline)) = self.place(held) {
                if deadline <= self.input.now {
                    self.stop(held, Why::Overdue(Box::new(why.clone())));
                } else {
                    self.plan.wake_at(deadline);
                }
            }
        }
    }

    /// Starts the successor of an instance where there is room while that still runs.
    fn start_beside(&mut self, slot: u32, held: &Held, why: &Why, by: &(u64, Arc<Spec>), fleet: &mut Fleet) -> bool {
        if self.full.get(&by.0).is_some_and(|full| full.takes.is_empty()) {
            return false;
        }
        // What leaves because of its node does not go back to it.
        let off = (!held.record.leaving.is_empty()).then_some(held.index);
        let outcome = fleet.place_off(&by.1, &mut self.standing, off);
        let Some(placed) = outcome.placed.first() else {
            return false;
        };
        self.plan.starts.push(Start {
            slot,
            node: placed.node,
            score: placed.score,
            why: Why::Succeeds {
                of: held.instance(),
                why: Box::new(why.clone()),
            },
            replaces: Some(held.record.id),
            attempt: self.failures(slot).0,
            revision: by.0,
        });
        true
    }
}

fn is_contained(held: &Held, fleet: &Fleet) -> bool {
    fleet.nodes().get(held.index.get()).is_none_or(Node::contains)
}
