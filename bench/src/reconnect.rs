//! Reconnection time of all agents after the coordinator was killed and restarted, with mutual TLS.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use crate::{Failure, load::Load, output::Row, process, process::Server};

/// Time limit for opening all sessions.
const OPEN: Duration = Duration::from_secs(300);

/// Delay before the coordinator is killed: by then every agent has sent several heartbeats.
const SETTLE: Duration = Duration::from_secs(15);

/// Observation time after all agents reconnected: longer than the grace period of the restart.
const WATCH: Duration = Duration::from_secs(75);

/// Heartbeats per second of an agent: the default.
const HZ: f64 = 0.5;

fn opened(server: &Server, agents: u64) -> Result<(Load, Duration), Failure> {
    let ca = Arc::new(server.ca()?);
    let began = Instant::now();
    let load = Load::start(server.address("address")?, agents, HZ, false, Some(ca))?;
    load.wait(agents, OPEN)?;
    Ok((load, began.elapsed()))
}

/// Measures the handshakes and session openings of the null server, and then the return of the coordinator.
pub(crate) fn run(agents: u64) -> Result<Vec<Row>, Failure> {
    eprintln!("reconnect: {agents} agents, the null server …");
    let null = Server::secure_null()?;
    let cpu = null.cpu()?;
    let (load, null_open) = opened(&null, agents)?;
    let null_cpu = null.cpu()? - cpu;
    drop(load);
    drop(null);
    eprintln!("reconnect: {agents} agents, the coordinator …");
    let mut server = Server::secure_coordinator("6s", "127.0.0.1:0")?;
    let (load, first_open) = opened(&server, agents)?;
    thread::sleep(SETTLE);
    let killed = Instant::now();
    server.kill_and_restart()?;
    let listening = server.address("address").map(|_| killed.elapsed())?;
    load.wait(0, OPEN)?;
    while load.counts.standing.load(Relaxed) == agents {
        // The agents have not detected the disconnection yet.
        if killed.elapsed() > OPEN {
            return Err(Failure::new("nobody noticed that the coordinator was gone"));
        }
        thread::sleep(Duration::from_millis(1));
    }
    load.wait(agents, OPEN)?;
    let back = killed.elapsed();
    eprintln!("reconnect: all back after {back:?}; watching for false verdicts …");
    thread::sleep(WATCH);
    let metrics = process::metrics(server.address("metrics_address")?)?;
    let of = |liveness: &str| {
        let name = format!("wyneos_coordinator_nodes{{liveness=\"{liveness}\"}}");
        process::value(&metrics, &name).unwrap_or(0.0)
    };
    Ok(vec![
        Row::new("reconnect")
            .with("agents", agents)
            .number("all_back_s", back.as_secs_f64())
            .number("coordinator_listens_s", listening.as_secs_f64())
            .number("first_open_s", first_open.as_secs_f64())
            .number("null_open_s", null_open.as_secs_f64())
            .number("null_server_cpu_s", null_cpu)
            .number("online", of("online"))
            .number("offline", of("offline"))
            .number("suspect", of("suspect"))
            .number("unreachable", of("unreachable")),
    ])
}
