//! Selection of instances that have to leave their nodes: the node is being drained or the revision is outdated.
//! `moves.rs` moves them, a few at a time.

use std::{collections::BTreeMap, sync::Arc};

use super::{Full, Place, Planner, Start};
use crate::{
    autonomy::Why,
    id::Revision,
    node::{Admission, Eligibility, Liveness},
    placement::{Fleet, Node, Unfit},
    workload::{Held, Spec},
};

impl<'a> Planner<'a> {
    /// Reason why an instance has to leave, if any.
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

    /// Whether an instance has been healthy for long enough.
    pub(super) fn is_settled(&mut self, held: &Held) -> bool {
        let Some(since) = held.healthy_since else { return false };
        let due = since + self.spec.update.min_healthy;
        if due > self.input.now {
            self.plan.wake_at(due);
        }
        held.has_settled(self.spec.update.min_healthy, self.input.now)
    }

    /// Marks a slot as empty; its previous instance may not have ended yet.
    pub(super) fn leave_empty(&mut self, slot: u32, held: &'a Held, why: Why) {
        self.gone.insert(slot, (held.record.id, why));
        self.stopped.insert(slot, held);
        self.slots.remove(&slot);
    }

    /// Whether a daemon's instance is on a node that currently takes no work, which does not reflect on the
    /// specification.
    pub(super) fn waits_for_its_node(&self, held: &Held, fleet: &Fleet) -> bool {
        let takes_work = |node: &Node| {
            (node.admission, node.liveness, node.eligibility)
                == (Admission::Admitted, Liveness::Online, Eligibility::Eligible)
        };
        self.spec.replicas().is_none() && !fleet.node(held.index).is_some_and(takes_work)
    }

    /// Whether the replacement of an instance fits once that is gone: `Ok(true)` in the room it frees on its own node,
    /// which counts unless it leaves the node; `Ok(false)` elsewhere; or the reason why no node takes it. Room of other
    /// instances does not count.
    pub(super) fn successor_fits(
        &mut self,
        held: &Held,
        leaves: bool,
        by: &(Revision, Arc<Spec>),
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

    /// Reason why an instance's own node would not take its replacement, if any.
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

    /// Nodes that currently take an instance, and the reasons against all others.
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

    /// Stops instances whose drain deadline has passed without waiting for their replacements.
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

    /// Starts the replacement of an instance while that still runs, if there is room.
    pub(super) fn start_beside(
        &mut self,
        slot: u32,
        held: &Held,
        why: &Why,
        by: &(Revision, Arc<Spec>),
        fleet: &mut Fleet,
    ) -> bool {
        if self.full.get(&by.0).is_some_and(|full| full.takes.is_empty()) {
            return false;
        }
        // An instance that leaves because of its node is not placed there again.
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

pub(super) fn is_contained(held: &Held, fleet: &Fleet) -> bool {
    fleet.nodes().get(held.index.get()).is_none_or(Node::contains)
}
