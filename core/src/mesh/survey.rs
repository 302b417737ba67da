//! The survey: finds the cuts that explain degraded links, and observers that all others contradict. It reads only
//! degraded links and those around them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Cut, Mesh, Sight,
    beacons::GAP,
    cuts::{Across, Groups, Pair, Picture, SINGLES, Sides, links, pair},
    sight::Trouble,
    view::{Nodes, Severed, UNSTEADY, View},
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

/// Minimum silence of a cut of `links` links: one link may be silent by chance, many are not.
fn patience(links: usize) -> Duration {
    let millis = match links {
        0..=1 => 7_000,
        2..=3 => 5_000,
        4..=7 => 3_500,
        _ => 2_500,
    };
    Duration::from_millis(millis)
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

/// Explains the degraded links.
struct Surveyor<'a, N> {
    view: &'a View<'a, N>,
    groups: &'a Groups<'a>,
    members: usize,
}

impl<N: Nodes> Surveyor<'_, N> {
    fn picture<A: Fn(Pair) -> Across>(&self, across: A) -> Picture<'_, impl Fn(NodeIndex) -> Vec<NodeIndex>, A> {
        Picture {
            partners: |node| self.view.partners(node),
            across,
            groups: self.groups,
            ids: self.view.ids(),
        }
    }

    /// Returns cuts, and groups between which packets are lost. Links may appear cut because of chance losses; these
    /// are explained by the loss around them.
    fn cuts(&self, severed: &BTreeMap<Pair, Severed>, lossy: &BTreeSet<Pair>) -> Vec<Cut> {
        let down: BTreeSet<Pair> = severed.keys().copied().collect();
        let mut cuts = self.islands(severed, &down);
        cuts.extend(self.bridged(severed, &down, &cuts));
        let in_doubt: BTreeSet<Pair> = down
            .iter()
            .copied()
            .filter(|pair| {
                !cuts
                    .iter()
                    .any(|cut| cut.near.len() + cut.far.len() != 2 && cut.covers(*pair))
            })
            .collect();
        let mut shaky: Vec<Cut> = Vec::new();
        if !lossy.is_empty() {
            let bad: BTreeSet<Pair> = lossy.union(&in_doubt).copied().collect();
            let across = |pair| match (bad.contains(&pair), down.contains(&pair)) {
                (true, _) => Across::Bad,
                (false, true) => Across::Unknown,
                (false, false) => self.view.loses(pair),
            };
            let picture = self.picture(across);
            let patterns = picture.patterns(&bad, self.members).into_iter();
            let is_plain = |near: &BTreeSet<NodeIndex>, far: &BTreeSet<NodeIndex>| {
                let single = near.len() == 1 && far.len() == 1;
                !single || (near.iter().chain(far).all(|&node| picture.is_calm_around(node, &bad)))
            };
            let plain = patterns.filter(|pattern| is_plain(&pattern.near, &pattern.far));
            shaky.extend(plain.map(|pattern| Cut::new(pattern.near, pattern.far, Trouble::Shaky)));
            // A single link that is down is reported by itself.
            shaky.retain(|cut| lossy.iter().any(|pair| cut.covers(*pair)));
        }
        // A few silent links among many that lose packets are silent by chance.
        cuts.retain(|cut| {
            let silent = down.iter().filter(|pair| cut.covers(**pair)).count();
            let lossy_around = |shaky: &Cut| {
                let is_within = shaky.near.len() + shaky.far.len() != 2
                    && down.iter().all(|pair| !cut.covers(*pair) || shaky.covers(*pair));
                is_within && lossy.iter().filter(|pair| shaky.covers(**pair)).count() > silent
            };
            !shaky.iter().any(lossy_around)
        });
        cuts.extend(shaky);
        cuts
    }

    /// Returns whether the links across have been silent long enough for their number.
    fn is_proven(&self, severed: &BTreeMap<Pair, Severed>, cut: &Cut) -> bool {
        let across = || {
            severed
                .iter()
                .filter(|(pair, _)| cut.covers(**pair))
                .map(|(_, severed)| severed.quiet)
        };
        let longest = across().max().unwrap_or_default();
        longest >= patience(across().count())
    }

    /// Returns the parts of the mesh that are cut off from all others.
    fn islands(&self, severed: &BTreeMap<Pair, Severed>, down: &BTreeSet<Pair>) -> Vec<Cut> {
        if down.is_empty() {
            return Vec::new();
        }
        let across = |pair| self.view.works(pair, severed);
        let picture = self.picture(across);
        let islands = picture.islands(down);
        let lone = islands.parts.iter().filter(|part| part.len() == 1).count();
        let all = islands.parts.iter().map(BTreeSet::len).sum::<usize>() + islands.main.len();
        if islands.parts.is_empty() || (all == 2 && !islands.beyond) {
            return Vec::new();
        }
        let nowhere = lone == islands.parts.len() && !islands.beyond && islands.main.len() <= 1.max(all / 10);
        if nowhere {
            let cut = Cut::new(BTreeSet::new(), BTreeSet::new(), Trouble::Down);
            return Vec::from_iter(self.is_proven(severed, &cut).then_some(cut));
        }
        let unsure = unsure(&islands.parts, &islands.main, islands.beyond, down);
        let mut cuts = Vec::new();
        for part in islands.parts.iter().filter(|part| part.is_disjoint(&unsure)) {
            let mut cut = Cut::new(part.clone(), BTreeSet::new(), Trouble::Down);
            if self.is_proven(severed, &cut) {
                cut.way = self.view.way(severed, &cut);
                cut.unsure.clone_from(&unsure);
                cuts.push(cut);
            }
        }
        cuts
    }

    /// Returns groups that do not reach one another while others reach both.
    fn bridged(&self, severed: &BTreeMap<Pair, Severed>, down: &BTreeSet<Pair>, islands: &[Cut]) -> Vec<Cut> {
        let left: BTreeSet<Pair> = down
            .iter()
            .copied()
            .filter(|pair| !islands.iter().any(|island| island.covers(*pair)))
            .collect();
        if left.is_empty() {
            return Vec::new();
        }
        let across = |pair| self.view.works(pair, severed);
        let cut = |Sides { near, far }| {
            let mut cut = Cut::new(near, far, Trouble::Down);
            cut.way = self.view.way(severed, &cut);
            cut
        };
        let mut cuts: Vec<Cut> = Vec::new();
        let picture = self.picture(across);
        for found in picture.sides(&left).into_iter().map(cut) {
            if !self.view.is_mixed(severed, &found) {
                cuts.push(found);
                continue;
            }
            // Two cuts overlap, one of which passes packets in one direction.
            for one_way in [false, true] {
                let of_kind = left.iter().copied().filter(|pair| {
                    found.covers(*pair)
                        && severed
                            .get(pair)
                            .is_some_and(|severed| severed.from.is_some() == one_way)
                });
                cuts.extend(picture.sides(&of_kind.collect()).into_iter().map(cut));
            }
        }
        cuts.retain(|cut| self.is_proven(severed, cut));
        cuts
    }

    fn large(&self, large: &BTreeSet<Pair>) -> Vec<Cut> {
        if large.is_empty() {
            return Vec::new();
        }
        let across = |pair| match large.contains(&pair) {
            true => Across::Bad,
            false => self.view.beacons(pair),
        };
        let mut cuts = self.patterns(large, across);
        cuts.retain(|cut| {
            let of_cut = || large.iter().filter(|pair| cut.covers(**pair));
            let longest = of_cut().filter_map(|pair| self.view.missing_for(*pair)).max();
            longest.is_some_and(|longest| longest + GAP >= patience(of_cut().count()))
        });
        cuts
    }

    fn slow(&self, slow: &BTreeSet<Pair>) -> Vec<Cut> {
        if slow.is_empty() {
            return Vec::new();
        }
        let across = |pair| match slow.contains(&pair) {
            true => Across::Bad,
            false => self.view.is_quick(pair),
        };
        self.patterns(slow, across)
    }

    fn patterns(&self, bad: &BTreeSet<Pair>, across: impl Fn(Pair) -> Across) -> Vec<Cut> {
        let patterns = self.picture(across).patterns(bad, self.members).into_iter();
        patterns
            .map(|pattern| Cut::new(pattern.near, pattern.far, Trouble::Down))
            .collect()
    }
}

/// Returns single nodes that may belong to another part: no link between the two is down, since none is observed.
fn unsure(
    parts: &[BTreeSet<NodeIndex>],
    main: &BTreeSet<NodeIndex>,
    beyond: bool,
    down: &BTreeSet<Pair>,
) -> BTreeSet<NodeIndex> {
    let graph = links(down.iter().copied());
    let lone = parts.iter().filter(|part| part.len() == 1).flatten().copied();
    let is_unsure = |node: &NodeIndex| {
        let lost = graph.get(node).cloned().unwrap_or_default();
        let others = parts.iter().filter(|part| part.len() > 1);
        let from_all = others.into_iter().all(|part| !part.is_disjoint(&lost));
        let in_parts = |lost: &NodeIndex| parts.iter().any(|part| part.contains(lost));
        let from_main = !main.is_disjoint(&lost) || (beyond && lost.iter().any(|lost| !in_parts(lost)));
        !(from_all && from_main)
    };
    lone.filter(is_unsure).take(SINGLES).collect()
}

impl<P: Fn(NodeIndex) -> Vec<NodeIndex>, A: Fn(Pair) -> Across> Picture<'_, P, A> {
    /// Returns whether few of a node's links may be degraded besides the known ones.
    fn is_calm_around(&self, node: NodeIndex, bad: &BTreeSet<Pair>) -> bool {
        let (mut good, mut unknown) = (0, 0);
        for partner in (self.partners)(node) {
            let pair = pair(node, partner);
            match (self.across)(pair) {
                Across::Good => good += 1,
                Across::Unknown if !bad.contains(&pair) => unknown += 1,
                _ => {}
            }
        }
        unknown <= good
    }
}
