//! Beacons: whose datagrams arrive where, and so which way packets are lost, and whether large ones are.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::Mesh;
use crate::{id::NodeIndex, time::Time};

/// Beacons are said to come no more when none came for this long.
pub(super) const GAP: Duration = Duration::from_millis(2_600);

/// Whether the beacons of one node reach another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) arrives: bool,
    /// When that was said last.
    at: Time,
    /// Since when it is so, as was said.
    pub(super) since: Time,
    /// When it was said last that they come no more.
    pub(super) ceased: Option<Time>,
    /// When it was said last that they come again.
    pub(super) resumed: Option<Time>,
}

/// By receiver and sender.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    by_receiver: BTreeMap<NodeIndex, BTreeMap<NodeIndex, Arrival>>,
    /// Those that do not arrive, as (receiver, sender).
    missing: BTreeSet<(NodeIndex, NodeIndex)>,
}

impl Arrivals {
    fn note(&mut self, receiver: NodeIndex, sender: NodeIndex, arrives: bool, now: Time) {
        let known = self.by_receiver.entry(receiver).or_default();
        let before = known.get(&sender).copied();
        let since = before
            .filter(|before| before.arrives == arrives)
            .map_or(now, |before| before.since);
        let ceased = match arrives {
            true => before.and_then(|before| before.ceased),
            false => Some(since),
        };
        let came_back = arrives && before.is_some_and(|before| !before.arrives);
        let resumed = if came_back {
            Some(now)
        } else {
            before.and_then(|before| before.resumed)
        };
        let arrival = Arrival {
            resumed,
            arrives,
            at: now,
            since,
            ceased,
        };
        known.insert(sender, arrival);
        match arrives {
            true => self.missing.remove(&(receiver, sender)),
            false => self.missing.insert((receiver, sender)),
        };
    }

    /// Forgets what `receiver` said.
    pub(super) fn forget(&mut self, receiver: NodeIndex) {
        for sender in self.by_receiver.remove(&receiver).unwrap_or_default().into_keys() {
            self.missing.remove(&(receiver, sender));
        }
    }

    /// Forgets what is no longer asked.
    pub(super) fn keep(&mut self, are_paired: impl Fn(NodeIndex, NodeIndex) -> bool) {
        for (&receiver, known) in &mut self.by_receiver {
            known.retain(|&sender, _| are_paired(receiver, sender));
        }
        self.by_receiver.retain(|_, known| !known.is_empty());
        self.missing.retain(|&(receiver, sender)| are_paired(receiver, sender));
    }

    pub(super) fn get(&self, receiver: NodeIndex, sender: NodeIndex) -> Option<&Arrival> {
        self.by_receiver.get(&receiver)?.get(&sender)
    }

    /// Links over which beacons do not pass, as (receiver, sender).
    pub(super) fn missing(&self) -> impl Iterator<Item = (NodeIndex, NodeIndex)> {
        self.missing.iter().copied()
    }
}

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
            self.arrivals.note(receiver, sender, arrives, now);
        }
        paired
    }

    /// True when one of the two probes the other.
    pub fn are_paired(&self, one: NodeIndex, other: NodeIndex) -> bool {
        self.probes(one, other) || self.probes(other, one)
    }

    /// True when `observer` is to probe `subject`.
    pub(super) fn probes(&self, observer: NodeIndex, subject: NodeIndex) -> bool {
        self.subjects(observer).binary_search(&subject).is_ok()
    }

    /// When a beacon of `sender` was last said to have reached `receiver`.
    pub(super) fn arrived(&self, receiver: NodeIndex, sender: NodeIndex) -> Option<Time> {
        let arrival = self.arrivals.get(receiver, sender)?;
        arrival.arrives.then_some(arrival.at)
    }

    /// Whom a node has a link with, whichever of the two probes.
    pub(super) fn partners(&self, node: NodeIndex) -> BTreeSet<NodeIndex> {
        let links = self.subjects(node).iter().chain(self.observers_of(node));
        links.copied().collect()
    }
}
