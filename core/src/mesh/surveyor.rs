//! Explanations of degraded links: the cuts, and the groups between which packets are lost or late.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Cut,
    beacons::GAP,
    cuts::{Across, Groups, Pair, Picture, SINGLES, Sides, links, pair},
    sight::Trouble,
    view::{Nodes, Severed, View},
};
use crate::id::NodeIndex;

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

/// Explains the degraded links.
pub(super) struct Surveyor<'a, N> {
    pub(super) view: &'a View<'a, N>,
    pub(super) groups: &'a Groups<'a>,
    pub(super) members: usize,
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
    pub(super) fn cuts(&self, severed: &BTreeMap<Pair, Severed>, lossy: &BTreeSet<Pair>) -> Vec<Cut> {
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

    pub(super) fn large(&self, large: &BTreeSet<Pair>) -> Vec<Cut> {
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

    pub(super) fn slow(&self, slow: &BTreeSet<Pair>) -> Vec<Cut> {
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
