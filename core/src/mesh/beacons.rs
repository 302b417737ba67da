//! Beacons: which datagrams arrive where. They show the direction in which packets are lost, and whether large ones
//! are.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::Mesh;
use crate::{id::NodeIndex, time::Time};

/// Time without a beacon after which its receiver reports beacons as missing.
pub(super) const GAP: Duration = Duration::from_millis(2_600);

/// The last report on whether the beacons of one node reach another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) arrives: bool,
    /// Time of the last report.
    at: Time,
    /// Time of the first report with this state.
    pub(super) since: Time,
    /// Time since which beacons were reported missing, for the newest gap.
    pub(super) ceased: Option<Time>,
    /// Time of the newest report that beacons arrive again.
    pub(super) resumed: Option<Time>,
}

/// Reported arrivals, by receiver and sender.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    by_receiver: BTreeMap<NodeIndex, BTreeMap<NodeIndex, Arrival>>,
    /// Links over which beacons do not arrive, as (receiver, sender).
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

    /// Drops all reports of `receiver`.
    pub(super) fn forget(&mut self, receiver: NodeIndex) {
        for sender in self.by_receiver.remove(&receiver).unwrap_or_default().into_keys() {
            self.missing.remove(&(receiver, sender));
        }
    }

    /// Drops reports on pairs that are no longer planned.
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

    /// Returns the links over which beacons do not arrive, as (receiver, sender).
    pub(super) fn missing(&self) -> impl Iterator<Item = (NodeIndex, NodeIndex)> {
        self.missing.iter().copied()
    }
}

/// The direction in which nothing arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Packets of the near side do not arrive at the far side.
    FromNear,
    /// Packets of the far side do not arrive at the near side.
    FromFar,
}

impl Mesh {
    /// Records whether the beacons of `sender` reach `receiver`, as reported at `now`. Returns false if neither probes
    /// the other.
    pub fn arrive(&mut self, receiver: NodeIndex, sender: NodeIndex, arrives: bool, now: Time) -> bool {
        let paired = self.are_paired(receiver, sender);
        if paired {
            self.arrivals.note(receiver, sender, arrives, now);
        }
        paired
    }

    /// Returns whether at least one of the two nodes probes the other.
    pub fn are_paired(&self, one: NodeIndex, other: NodeIndex) -> bool {
        self.probes(one, other) || self.probes(other, one)
    }

    /// Returns whether the plan has `observer` probe `subject`.
    pub(super) fn probes(&self, observer: NodeIndex, subject: NodeIndex) -> bool {
        self.subjects(observer).binary_search(&subject).is_ok()
    }

    /// Time of the last report that beacons of `sender` reach `receiver`; `None` if they are missing or unknown.
    pub(super) fn arrived(&self, receiver: NodeIndex, sender: NodeIndex) -> Option<Time> {
        let arrival = self.arrivals.get(receiver, sender)?;
        arrival.arrives.then_some(arrival.at)
    }

    /// Nodes that share a link with a node, whichever of the two probes.
    pub(super) fn partners(&self, node: NodeIndex) -> BTreeSet<NodeIndex> {
        let links = self.subjects(node).iter().chain(self.observers_of(node));
        links.copied().collect()
    }
}
