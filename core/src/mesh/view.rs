//! How single links do, as the observers say whose word counts.

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

/// Silence that may be part of a cut.
const SILENT: Duration = Duration::from_millis(2_500);

/// A link that is known to lose packets must be silent for this long: its silence may be chance.
const SILENT_LOSSY: Duration = Duration::from_secs(15);

/// Beacons that ceased within this time and come again while probes do not pass show loss, and no cut.
const RESUMED: Duration = Duration::from_secs(10);

/// Beacons that ceased within this time may have been lost, whatever the probes show.
pub(super) const UNSTEADY: Duration = Duration::from_secs(60);

/// A node that was not missed by an observer for this long is heard well.
const WELL: Duration = Duration::from_secs(8);

/// Beacons that were said to come no more for this long come no more in fact.
const SETTLED: Duration = Duration::from_millis(100);

/// Neither probes nor beacons pass a link, or beacons one way only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Severed {
    /// How long nothing passed.
    pub(super) quiet: Duration,
    /// The node whose packets do not arrive, where those of the other one do.
    pub(super) from: Option<NodeIndex>,
    /// Nothing is known of at least one direction.
    pub(super) is_vague: bool,
}

/// State of the nodes, as a survey of their links reads it.
pub trait Nodes {
    /// Whether reports of this observer count.
    fn counts(&self, observer: NodeIndex) -> bool;
    /// Whether this observer is believed when it reports that it hears others, also where only peers pass on its reports.
    fn vouches(&self, observer: NodeIndex) -> bool;
    /// Whether the node is present.
    fn is_alive(&self, node: NodeIndex) -> bool;
    /// Whether reports of the node arrive without delay: it was not in doubt recently.
    fn is_prompt(&self, node: NodeIndex) -> bool;
}

/// The links at one time.
pub(super) struct View<'a, N> {
    mesh: &'a Mesh,
    pub(super) now: Time,
    nodes: &'a N,
    /// Observers whose claims are contradicted.
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

    /// True when the observer's word counts.
    pub(super) fn tells(&self, observer: NodeIndex) -> bool {
        self.nodes.counts(observer) && !self.disputed.contains(&observer)
    }

    /// True when something is said of the link between nodes that are both there.
    pub(super) fn is_told(&self, observer: NodeIndex, subject: NodeIndex) -> bool {
        self.tells(observer) && self.nodes.is_alive(subject)
    }

    /// Everybody that a node has a link with, and that is alive.
    pub(super) fn partners(&self, node: NodeIndex) -> Vec<NodeIndex> {
        let partners = self.mesh.partners(node).into_iter();
        partners.filter(|&partner| self.nodes.is_alive(partner)).collect()
    }

    /// Both directions of a pair in which probes are sent, and tell.
    fn probed(&self, (one, other): Pair) -> impl Iterator<Item = (NodeIndex, NodeIndex)> {
        [(one, other), (other, one)]
            .into_iter()
            .filter(|&(observer, subject)| self.mesh.probes(observer, subject) && self.tells(observer))
    }

    /// What an observer reported of a subject.
    pub(super) fn link(&self, observer: NodeIndex, subject: NodeIndex) -> Option<&Link> {
        self.mesh.observers.get(&observer)?.links.get(&subject)
    }

    /// True when the pair lost packets when it last got any through.
    pub(super) fn is_lossy(&self, (one, other): Pair) -> bool {
        let mut ways = [(one, other), (other, one)].into_iter();
        let is_lossy = |(observer, subject)| {
            let bad = &self.mesh.bad;
            let is_shaky = self.mesh.sights.is_shaky(observer, subject, self.now);
            bad.lossy.contains(&(observer, subject)) || (is_shaky && !bad.slow.contains(&(observer, subject)))
        };
        ways.any(is_lossy) || self.is_resumed((one, other))
    }

    /// True when beacons come again over a link whose probes do not pass, after a time in which they did not.
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

    /// Whether the beacons of `sender` arrive, if the receiver tells.
    pub(super) fn arrives(&self, receiver: NodeIndex, sender: NodeIndex) -> Option<bool> {
        let arrival = self.mesh.arrivals.get(receiver, sender);
        arrival.filter(|_| self.tells(receiver)).map(|arrival| arrival.arrives)
    }

    /// True when the observer hears the subject and did not miss it lately.
    pub(super) fn hears_well(&self, observer: NodeIndex, subject: NodeIndex) -> bool {
        let noted = self.mesh.sights.noted(observer, subject);
        noted.is_some_and(|noted| {
            noted.sight == Sight::Heard && noted.misses[0].is_none_or(|missed| self.now.since(missed) >= WELL)
        })
    }

    /// True when an observer says that it hears the other one, and is believed.
    fn is_vouched_for(&self, (one, other): Pair) -> bool {
        let mut ways = [(one, other), (other, one)].into_iter();
        ways.any(|(observer, subject)| {
            let is_believed = !self.disputed.contains(&observer) && self.nodes.vouches(observer);
            is_believed && self.mesh.sights.sight(observer, subject) == Some(Sight::Heard)
        })
    }

    /// True when nobody tells anything of any link between two sides of nodes that are all there; an empty side is everybody else.
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

    /// Whether probes pass; `None` where nobody says.
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

    /// How a pair is severed, if it is.
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
            // What comes from `other` arrives, and answers do not: those of `one` are lost.
            [Some(true), Some(false) | None] => Some(one),
            [Some(false) | None, Some(true)] => Some(other),
            _ => None,
        };
        let settled = |receiver, sender| {
            let arrival = self.mesh.arrivals.get(receiver, sender);
            arrival.is_none_or(|arrival| arrival.arrives || self.now.since(arrival.since) >= SETTLED)
        };
        // Beacons pass both ways: whatever becomes of the probes, it is no cut.
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

    /// How a pair does that a cut may be across.
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

    /// How a pair does that packets may be lost across.
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

    /// How a pair does that beacons may not pass.
    pub(super) fn beacons(&self, (one, other): Pair) -> Across {
        match (self.arrives(one, other), self.arrives(other, one)) {
            (Some(false), _) | (_, Some(false)) | (None, None) => Across::Unknown,
            _ => Across::Good,
        }
    }

    /// How a pair does that may be slow.
    pub(super) fn is_quick(&self, pair: Pair) -> Across {
        let mut states = self
            .probed(pair)
            .filter_map(|(observer, subject)| self.link(observer, subject));
        match states.any(|link| link.state == LinkState::Up) {
            true => Across::Good,
            false => Across::Unknown,
        }
    }

    /// True when all probes pass, and none was lost lately.
    pub(super) fn passes_well(&self, pair: Pair) -> bool {
        let mut probed = self.probed(pair).peekable();
        let is_probed = probed.peek().is_some();
        is_probed && !self.is_lossy(pair) && probed.all(|(observer, subject)| self.hears_well(observer, subject))
    }

    /// For how long beacons have not passed.
    pub(super) fn missing_for(&self, (one, other): Pair) -> Option<Duration> {
        let ways = [(one, other), (other, one)].into_iter();
        let arrivals = ways.filter_map(|(receiver, sender)| self.mesh.arrivals.get(receiver, sender));
        let missing = arrivals.filter(|arrival| !arrival.arrives);
        missing.map(|arrival| self.now.since(arrival.since)).max()
    }

    /// True when beacons were said to come no more within that time.
    pub(super) fn ceased_within(&self, (one, other): Pair, time: Duration) -> bool {
        let ways = [(one, other), (other, one)].into_iter();
        let mut arrivals = ways.filter_map(|(receiver, sender)| self.mesh.arrivals.get(receiver, sender));
        arrivals.any(|arrival| arrival.ceased.is_some_and(|at| self.now.since(at) < time))
    }

    /// True when beacons were said to come again within that time.
    pub(super) fn resumed_within(&self, (one, other): Pair, time: Duration) -> bool {
        let ways = [(one, other), (other, one)].into_iter();
        let mut arrivals = ways.filter_map(|(receiver, sender)| self.mesh.arrivals.get(receiver, sender));
        arrivals.any(|arrival| arrival.resumed.is_some_and(|at| self.now.since(at) < time))
    }

    /// How many links of a cut lose what its near side sends, what its far side sends, and both.
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

    /// The one way in which nothing passes a cut: what is known of most of its links says so, and of no link the contrary.
    pub(super) fn way(&self, severed: &BTreeMap<Pair, Severed>, cut: &Cut) -> Option<Direction> {
        match self.ways(severed, cut) {
            (some, 0, both) if some > 9 * both => Some(Direction::FromNear),
            (0, some, both) if some > 9 * both => Some(Direction::FromFar),
            _ => None,
        }
    }

    /// True when some links of a cut let packets pass one way, and others do not.
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
