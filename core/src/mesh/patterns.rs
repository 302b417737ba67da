//! Patterns: which few groups of nodes explain links of which some may do badly or well by chance. The explanation that has the most links that do
//! badly is taken first; each link that does well counts twice against it.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use super::cuts::{Across, Links, Pair, Picture, SINGLES, Sides, links, pair, places, two_sides};
use crate::id::NodeIndex;

/// Share of a node's links that do badly from which the node is in trouble with everybody.
const CENTRE: f64 = 0.6;

/// What an explanation counts: one node or a label, and sides that are neither.
const PLAIN: isize = 4;
const MADE_UP: isize = 3;

/// Explanations of more than one link that are looked for at most.
const EXPLANATIONS: usize = 16;

/// One node of so many may have little part in what befell its label.
const MISFITS: usize = 5;

/// Nodes of links that hang together, above which no sides are grown from single nodes.
const GROWN: usize = 128;

/// One explanation; an empty far side is all others, and two empty ones are everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) near: BTreeSet<NodeIndex>,
    pub(super) far: BTreeSet<NodeIndex>,
    /// Links of it that do badly.
    pub(super) bad: usize,
}

/// How many links of a node, or of a pattern, do badly and well.
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

    /// A link that does well counts twice against sides that were made up, and once against those that are somebody, which are the simpler
    /// explanation: some links may do well by chance.
    fn score(self, is_plain: bool) -> isize {
        let (bad, good) = (self.bad as isize, self.good as isize);
        if is_plain {
            PLAIN * (bad - good)
        } else {
            MADE_UP * (bad - 2 * good)
        }
    }
}

/// Sides that may explain links.
struct Suggestion<'a> {
    near: Cow<'a, BTreeSet<NodeIndex>>,
    far: Cow<'a, BTreeSet<NodeIndex>>,
    /// Whether each side is a node or a label's nodes.
    is_plain: bool,
    /// Maximum number of unexplained links between the two.
    most: usize,
    known: Option<Known>,
}

/// Sides that are suggested again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    /// A node against all others.
    Star(NodeIndex),
    /// Of a label: a group against another one, or against all others.
    Label(usize, usize, Option<usize>),
}

/// State of the links that has been read in a search: it stays the same while explanations are taken one after the other.
#[derive(Default)]
struct Memo {
    links: BTreeMap<NodeIndex, Vec<(NodeIndex, Across)>>,
    /// Minimum number of links that do well between sides.
    good: BTreeMap<Known, usize>,
}

/// Order of explanations, the best first: by score, whether it is about one side alone, and its size.
type Rank = (isize, bool, usize);

impl<P: Fn(NodeIndex) -> Vec<NodeIndex>, A: Fn(Pair) -> Across> Picture<'_, P, A> {
    /// The patterns that explain `bad`, of a mesh of so many members; those of a single link come last.
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

    /// Whether most links of most nodes do badly.
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

    /// The links of a node, and how they do.
    fn links_of<'m>(&self, node: NodeIndex, memo: &'m mut Memo) -> &'m [(NodeIndex, Across)] {
        memo.links.entry(node).or_insert_with(|| {
            let partners = (self.partners)(node).into_iter();
            partners
                .map(|partner| (partner, (self.across)(pair(node, partner))))
                .collect()
        })
    }

    /// Sides that may explain links: each node against all others, sides that labels suggest, and nodes that hang together.
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

    /// A node and all that do badly with as many, against those that it does badly with.
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
            // Links between each two groups, and of each to all others. The first are seen from both ends.
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

    /// Weighs how well sides explain the links, less nodes that have no part in it; `None` when they do not, or score less than `least`. The
    /// links of a side are read only until those that do well exclude that, so that the cost follows the links that do badly.
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
                // Another pattern explains it already.
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
        // Some nodes of a label may be lucky.
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

/// Two sides of each part of what hangs together.
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
