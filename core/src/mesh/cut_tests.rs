//! Cuts and findings, on their own.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;

use super::{
    Candidate, Change, Cut, FindingKind, Findings, Trouble,
    cuts::{Evidence, Pair},
};
use crate::{
    node::NodeIndex,
    time::{Time, WallTime},
};

const SECOND: Duration = Duration::from_secs(1);

fn set(nodes: impl IntoIterator<Item = u32>) -> BTreeSet<NodeIndex> {
    nodes.into_iter().map(NodeIndex).collect()
}

/// The cuts of a mesh of `members` in which everybody probes everybody.
fn cuts(members: u32, pairs: impl IntoIterator<Item = (u32, u32, Trouble)>) -> Vec<Cut> {
    let pairs: BTreeMap<Pair, Trouble> = pairs
        .into_iter()
        .map(|(one, other, trouble)| ((NodeIndex(one.min(other)), NodeIndex(one.max(other))), trouble))
        .collect();
    let partners = |node: NodeIndex| (0..members).map(NodeIndex).filter(|&other| other != node).collect();
    Evidence {
        pairs: &pairs,
        partners,
        members: members as usize,
    }
    .cuts()
}

fn cut(near: BTreeSet<NodeIndex>, far: BTreeSet<NodeIndex>, trouble: Trouble) -> Cut {
    Cut { near, far, trouble }
}

#[test]
fn one_pair_is_a_link_and_all_of_a_nodes_pairs_are_the_node() {
    assert_eq!(
        cuts(10, [(3, 7, Trouble::Down)]),
        [cut(set([3]), set([7]), Trouble::Down)]
    );
    let of_node = (0..10)
        .filter(|&other| other != 4)
        .map(|other| (4, other, Trouble::Down));
    assert_eq!(cuts(10, of_node), [cut(set([4]), set([]), Trouble::Down)]);
}

#[test]
fn a_chance_miss_here_and_there_is_nothing() {
    assert_eq!(cuts(10, [(3, 7, Trouble::Touched), (1, 2, Trouble::Touched)]), []);
}

#[test]
fn three_groups_that_lost_one_another_are_named_each() {
    let group = |node: u32| node % 3;
    let across = (0..12).flat_map(|one| {
        let others = (one + 1..12).filter(move |&other| group(one) != group(other));
        others.map(move |other| (one, other, Trouble::Down))
    });
    let found = cuts(12, across);
    assert_eq!(
        found,
        [
            cut(set([0, 3, 6, 9]), set([]), Trouble::Down),
            cut(set([1, 4, 7, 10]), set([2, 5, 8, 11]), Trouble::Down)
        ]
    );
}

#[test]
fn trouble_with_everybody_is_everywhere() {
    let all = (0..8).flat_map(|one| (one + 1..8).map(move |other| (one, other, Trouble::Shaky)));
    assert_eq!(cuts(8, all), [cut(set([]), set([]), Trouble::Shaky)]);
}

proptest! {
    /// Whichever two groups lose one another while the rest reaches both, they are named exactly.
    #[test]
    fn two_groups_of_a_mesh_are_named_exactly(members in 9_u32..24, near in 2_u32..4, far in 2_u32..6) {
        let pairs = (0..near).flat_map(|one| (near..near + far).map(move |other| (one, other, Trouble::Down)));
        // Otherwise most of what somebody has links with is on the other side: he is cut from everybody.
        prop_assume!(f64::from(near.max(far)) / f64::from(members - 1) < 0.6);
        let found = cuts(members, pairs);
        let (one, other) = (set(0..near), set(near..near + far));
        prop_assert_eq!(found.len(), 1);
        prop_assert!((found[0].near == one && found[0].far == other) || (found[0].near == other && found[0].far == one));
    }
}

fn looks(findings: &mut Findings, from: u64, seconds: u64, seen: &[Candidate]) -> Vec<(u64, bool)> {
    let mut changes = Vec::new();
    for second in from..from + seconds {
        for change in findings.look(Time(second * 1_000_000_000), WallTime(0), seen.to_vec()) {
            changes.push((second, matches!(change, Change::Opened(_))));
        }
    }
    changes
}

#[test]
fn a_finding_begins_when_it_is_stable_and_ends_when_it_stays_away() {
    let mut findings = Findings::default();
    let seen = [Candidate::new(FindingKind::LinkDown, set([1]))];
    assert_eq!(looks(&mut findings, 0, 20, &seen), [(3, true)]);
    // Gone for less than it takes: it was never over.
    assert_eq!(looks(&mut findings, 20, 9, &[]), []);
    assert_eq!(looks(&mut findings, 29, 2, &seen), []);
    assert_eq!(looks(&mut findings, 31, 20, &[]), [(40, false)]);
    assert!(findings.is_quiet());
}

#[test]
fn members_that_keep_changing_delay_a_finding_and_do_not_prevent_it() {
    let mut findings = Findings::default();
    let mut opened = Vec::new();
    for second in 0..10_u64 {
        let seen = Candidate::new(FindingKind::GroupSplit, set((0..4).chain([4 + second as u32 % 2])));
        for change in findings.look(Time(0) + SECOND * second as u32, WallTime(0), vec![seen]) {
            assert!(matches!(change, Change::Opened(_)));
            opened.push(second);
        }
    }
    assert_eq!(opened, [8]);
}
