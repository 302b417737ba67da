//! What is true, known only to the simulator: small enough to be seen to be right.

use std::{collections::BTreeSet, time::Duration};

use crate::world::World;

/// A process that stands still for longer than this is as good as gone; one that goes on before must not be given up.
const TOLERATED: Duration = Duration::from_secs(1);

impl World<'_> {
    /// True when nobody could have work done there: no power, no process, one that stands still, or no way to it.
    pub(crate) fn is_gone(&self, node: usize) -> bool {
        let machine = &self.machines[node];
        let still = machine
            .still_since()
            .is_some_and(|since| self.now.since(since) > TOLERATED);
        !machine.powered || !machine.runs() || still || !self.is_reached(node)
    }

    /// True when there is a way from the coordinator to the node and back, over other nodes if need be.
    fn is_reached(&self, node: usize) -> bool {
        let hub = self.hub();
        let joined = |one: usize, other: usize| !self.net.is_cut(one, other) && !self.net.is_cut(other, one);
        let mut reached = BTreeSet::from([hub]);
        let mut edge = vec![hub];
        while let Some(from) = edge.pop() {
            if joined(from, node) {
                return true;
            }
            for next in 0..hub {
                let alive = self.machines[next].powered && self.machines[next].runs();
                if alive && !reached.contains(&next) && joined(from, next) {
                    reached.insert(next);
                    edge.push(next);
                }
            }
        }
        false
    }
}
