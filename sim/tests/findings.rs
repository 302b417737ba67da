//! Generated cuts and losses: the findings match the faults exactly, open within 12 s, and close within 12 s of the
//! repair.
//!
//! `PROPTEST_CASES` and `PROPTEST_RNG_SEED` select more and other cases. At most one case in a hundred may fail; each
//! one that does is printed as a scenario.

// The lint's exemption for tests does not apply to helpers of an integration test.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Mutex,
    thread,
};

use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};
use wyneos_core::mesh::ALL_PAIRS;
use wyneos_sim::{Scenario, run};

/// Default number of cases, and the default seed.
const CASES: usize = 100;
const SEED: u64 = 18;

/// Seconds: a fault begins within a second after `BEGINS` and lasts for `LASTS`; findings may take `WITHIN` to open and
/// to close.
const BEGINS: f64 = 20.0;
const LASTS: f64 = 40.0;
const WITHIN: f64 = 12.0;

/// Small losses of single links are reported later, since each link is probed once per second.
const WITHIN_LOSS: f64 = 20.0;

#[derive(Clone, Debug)]
enum Shape {
    /// No fault.
    Quiet,
    /// These nodes are cut off from all others, each by itself.
    Isolated(Vec<usize>),
    /// All zones are cut off from one another.
    ZonesApart,
    /// One zone is cut off from all others.
    ZoneCut(usize),
    /// Two zones are cut off from one another.
    Bridged(usize, usize),
    /// Links without a common node are cut.
    Links(Vec<(usize, usize)>),
    /// A node is cut off from some others.
    NodeGroup(usize, usize),
    /// Packets from one zone to the other are lost.
    OneWay(usize, usize),
    /// Packets from a node to the others are lost, or those from the others to it.
    NodeOneWay(usize, bool),
    /// A share of packets is lost.
    LossLink(usize, usize, f64),
    LossNode(usize, f64),
    LossZones(usize, usize, f64),
}

#[derive(Clone, Debug)]
struct Case {
    nodes: usize,
    zones: usize,
    tenths: u32,
    seed: u64,
    shape: Shape,
}

type Side = BTreeSet<usize>;
type Told = (String, Side, Side);

/// Builds an expected finding. Sides without a direction are put in a fixed order.
fn told(kind: &str, near: Side, far: Side) -> Told {
    let (near, far) = match kind != "one-way" && far < near {
        true => (far, near),
        false => (near, far),
    };
    (kind.to_owned(), near, far)
}

impl Case {
    fn zone(&self, zone: usize) -> Side {
        (0..self.nodes)
            .filter(|node| node % self.zones == zone % self.zones)
            .collect()
    }

    /// Returns whether packets from `one` to `other` are dropped.
    fn drops(&self, one: usize, other: usize) -> bool {
        let zones = (one % self.zones, other % self.zones);
        let both = |a: usize, b: usize, pair: (usize, usize)| (a, b) == pair || (b, a) == pair;
        match &self.shape {
            Shape::Isolated(nodes) => nodes.contains(&one) || nodes.contains(&other),
            Shape::ZonesApart => zones.0 != zones.1,
            Shape::ZoneCut(zone) => (zones.0 == *zone) != (zones.1 == *zone),
            Shape::Bridged(a, b) => both(*a, *b, zones),
            Shape::Links(links) => links.iter().any(|&(a, b)| both(a, b, (one, other))),
            Shape::NodeGroup(node, many) => {
                let in_group = |at: usize| (1..=*many).any(|step| (node + step) % self.nodes == at);
                (one == *node && in_group(other)) || (other == *node && in_group(one))
            }
            Shape::OneWay(a, b) => zones == (*a, *b),
            Shape::NodeOneWay(node, sends) => {
                if *sends {
                    one == *node
                } else {
                    other == *node
                }
            }
            Shape::Quiet | Shape::LossLink(..) | Shape::LossNode(..) | Shape::LossZones(..) => false,
        }
    }

    /// Returns the expected findings, derived from reachability.
    fn right(&self) -> BTreeSet<Told> {
        let one = |node: usize| Side::from([node]);
        match &self.shape {
            Shape::Quiet => return BTreeSet::new(),
            Shape::LossLink(a, b, _) => return BTreeSet::from([told("link-lossy", one(*a), one(*b))]),
            Shape::LossNode(node, _) => return BTreeSet::from([told("link-lossy", one(*node), Side::new())]),
            Shape::LossZones(a, b, _) => {
                let (near, far) = self.smaller_first(self.zone(*a), self.zone(*b));
                let far = if self.zones == 2 { Side::new() } else { far };
                return BTreeSet::from([told("link-lossy", near, far)]);
            }
            _ => {}
        }
        let is_down = |one, other| self.drops(one, other) || self.drops(other, one);
        let islands = self.islands(&is_down);
        let main = (0..islands.len()).max_by_key(|&at| (islands[at].len(), self.nodes - islands[at].first().unwrap()));
        let main = main.unwrap();
        let kind = |near: &Side, far: &Side| match (near.len(), far.len()) {
            (1, 0) => "peers-cut",
            (1, 1) => "link-down",
            _ => "group-split",
        };
        let mut right = BTreeSet::new();
        if islands.iter().all(|island| island.len() == 1) && self.nodes > 2 {
            return BTreeSet::from([told("group-split", Side::new(), Side::new())]);
        }
        for (at, island) in islands.iter().enumerate() {
            if at != main {
                right.insert(self.direct(kind(island, &Side::new()), island.clone(), Side::new()));
            }
        }
        if islands.len() > 1 {
            return right;
        }
        match &self.shape {
            Shape::Bridged(a, b) | Shape::OneWay(a, b) => {
                let (near, far) = self.smaller_first(self.zone(*a), self.zone(*b));
                right.insert(self.direct(kind(&near, &far), near, far));
            }
            Shape::Links(links) => right.extend(links.iter().map(|&(a, b)| told("link-down", one(a), one(b)))),
            Shape::NodeGroup(node, many) => {
                let far: Side = (1..=*many).map(|step| (node + step) % self.nodes).collect();
                right.insert(told(kind(&one(*node), &far), one(*node), far));
            }
            _ => panic!("{self:?} cuts nobody off"),
        }
        right
    }

    /// Builds an expected finding, with its direction if it has one.
    fn direct(&self, kind: &str, near: Side, far: Side) -> Told {
        let from = match &self.shape {
            Shape::OneWay(a, _) => self.zone(*a),
            Shape::NodeOneWay(node, true) => Side::from([*node]),
            Shape::NodeOneWay(node, false) => (0..self.nodes).filter(|other| other != node).collect(),
            _ => return told(kind, near, far),
        };
        match near.is_subset(&from) {
            true => told("one-way", near, far),
            false => told("one-way", far, near),
        }
    }

    fn smaller_first(&self, one: Side, other: Side) -> (Side, Side) {
        let later = one.first() > other.first();
        match one.len() < other.len() || (one.len() == other.len() && later) {
            true => (one, other),
            false => (other, one),
        }
    }

    fn islands(&self, is_down: &impl Fn(usize, usize) -> bool) -> Vec<Side> {
        let mut left: Side = (0..self.nodes).collect();
        let mut islands = Vec::new();
        while let Some(start) = left.pop_first() {
            let (mut island, mut edge) = (Side::from([start]), vec![start]);
            while let Some(node) = edge.pop() {
                let reached: Side = left.iter().copied().filter(|&next| !is_down(node, next)).collect();
                left.retain(|next| !reached.contains(next));
                edge.extend(&reached);
                island.extend(reached);
            }
            islands.push(island);
        }
        islands
    }

    fn scenario(&self) -> String {
        let mut text = format!(
            "name = \"findings\"\nduration = \"{}s\"\n[cluster]\nnodes = {}\nzones = {}\n",
            BEGINS + LASTS + WITHIN + 2.0,
            self.nodes,
            self.zones
        );
        let node = |node: &usize| format!("node-{}", node + 1);
        let zone = |zone: &usize| format!("zone-{}", zone + 1);
        let cut = "kind = \"cut\"";
        let mut faults: Vec<(String, Vec<String>, Vec<String>)> = Vec::new();
        let mut fault =
            |what: &str, targets: Vec<String>, peers: Vec<String>| faults.push((what.to_owned(), targets, peers));
        let all = || vec!["all".to_owned()];
        match &self.shape {
            Shape::Quiet => {}
            Shape::Isolated(nodes) => nodes.iter().for_each(|at| fault(cut, vec![node(at)], all())),
            Shape::ZonesApart => {
                (1..self.zones).for_each(|at| fault(cut, vec![zone(&at)], (0..at).map(|at| zone(&at)).collect()))
            }
            Shape::ZoneCut(at) => {
                let others = (0..self.zones).filter(|other| other != at);
                fault(cut, vec![zone(at)], others.map(|at| zone(&at)).collect());
            }
            Shape::Bridged(a, b) => fault(cut, vec![zone(a)], vec![zone(b)]),
            Shape::Links(links) => links.iter().for_each(|(a, b)| fault(cut, vec![node(a)], vec![node(b)])),
            Shape::NodeGroup(at, many) => {
                let group = (1..=*many).map(|step| node(&((at + step) % self.nodes)));
                fault(cut, vec![node(at)], group.collect());
            }
            Shape::OneWay(a, b) => fault("kind = \"cut\"\none_way = true", vec![zone(a)], vec![zone(b)]),
            Shape::NodeOneWay(at, true) => fault("kind = \"cut\"\none_way = true", vec![node(at)], all()),
            Shape::NodeOneWay(at, false) => fault("kind = \"cut\"\none_way = true", all(), vec![node(at)]),
            Shape::LossLink(a, b, loss) => {
                fault(&format!("kind = \"loss\"\nloss = {loss}"), vec![node(a)], vec![node(b)])
            }
            Shape::LossNode(at, loss) => fault(&format!("kind = \"loss\"\nloss = {loss}"), vec![node(at)], all()),
            Shape::LossZones(a, b, loss) => {
                fault(&format!("kind = \"loss\"\nloss = {loss}"), vec![zone(a)], vec![zone(b)])
            }
        }
        for (what, targets, peers) in faults {
            let at = BEGINS + f64::from(self.tenths) / 10.0;
            writeln!(
                text,
                "[[fault]]\nat = \"{}ms\"\nfor = \"{LASTS}s\"\n{what}\ntargets = {targets:?}\npeers = {peers:?}",
                at * 1_000.0
            )
            .unwrap();
        }
        text
    }

    fn within(&self) -> f64 {
        match self.shape {
            Shape::LossLink(..) | Shape::LossNode(..) | Shape::LossZones(..) => WITHIN_LOSS,
            _ => WITHIN,
        }
    }

    /// Runs the case and returns the differences.
    fn check(&self) -> Result<(), String> {
        let scenario: Scenario = self.scenario().parse().unwrap();
        let report = run(&scenario, self.seed, |_| true);
        let number = |name: &String| name.trim_start_matches("node-").parse::<usize>().unwrap() - 1;
        let side = |names: &[String]| -> Side { names.iter().map(number).collect() };
        let (mut open, mut wrong): (BTreeMap<Told, f64>, Vec<String>) = (BTreeMap::new(), report.failures.clone());
        let right = self.right();
        let begins = BEGINS + f64::from(self.tenths) / 10.0;
        let over = begins + LASTS;
        let mut early = BTreeSet::new();
        for found in &report.findings {
            let what = told(&found.kind, side(&found.near), side(&found.far));
            if !right.contains(&what) {
                wrong.push(format!("{:.1} s: {what:?} (open: {})", found.at, found.open));
            }
            if found.open {
                early.extend((found.at <= begins + self.within()).then(|| what.clone()));
                open.insert(what, found.at);
            } else {
                open.remove(&what);
                if found.at < over {
                    wrong.push(format!("{:.1} s: {what:?} is over before its time", found.at));
                }
                if found.at > over + WITHIN {
                    wrong.push(format!("{:.1} s: {what:?} is over late", found.at));
                }
            }
        }
        // In larger clusters, a single link may be one that is not probed.
        let is_single = matches!(self.shape, Shape::Links(_) | Shape::LossLink(..) | Shape::NodeGroup(..));
        let right = if self.nodes > ALL_PAIRS && is_single {
            early.clone()
        } else {
            right
        };
        wrong.extend(
            right
                .difference(&early)
                .map(|what| format!("{what:?} is not told in time")),
        );
        wrong.extend(open.keys().map(|what| format!("{what:?} is not over at the end")));
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("\n  "))
        }
    }
}

fn shape(nodes: usize, zones: usize) -> BoxedStrategy<Shape> {
    let node = 0..nodes;
    let loss = (2_u32..9).prop_map(|tenths| f64::from(tenths) / 10.0);
    let two = (0..nodes, 1..nodes).prop_map(move |(one, step)| (one, (one + step) % nodes));
    let mut shapes = vec![
        Just(Shape::Quiet).boxed(),
        prop::collection::btree_set(node.clone(), 1..=3.min(nodes))
            .prop_map(|nodes| Shape::Isolated(nodes.into_iter().collect()))
            .boxed(),
        (0..nodes, 1..=3.min(nodes / 2))
            .prop_map(move |(first, many)| {
                Shape::Links(
                    (0..many)
                        .map(|at| {
                            (
                                (first + 2 * at) % (nodes / 2 * 2),
                                (first + 2 * at + 1) % (nodes / 2 * 2),
                            )
                        })
                        .collect(),
                )
            })
            .boxed(),
        (node.clone(), any::<bool>())
            .prop_map(|(node, sends)| Shape::NodeOneWay(node, sends))
            .boxed(),
        (two, loss.clone())
            .prop_map(|((one, other), loss)| Shape::LossLink(one, other, loss))
            .boxed(),
        (node.clone(), loss.clone())
            .prop_map(|(node, loss)| Shape::LossNode(node, loss))
            .boxed(),
    ];
    if nodes > 4 {
        // The size of a group such that, with few probed links, every node of it still has an observed link to the
        // node.
        let most = if nodes > ALL_PAIRS { 1 } else { nodes - 2 };
        shapes.push(
            (node, 1..=most)
                .prop_map(|(node, many)| Shape::NodeGroup(node, many))
                .boxed(),
        );
    }
    if zones > 1 {
        let pair = (0..zones, 1..zones).prop_map(move |(one, step)| (one, (one + step) % zones));
        shapes.push(Just(Shape::ZonesApart).boxed());
        shapes.push((0..zones).prop_map(Shape::ZoneCut).boxed());
        shapes.push(pair.clone().prop_map(|(one, other)| Shape::Bridged(one, other)).boxed());
        shapes.push(pair.clone().prop_map(|(one, other)| Shape::OneWay(one, other)).boxed());
        shapes.push(
            (pair, loss)
                .prop_map(|((one, other), loss)| Shape::LossZones(one, other, loss))
                .boxed(),
        );
    }
    prop::strategy::Union::new(shapes).boxed()
}

fn case() -> impl Strategy<Value = Case> {
    let nodes = prop_oneof![12 => 3_usize..14, 2 => Just(50_usize), 1 => Just(100)];
    let sized = (nodes, 1_usize..6).prop_flat_map(|(nodes, zones)| {
        let zones = zones.min(nodes / 2).max(1);
        (
            Just(nodes),
            Just(zones),
            shape(nodes, zones),
            0_u32..10,
            1_u64..1_000_000,
        )
    });
    sized.prop_map(|(nodes, zones, shape, tenths, seed)| Case {
        nodes,
        zones,
        tenths,
        seed,
        shape,
    })
}

fn from_environment<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(otherwise)
}

#[test]
fn what_is_found_is_what_is_broken() {
    let (cases, seed) = (
        from_environment("PROPTEST_CASES", CASES),
        from_environment("PROPTEST_RNG_SEED", SEED),
    );
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    let drawn: Vec<Case> = (0..cases)
        .map(|_| case().new_tree(&mut runner).unwrap().current())
        .collect();
    let (left, wrong) = (Mutex::new(drawn), Mutex::new(Vec::new()));
    let work = || loop {
        let next = left.lock().unwrap().pop();
        let Some(case) = next else { return };
        if let Err(why) = case.check() {
            wrong
                .lock()
                .unwrap()
                .push(format!("{case:?}\n  {why}\n{}", case.scenario()));
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let wrong = wrong.into_inner().unwrap();
    eprintln!("{} of {cases} are exact", cases - wrong.len());
    for case in &wrong {
        eprintln!("{case}");
    }
    assert!(100 * wrong.len() <= cases, "{} of {cases} are not exact", wrong.len());
}
