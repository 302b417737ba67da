//! Preemption: stops instances of lower priority if there is no other room.

use std::{cmp::Reverse, collections::BTreeSet};

use super::{Claim, LOOK_AGAIN, Planner};
use crate::{
    autonomy::Why,
    node::NodeIndex,
    placement::{Fleet, Node, Score, Unfit},
    workload::{AssignmentId, Goal, Held, Resources, Spec},
};

/// Minimum difference in priority for preemption.
const GAP: u8 = 10;

/// Maximum number of slots that one plan makes room for; the others follow once these are placed.
const ROOMS: u32 = 64;

/// Cost of making room on a node: the highest priority preempted, then the number of instances, then the score.
type Cost = (u8, usize, Reverse<Score>, NodeIndex);

impl<'a> Planner<'a> {
    /// Makes room for up to `count` slots that no node takes; returns the number of slots for which there is or will be
    /// room.
    pub(super) fn make_room(&mut self, spec: &Spec, count: u32, fleet: &mut Fleet) -> u32 {
        let Some(below) = spec.priority.checked_sub(GAP) else {
            return 0;
        };
        if self.input.table.least_priority().is_none_or(|least| least > below) {
            return 0;
        }
        if self.input.ambiguous {
            self.plan.wake_at(self.input.now + LOOK_AGAIN);
            return 0;
        }
        // Instances that this plan stops anyway free room as well.
        let mut going: BTreeSet<AssignmentId> = self.plan.stops.iter().map(|(id, _)| *id).collect();
        for made in 0..count.min(ROOMS) {
            let rooms = fleet
                .nodes()
                .iter()
                .filter_map(|node| self.room(spec, below, node, &going, fleet));
            let Some((_, node, victims)) = rooms.min_by_key(|(cost, ..)| *cost) else {
                return made;
            };
            let ids: Vec<_> = victims.iter().map(|held| held.record.id).collect();
            if ids.len() > self.may.evictions {
                for held in victims {
                    let why = self.gives_way(spec, held);
                    self.plan.would_preempt.push((held.record.id, why));
                }
                return made;
            }
            self.may.evictions -= ids.len();
            for held in victims {
                let why = self.gives_way(spec, held);
                self.stop(held, why);
                self.plan.preempted.push(held.record.id);
            }
            going.extend(ids);
            let claim = Claim {
                node,
                resources: spec.resources,
            };
            self.plan.claims.push(claim);
            fleet.claim(claim);
            *self.standing.instances.entry(node).or_default() += 1;
        }
        count.min(ROOMS)
    }

    fn gives_way(&self, spec: &Spec, held: &Held) -> Why {
        Why::GivesWay {
            to: spec.name.as_str().into(),
            priority: spec.priority,
            own: self.priority(held).unwrap_or_default(),
        }
    }

    /// Current priority of an instance's workload.
    fn priority(&self, held: &Held) -> Option<u8> {
        let declared = self.input.table.declared(&held.record.workload)?;
        Some(declared.record.spec()?.priority)
    }

    /// Instances to stop so that a node takes one more, and the cost.
    fn room(
        &self,
        spec: &Spec,
        below: u8,
        node: &Node,
        going: &BTreeSet<AssignmentId>,
        fleet: &Fleet,
    ) -> Option<(Cost, NodeIndex, Vec<&'a Held>)> {
        // The node must qualify in all other respects.
        match fleet.unfit(spec, &self.standing, node) {
            Some(Unfit::Cpu { .. } | Unfit::Memory { .. }) if node.capacity.has(spec.resources) => {}
            _ => return None,
        }
        let wanted = node.promised.plus(spec.resources);
        let mut room = node.capacity;
        let mut movable = Vec::new();
        for held in self.input.table.of_node(node.index) {
            let goes = held.record.goal == Goal::Stop || going.contains(&held.record.id);
            if goes {
                room = room.plus(held.resources);
            } else if held.record.orphan.is_some() {
                // An orphan must not be moved.
            } else if let Some(priority) = self.priority(held).filter(|priority| *priority <= below) {
                movable.push((priority, Reverse(held.record.id), held));
            }
        }
        movable.sort_by_key(|(priority, newest, _)| (*priority, *newest));
        let mut victims: Vec<(u8, &Held)> = Vec::new();
        for (priority, _, held) in movable {
            if room.has(wanted) {
                break;
            }
            room = room.plus(held.resources);
            victims.push((priority, held));
        }
        if !room.has(wanted) {
            return None;
        }
        // Instances made unnecessary by later ones are kept, highest priority first.
        for at in (0..victims.len()).rev() {
            let less = less(room, victims[at].1.resources);
            if let Some(less) = less.filter(|less| less.has(wanted)) {
                room = less;
                victims.remove(at);
            }
        }
        let highest = victims.iter().map(|(priority, _)| *priority).max().unwrap_or_default();
        let score = fleet.score(spec, &self.standing, node);
        let cost = (highest, victims.len(), Reverse(score), node.index);
        Some((cost, node.index, victims.into_iter().map(|(_, held)| held).collect()))
    }
}

/// Difference of resources; `None` if negative.
fn less(of: Resources, part: Resources) -> Option<Resources> {
    of.has(part).then(|| of.less(part))
}
