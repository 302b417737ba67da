//! Patterns: a small set of pairs of groups that explains links, some of which may be degraded or work by chance. The
//! explanation with the most degraded links is taken first; each working link counts twice against it.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use super::cuts::{Across, Links, Pair, Picture, SINGLES, Sides, links, pair, places, two_sides};
use crate::id::NodeIndex;

/// Share of degraded links from which a node counts as degraded towards all its peers.
const CENTRE: f64 = 0.6;

/// Weight of a link in the score: for groups that are a node or a label, and for other groups.
const PLAIN: isize = 4;
const MADE_UP: isize = 3;

/// Maximum number of explanations of more than one link.
const EXPLANATIONS: usize = 16;

/// One in this number of nodes may deviate from the pattern of its label.
const MISFITS: usize = 5;

/// Maximum number of nodes of a connected part for which groups are grown from single nodes.
const GROWN: usize = 128;

/// An explanation. An empty far side is all other nodes; two empty sides are all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) near: BTreeSet<NodeIndex>,
    pub(super) far: BTreeSet<NodeIndex>,
    /// Number of degraded links across.
    pub(super) bad: usize,
}

/// Number of degraded and of working links of a node or of a pattern.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    bad: usize,
    good: usize,
}

impl Count {
    fn add(&mut self, across: Across) {
        self.bad += usize::from(across == Across::Bad);
        self.good += usize::from(across == Across::Good);
    }

    /// Scores a pattern. A working link counts once against groups that are a node or a label, which are the simpler
    /// explanation since some links may work by chance, and twice against other groups.
    fn score(self, is_plain: bool) -> isize {
        let (bad, good) = (self.bad as isize, self.good as isize);
        if is_plain {
            PLAIN * (bad - good)
        } else {
            MADE_UP * (bad - 2 * good)
        }
    }
}

/// A pair of groups that may explain links.
struct Suggestion<'a> {
    near: Cow<'a, BTreeSet<NodeIndex>>,
    far: Cow<'a, BTreeSet<NodeIndex>>,
    /// Whether each side is a node or a label's nodes.
    is_plain: bool,
    /// Maximum number of unexplained links between the two.
    most: usize,
    known: Option<Known>,
}

/// A pair of groups that is suggested repeatedly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    /// A node against all others.
    Star(NodeIndex),
    /// A group of a label against another group of it, or against all other nodes.
    Label(usize, usize, Option<usize>),
}

/// Link states read during a search, which stay the same while explanations are selected one by one.
#[derive(Default)]
struct Memo {
    links: BTreeMap<NodeIndex, Vec<(NodeIndex, Across)>>,
    /// Minimum number of working links between two groups.
    good: BTreeMap<Known, usize>,
}

/// Order of explanations, the best first: by score, whether the far side is given, and the size of the near side.
type Rank = (isize, bool, usize);

impl<P: Fn(NodeIndex) -> Vec<NodeIndex>, A: Fn(Pair) -> Across> Picture<'_, P, A> {
    /// Returns the patterns that explain `bad` in a mesh of `members` members; single links come last.
    pub(super) fn patterns(&self, bad: &BTreeSet<Pair>, members: usize) -> Vec<Pattern> {
        let mut memo = Memo::default();
        if self.is_everywhere(bad, members, &mut memo) {
            return vec![Pattern {
                bad: bad.len(),
                ..Pattern::default()
            }];
        }
        let mut left = bad.clone();
        let mut found = Vec::new();
        while found.len() < EXPLANATIONS {
            let graph = links(left.iter().copied());
            let mut best: Option<(Rank, Pattern)> = None;
            for suggestion in self.suggested(&graph) {
                let least = best.as_ref().map_or(2 * MADE_UP, |(rank, _)| -rank.0);
                if let Some(weighed) = self.weighed(suggestion, least, &mut memo, (&left, bad))
                    && best.as_ref().is_none_or(|best| weighed.0 < best.0)
                {
                    best = Some(weighed);
                }
            }
            let Some((_, pattern)) = best else {
                break;
            };
            left.retain(|&pair| !pattern.covers(pair));
            found.push(pattern);
        }
        let singles = left.into_iter().take(SINGLES).map(|(one, other)| {
            let Sides { near, far } = self.ordered(BTreeSet::from([one]), BTreeSet::from([other]));
            Pattern { near, far, bad: 1 }
        });
        found.extend(singles);
        found
    }

    /// Returns whether most links of most nodes are degraded.
    fn is_everywhere(&self, bad: &BTreeSet<Pair>, members: usize, memo: &mut Memo) -> bool {
        let nodes: BTreeSet<NodeIndex> = bad.iter().flat_map(|&(one, other)| [one, other]).collect();
        if members < 3 || 3 * nodes.len() < 2 * members {
            return false;
        }
        let (mut centres, mut all) = (0, Count::default());
        for &node in &nodes {
            let mut count = Count::default();
            for (_, across) in self.links_of(node, memo) {
                count.add(*across);
            }
            all.bad += count.bad;
            all.good += count.good;
            let known = (count.bad + count.good) as f64;
            centres += usize::from(count.bad >= 2 && count.bad as f64 >= CENTRE * known);
        }
        3 * centres >= 2 * members && 4 * all.good <= all.bad
    }

    /// Returns the links of a node and their states.
    fn links_of<'m>(&self, node: NodeIndex, memo: &'m mut Memo) -> &'m [(NodeIndex, Across)] {
        memo.links.entry(node).or_insert_with(|| {
            let partners = (self.partners)(node).into_iter();
            partners
                .map(|partner| (partner, (self.across)(pair(node, partner))))
                .collect()
        })
    }

    /// Suggests groups that may explain links: each node against all others, groups by label, and connected nodes.
    fn suggested<'a>(&'a self, graph: &'a Links) -> impl Iterator<Item = Suggestion<'a>> {
        let star = |(&node, others): (&NodeIndex, &BTreeSet<NodeIndex>)| {
            (others.len() >= 2).then(|| Suggestion {
                near: Cow::Owned(BTreeSet::from([node])),
                far: Cow::Owned(BTreeSet::new()),
                is_plain: true,
                most: others.len(),
                known: Some(Known::Star(node)),
            })
        };
        let stars = graph.iter().filter_map(star);
        let grown = graph
            .iter()
            .filter(|(_, others)| others.len() >= 2 && graph.len() <= GROWN);
        let grown = grown.map(|(&node, others)| self.spread(graph, node, others));
        let made_up = |Sides { near, far }| Suggestion {
            most: far.iter().filter_map(|node| graph.get(node)).map(BTreeSet::len).sum(),
            near: Cow::Owned(near),
            far: Cow::Owned(far),
            is_plain: false,
            known: None,
        };
        stars
            .chain(self.by_label(graph))
            .chain(parts(graph).into_iter().chain(grown).map(made_up))
    }

    /// Groups a node and the nodes that are degraded towards the same peers, against those peers.
    fn spread(&self, graph: &Links, node: NodeIndex, others: &BTreeSet<NodeIndex>) -> Sides {
        let works = |one, other| (self.across)(pair(one, other)) == Across::Good;
        let alike = |one: NodeIndex| {
            let (mut bad, mut good) = (0, 0);
            for &other in others {
                bad += usize::from(graph[&one].contains(&other));
                good += usize::from(works(one, other));
            }
            bad > 2 * good
        };
        let near: BTreeSet<NodeIndex> = graph
            .keys()
            .copied()
            .filter(|one| *one == node || (!others.contains(one) && alike(*one)))
            .collect();
        let mut far = others.clone();
        for (&other, of) in graph {
            let bad = of.intersection(&near).count();
            let good = near.iter().filter(|&&near| works(near, other)).count();
            if !near.contains(&other) && bad > 2 * good {
                far.insert(other);
            }
        }
        Sides { near, far }
    }

    fn by_label<'a>(&'a self, graph: &Links) -> Vec<Suggestion<'a>> {
        let mut suggested = Vec::new();
        for (label, groups) in self.groups.iter().enumerate() {
            let places = places(groups, graph);
            // Number of links between any two groups, and of each group to all others. The former are counted from both
            // ends.
            let mut pairs: BTreeMap<(usize, usize), usize> = BTreeMap::new();
            let mut alone: BTreeMap<usize, (usize, bool)> = BTreeMap::new();
            for (node, others) in graph {
                let Some(&one) = places.get(node) else { continue };
                for other in others {
                    let other = places.get(other).copied();
                    if other == Some(one) {
                        continue;
                    }
                    let (links, is_suggested) = alone.entry(one).or_default();
                    *links += 1;
                    if let Some(other) = other {
                        *is_suggested = true;
                        *pairs.entry((one.min(other), one.max(other))).or_default() += 1;
                    }
                }
            }
            let side = |group: usize| Cow::Borrowed(groups[group]);
            suggested.extend(pairs.into_iter().map(|((one, other), ends)| Suggestion {
                near: side(one),
                far: side(other),
                is_plain: true,
                most: ends / 2,
                known: Some(Known::Label(label, one, Some(other))),
            }));
            let alone = alone.into_iter().filter(|(_, (_, is_suggested))| *is_suggested);
            suggested.extend(alone.map(|(one, (links, _))| Suggestion {
                near: side(one),
                far: Cow::Owned(BTreeSet::new()),
                is_plain: true,
                most: links,
                known: Some(Known::Label(label, one, None)),
            }));
        }
        suggested
    }

    /// Evaluates how well a pair of groups explains the links, except for some nodes that deviate; `None` if it does
    /// not, or if its score is below `least`. The links of a side are read only until the working ones refute the
    /// suggestion, so that the cost is proportional to the degraded links.
    fn weighed(
        &self,
        suggestion: Suggestion<'_>,
        least: isize,
        memo: &mut Memo,
        (left, bad): (&BTreeSet<Pair>, &BTreeSet<Pair>),
    ) -> Option<(Rank, Pattern)> {
        let Suggestion {
            near,
            far,
            is_plain,
            most,
            known,
        } = suggestion;
        let is_refuted = |good| Count { bad: most, good }.score(is_plain) < least;
        let known_good = known.and_then(|known| memo.good.get(&known).copied());
        if is_refuted(known_good.unwrap_or_default()) {
            return None;
        }
        let mut count = Count::default();
        let mut of: BTreeMap<NodeIndex, Count> = BTreeMap::new();
        for &one in &*near {
            for &(other, across) in self.links_of(one, memo) {
                if near.contains(&other) || !(far.is_empty() || far.contains(&other)) {
                    continue;
                }
                let pair = pair(one, other);
                // Explained by another pattern already.
                let across = match left.contains(&pair) {
                    true => Across::Bad,
                    false if bad.contains(&pair) => Across::Unknown,
                    false => across,
                };
                count.add(across);
                of.entry(one).or_default().add(across);
                of.entry(other).or_default().add(across);
            }
            if is_refuted(count.good) {
                break;
            }
        }
        if let Some(known) = known {
            memo.good.insert(known, count.good.max(known_good.unwrap_or_default()));
        }
        if count.score(is_plain) < least {
            return None;
        }
        let fits = |node: &&NodeIndex| {
            of.get(node)
                .is_none_or(|count| count.score(false) > 0 || count.good == 0)
        };
        let nodes = near.len() + far.len();
        let misfits = nodes - near.iter().chain(&*far).filter(fits).count();
        // Some nodes of a label may deviate by chance.
        if MISFITS * misfits > if is_plain { nodes } else { 0 } {
            return None;
        }
        let is_whole = far.is_empty() || {
            let is_across = |one: &NodeIndex| {
                let partners = (self.partners)(*one).into_iter();
                partners
                    .filter(|other| !near.contains(other))
                    .all(|other| far.contains(&other))
            };
            near.len() + far.len() > 2 && near.iter().all(is_across)
        };
        let (near, far) = (near.into_owned(), far.into_owned());
        let (near, far) = match (is_whole, far.is_empty()) {
            (_, true) => (near, far),
            (true, false) => (self.ordered(near, far).near, BTreeSet::new()),
            (false, false) => {
                let Sides { near, far } = self.ordered(near, far);
                (near, far)
            }
        };
        let rank = (-count.score(is_plain), !far.is_empty(), near.len());
        let bad = count.bad;
        Some((rank, Pattern { near, far, bad }))
    }
}

/// Returns the two sides of each connected part.
fn parts(graph: &Links) -> Vec<Sides> {
    let mut met: BTreeSet<NodeIndex> = BTreeSet::new();
    let mut parts = Vec::new();
    for &start in graph.keys() {
        if met.contains(&start) {
            continue;
        }
        let (near, far, has_two) = two_sides(graph, start);
        met.extend(near.iter().chain(&far));
        if has_two && near.len() + far.len() > 2 {
            parts.push(Sides { near, far });
        }
    }
    parts
}

impl Pattern {
    pub(super) fn covers(&self, (one, other): Pair) -> bool {
        let crosses = |near, far| {
            self.near.contains(&near) && !self.near.contains(&far) && (self.far.is_empty() || self.far.contains(&far))
        };
        (self.near.is_empty() && self.far.is_empty()) || crosses(one, other) || crosses(other, one)
    }
}
