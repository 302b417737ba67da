//! The duration of `wynectl why` with a long event history.

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tonic::transport::{Channel, Endpoint};
use wyneos::{client, v1};

use crate::{
    Failure,
    output::Row,
    process::{Server, sibling},
    stats,
};

/// Number of nodes with work.
const AGENTS: usize = 3;

/// Number of concurrent changes, half of them to a node, half to a workload.
const AT_ONCE: u64 = 16;

/// Time limit for the nodes to register, and the polling interval.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(50);

/// Number of repetitions of each question.
const ASKED: usize = 100;

async fn channel(address: SocketAddr) -> Result<Channel, Failure> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(Failure::of("address"))?;
    endpoint.connect().await.map_err(Failure::of("connect"))
}

/// Waits until all nodes are registered.
async fn gather(channel: Channel) -> Result<(), Failure> {
    let mut client = client::cluster(channel);
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let answer = client.list_nodes(v1::ListNodesRequest::default()).await;
        if answer.map_err(Failure::of("list nodes"))?.into_inner().nodes.len() >= AGENTS {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(Failure::new(format!("not {AGENTS} nodes within {PATIENCE:?}")))
}

async fn declare(channel: Channel) -> Result<(), Failure> {
    let spec = v1::WorkloadSpec {
        name: "web".to_owned(),
        command: "/bin/sleep".to_owned(),
        args: vec!["100000".to_owned()],
        ..v1::WorkloadSpec::default()
    };
    let request = v1::ApplyWorkloadRequest {
        spec: Some(spec),
        ..v1::ApplyWorkloadRequest::default()
    };
    let answer = client::workloads(channel).apply_workload(request).await;
    answer.map(drop).map_err(Failure::of("apply"))
}

/// Makes changes until the history has at least `events` events.
async fn change(channel: Channel, number: u64, events: u64, newest: &AtomicU64) -> Result<(), Failure> {
    let mut nodes = client::cluster(channel.clone());
    let mut work = client::workloads(channel);
    for turn in number.. {
        let sequence = if number.is_multiple_of(2) {
            let node = "agent-0".to_owned();
            let done = nodes.cordon_node(v1::CordonNodeRequest { node: node.clone() }).await;
            done.map_err(Failure::of("cordon"))?;
            let done = nodes.uncordon_node(v1::UncordonNodeRequest { node }).await;
            done.map_err(Failure::of("uncordon"))?.into_inner().event_sequence
        } else {
            let request = v1::ScaleWorkloadRequest {
                name: "web".to_owned(),
                replicas: (turn % 4) as u32,
                ..v1::ScaleWorkloadRequest::default()
            };
            let done = work.scale_workload(request).await.map_err(Failure::of("scale"))?;
            done.into_inner().change.map_or(0, |change| change.event_sequence)
        };
        if newest.fetch_max(sequence, Ordering::Relaxed).max(sequence) >= events {
            break;
        }
    }
    Ok(())
}

fn ask(address: SocketAddr, name: &str) -> Result<f64, Failure> {
    let began = Instant::now();
    let output = Command::new(sibling("wynectl")?)
        .args(["--address", &address.to_string(), "why", name])
        .stdin(Stdio::null())
        .output()
        .map_err(Failure::of("wynectl"))?;
    let took = began.elapsed().as_secs_f64();
    match output.status.success() {
        true => Ok(took * 1e3),
        false => Err(Failure::new(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}

/// Runs `wynectl why` for a node, a workload and an instance, once the history has `events` events.
pub(crate) fn run(events: u64) -> Result<Vec<Row>, Failure> {
    let coordinator = Server::coordinator("6s")?;
    let address = coordinator.address("address")?;
    let names = (0..AGENTS).map(|number| Server::agent(address, &format!("agent-{number}")));
    let _agents: Vec<Server> = names.collect::<Result<_, _>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::of("runtime"))?;
    let newest = AtomicU64::new(0);
    eprintln!("why: {events} events …");
    let began = Instant::now();
    runtime.block_on(async {
        let channel = channel(address).await?;
        gather(channel.clone()).await?;
        declare(channel.clone()).await?;
        let changes = (0..AT_ONCE).map(|number| change(channel.clone(), number, events, &newest));
        futures_util::future::try_join_all(changes).await
    })?;
    let filled = began.elapsed().as_secs_f64();
    let mut rows = Vec::new();
    // The last change may have scaled the workload to zero.
    runtime.block_on(async {
        let request = v1::ScaleWorkloadRequest {
            name: "web".to_owned(),
            replicas: 3,
            ..v1::ScaleWorkloadRequest::default()
        };
        let answer = client::workloads(channel(address).await?).scale_workload(request).await;
        answer.map(drop).map_err(Failure::of("scale"))
    })?;
    for name in ["agent-0", "web", "web.0"] {
        let times = (0..ASKED)
            .map(|_| ask(address, name))
            .collect::<Result<Vec<f64>, _>>()?;
        rows.push(
            Row::new("why")
                .with("of", name)
                .with("events", newest.load(Ordering::Relaxed))
                .with("asked", ASKED)
                .number("median_ms", stats::median(&times))
                .number("p99_ms", stats::quantile(&times, 0.99))
                .number("filled_in_s", filled),
        );
    }
    Ok(rows)
}
