//! The numbers by which instances are called, as in `web.3`: no two that are there have the same, whatever their nodes' places are.

use std::collections::BTreeSet;

use super::Held;

/// Those of one workload's instances of which a process may be there.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    used: BTreeSet<u32>,
    /// All below this are in use.
    next: u32,
}

impl Numbers {
    /// Those that these instances have.
    pub(crate) fn of<'a>(instances: impl Iterator<Item = &'a Held>) -> Numbers {
        let there = instances.filter(|held| held.is_there());
        Numbers {
            used: there.map(|held| held.record.slot).collect(),
            next: 0,
        }
    }

    /// The number `wanted` if nobody has it, and the lowest that is free else; it is in use from then on.
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
