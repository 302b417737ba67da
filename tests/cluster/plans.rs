//! Plans, which take long: abandoned ones, and too many of one caller.

use std::time::Duration;

use tokio::{task::JoinSet, time::timeout};
use tonic::{Code, Request};
use wyneos::{client, v1};

use crate::{
    requests::{bearer, metrics},
    secure::{Secure, nobody},
};

/// Number of concurrent plans per connection; with six connections, several times the limit of one identity.
const AT_ONCE: usize = 40;

/// Returns a declaration that takes long to plan, and fits nowhere.
fn large(replicas: u32) -> v1::WorkloadSpec {
    let affinity = |number: usize| v1::Constraint {
        key: "node.name".to_owned(),
        operator: v1::ConstraintOperator::In.into(),
        values: (0..32).map(|value| format!("{number}-{value}")).collect(),
    };
    v1::WorkloadSpec {
        name: "large".to_owned(),
        command: "/bin/true".to_owned(),
        kind: Some(v1::workload_spec::Kind::Service(v1::ServiceKind { replicas })),
        resources: Some(v1::Resources {
            cpu_millis: 1,
            memory_bytes: 1 << 20,
        }),
        affinity: (0..32).map(affinity).collect(),
        spread: "zone".to_owned(),
        ..Default::default()
    }
}

fn plan(token: &str, replicas: u32) -> Request<v1::PlanWorkloadRequest> {
    let mut request = Request::new(v1::PlanWorkloadRequest {
        spec: Some(large(replicas)),
        keep_replicas: false,
    });
    let shown = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", shown);
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_plans_holds_up_no_agent_and_no_operator() {
    let cluster = Secure::start(&[]).await;
    let _agent = cluster.joined("one").await;
    // The default heartbeat interval: with the short one of tests, a busy machine alone causes misses.
    let heartbeat = v1::SetHeartbeatIntervalRequest {
        node: "one".to_owned(),
        interval: Some(Duration::from_secs(2).try_into().unwrap()),
    };
    let mut nodes = client::cluster(cluster.admin().await);
    nodes.set_heartbeat_interval(heartbeat).await.unwrap();
    let before = cluster.online("one").await;
    let token = bearer(&cluster, "ada", v1::Role::Viewer).await;
    let mut refused = 0;
    for round in 0..4 {
        let mut calls = JoinSet::new();
        for _ in 0..6 {
            let channel = cluster.connect(&nobody(&cluster.path("admin"))).await;
            for _ in 0..AT_ONCE {
                let (mut workloads, plan) = (client::workloads(channel.clone()), plan(&token, 20_000));
                calls.spawn(async move { workloads.plan_workload(plan).await.map(drop) });
            }
        }
        // In the meantime, an operator continues to work, and to plan.
        let label = v1::LabelNodeRequest {
            node: "one".to_owned(),
            set: vec![v1::Label {
                key: "round".to_owned(),
                value: round.to_string(),
            }],
            ..Default::default()
        };
        let labelled = timeout(Duration::from_secs(10), nodes.label_node(label)).await;
        labelled.expect("a label is set in time").unwrap();
        let mut workloads = client::workloads(cluster.admin().await);
        let own = v1::PlanWorkloadRequest {
            spec: Some(large(1)),
            keep_replicas: false,
        };
        let planned = timeout(Duration::from_secs(20), workloads.plan_workload(own)).await;
        planned.expect("a plan is made in time").unwrap();
        while let Some(call) = calls.try_join_next() {
            match call.unwrap() {
                Ok(()) => {}
                Err(status) if status.code() == Code::ResourceExhausted => refused += 1,
                Err(status) => panic!("{status:?}"),
            }
        }
        // The callers of the other plans disconnect.
        calls.shutdown().await;
    }
    assert!(refused >= 4 * AT_ONCE, "{refused} refused");
    let after = cluster.online("one").await;
    assert_eq!(
        (after.session, after.liveness_since),
        (before.session, before.liveness_since)
    );
    let told = metrics(&cluster).await;
    assert!(
        told.contains("wyneos_coordinator_calls_refused_total{reason=\"limit\"}"),
        "{told}"
    );
}
