//! The duration of placement, in process.

use std::{sync::Arc, time::Instant};

use wyneos_core::{
    id::Uuid,
    node::{Admission, Attributes, Eligibility, Labels, Liveness, NodeIndex, NodeRecord},
    placement::{Fleet, Node, Standing},
    workload::{Kind, Resources, Spec},
};

use crate::{Failure, output::Row};

/// Number of instances of one workload.
const REPLICAS: u32 = 100;

/// Average number of instances per node.
const A_NODE: u64 = 5;

fn record(number: u64) -> Arc<NodeRecord> {
    let mut record = NodeRecord::enrolled(Uuid(u128::from(number).to_be_bytes()), &format!("node-{number}"));
    let zone = ("zone".to_owned(), format!("zone-{}", number % 3));
    let facts = Arc::make_mut(&mut record.facts);
    facts.labels = Labels::from([zone]);
    facts.attributes = Attributes::default().with_containment(Ok(()));
    Arc::new(record)
}

fn fleet(nodes: u64) -> Fleet {
    let node = |number: u64| Node {
        index: NodeIndex(number as u32),
        record: record(number),
        admission: Admission::Admitted,
        liveness: Liveness::Online,
        eligibility: Eligibility::Eligible,
        capacity: Resources {
            cpu_millis: 8_000,
            memory_bytes: 32 << 30,
        },
        promised: Resources::default(),
        taken: Vec::new(),
        load_percent: (number * 7 % 60) as u32,
        trust_percent: 100,
        coordinate: None,
    };
    Fleet::new((0..nodes).map(node).collect())
}

fn spec(number: u64) -> Spec {
    let mut spec = Spec::new(&format!("workload-{number}"), "/bin/true");
    spec.kind = Kind::Service { replicas: REPLICAS };
    // Every other workload is spread over zones.
    if number.is_multiple_of(2) {
        spec.spread = "zone".to_owned();
    }
    spec
}

/// Places five instances per node on empty nodes, and then one more instance.
pub(crate) fn run(sizes: &[u64]) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for &nodes in sizes {
        eprintln!("place: {nodes} nodes …");
        let mut fleet = fleet(nodes);
        let workloads = (nodes * A_NODE).div_ceil(u64::from(REPLICAS));
        let began = Instant::now();
        let mut placed = 0;
        let mut last = Standing::default();
        for number in 0..workloads {
            let mut standing = Standing::default();
            placed += fleet.place(&spec(number), &mut standing, REPLICAS).placed.len();
            last = standing;
        }
        let all = began.elapsed();
        let began = Instant::now();
        let more = fleet.place(&spec(workloads - 1), &mut last, 1);
        let one = began.elapsed();
        if placed as u64 != workloads * u64::from(REPLICAS) || more.pending > 0 {
            return Err(Failure::new(format!("only {placed} instances have a place")));
        }
        rows.push(
            Row::new("place")
                .with("nodes", nodes)
                .with("instances", placed)
                .with("workloads", workloads)
                .number("all_s", all.as_secs_f64())
                .number("one_more_ms", one.as_secs_f64() * 1e3),
        );
    }
    Ok(rows)
}
