//! Generators of clusters, networks and faults, as scenarios.

use std::fmt::Write as _;

use proptest::prelude::*;

/// Tenths of a second.
pub(crate) type Tenths = u32;

/// No fault occurs before: every node is online and knows its peers.
const START: Tenths = 150;

/// Calm at the end: backoffs have passed, and nodes that flapped are trusted again.
const CALM: Tenths = 900;

/// The same after a restart of the coordinator, which waits for its nodes.
const CALM_RESTARTED: Tenths = 1_600;

/// Nodes affected by a fault.
#[derive(Clone, Debug)]
pub(crate) enum Who {
    Nodes(Vec<u32>),
    Zone(u32),
    All,
}

/// The remaining links between the coordinator and its nodes. Vertices are numbered; one of them is the coordinator.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    coordinator: u32,
    /// For each vertex except the first, an earlier one that it is always linked with. This makes the graph connected.
    joined: Vec<u32>,
    /// Whether each of the other links is missing, in order.
    missing: Vec<bool>,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Crash,
    Kill,
    Restart,
    Pause,
    Starve(u32),
    Cut,
    OneWay,
    PeersCut(Vec<u32>),
    CoordinatorCut,
    CoordinatorOneWay,
    Graph(Graph),
    Loss(u32),
    AllLoss(u32),
    LargeLoss,
    Delay(u32),
    Flap(Tenths),
    CoordinatorFlap(Tenths),
    ClockJump(bool),
    Lie,
    DiskStall,
    StoreStall,
    CoordinatorCrash,
    CoordinatorPause,
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) what: What,
    pub(crate) who: Who,
    /// Time since the previous step began.
    pub(crate) gap: Tenths,
    /// Duration; `None` to the end.
    pub(crate) lasts: Option<Tenths>,
}

#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) nodes: u32,
    pub(crate) zones: u32,
    /// Number of additional nodes that are pending.
    pub(crate) pending: u32,
    pub(crate) drift: bool,
    pub(crate) work: bool,
    pub(crate) steps: Vec<Step>,
}

/// Generates connected graphs of the coordinator and `nodes` nodes.
pub(crate) fn graph(nodes: u32) -> impl Strategy<Value = Graph> {
    let vertices = nodes as usize + 1;
    let share = prop::sample::select(vec![0.1, 0.4, 0.7, 0.95, 1.0]);
    share.prop_flat_map(move |share| {
        (
            0..=nodes,
            prop::collection::vec(0u32..1_000, vertices - 1),
            prop::collection::vec(prop::bool::weighted(share), vertices * (vertices - 1) / 2),
        )
            .prop_map(|(coordinator, joined, missing)| Graph {
                coordinator,
                joined,
                missing,
            })
    })
}

fn spread(nodes: u32) -> impl Strategy<Value = Who> {
    prop_oneof![
        6 => prop::collection::vec(0..nodes, 1..4).prop_map(Who::Nodes),
        2 => prop::collection::vec(0..nodes, 1..=nodes as usize).prop_map(Who::Nodes),
        1 => (0u32..3).prop_map(Who::Zone),
        1 => Just(Who::All),
    ]
}

/// Generates faults of every kind; `loses` includes those with random packet loss.
fn what(nodes: u32, loses: bool) -> impl Strategy<Value = What> {
    let period = || prop_oneof![1u32..20, 20u32..80];
    let sound = prop_oneof![
        1 => Just(What::Crash),
        1 => Just(What::Kill),
        1 => Just(What::Restart),
        1 => Just(What::Pause),
        1 => (25u32..90).prop_map(What::Starve),
        1 => Just(What::Cut),
        1 => Just(What::OneWay),
        1 => prop::collection::vec(0..nodes, 1..4).prop_map(What::PeersCut),
        1 => Just(What::CoordinatorCut),
        1 => Just(What::CoordinatorOneWay),
        1 => graph(nodes).prop_map(What::Graph),
        1 => Just(What::LargeLoss),
        1 => (1u32..=300).prop_map(What::Delay),
        1 => period().prop_map(What::Flap),
        1 => period().prop_map(What::CoordinatorFlap),
        1 => any::<bool>().prop_map(What::ClockJump),
        1 => Just(What::Lie),
        1 => Just(What::DiskStall),
        1 => Just(What::StoreStall),
        1 => Just(What::CoordinatorCrash),
        1 => Just(What::CoordinatorPause),
    ];
    let lossy = prop_oneof![(1u32..=80).prop_map(What::Loss), (1u32..=80).prop_map(What::AllLoss)];
    (sound, lossy, 0u32..23).prop_map(move |(sound, lossy, pick)| match loses && pick >= 21 {
        true => lossy,
        false => sound,
    })
}

/// Generates steps of a moment to minutes and, where possible, without an end.
fn step(nodes: u32, loses: bool) -> impl Strategy<Value = Step> {
    let lasts = prop_oneof![
        2 => (1u32..=10).prop_map(Some),
        3 => (11u32..150).prop_map(Some),
        1 => (150u32..600).prop_map(Some),
        2 => Just(None),
    ];
    (what(nodes, loses), spread(nodes), 0u32..=200, lasts).prop_map(|(what, who, gap, lasts)| Step {
        what,
        who,
        gap,
        lasts,
    })
}

pub(crate) fn sizes() -> impl Strategy<Value = u32> {
    prop_oneof![24 => 1u32..=13, 1 => Just(50)]
}

/// Generates up to three faults in any order, which begin within 20 s of one another.
pub(crate) fn faults(loses: bool) -> impl Strategy<Value = Case> {
    let small = prop_oneof![3 => Just(0u32), 1 => 1u32..=6];
    (sizes(), 1u32..4, small, any::<bool>(), any::<bool>(), 1..u64::MAX >> 1).prop_flat_map(
        move |(nodes, zones, pending, drift, work, seed)| {
            prop::collection::vec(step(nodes, loses), 1..=3).prop_map(move |steps| Case {
                seed,
                nodes,
                zones: zones.min(nodes),
                pending,
                drift,
                work,
                steps,
            })
        },
    )
}

/// Generates connected networks with missing links, possibly with a failure.
pub(crate) fn networks() -> impl Strategy<Value = Case> {
    (sizes(), 1..u64::MAX >> 1, any::<bool>(), 0u32..10, 0u32..=200).prop_flat_map(|(nodes, seed, work, phase, gap)| {
        let death = prop::option::of(0..nodes);
        (graph(nodes), death).prop_map(move |(graph, death)| {
            let network = Step {
                what: What::Graph(graph),
                who: Who::All,
                gap: phase,
                lasts: None,
            };
            let death = death.map(|node| Step {
                what: What::Crash,
                who: Who::Nodes(vec![node]),
                gap,
                lasts: None,
            });
            Case {
                seed,
                nodes,
                zones: 1,
                pending: 0,
                drift: false,
                work,
                steps: [network].into_iter().chain(death).collect(),
            }
        })
    })
}

/// Generates a single failure in a network that loses up to `most` percent of its packets.
pub(crate) fn deaths(most: u32) -> impl Strategy<Value = Case> {
    let sizes = prop_oneof![12 => 2u32..=13, 1 => Just(50)];
    let loss = 0..=most;
    (sizes, 0..50u32, 0u32..60, loss, 1..u64::MAX >> 1, any::<bool>()).prop_map(
        |(nodes, node, phase, loss, seed, drift)| {
            let lossy = Step {
                what: What::AllLoss(loss),
                who: Who::All,
                gap: 0,
                lasts: None,
            };
            let death = Step {
                what: What::Crash,
                who: Who::Nodes(vec![node]),
                gap: if loss > 0 { 300 + phase } else { phase },
                lasts: None,
            };
            let steps = Some(lossy).filter(|_| loss > 0).into_iter().chain([death]).collect();
            Case {
                seed,
                nodes,
                zones: 1,
                pending: 0,
                drift,
                work: false,
                steps,
            }
        },
    )
}

fn seconds(tenths: Tenths) -> String {
    format!("{}ms", tenths * 100)
}

impl Graph {
    /// Returns the cut links: for each vertex, those to later ones.
    fn cuts(&self, nodes: u32) -> Vec<(String, Vec<String>)> {
        let name = |vertex: u32| match vertex {
            _ if vertex == self.coordinator => "\"coordinator\"".to_owned(),
            _ if vertex > self.coordinator => format!("\"node-{vertex}\""),
            _ => format!("\"node-{}\"", vertex + 1),
        };
        let mut missing = self.missing.iter();
        let mut cuts = Vec::new();
        for one in 0..=nodes {
            let mut lost = Vec::new();
            for other in one + 1..=nodes {
                let kept = self
                    .joined
                    .get(other as usize - 1)
                    .is_some_and(|joined| joined % other == one);
                if missing.next().is_some_and(|missing| *missing) && !kept {
                    lost.push(name(other));
                }
            }
            if !lost.is_empty() {
                cuts.push((name(one), lost));
            }
        }
        cuts
    }
}

impl Step {
    /// Returns the fault's kind, whether it has targets, whether it has an end, and further fields.
    fn fields(&self) -> (&'static str, bool, bool, String) {
        let is_short = |lasts: Option<Tenths>| lasts.unwrap_or(10);
        match &self.what {
            What::Crash => ("crash", true, true, String::new()),
            What::Kill => ("kill", true, true, String::new()),
            What::Restart => ("restart", true, false, String::new()),
            What::Pause => ("pause", true, true, String::new()),
            What::Starve(speed) => {
                let pause = is_short(self.lasts).min(10);
                let more = format!("speed = 0.{speed:02}\npause = \"{}\"\n", seconds(pause));
                ("starve", true, true, more)
            }
            What::Cut => ("cut", true, true, String::new()),
            What::OneWay => ("cut", true, true, "one_way = true\n".to_owned()),
            What::PeersCut(_) => ("cut", true, true, String::new()),
            What::CoordinatorCut => ("coordinator-cut", true, true, String::new()),
            What::CoordinatorOneWay => ("coordinator-cut", true, true, "one_way = true\n".to_owned()),
            What::Graph(_) => ("cut", false, true, String::new()),
            What::Loss(share) => ("loss", true, true, format!("loss = 0.{share:02}\n")),
            What::AllLoss(share) => {
                let everybody = "[\"all\", \"coordinator\"]";
                let more = format!("loss = 0.{share:02}\ntargets = {everybody}\npeers = {everybody}\n");
                ("loss", false, true, more)
            }
            What::LargeLoss => ("large-loss", true, true, String::new()),
            What::Delay(millis) => ("delay", true, true, format!("delay = \"{millis}ms\"\n")),
            What::Flap(period) => ("flap", true, true, format!("period = \"{}\"\n", seconds(*period))),
            What::CoordinatorFlap(period) => {
                let more = format!("period = \"{}\"\npeers = [\"coordinator\"]\n", seconds(*period));
                ("flap", true, true, more)
            }
            What::ClockJump(back) => ("clock-jump", true, false, format!("jump = \"1d\"\nback = {back}\n")),
            What::Lie => ("lie", true, true, String::new()),
            What::DiskStall => ("disk-stall", true, true, String::new()),
            What::StoreStall => ("disk-stall", false, true, String::new()),
            What::CoordinatorCrash => ("coordinator-crash", false, true, String::new()),
            What::CoordinatorPause => ("coordinator-pause", false, true, String::new()),
        }
    }

    /// Returns whether the fault requires an end.
    fn must_end(&self) -> bool {
        matches!(
            self.what,
            What::Pause | What::DiskStall | What::StoreStall | What::CoordinatorCrash | What::CoordinatorPause
        )
    }

    pub(crate) fn lasts(&self) -> Option<Tenths> {
        match self.lasts {
            None if self.must_end() => Some(50),
            lasts => lasts,
        }
    }
}

impl Case {
    /// Returns the nodes affected by a step, counted from 0.
    pub(crate) fn met(&self, step: &Step) -> Vec<u32> {
        let nodes = self.nodes;
        let mut met: Vec<u32> = match &step.who {
            // A single liar is outvoted.
            Who::Nodes(nodes_of) if matches!(step.what, What::Lie) => vec![nodes_of[0] % nodes],
            _ if matches!(step.what, What::Lie) => vec![0],
            Who::Nodes(nodes_of) => nodes_of.iter().map(|node| node % nodes).collect(),
            Who::Zone(zone) => (0..nodes)
                .filter(|node| node % self.zones == zone % self.zones)
                .collect(),
            Who::All => (0..nodes).collect(),
        };
        met.sort_unstable();
        met.dedup();
        met
    }

    /// Returns the time at which each step begins.
    pub(crate) fn begins(&self) -> Vec<Tenths> {
        let mut at = START;
        let mut begins = Vec::new();
        for step in &self.steps {
            at += step.gap;
            begins.push(at);
        }
        begins
    }

    /// Returns the end of the scenario.
    pub(crate) fn end(&self) -> Tenths {
        let ends = self.begins().into_iter().zip(&self.steps);
        let last = ends.map(|(at, step)| at + step.lasts().unwrap_or_default()).max();
        let restarted = self
            .steps
            .iter()
            .any(|step| matches!(step.what, What::CoordinatorCrash));
        last.unwrap_or(START) + if restarted { CALM_RESTARTED } else { CALM }
    }

    pub(crate) fn scenario(&self) -> String {
        let Case {
            nodes, zones, pending, ..
        } = self;
        let mut text = format!(
            "name = \"generated\"\nduration = \"{}\"\n[cluster]\nnodes = {}\nzones = {zones}\n",
            seconds(self.end()),
            nodes + pending,
        );
        if self.drift {
            text += "clock_drift = 0.02\n";
        }
        if *pending > 0 {
            let names: Vec<String> = (nodes + 1..=nodes + pending)
                .map(|node| format!("\"node-{node}\""))
                .collect();
            writeln!(text, "pending = [{}]", names.join(", ")).unwrap();
        }
        if self.work {
            writeln!(
                text,
                "[[workload]]\nat = \"3s\"\nname = \"web\"\nreplicas = {nodes}\nreschedule_delay = \"0s\"\n\
                 [[workload]]\nat = \"3s\"\nname = \"leader\"\nsingleton = true\nreschedule_delay = \"0s\""
            )
            .unwrap();
        }
        for (at, step) in self.begins().into_iter().zip(&self.steps) {
            self.write(&mut text, at, step);
        }
        text
    }

    fn write(&self, text: &mut String, at: Tenths, step: &Step) {
        let (kind, targets, ends, more) = step.fields();
        let names = |nodes: &[u32]| -> String {
            let names: Vec<String> = nodes.iter().map(|node| format!("\"node-{}\"", node + 1)).collect();
            names.join(", ")
        };
        let met = names(&self.met(step));
        let sides: Vec<(String, String)> = match &step.what {
            What::Graph(graph) => {
                let cuts = graph.cuts(self.nodes).into_iter();
                cuts.map(|(one, others)| (one, others.join(", "))).collect()
            }
            What::PeersCut(peers) => {
                let mut peers: Vec<u32> = peers.iter().map(|node| node % self.nodes).collect();
                peers.sort_unstable();
                peers.dedup();
                vec![(met, names(&peers))]
            }
            _ => vec![(met, String::new())],
        };
        for (near, far) in sides {
            writeln!(text, "[[fault]]\nat = \"{}\"\nkind = \"{kind}\"", seconds(at)).unwrap();
            if let Some(lasts) = step.lasts().filter(|_| ends) {
                writeln!(text, "for = \"{}\"", seconds(lasts)).unwrap();
            }
            if targets || !far.is_empty() {
                writeln!(text, "targets = [{near}]").unwrap();
            }
            if !far.is_empty() {
                writeln!(text, "peers = [{far}]").unwrap();
            }
            text.push_str(&more);
        }
    }
}
