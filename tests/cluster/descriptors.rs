//! Few file descriptors, and many idle connections.

use std::{net::TcpStream, process::Command, time::Duration};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::transport::Channel;
use wyneos::{
    client,
    v1::{self, Liveness},
};

use crate::harness::{Cluster, PATIENCE, Process, QUICK, binary, free_address, wait_until};

/// Number of idle connections, more than there are descriptors.
const IDLE: usize = 80;

/// Returns a program of this workspace limited to 64 file descriptors.
fn with_few_descriptors(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""]);
    command.arg(binary(program)).args(args);
    command
}

/// Restarts the coordinator with 64 descriptors; returns the address of its metrics.
async fn restart_with_few(cluster: &mut Cluster) -> String {
    cluster.terminate().await;
    let (metrics, data_dir) = (free_address(), cluster.data_dir());
    let mut args = vec!["run", "--tls=false", "--listen", &cluster.address];
    args.extend(["--metrics-listen", &metrics, "--data-dir", &data_dir]);
    // The transport detects at once when a flood ends a session; this test must not fail on machines that are busy for
    // some 100 ms.
    let heartbeat = ["--heartbeat", "5s"];
    let quick = QUICK.chunks(2).filter(|pair| pair[0] != heartbeat[0]);
    args.extend(quick.chain([&heartbeat[..]]).flatten());
    let log = cluster.directory.path().join("few.log");
    cluster.coordinator = Some(Process::of(with_few_descriptors("wyneos-coordinator", &args), &log));
    wait_until("the coordinator answers", async || asked(cluster).await).await;
    metrics
}

/// Opens idle connections.
fn idle(address: &str) -> Vec<TcpStream> {
    let address = address.parse().unwrap();
    let open = || TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    std::iter::repeat_with(open).take(IDLE).collect()
}

/// Opens a connection and lists the nodes on it.
async fn asked(cluster: &Cluster) -> Option<Channel> {
    let channel = client::connect(&cluster.address).await.ok()?;
    let mut client = client::cluster(channel.clone());
    client.list_nodes(v1::ListNodesRequest::default()).await.ok()?;
    Some(channel)
}

/// Reads a metrics endpoint over a new connection.
pub async fn scrape(address: &str) -> Option<String> {
    let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.ok()?;
    let mut text = String::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut text)).await;
    read.ok()?.ok()?;
    text.contains("# EOF").then_some(text)
}

#[tokio::test]
async fn idle_connections_starve_neither_port_nor_sessions() {
    let mut cluster = Cluster::start().await;
    let agent = cluster.agent("one");
    cluster.node_is("one", Liveness::Online).await;
    let metrics = restart_with_few(&mut cluster).await;
    let before = cluster.node_is("one", Liveness::Online).await;
    // More requests the second time: connections of the first flood may still exist and leave as many places to later
    // ones. Room for the rest must be made.
    for (port, asks) in [(metrics.clone(), 6), (cluster.address.clone(), 8)] {
        let held = idle(&port);
        let mut used = Vec::new();
        for _ in 0..asks {
            used.push(wait_until("the API answers", async || asked(&cluster).await).await);
            wait_until("metrics are served", async || scrape(&metrics).await).await;
        }
        // An authenticated connection, which no flood closes.
        let mut client = client::cluster(used[0].clone());
        let request = v1::ListNodesRequest::default();
        let after = client.list_nodes(request).await.unwrap().into_inner().nodes.remove(0);
        assert_eq!(
            (after.liveness(), after.session, after.liveness_since),
            (Liveness::Online, before.session, before.liveness_since),
            "the session ended while {port} was flooded"
        );
        drop((held, used));
    }
    let refused = scrape(&metrics).await.unwrap();
    for reason in ["metrics", "displaced"] {
        let counted = format!("wyneos_coordinator_connections_refused_total{{reason=\"{reason}\"}}");
        assert!(refused.contains(&counted), "{refused}");
    }
    let log = cluster.coordinator.as_ref().unwrap().log_text();
    assert!(log.contains("max_connections=20000"), "{log}");
    // Accepting never had to wait for a descriptor.
    assert!(!log.contains("no connection can be accepted"), "{log}");
    drop(agent);
}

#[tokio::test]
async fn an_agent_with_few_descriptors_keeps_its_session() {
    let cluster = Cluster::start().await;
    let (probes, metrics) = (free_address(), free_address());
    let data_dir = cluster.directory.path().join("one").display().to_string();
    let mut args = vec![
        "run",
        "--tls=false",
        "--name",
        "one",
        "--coordinators",
        &cluster.address,
    ];
    args.extend([
        "--listen",
        &probes,
        "--metrics-listen",
        &metrics,
        "--data-dir",
        &data_dir,
    ]);
    let agent = Process::of(with_few_descriptors("wyneos-agent", &args), &cluster.agent_log("one"));
    let peer = cluster.agent("two");
    let before = cluster.node_is("one", Liveness::Online).await;
    let held = [idle(&metrics), idle(&probes)];
    for _ in 0..3 {
        wait_until("metrics are served", async || scrape(&metrics).await).await;
        let after = cluster.node_is("one", Liveness::Online).await;
        assert_eq!(after.session, before.session);
    }
    assert!(!agent.log_text().contains("no connection can be accepted"));
    drop((held, peer, agent));
}

#[tokio::test]
async fn too_few_descriptors_to_serve_anybody_are_an_error_that_says_so() {
    let cluster = Cluster::start().await;
    let data_dir = cluster.directory.path().join("other").display().to_string();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 30 && exec \"$0\" \"$@\""]);
    let any = "127.0.0.1:0";
    command.arg(binary("wyneos-coordinator"));
    command.args([
        "run",
        "--tls=false",
        "--listen",
        any,
        "--metrics-listen",
        any,
        "--data-dir",
        &data_dir,
    ]);
    let mut process = Process::of(command, &cluster.directory.path().join("other.log"));
    assert_eq!(process.ended().await.code(), Some(64), "{}", process.log_text());
    assert!(process.log_text().contains("ulimit -n"), "{}", process.log_text());
}
