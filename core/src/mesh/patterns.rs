//! Patterns: which few groups of nodes explain links of which some may do badly or well by chance. The explanation that has the most links that do
//! badly is taken first; each link that does well counts twice against it.

use std::collections::{BTreeMap, BTreeSet};

use super::cuts::{Across, Links, Pair, Picture, SINGLES, Sides, links, pair, two_sides};
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

impl Picture<'_> {
    /// The patterns that explain `bad`, of a mesh of so many members; those of a single link come last.
    pub(super) fn patterns(&self, bad: &BTreeSet<Pair>, members: usize) -> Vec<Pattern> {
        if self.is_everywhere(bad, members) {
            return vec![Pattern {
                bad: bad.len(),
                ..Pattern::default()
            }];
        }
        let mut left = bad.clone();
        let mut found = Vec::new();
        while found.len() < EXPLANATIONS {
            let graph = links(left.iter().copied());
            let suggested = self.suggested(&graph);
            let weighed = suggested.filter_map(|(sides, is_plain)| self.weighed(sides, is_plain, &left, bad));
            let best = weighed.min_by_key(|(score, pattern)| (-score, !pattern.far.is_empty(), pattern.near.len()));
            let Some((_, pattern)) = best.filter(|(score, _)| *score >= 2 * MADE_UP) else {
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

    /// True when most of the links of most nodes do badly.
    fn is_everywhere(&self, bad: &BTreeSet<Pair>, members: usize) -> bool {
        let nodes: BTreeSet<NodeIndex> = bad.iter().flat_map(|&(one, other)| [one, other]).collect();
        if members < 3 || 3 * nodes.len() < 2 * members {
            return false;
        }
        let (mut centres, mut all) = (0, Count::default());
        for &node in &nodes {
            let mut count = Count::default();
            for partner in (self.partners)(node) {
                count.add((self.across)(pair(node, partner)));
            }
            all.bad += count.bad;
            all.good += count.good;
            let known = (count.bad + count.good) as f64;
            centres += usize::from(count.bad >= 2 && count.bad as f64 >= CENTRE * known);
        }
        3 * centres >= 2 * members && 4 * all.good <= all.bad
    }

    /// Sides that may explain links: each node against all others, what labels suggest, and what hangs together.
    fn suggested<'a>(&'a self, graph: &'a Links) -> impl Iterator<Item = (Sides, bool)> + 'a {
        let star = |(&node, others): (&NodeIndex, &BTreeSet<NodeIndex>)| {
            (others.len() >= 2).then(|| Sides {
                near: BTreeSet::from([node]),
                far: BTreeSet::new(),
            })
        };
        let stars = graph.iter().filter_map(star);
        let grown = graph
            .iter()
            .filter(|(_, others)| others.len() >= 2 && graph.len() <= GROWN);
        let grown = grown.map(|(&node, others)| self.spread(graph, node, others));
        let plain = stars.chain(self.by_label(graph)).map(|sides| (sides, true));
        plain.chain(parts(graph).into_iter().chain(grown).map(|sides| (sides, false)))
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

    fn by_label(&self, graph: &Links) -> Vec<Sides> {
        let mut suggested = Vec::new();
        for groups in self.groups {
            let of = |node: &NodeIndex| groups.iter().position(|group| group.contains(node));
            let places: BTreeMap<NodeIndex, usize> = graph.keys().filter_map(|node| Some((*node, of(node)?))).collect();
            let mut pairs: BTreeSet<(usize, usize)> = BTreeSet::new();
            let mut alone: BTreeSet<usize> = BTreeSet::new();
            for (one, others) in graph {
                for other in others {
                    if let (Some(&one), Some(&other)) = (places.get(one), places.get(other))
                        && one != other
                    {
                        pairs.insert((one.min(other), one.max(other)));
                        alone.insert(one);
                    }
                }
            }
            let side = |group: usize| groups[group].clone();
            suggested.extend(pairs.into_iter().map(|(one, other)| Sides {
                near: side(one),
                far: side(other),
            }));
            suggested.extend(alone.into_iter().map(|one| Sides {
                near: side(one),
                far: BTreeSet::new(),
            }));
        }
        suggested
    }

    /// How well sides explain the links, if they do at all, and what they are without those that have no part in it.
    fn weighed(
        &self,
        sides: Sides,
        is_plain: bool,
        left: &BTreeSet<Pair>,
        bad: &BTreeSet<Pair>,
    ) -> Option<(isize, Pattern)> {
        let Sides { near, far } = sides;
        let mut count = Count::default();
        let mut of: BTreeMap<NodeIndex, Count> = BTreeMap::new();
        for &one in &near {
            for other in (self.partners)(one) {
                if near.contains(&other) || !(far.is_empty() || far.contains(&other)) {
                    continue;
                }
                let pair = pair(one, other);
                // Another pattern explains it already.
                let across = match left.contains(&pair) {
                    true => Across::Bad,
                    false if bad.contains(&pair) => Across::Unknown,
                    false => (self.across)(pair),
                };
                count.add(across);
                of.entry(one).or_default().add(across);
                of.entry(other).or_default().add(across);
            }
        }
        let fits = |node: &&NodeIndex| {
            of.get(node)
                .is_none_or(|count| count.score(false) > 0 || count.good == 0)
        };
        let nodes = near.len() + far.len();
        let misfits = nodes - near.iter().chain(&far).filter(fits).count();
        // Some nodes of a label may be lucky.
        if MISFITS * misfits > if is_plain { nodes } else { 0 } {
            return None;
        }
        let is_whole = far.is_empty() || {
            let partners = near.iter().flat_map(|&one| (self.partners)(one));
            let mut others = partners.filter(|other| !near.contains(other));
            near.len() + far.len() > 2 && others.all(|other| far.contains(&other))
        };
        let (near, far) = match (is_whole, far.is_empty()) {
            (_, true) => (near, far),
            (true, false) => (self.ordered(near, far).near, BTreeSet::new()),
            (false, false) => {
                let Sides { near, far } = self.ordered(near, far);
                (near, far)
            }
        };
        let bad = count.bad;
        Some((count.score(is_plain), Pattern { near, far, bad }))
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
