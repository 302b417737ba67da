//! The cost of work in the engine: declaring, changing, healing and impact queries, in process and through agent
//! sessions.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use wyneos_core::{
    command::WhatIf,
    coordinator::{
        Answer, Asked, ChangeWorkload, Config, Coordinator, Effect, FromAgent, Input, Published, RequestId,
        WorkloadVerb,
    },
    id::Uuid,
    integrity::Sealer,
    node::{ConnId, Hello, Labels, Origin},
    store::Durable,
    time::{Time, WallTime},
    workload::{Kind, Spec},
};

use crate::{Failure, made, output::Row, stats};

const START: WallTime = WallTime(1_764_000_000_000);

/// Average number of instances per node.
const A_NODE: u64 = 5;

/// Number of changes over which the median is computed.
const CHANGES: usize = 20;

/// Number of zones of the nodes.
const ZONES: u64 = 3;

struct Bench {
    core: Coordinator,
    now: Time,
    sealer: Sealer,
    answers: Vec<Answer>,
    requests: u64,
}

impl Bench {
    fn new(nodes: u64) -> Result<Bench, Failure> {
        let cluster = Uuid([7; 16]);
        let sealer = Sealer::new(cluster, &[3; 32], [0; 32]);
        let config = Config {
            max_nodes: nodes as usize,
            ..Config::new(wyneos::VERSION, sealer.public_key())
        };
        let now = Time(1);
        let mut bench = Bench {
            core: Coordinator::new(now, START, config, Durable::new(cluster)),
            now,
            sealer,
            answers: Vec::new(),
            requests: 0,
        };
        bench.effects();
        for number in 0..nodes {
            let mut hello =
                Hello::try_from(made::hello(number, 0, String::new())).map_err(Failure::of("a made-up hello"))?;
            hello.facts.labels = Labels::from([("zone".to_owned(), format!("zone-{}", number % ZONES))]);
            let (conn, hello) = (ConnId(number), Box::new(hello));
            let origin = Origin::default();
            bench.input(Input::Opened { conn, hello, origin });
            let (instances, all) = (Vec::new(), true);
            bench.input(Input::FromAgent(conn, FromAgent::Instances { instances, all }));
        }
        Ok(bench)
    }

    fn input(&mut self, input: Input) {
        self.core.handle(self.now, input);
        self.effects();
    }

    fn effects(&mut self) {
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Commit(_) => self.core.handle(self.now, Input::Committed),
                Effect::Publish(snapshot) => {
                    let seal = Arc::new(self.sealer.seal(snapshot.epoch, snapshot.cycle, b""));
                    let (subscribers, lagging) = (0, 0);
                    self.core.handle(
                        self.now,
                        Input::Published(Published {
                            seal,
                            subscribers,
                            lagging,
                        }),
                    );
                }
                Effect::Reply { answer, .. } => self.answers.extend(answer.ok()),
                _ => {}
            }
        }
    }

    /// Executes a command and all resulting work that is due immediately, and returns the time it took.
    fn command(&mut self, command: impl Into<Asked>) -> Duration {
        self.requests += 1;
        let request = RequestId(self.requests);
        let (command, by) = (command.into(), "bench".into());
        let began = Instant::now();
        self.input(Input::Command { request, command, by });
        let took = began.elapsed();
        // Follow-up work of the change is due at once.
        self.core.handle_timeout(self.now);
        self.effects();
        took.max(began.elapsed())
    }

    fn workload(&mut self, verb: WorkloadVerb) -> Duration {
        let (plan, at) = (false, None);
        self.command(ChangeWorkload {
            plan,
            at,
            verb,
            keep_replicas: false,
            force: false,
        })
    }
}

/// Declares five instances per node on empty nodes, changes one workload, and queries the impact of losing a zone.
pub(crate) fn run(sizes: &[u64]) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for &nodes in sizes {
        eprintln!("work: {nodes} nodes …");
        let mut bench = Bench::new(nodes)?;
        let instances = nodes * A_NODE;
        let mut spec = Spec::new("web", "/bin/true");
        let replicas = instances as u32;
        (spec.kind, spec.spread) = (Kind::Service { replicas }, "zone".to_owned());
        let placed = bench.workload(WorkloadVerb::Apply(Arc::new(spec)));
        let started = match bench.answers.last() {
            Some(Answer::ChangeWorkload(change)) => change.starts.len(),
            _ => 0,
        };
        bench.workload(WorkloadVerb::Apply(Arc::new(Spec::new("small", "/bin/true"))));
        let changes: Vec<f64> = (0..CHANGES as u32)
            .map(|change| {
                let (name, replicas) = ("small".to_owned(), 2 + change);
                bench.workload(WorkloadVerb::Scale { name, replicas }).as_secs_f64() * 1e3
            })
            .collect();
        let what_if = bench.command(WhatIf {
            nodes: "zone=zone-1".to_owned(),
            drained: false,
        });
        rows.push(
            Row::new("work")
                .with("nodes", nodes)
                .with("instances", started)
                .number("declare_s", placed.as_secs_f64())
                .number("one_change_ms", stats::median(&changes))
                .number("what_if_zone_s", what_if.as_secs_f64()),
        );
    }
    Ok(rows)
}
