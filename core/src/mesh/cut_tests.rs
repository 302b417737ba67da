//! Unit tests of cuts and findings: meshes with some links cut, and what a survey reports on them.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;

use super::{
    Candidate, Change, Cut, Direction, FindingKind, Findings, Groups, LinkReport, LinkState, Mesh, Nodes, Observation,
    Sight, Survey, Trouble,
};
use crate::{
    id::{NodeId, Uuid},
    node::NodeIndex,
    time::{Time, WallTime},
};

const SECOND: Duration = Duration::from_secs(1);

/// Time of the cut, and time of the survey.
const CUT: Time = Time(100_000_000_000);
const LOOK: Time = Time(110_000_000_000);

fn set(nodes: impl IntoIterator<Item = u32>) -> BTreeSet<NodeIndex> {
    nodes.into_iter().map(NodeIndex).collect()
}

fn id(node: u32) -> NodeId {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&node.to_be_bytes());
    Uuid(id)
}

/// Nodes that are all alive and trusted, with a count of the queries.
#[derive(Default)]
struct AllWell {
    asked: Cell<usize>,
}

impl AllWell {
    fn yes(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        true
    }
}

impl Nodes for AllWell {
    fn counts(&self, _: NodeIndex) -> bool {
        self.yes()
    }

    fn vouches(&self, _: NodeIndex) -> bool {
        self.yes()
    }

    fn is_alive(&self, _: NodeIndex) -> bool {
        self.yes()
    }

    fn is_prompt(&self, _: NodeIndex) -> bool {
        self.yes()
    }
}

/// A mesh of honest nodes.
struct Net {
    mesh: Mesh,
    nodes: u32,
    zones: u32,
}

impl Net {
    fn new(nodes: u32, zones: u32, seed: u64) -> Net {
        let mut mesh = Mesh::new(seed);
        let members: Vec<(NodeIndex, NodeId)> = (0..nodes).map(|node| (NodeIndex(node), id(node))).collect();
        mesh.replan(&members);
        let mut net = Net { mesh, nodes, zones };
        net.report(Time(0), |_, _| true, |_, _| 0.0);
        net
    }

    /// Has every node report what it observes: `passes` tells whether packets pass from one node to another, `loses`
    /// the share of lost probes.
    fn report(&mut self, now: Time, passes: impl Fn(u32, u32) -> bool, loses: impl Fn(u32, u32) -> f32) {
        for one in 0..self.nodes {
            for other in (0..self.nodes).filter(|&other| other != one) {
                let (observer, subject) = (NodeIndex(one), NodeIndex(other));
                if self.mesh.are_paired(observer, subject) {
                    self.mesh.arrive(observer, subject, passes(other, one), now);
                }
                if !self.mesh.probes(observer, subject) {
                    continue;
                }
                let answered = passes(one, other) && passes(other, one);
                let (sight, last_heard_age_millis) = match answered {
                    true => (Sight::Heard, None),
                    false => (Sight::Silent, Some(500)),
                };
                let observation = Observation {
                    sight,
                    last_heard_age_millis,
                };
                self.mesh.observe(observer, subject, observation, now);
                let loss = loses(one, other);
                let state = match (answered, loss > 0.15) {
                    (false, _) => LinkState::Down,
                    (true, true) => LinkState::Lossy,
                    (true, false) => LinkState::Up,
                };
                let report = LinkReport {
                    state,
                    rtt_micros: 300,
                    rtt_p95_micros: 300,
                    loss,
                    last_success_age_millis: None,
                    failure: None,
                };
                self.mesh.report(observer, subject, &report, now, WallTime(0));
            }
        }
    }

    fn look(&self) -> Survey {
        self.look_with(true)
    }

    fn look_with(&self, labelled: bool) -> Survey {
        self.counted(labelled).0
    }

    /// Surveys the mesh and counts the queries about nodes.
    fn counted(&self, labelled: bool) -> (Survey, usize) {
        let zone = |zone: u32| set((0..self.nodes).filter(|node| node % self.zones == zone));
        let zones: Vec<BTreeSet<NodeIndex>> = (0..self.zones).map(zone).collect();
        let groups = || match labelled && self.zones > 1 {
            true => vec![zones.iter().collect()],
            false => Groups::new(),
        };
        let nodes = AllWell::default();
        let survey = self.mesh.look(LOOK, self.nodes as usize, &nodes, groups);
        (survey, nodes.asked.get())
    }

    /// Cuts the links that `cut` selects, in both directions.
    fn cut(mut self, cut: impl Fn(u32, u32) -> bool) -> Net {
        self.report(CUT, |one, other| !cut(one, other) && !cut(other, one), |_, _| 0.0);
        self
    }
}

fn down(near: impl IntoIterator<Item = u32>, far: impl IntoIterator<Item = u32>) -> Cut {
    Cut::new(set(near), set(far), Trouble::Down)
}

fn lossy(near: impl IntoIterator<Item = u32>, far: impl IntoIterator<Item = u32>) -> Cut {
    Cut::new(set(near), set(far), Trouble::Shaky)
}

#[test]
fn one_pair_is_a_link_and_all_of_a_nodes_pairs_are_the_node() {
    let net = Net::new(10, 1, 1).cut(|one, other| (one, other) == (3, 7));
    assert_eq!(net.look().cuts, [down([3], [7])]);
    let cuts = Net::new(10, 1, 1).cut(|one, _| one == 4).look().cuts;
    assert_eq!(cuts, [down([4], [])]);
}

#[test]
fn two_nodes_that_are_cut_off_are_two_findings() {
    let net = Net::new(10, 1, 1).cut(|one, _| one == 4 || one == 6);
    assert_eq!(net.look().cuts, [down([4], []), down([6], [])]);
}

#[test]
fn a_path_of_links_is_told_link_by_link() {
    let links = [(0, 3), (1, 3), (1, 4), (2, 4), (3, 4)];
    let cuts = Net::new(5, 1, 1)
        .cut(|one, other| links.contains(&(one, other)))
        .look()
        .cuts;
    assert_eq!(cuts.len(), 5);
    assert!(cuts.iter().all(|cut| cut.near.len() == 1 && cut.far.len() == 1));
}

#[test]
fn equal_halves_are_one_split_of_which_the_side_with_the_lowest_id_is_the_rest() {
    for nodes in [4, 10, 12, 60, 100] {
        let net = Net::new(nodes, 2, 1).cut(|one, other| one % 2 != other % 2);
        let odd = (0..nodes).filter(|node| node % 2 == 1);
        assert_eq!(net.look().cuts, [down(odd, [])]);
    }
}

#[test]
fn nothing_that_works_is_nothing_that_is_named_apart() {
    let net = Net::new(8, 1, 1).cut(|_, _| true);
    assert_eq!(net.look().cuts, [down([], [])]);
}

#[test]
fn a_cut_of_one_way_is_told_with_its_direction() {
    let mut net = Net::new(24, 3, 1);
    net.report(CUT, |from, to| !(from % 3 == 1 && to % 3 == 2), |_, _| 0.0);
    let cuts = net.look().cuts;
    assert_eq!(cuts.len(), 1);
    let senders = match cuts[0].way {
        Some(Direction::FromNear) => &cuts[0].near,
        Some(Direction::FromFar) => &cuts[0].far,
        None => panic!("no direction: {cuts:?}"),
    };
    assert_eq!(*senders, set((0..24).filter(|node| node % 3 == 1)));
}

#[test]
fn loss_between_two_zones_at_a_node_and_everywhere_is_one_finding() {
    for nodes in [9, 30, 60] {
        let mut net = Net::new(nodes, 3, 1);
        let zones = |one: u32, other: u32| one % 3 + other % 3 == 1 && one % 3 != other % 3;
        net.report(CUT, |_, _| true, |one, other| if zones(one, other) { 0.9 } else { 0.0 });
        let zone = |zone| (0..nodes).filter(move |node| node % 3 == zone);
        assert_eq!(net.look().cuts, [lossy(zone(1), zone(0))]);
        let mut net = Net::new(nodes, 3, 1);
        net.report(
            CUT,
            |_, _| true,
            |one, other| if one == 5 || other == 5 { 0.5 } else { 0.0 },
        );
        assert_eq!(net.look().cuts, [lossy([5], [])]);
        let mut net = Net::new(nodes, 3, 1);
        net.report(CUT, |_, _| true, |_, _| 0.5);
        assert_eq!(net.look().cuts, [lossy([], [])]);
    }
}

#[test]
fn one_lossy_link_is_one_finding_and_a_network_that_loses_a_little_is_none() {
    let mut net = Net::new(10, 1, 1);
    net.report(
        CUT,
        |_, _| true,
        |one, other| {
            if one + other == 9 && one.min(other) == 2 {
                0.5
            } else {
                0.0
            }
        },
    );
    assert_eq!(net.look().cuts, [lossy([2], [7])]);
    // Some links lose more by chance.
    let mut net = Net::new(10, 1, 1);
    net.report(
        CUT,
        |_, _| true,
        |one, other| if (one * 7 + other) % 11 == 0 { 0.25 } else { 0.1 },
    );
    assert_eq!(net.look().cuts, []);
}

#[test]
fn an_honest_observer_is_never_in_dispute_and_a_liar_is() {
    for zones in [2, 3, 10] {
        let apart = Net::new(100, zones, 1).cut(|one, other| one % zones == 1 && other % zones == 0);
        assert_eq!(apart.look().disputed, BTreeMap::new());
        let mut net = Net::new(100, zones, 1);
        net.report(CUT, |from, to| !(from % zones == 1 && to % zones == 0), |_, _| 0.0);
        assert_eq!(net.look().disputed, BTreeMap::new());
    }
    for nodes in [3, 5, 11, 12, 20, 100] {
        let mut net = Net::new(nodes, 1, 1);
        for subject in (1..nodes)
            .filter(|&subject| net.mesh.probes(NodeIndex(0), NodeIndex(subject)))
            .collect::<Vec<_>>()
        {
            let lie = Observation {
                sight: Sight::Silent,
                last_heard_age_millis: Some(5_000),
            };
            net.mesh.observe(NodeIndex(0), NodeIndex(subject), lie, CUT);
        }
        let survey = net.look();
        assert_eq!(
            survey.disputed.keys().copied().collect::<BTreeSet<_>>(),
            set([0]),
            "of {nodes}"
        );
        assert_eq!(survey.cuts, []);
    }
}

#[test]
fn a_survey_visits_the_links_that_do_badly_and_those_around_them() {
    for nodes in [100, 1_000, 3_000] {
        assert_eq!(Net::new(nodes, 1, 1).counted(true).1, 0);
        let net = Net::new(nodes, 1, 1);
        let subject = net.mesh.subjects(NodeIndex(0))[0].0;
        let asked = net.cut(|one, other| (one, other) == (0, subject)).counted(true).1;
        assert!(asked > 0 && asked < 5_000, "{asked} of {nodes} nodes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// For any set of missing links, the survey reports every link that is down and no link that works.
    #[test]
    fn what_is_told_is_what_is_cut(nodes in 2_u32..14, seed: u64, missing in prop::collection::vec((0_u32..14, 0_u32..14), 0..40)) {
        let is_cut = |one: u32, other: u32| missing.contains(&(one, other)) || missing.contains(&(other, one));
        explains(&Net::new(nodes, 1, seed).cut(is_cut), is_cut)?;
    }

    /// The same in a mesh with few probed links, where the missing links form a pattern: separated groups and some
    /// single links.
    #[test]
    fn what_is_told_of_a_sparse_mesh_is_what_is_cut(
        nodes in 30_u32..70,
        zones in 2_u32..6,
        seed: u64,
        apart in prop::collection::vec((0_u32..6, 0_u32..6), 0..4),
        missing in prop::collection::vec((0_u32..70, 0_u32..70), 0..10),
    ) {
        let is_cut = |one: u32, other: u32| {
            let (from, to) = (one % zones, other % zones);
            let pairs = [(one, other), (other, one)];
            let apart = from != to && (apart.contains(&(from, to)) || apart.contains(&(to, from)));
            apart || pairs.iter().any(|pair| missing.contains(pair))
        };
        explains(&Net::new(nodes, zones, seed).cut(is_cut), is_cut)?;
    }

    /// The survey reports groups that are cut off from all others exactly, for any number of groups, with and without
    /// labels.
    #[test]
    fn groups_apart_are_told_exactly(nodes in 4_u32..14, zones in 2_u32..6, seed: u64, labelled: bool) {
        prop_assume!(2 * zones <= nodes);
        let net = Net::new(nodes, zones, seed).cut(|one, other| one % zones != other % zones);
        // Beyond 11 nodes, two nodes of a group may not probe one another; then only a label shows that they belong
        // together.
        let is_known = |one: u32, other: u32| net.mesh.are_paired(NodeIndex(one), NodeIndex(other));
        let all_known = (0..nodes).all(|one| (one + 1..nodes).all(|other| one % zones != other % zones || is_known(one, other)));
        prop_assume!(labelled || all_known);
        let told: BTreeSet<BTreeSet<NodeIndex>> = net.look_with(labelled).cuts.iter().map(|cut| cut.near.clone()).collect();
        let most = (0..zones).max_by_key(|zone| ((0..nodes).filter(|node| node % zones == *zone).count(), zones - zone));
        let right = (0..zones).filter(|zone| Some(*zone) != most);
        let right: BTreeSet<_> = right.map(|zone| set((0..nodes).filter(|node| node % zones == zone))).collect();
        prop_assert_eq!(told, right);
    }

    /// The survey names any two separated groups exactly if others reach both.
    #[test]
    fn two_groups_that_others_reach_are_named_exactly(nodes in 4_u32..60, near in 1_u32..6, far in 1_u32..8, seed: u64) {
        prop_assume!(near + far < nodes && (nodes < 14 || (near > 2 && far > 2)));
        let is_cut = |one: u32, other: u32| one < near && (near..near + far).contains(&other);
        let net = Net::new(nodes, 1, seed).cut(is_cut);
        // In a mesh with few probed links, a node may have no link across.
        let observed = |node: u32, others: std::ops::Range<u32>| others.into_iter().any(|other| net.mesh.are_paired(NodeIndex(node), NodeIndex(other)));
        prop_assume!((0..near).all(|node| observed(node, near..near + far)));
        prop_assume!((near..near + far).all(|node| observed(node, 0..near)));
        let found = net.look().cuts;
        prop_assume!(nodes < 14 || found.len() == 1);
        let (one, other) = (set(0..near), set(near..near + far));
        prop_assert_eq!(found.len(), 1);
        prop_assert!((found[0].near == one && found[0].far == other) || (found[0].near == other && found[0].far == one));
    }
}

/// Checks that every link that is down is reported, and no link that works.
fn explains(net: &Net, is_cut: impl Fn(u32, u32) -> bool) -> Result<(), TestCaseError> {
    let survey = net.look();
    prop_assert_eq!(&survey.disputed, &BTreeMap::new());
    for one in 0..net.nodes {
        for other in one + 1..net.nodes {
            let pair = (NodeIndex(one), NodeIndex(other));
            if !net.mesh.are_paired(pair.0, pair.1) {
                continue;
            }
            let cut = is_cut(one, other) || is_cut(other, one);
            let told = survey.cuts.iter().any(|found| found.covers(pair));
            let unsure = survey
                .cuts
                .iter()
                .any(|found| found.unsure.contains(&pair.0) || found.unsure.contains(&pair.1));
            prop_assert!(
                cut == told || (cut && unsure),
                "{} {}: cut {}, told {}: {:?}",
                one,
                other,
                cut,
                told,
                survey.cuts
            );
        }
    }
    Ok(())
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
    // An absence shorter than `CLEAR` does not close the finding.
    assert_eq!(looks(&mut findings, 20, 4, &[]), []);
    assert_eq!(looks(&mut findings, 24, 2, &seen), []);
    assert_eq!(looks(&mut findings, 26, 20, &[]), [(30, false)]);
    assert!(findings.is_quiet());
}

#[test]
fn time_in_which_nobody_looked_does_not_count() {
    let mut findings = Findings::default();
    let seen = [Candidate::new(FindingKind::Starved, set([1]))];
    assert_eq!(looks(&mut findings, 0, 2, &seen), []);
    // A late look observes the same as the previous one: the time between does not count.
    assert_eq!(looks(&mut findings, 30, 2, &seen), []);
    assert_eq!(looks(&mut findings, 32, 1, &seen), [(32, true)]);
    // Nor does a late look close a finding.
    assert_eq!(looks(&mut findings, 60, 5, &[]), []);
    assert_eq!(looks(&mut findings, 65, 1, &[]), [(65, false)]);
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

#[test]
fn a_finding_that_has_other_members_is_over_when_the_new_one_begins() {
    let mut findings = Findings::default();
    let before = [Candidate::new(FindingKind::GroupSplit, set(0..4))];
    let after = [Candidate::new(FindingKind::GroupSplit, set(0..5))];
    assert_eq!(looks(&mut findings, 0, 10, &before), [(3, true)]);
    // A short-lived change of members does not replace the finding.
    assert_eq!(looks(&mut findings, 10, 2, &after), []);
    assert_eq!(looks(&mut findings, 12, 4, &before), []);
    assert_eq!(looks(&mut findings, 16, 8, &after), [(19, false), (19, true)]);
    assert_eq!(findings.open().count(), 1);
}
