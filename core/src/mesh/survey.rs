//! The survey: what the links that do badly have in common, and who contradicts everybody else.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    LinkState, Mesh, Sight,
    cuts::{Cut, Evidence, Pair},
    sight::Trouble,
};
use crate::{node::NodeIndex, time::Time};

/// So many contradicted claims are enough where the other way is not probed.
const CLAIMS: usize = 3;

/// A link that loses so much, in hundredths, is told of by itself; with less, chance has too much of a part in it.
const BAD_PERCENT: u32 = 20;

/// What a survey shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Groups that do not reach one another, or badly.
    pub cuts: Vec<Cut>,
    /// Groups between which answers take much longer than they used to.
    pub slow: Vec<Cut>,
    /// Groups between which probes get through, and beacons, which are large, do not.
    pub large: Vec<Cut>,
    /// Observers whose claims are contradicted, and of whom they claim it.
    pub disputed: BTreeMap<NodeIndex, BTreeSet<NodeIndex>>,
}

impl Mesh {
    /// Surveys the links between nodes that are alive, as the observers see them whose word `counts`.
    pub fn look(
        &self,
        now: Time,
        members: usize,
        counts: impl Fn(NodeIndex) -> bool,
        alive: impl Fn(NodeIndex) -> bool,
    ) -> Survey {
        let mut claims: BTreeMap<NodeIndex, BTreeMap<NodeIndex, Trouble>> = BTreeMap::new();
        let state = |observer, subject| Some(self.observers.get(&observer)?.links.get(&subject)?.state);
        for (observer, subject, trouble) in self.sights.troubled(now) {
            if counts(observer) && alive(subject) {
                let lossy = state(observer, subject) == Some(LinkState::Lossy);
                let trouble = if lossy { trouble.min(Trouble::Shaky) } else { trouble };
                claims.entry(observer).or_default().insert(subject, trouble);
            }
        }
        let mut slow: Vec<Pair> = Vec::new();
        for (&observer, state) in self.observers.iter().filter(|(observer, _)| counts(**observer)) {
            for (&subject, link) in state.links.iter().filter(|(subject, _)| alive(**subject)) {
                match link.state {
                    LinkState::Slow => slow.push((observer.min(subject), observer.max(subject))),
                    LinkState::Lossy => {
                        let bad = link.loss_percent >= BAD_PERCENT;
                        let trouble = if bad { Trouble::Shaky } else { Trouble::Touched };
                        let claims = claims.entry(observer).or_default();
                        claims.entry(subject).or_insert(trouble);
                    }
                    LinkState::Unknown | LinkState::Up | LinkState::Down => {}
                }
            }
        }
        let missing = self.missing().filter(|&(receiver, sender)| {
            let both = counts(receiver) && alive(receiver) && alive(sender);
            let silent = |observer, subject| {
                let sight = self.sights.sight(observer, subject);
                sight.is_some_and(|sight| sight != Sight::Heard)
            };
            both && !silent(receiver, sender) && !silent(sender, receiver)
        });
        let large: BTreeSet<Pair> = missing.map(|(one, other)| (one.min(other), one.max(other))).collect();
        if claims.is_empty() && slow.is_empty() && large.is_empty() {
            return Survey::default();
        }
        let partners = |node: NodeIndex| -> BTreeSet<NodeIndex> {
            let subjects = self.subjects(node).iter().filter(|_| counts(node));
            let observers = self.observers_of(node).iter().filter(|&&observer| counts(observer));
            subjects
                .chain(observers)
                .copied()
                .filter(|&partner| alive(partner))
                .collect()
        };
        let disputed = self.disputed(&claims, &counts);
        let mut pairs: BTreeMap<Pair, Trouble> = BTreeMap::new();
        for (&observer, subjects) in claims.iter().filter(|(observer, _)| !disputed.contains_key(observer)) {
            for (&subject, &trouble) in subjects {
                let pair = pairs
                    .entry((observer.min(subject), observer.max(subject)))
                    .or_insert(trouble);
                *pair = (*pair).max(trouble);
            }
        }
        // Packets that are sent again make answers late, too.
        let alone = |pair: &Pair| !pairs.contains_key(pair);
        let down = |pair: Pair| (pair, Trouble::Down);
        let slow: BTreeMap<Pair, Trouble> = slow.into_iter().filter(alone).map(down).collect();
        let large: BTreeMap<Pair, Trouble> = large.into_iter().filter(alone).map(down).collect();
        let cuts = |pairs: &BTreeMap<Pair, Trouble>| {
            Evidence {
                pairs,
                partners,
                members,
            }
            .cuts()
        };
        Survey {
            cuts: cuts(&pairs),
            slow: cuts(&slow),
            large: cuts(&large),
            disputed,
        }
    }

    /// Claims that nobody is heard which others contradict. A probe goes there and back: whose probes are answered, and whom
    /// all others hear, can be heard.
    fn disputed(
        &self,
        claims: &BTreeMap<NodeIndex, BTreeMap<NodeIndex, Trouble>>,
        counts: &impl Fn(NodeIndex) -> bool,
    ) -> BTreeMap<NodeIndex, BTreeSet<NodeIndex>> {
        let fine = |observer: NodeIndex, subject: NodeIndex| {
            let troubled = claims
                .get(&observer)
                .is_some_and(|claims| claims.contains_key(&subject));
            !troubled && self.sights.sight(observer, subject) == Some(Sight::Heard)
        };
        // Everybody but `without` hears it.
        let heard = |subject: NodeIndex, without: NodeIndex| {
            let observers = self.observers_of(subject).iter();
            let mut others = observers.filter(|&&observer| observer != without && counts(observer));
            others.all(|&observer| fine(observer, subject))
        };
        let mut disputed = BTreeMap::new();
        for (&observer, subjects) in claims {
            let down = subjects.iter().filter(|(_, trouble)| **trouble == Trouble::Down);
            let (mut contradicted, mut by_itself) = (BTreeSet::new(), false);
            for (&subject, _) in down {
                if !heard(subject, observer) || !heard(observer, subject) {
                    continue;
                }
                let back = self.subjects(subject).binary_search(&observer).is_ok() && counts(subject);
                if !back || fine(subject, observer) {
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
