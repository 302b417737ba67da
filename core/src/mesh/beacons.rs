//! Beacons: whose datagrams arrive where, and so which way packets are lost, and whether large ones are.

use std::collections::{BTreeMap, BTreeSet};

use super::{Mesh, cuts::Cut};
use crate::{node::NodeIndex, time::Time};

/// By receiver and sender: do the sender's beacons arrive, and when was that said?
pub(super) type Arrivals = BTreeMap<NodeIndex, BTreeMap<NodeIndex, (bool, Time)>>;

/// Which way nothing passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// What the near side sends does not arrive at the far side.
    FromNear,
    /// What the far side sends does not arrive at the near side.
    FromFar,
}

impl Mesh {
    /// Notes that the beacons of `sender` reach `receiver`, or no longer do, as said at `now`; false when neither probes the
    /// other.
    pub fn arrive(&mut self, receiver: NodeIndex, sender: NodeIndex, arrives: bool, now: Time) -> bool {
        let paired = self.are_paired(receiver, sender);
        if paired {
            let arrivals = self.arrivals.entry(receiver).or_default();
            arrivals.insert(sender, (arrives, now));
        }
        paired
    }

    /// True when one of the two probes the other.
    pub fn are_paired(&self, one: NodeIndex, other: NodeIndex) -> bool {
        let probes = |observer, subject| self.subjects(observer).binary_search(&subject).is_ok();
        probes(one, other) || probes(other, one)
    }

    /// Links over which small probes may pass and beacons do not, as (receiver, sender).
    pub(super) fn missing(&self) -> impl Iterator<Item = (NodeIndex, NodeIndex)> {
        self.arrivals.iter().flat_map(|(&receiver, arrivals)| {
            let missing = arrivals.iter().filter(|(_, (arrives, _))| !arrives);
            missing.map(move |(&sender, _)| (receiver, sender))
        })
    }

    /// When a beacon of `sender` was last said to have reached `receiver`.
    pub(super) fn arrived(&self, receiver: NodeIndex, sender: NodeIndex) -> Option<Time> {
        let (arrives, at) = self.arrival(receiver, sender)?;
        arrives.then_some(at)
    }

    fn arrival(&self, receiver: NodeIndex, sender: NodeIndex) -> Option<(bool, Time)> {
        self.arrivals.get(&receiver)?.get(&sender).copied()
    }

    /// The one way in which nothing passes a cut: what is known of most of its links says so, and of no link the contrary.
    pub fn direction(&self, cut: &Cut, counts: impl Fn(NodeIndex) -> bool) -> Option<Direction> {
        let (mut from_near, mut from_far, mut all) = (0, 0, 0);
        for &near in &cut.near {
            for far in self.partners(near) {
                let crosses = !cut.near.contains(&far) && (cut.far.is_empty() || cut.far.contains(&far));
                if !crosses || !counts(near) || !counts(far) {
                    continue;
                }
                all += 1;
                let arrives = |receiver, sender| self.arrival(receiver, sender).map(|(arrives, _)| arrives);
                match (arrives(far, near), arrives(near, far)) {
                    (Some(false), Some(true)) => from_near += 1,
                    (Some(true), Some(false)) => from_far += 1,
                    _ => {}
                }
            }
        }
        match (from_near, from_far) {
            (some, 0) if 2 * some > all => Some(Direction::FromNear),
            (0, some) if 2 * some > all => Some(Direction::FromFar),
            _ => None,
        }
    }

    /// Whom a node has a link with, whichever of the two probes.
    pub(super) fn partners(&self, node: NodeIndex) -> BTreeSet<NodeIndex> {
        let links = self.subjects(node).iter().chain(self.observers_of(node));
        links.copied().collect()
    }
}
