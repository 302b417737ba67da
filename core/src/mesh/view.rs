//! Evaluation of single links, from the reports of observers that count.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Cut, Link, LinkState, Mesh, Sight,
    beacons::{Direction, GAP},
    cuts::{Across, Pair, pair},
};
use crate::{
    id::{NodeId, NodeIndex},
    time::Time,
};

/// Minimum silence of a link that may be part of a cut.
const SILENT: Duration = Duration::from_millis(2_500);

/// The same for a link that is known to lose packets: its silence may be chance.
const SILENT_LOSSY: Duration = Duration::from_secs(15);

/// Beacons that were missing within this time and arrive again, while probes fail, indicate loss rather than a cut.
const RESUMED: Duration = Duration::from_secs(10);

/// Beacons reported missing within this time may indicate packet loss, whatever the probes show.
pub(super) const UNSTEADY: Duration = Duration::from_secs(60);

/// Time without a miss after which an observer hears a subject well.
const WELL: Duration = Duration::from_secs(8);

/// Minimum age of a report of missing beacons before it is taken as final.
const SETTLED: Duration = Duration::from_millis(100);

/// A link that neither probes nor beacons pass, or only beacons in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Severed {
    /// Time since anything passed.
    pub(super) quiet: Duration,
    /// The node whose packets do not arrive, if those of the other node do.
    pub(super) from: Option<NodeIndex>,
    /// Whether the state of at least one direction is unknown.
    pub(super) is_vague: bool,
}

/// State of the nodes, as a survey of their links reads it.
pub trait Nodes {
    /// Returns whether reports of this observer count.
    fn counts(&self, observer: NodeIndex) -> bool;
    /// Returns whether this observer is believed when it reports that it hears others, also if only peers pass on its
    /// reports.
    fn vouches(&self, observer: NodeIndex) -> bool;
    /// Returns whether the node is present.
    fn is_alive(&self, node: NodeIndex) -> bool;
    /// Returns whether reports of the node arrive without delay: it was not in doubt recently.
    fn is_prompt(&self, node: NodeIndex) -> bool;
}

/// State of the links at one time.
pub(super) struct View<'a, N> {
    mesh: &'a Mesh,
    pub(super) now: Time,
    nodes: &'a N,
    /// Observers with contradicted claims.
    pub(super) disputed: BTreeSet<NodeIndex>,
}

impl<'a, N: Nodes> View<'a, N> {
    pub(super) fn new(mesh: &'a Mesh, now: Time, nodes: &'a N) -> View<'a, N> {
        View {
            mesh,
            now,
            nodes,
            disputed: BTreeSet::new(),
        }
    }

    pub(super) fn ids(&self) -> &BTreeMap<NodeIndex, NodeId> {
        self.mesh.ids()
    }

    /// Returns whether reports of the observer count.
    pub(super) fn tells(&self, observer: NodeIndex) -> bool {
        self.nodes.counts(observer) && !self.disputed.contains(&observer)
    }

    /// Returns whether the observer's reports count and the subject is alive.
    pub(super) fn is_told(&self, observer: NodeIndex, subject: NodeIndex) -> bool {
        self.tells(observer) && self.nodes.is_alive(subject)
    }

    /// Returns the live nodes that a node shares a link with.
    pub(super) fn partners(&self, node: NodeIndex) -> Vec<NodeIndex> {
        let partners = self.mesh.partners(node).into_iter();
        partners.filter(|&partner| self.nodes.is_alive(partner)).collect()
    }

    /// Returns the directions of a pair that are probed by an observer whose reports count.
    fn probed(&self, (one, other): Pair) -> impl Iterator<Item = (NodeIndex, NodeIndex)> {
        [(one, other), (other, one)]
            .into_iter()
            .filter(|&(observer, subject)| self.mesh.probes(observer, subject) && self.tells(observer))
    }

    /// Returns an observer's report of a subject.
    pub(super) fn link(&self, observer: NodeIndex, subject: NodeIndex) -> Option<&Link> {
        self.mesh.observers.get(&observer)?.links.get(&subject)
    }

    /// Returns whether the pair lost packets when it last let any through.
    pub(super) fn is_lossy(&self, (one, other): Pair) -> bool {
        let mut ways = [(one, other), (other, one)].into_iter();
        let is_lossy = |(observer, subject)| {
            let bad = &self.mesh.bad;
            let is_shaky = self.mesh.sights.is_shaky(observer, subject, self.now);
            bad.lossy.contains(&(observer, subject)) || (is_shaky && !bad.slow.contains(&(observer, subject)))
        };
        ways.any(is_lossy) || self.is_resumed((one, other))
    }

    /// Returns whether beacons arrive again after a gap over a link whose probes fail.
    pub(super) fn is_resumed(&self, (one, other): Pair) -> bool {
        let ways = [(one, other), (other, one)];
        ways.into_iter().any(|(receiver, sender)| {
            let arrival = self
                .mesh
                .arrivals
                .get(receiver, sender)
                .filter(|_| self.tells(receiver));
            arrival
                .is_some_and(|arrival| arrival.arrives && arrival.ceased.is_some_and(|at| self.now.since(at) < RESUMED))
        })
    }

    /// Returns whether the beacons of `sender` arrive; `None` without a report that counts.
    pub(super) fn arrives(&self, receiver: NodeIndex, sender: NodeIndex) -> Option<bool> {
        let arrival = self.mesh.arrivals.get(receiver, sender);
        arrival.filter(|_| self.tells(receiver)).map(|arrival| arrival.arrives)
    }

    /// Returns whether the observer hears the subject and has not missed it recently.
    pub(super) fn hears_well(&self, observer: NodeIndex, subject: NodeIndex) -> bool {
        let noted = self.mesh.sights.noted(observer, subject);
        noted.is_some_and(|noted| {
            noted.sight == Sight::Heard && noted.misses[0].is_none_or(|missed| self.now.since(missed) >= WELL)
        })
    }

    /// Returns whether one of the two reports that it hears the other, and is believed.
    fn is_vouched_for(&self, (one, other): Pair) -> bool {
        let mut ways = [(one, other), (other, one)].into_iter();
        ways.any(|(observer, subject)| {
            let is_believed = !self.disputed.contains(&observer) && self.nodes.vouches(observer);
            is_believed && self.mesh.sights.sight(observer, subject) == Some(Sight::Heard)
        })
    }

    /// Returns whether there is no report on any link between two groups of present nodes; an empty side is all other
    /// nodes.
    pub(super) fn is_untold(&self, one: &BTreeSet<NodeIndex>, other: &BTreeSet<NodeIndex>) -> bool {
        let (near, far) = if one.is_empty() { (other, one) } else { (one, other) };
        let is_across = |partner: &NodeIndex| !near.contains(partner) && (far.is_empty() || far.contains(partner));
        let links = near.iter().flat_map(|&one| {
            let partners = self.partners(one).into_iter();
            partners.filter(is_across).map(move |other| pair(one, other))
        });
        let mut links = links.peekable();
        let are_there = near.iter().chain(far).all(|&node| self.nodes.is_alive(node));
        are_there && links.peek().is_some() && links.all(|pair| self.is_heard(pair).is_none())
    }

    /// Returns whether probes pass; `None` without a report.
    fn is_heard(&self, pair: Pair) -> Option<bool> {
        if self.is_vouched_for(pair) {
            return Some(true);
        }
        let seen = self.probed(pair);
        let sights = seen.filter_map(|(observer, subject)| self.mesh.sights.sight(observer, subject));
        sights
            .map(|sight| sight == Sight::Heard)
            .reduce(|one, other| one | other)
    }

    /// Returns how a pair is severed; `None` if it is not.
    pub(super) fn severed(&self, pair: Pair) -> Option<Severed> {
        if self.is_vouched_for(pair) {
            return None;
        }
        let mut last = None;
        for (observer, subject) in self.probed(pair) {
            match self.mesh.sights.noted(observer, subject) {
                Some(noted) if noted.sight == Sight::Heard => return None,
                Some(noted) => last = last.max(Some(noted.heard)),
                None => {}
            }
        }
        let mut last = last?;
        let (one, other) = pair;
        let mut arrive = [None; 2];
        for (at, receiver, sender) in [(0, one, other), (1, other, one)] {
            let Some(arrival) = self
                .mesh
                .arrivals
                .get(receiver, sender)
                .filter(|_| self.tells(receiver))
            else {
                continue;
            };
            arrive[at] = Some(arrival.arrives);
            if !arrival.arrives {
                last = last.max(arrival.since - GAP);
            }
        }
        let quiet = self.now.since(last);
        let from = match arrive {
            // Packets of `other` arrive, answers do not: the packets of `one` are lost.
            [Some(true), Some(false) | None] => Some(one),
            [Some(false) | None, Some(true)] => Some(other),
            _ => None,
        };
        let settled = |receiver, sender| {
            let arrival = self.mesh.arrivals.get(receiver, sender);
            arrival.is_none_or(|arrival| arrival.arrives || self.now.since(arrival.since) >= SETTLED)
        };
        // Beacons pass in both directions: this is no cut, even if probes fail.
        if arrive == [Some(true); 2] {
            return None;
        }
        let needed = if self.is_lossy(pair) { SILENT_LOSSY } else { SILENT };
        let is_severed = quiet >= needed && settled(one, other) && settled(other, one);
        is_severed.then_some(Severed {
            quiet,
            from,
            is_vague: arrive.contains(&None),
        })
    }

    /// Returns the state of a pair with respect to cuts.
    pub(super) fn works(&self, pair: Pair, severed: &BTreeMap<Pair, Severed>) -> Across {
        if severed.contains_key(&pair) {
            return Across::Bad;
        }
        match self.is_heard(pair) {
            Some(true) => Across::Good,
            Some(false) if self.is_lossy(pair) => Across::Good,
            _ => Across::Unknown,
        }
    }

    /// Returns the state of a pair with respect to loss.
    pub(super) fn loses(&self, pair: Pair) -> Across {
        let usual = self.mesh.bad.usual_loss();
        let prompt = self
            .probed(pair)
            .filter(|&(observer, _)| self.nodes.is_prompt(observer));
        let links = prompt.filter_map(|(observer, subject)| self.link(observer, subject));
        let loss = links.map(|link| link.loss_percent).max();
        match (self.is_heard(pair), loss) {
            (Some(true), Some(loss)) if loss <= usual && !self.ceased_within(pair, UNSTEADY) => Across::Good,
            _ => Across::Unknown,
        }
    }

    /// Returns the state of a pair with respect to beacons.
    pub(super) fn beacons(&self, (one, other): Pair) -> Across {
        match (self.arrives(one, other), self.arrives(other, one)) {
            (Some(false), _) | (_, Some(false)) | (None, None) => Across::Unknown,
            _ => Across::Good,
        }
    }

    /// Returns the state of a pair with respect to latency.
    pub(super) fn is_quick(&self, pair: Pair) -> Across {
        let mut states = self
            .probed(pair)
            .filter_map(|(observer, subject)| self.link(observer, subject));
        match states.any(|link| link.state == LinkState::Up) {
            true => Across::Good,
            false => Across::Unknown,
        }
    }

    /// Returns whether all probes pass, and none was lost recently.
    pub(super) fn passes_well(&self, pair: Pair) -> bool {
        let mut probed = self.probed(pair).peekable();
        let is_probed = probed.peek().is_some();
        is_probed && !self.is_lossy(pair) && probed.all(|(observer, subject)| self.hears_well(observer, subject))
    }

    /// Returns for how long beacons have been missing.
    pub(super) fn missing_for(&self, (one, other): Pair) -> Option<Duration> {
        let ways = [(one, other), (other, one)].into_iter();
        let arrivals = ways.filter_map(|(receiver, sender)| self.mesh.arrivals.get(receiver, sender));
        let missing = arrivals.filter(|arrival| !arrival.arrives);
        missing.map(|arrival| self.now.since(arrival.since)).max()
    }

    /// Returns whether beacons were reported missing within `time`.
    pub(super) fn ceased_within(&self, (one, other): Pair, time: Duration) -> bool {
        let ways = [(one, other), (other, one)].into_iter();
        let mut arrivals = ways.filter_map(|(receiver, sender)| self.mesh.arrivals.get(receiver, sender));
        arrivals.any(|arrival| arrival.ceased.is_some_and(|at| self.now.since(at) < time))
    }

    /// Returns whether beacons were reported to arrive again within `time`.
    pub(super) fn resumed_within(&self, (one, other): Pair, time: Duration) -> bool {
        let ways = [(one, other), (other, one)].into_iter();
        let mut arrivals = ways.filter_map(|(receiver, sender)| self.mesh.arrivals.get(receiver, sender));
        arrivals.any(|arrival| arrival.resumed.is_some_and(|at| self.now.since(at) < time))
    }

    /// Returns the number of links of a cut that lose the packets of its near side, of its far side, and of both.
    fn ways(&self, severed: &BTreeMap<Pair, Severed>, cut: &Cut) -> (usize, usize, usize) {
        let mut ways = (0, 0, 0);
        for (_, severed) in severed.iter().filter(|(pair, _)| cut.covers(**pair)) {
            match severed.from {
                Some(from) if cut.near.contains(&from) => ways.0 += 1,
                Some(_) => ways.1 += 1,
                None if !severed.is_vague => ways.2 += 1,
                None => {}
            }
        }
        ways
    }

    /// Returns the direction in which nothing passes a cut: most links with a known state show it, and none shows the
    /// opposite.
    pub(super) fn way(&self, severed: &BTreeMap<Pair, Severed>, cut: &Cut) -> Option<Direction> {
        match self.ways(severed, cut) {
            (some, 0, both) if some > 9 * both => Some(Direction::FromNear),
            (0, some, both) if some > 9 * both => Some(Direction::FromFar),
            _ => None,
        }
    }

    /// Returns whether some links of a cut pass packets in one direction while others do not.
    pub(super) fn is_mixed(&self, severed: &BTreeMap<Pair, Severed>, cut: &Cut) -> bool {
        let (near, far, both) = self.ways(severed, cut);
        let all = near + far + both;
        cut.near.len() + cut.far.len() > 2
            && [near, far, both]
                .into_iter()
                .filter(|some| 5 * some >= all.max(1))
                .count()
                > 1
    }
}
