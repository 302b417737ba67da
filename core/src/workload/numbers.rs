//! Numbering of instances, as in `web.3`: no two present instances of a workload share a number, whatever the indexes
//! of their nodes.

use std::collections::BTreeSet;

use super::Held;

/// Slot numbers of one workload's instances that may have a process.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    used: BTreeSet<u32>,
    /// All numbers below this one are in use.
    next: u32,
}

impl Numbers {
    /// Collects the numbers of the given instances.
    pub(crate) fn of<'a>(instances: impl Iterator<Item = &'a Held>) -> Numbers {
        let there = instances.filter(|held| held.is_there());
        Numbers {
            used: there.map(|held| held.record.slot).collect(),
            next: 0,
        }
    }

    /// Takes `wanted` if it is free, otherwise the lowest free number.
    pub(crate) fn take(&mut self, wanted: Option<u32>) -> u32 {
        if let Some(wanted) = wanted.filter(|wanted| !self.used.contains(wanted)) {
            self.used.insert(wanted);
            return wanted;
        }
        while self.used.contains(&self.next) {
            self.next += 1;
        }
        self.used.insert(self.next);
        self.next
    }
}
