//! The survey: finds the cuts that explain degraded links, and observers that all others contradict. It reads only
//! degraded links and those around them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Cut, Mesh, Sight,
    cuts::{Groups, Pair, pair},
    surveyor::Surveyor,
    view::{Nodes, UNSTEADY, View},
};
use crate::{id::NodeIndex, time::Time};

/// Number of contradicted claims that suffice if the reverse direction is not probed.
const CLAIMS: usize = 3;

/// Time for which a subject must be claimed silent before the claim is more than a late report.
const CLAIMED: Duration = Duration::from_secs(4);

/// Usual loss in hundredths from which, and up to which, links count as lossy only at [`TIMES_USUAL`] times that loss;
/// a higher usual loss is a problem of the whole network.
const USUAL: u32 = 3;
const UNUSUAL: u32 = 15;
const TIMES_USUAL: u32 = 5;

/// Number of degraded links from which the labels of nodes are considered.
const LABELLED: usize = 4;

/// Result of a survey.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Groups that do not reach one another, or lose packets.
    pub cuts: Vec<Cut>,
    /// Groups between which answers take much longer than usual.
    pub slow: Vec<Cut>,
    /// Groups between which probes get through, but beacons, which are large, do not.
    pub large: Vec<Cut>,
    /// Observers with contradicted claims, and the subjects of these claims.
    pub disputed: BTreeMap<NodeIndex, BTreeSet<NodeIndex>>,
}

impl Mesh {
    /// Drops records that are too old to count. Must be called before [`look`](Self::look).
    pub fn settle(&mut self, now: Time) {
        self.sights.settle(now);
    }

    /// Surveys the links between live nodes. `groups` returns the nodes by label; it is called only if several links
    /// are degraded.
    pub fn look<'g, N: Nodes>(
        &self,
        now: Time,
        members: usize,
        nodes: &N,
        groups: impl FnOnce() -> Groups<'g>,
    ) -> Survey {
        let mut view = View::new(self, now, nodes);
        let mut survey = Survey {
            disputed: self.disputed(&view),
            ..Survey::default()
        };
        view.disputed = survey.disputed.keys().copied().collect();
        let mut severed = BTreeMap::new();
        for (observer, subject) in self.sights.unheard().filter(|&(one, other)| view.is_told(one, other)) {
            let pair = pair(observer, subject);
            severed.extend(view.severed(pair).map(|severed| (pair, severed)));
        }
        let lossy = self.lossy(&view);
        let large: BTreeSet<Pair> = self.large(&view).collect();
        let slow = self
            .bad
            .slow
            .iter()
            .copied()
            .filter(|&(one, other)| view.is_told(one, other));
        let slow: BTreeSet<Pair> = slow
            .map(|(one, other)| pair(one, other))
            .filter(|&pair| {
                !lossy.contains(&pair) && !severed.contains_key(&pair) && !view.ceased_within(pair, UNSTEADY)
            })
            .collect();
        let bad = severed.len() + lossy.len() + large.len() + slow.len();
        if bad > 0 {
            let groups = if bad >= LABELLED { groups() } else { Groups::new() };
            let surveyor = Surveyor {
                view: &view,
                groups: &groups,
                members,
            };
            survey.cuts = surveyor.cuts(&severed, &lossy);
            // Loss explains missing beacons of any size and the delay of retransmissions.
            let by_loss = |pair: &Pair| survey.cuts.iter().any(|cut| cut.covers(*pair));
            let large = large.into_iter().filter(|pair| !by_loss(pair)).collect();
            let slow = slow.into_iter().filter(|pair| !by_loss(pair)).collect();
            (survey.large, survey.slow) = (surveyor.large(&large), surveyor.slow(&slow));
        }
        survey
    }

    /// Returns whether there is no report on any link between two groups of present nodes, so that the last known state
    /// stands. An empty side is all other nodes.
    pub fn is_untold(
        &self,
        now: Time,
        nodes: &impl Nodes,
        near: &BTreeSet<NodeIndex>,
        far: &BTreeSet<NodeIndex>,
    ) -> bool {
        View::new(self, now, nodes).is_untold(near, far)
    }

    /// Returns the links that lose more than usual in this network.
    fn lossy(&self, view: &View<'_, impl Nodes>) -> BTreeSet<Pair> {
        let usual = self.bad.usual_loss();
        let from = match usual {
            USUAL..UNUSUAL => usual * TIMES_USUAL,
            _ => 0,
        };
        let resumed = self
            .sights
            .unheard()
            .filter(|&(one, other)| view.is_resumed(pair(one, other)));
        let lossy = self
            .bad
            .lossy
            .iter()
            .copied()
            .chain(self.shaky(view.now))
            .chain(resumed);
        let told = lossy.filter(|&(one, other)| view.is_told(one, other));
        let is_unusual = |loss: Option<u32>| from == 0 || loss.is_some_and(|loss| loss >= from);
        told.filter(|&(one, other)| is_unusual(view.link(one, other).map(|link| link.loss_percent)))
            .map(|(one, other)| pair(one, other))
            .collect()
    }

    /// Returns the links whose probes are missed repeatedly, for another reason than slow answers.
    fn shaky(&self, now: Time) -> impl Iterator<Item = (NodeIndex, NodeIndex)> {
        let shaky = self.sights.shaky(now);
        shaky.filter(|link| !self.bad.slow.contains(link))
    }

    /// Returns the links over which all probes pass, but beacons do not.
    fn large<'a>(&'a self, view: &'a View<'a, impl Nodes>) -> impl Iterator<Item = Pair> + 'a {
        let missing = self.arrivals.missing();
        missing
            .filter(|&(receiver, sender)| {
                let pair = pair(receiver, sender);
                // A sender without a session may not know its receivers yet.
                view.is_told(receiver, sender)
                    && view.tells(sender)
                    && view.passes_well(pair)
                    && !view.resumed_within(pair, UNSTEADY)
            })
            .map(|(one, other)| pair(one, other))
    }

    /// Returns the claims of silence that others contradict. A probe needs both directions: a node whose probes are
    /// answered, and that all others hear, can be heard.
    fn disputed(&self, view: &View<'_, impl Nodes>) -> BTreeMap<NodeIndex, BTreeSet<NodeIndex>> {
        let mut claims: BTreeMap<NodeIndex, BTreeSet<NodeIndex>> = BTreeMap::new();
        for (observer, subject) in self.sights.unheard() {
            let noted = self.sights.noted(observer, subject);
            let is_claim = noted.is_some_and(|noted| {
                let for_long = noted.misses[0].is_some_and(|missed| view.now.since(missed) >= CLAIMED);
                for_long && noted.sight == Sight::Silent && view.now.since(noted.heard) >= CLAIMED
            });
            if is_claim && view.is_told(observer, subject) {
                claims.entry(observer).or_default().insert(subject);
            }
        }
        // Every observer except `without` hears the subject.
        let heard = |subject: NodeIndex, without: NodeIndex| {
            let observers = self.observers_of(subject).iter();
            let mut others = observers.filter(|&&observer| observer != without && view.tells(observer));
            others.all(|&observer| view.hears_well(observer, subject))
        };
        let mut disputed = BTreeMap::new();
        for (observer, subjects) in claims {
            let (mut contradicted, mut by_itself) = (BTreeSet::new(), false);
            for subject in subjects {
                // Over a link that loses packets, one side may hear and the other may not.
                if view.is_lossy(pair(observer, subject)) || !heard(subject, observer) || !heard(observer, subject) {
                    continue;
                }
                let back = self.subjects(subject).binary_search(&observer).is_ok() && view.tells(subject);
                // Beacons that do not arrive, as the other side reports, are a cut; so is a single direction that its
                // receiver reports as silent.
                let both =
                    view.arrives(subject, observer) == Some(true) && view.arrives(observer, subject) != Some(false);
                if (back && view.hears_well(subject, observer)) || (!back && both) {
                    contradicted.insert(subject);
                    by_itself |= back;
                }
            }
            if by_itself || contradicted.len() >= CLAIMS {
                disputed.insert(observer, contradicted);
            }
        }
        disputed
    }
}
