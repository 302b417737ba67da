//! Index of degraded links, maintained as reports arrive, so that a survey does not scan all links.

use std::collections::BTreeSet;

use super::{Link, LinkState};
use crate::id::NodeIndex;

/// Number of loss buckets: 0 to 100 hundredths.
const SHARES: usize = 101;

/// Index of degraded links, maintained as reports arrive. Evaluating it costs nothing while no link is degraded.
#[derive(Debug)]
pub(super) struct Bad {
    /// Links that were lossy when they last let probes through, as (observer, subject).
    pub(super) lossy: BTreeSet<(NodeIndex, NodeIndex)>,
    /// Slow links, as (observer, subject).
    pub(super) slow: BTreeSet<(NodeIndex, NodeIndex)>,
    /// Number of links per loss, in hundredths.
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
            // No probe gets through, so whether the link is still lossy is unknown.
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

    /// Returns the usual loss of this network, in hundredths: the loss that a quarter of all links do not exceed.
    pub(super) fn usual_loss(&self) -> u32 {
        let mut links = 0;
        let quarter = self.losses.iter().position(|&more| {
            links += more;
            4 * links >= self.reported
        });
        quarter.unwrap_or_default() as u32
    }
}
