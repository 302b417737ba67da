//! Links that do badly, kept as reports come in, so that nobody has to look at all of them.

use std::collections::BTreeSet;

use super::{Link, LinkState};
use crate::id::NodeIndex;

/// Loss, in hundredths, that a count tells apart.
const SHARES: usize = 101;

/// The links that do badly, kept as reports come in: what is made of them costs nothing while all do well.
#[derive(Debug)]
pub(super) struct Bad {
    /// Those that were lossy when they last got anything through, as (observer, subject).
    pub(super) lossy: BTreeSet<(NodeIndex, NodeIndex)>,
    /// Those that are slow.
    pub(super) slow: BTreeSet<(NodeIndex, NodeIndex)>,
    /// Links by the share that they lose, in hundredths.
    losses: [u32; SHARES],
    reported: u32,
}

impl Default for Bad {
    fn default() -> Bad {
        Bad {
            lossy: BTreeSet::new(),
            slow: BTreeSet::new(),
            losses: [0; SHARES],
            reported: 0,
        }
    }
}

impl Bad {
    pub(super) fn note(&mut self, link: (NodeIndex, NodeIndex), before: Option<&Link>, now: &Link) {
        if let Some(before) = before {
            self.count(before, false);
        }
        self.count(now, true);
        match now.state {
            LinkState::Lossy => self.lossy.insert(link),
            // Nothing gets through: it may be lossy still.
            LinkState::Down | LinkState::Unknown => false,
            LinkState::Up | LinkState::Slow => self.lossy.remove(&link),
        };
        match now.state {
            LinkState::Slow => self.slow.insert(link),
            _ => self.slow.remove(&link),
        };
    }

    fn count(&mut self, link: &Link, is_there: bool) {
        let at = (link.loss_percent as usize).min(SHARES - 1);
        for counter in [&mut self.losses[at], &mut self.reported] {
            *counter = match is_there {
                true => *counter + 1,
                false => counter.saturating_sub(1),
            };
        }
    }

    pub(super) fn forget(&mut self, link: (NodeIndex, NodeIndex), was: &Link) {
        self.count(was, false);
        self.lossy.remove(&link);
        self.slow.remove(&link);
    }

    /// What a quarter of all links lose at most, in hundredths: what is usual in this network.
    pub(super) fn usual_loss(&self) -> u32 {
        let mut links = 0;
        let quarter = self.losses.iter().position(|&more| {
            links += more;
            4 * links >= self.reported
        });
        quarter.unwrap_or_default() as u32
    }
}
