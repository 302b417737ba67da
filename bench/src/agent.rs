//! The resources that an agent uses on its host.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{Failure, output::Row, process::Server, stats};

/// Delay before the measurement: until then every agent knows its peers, and the work of start-up is over.
const SETTLE: Duration = Duration::from_secs(10);

/// Measures `agents` agents of one coordinator at their default settings.
pub(crate) fn run(agents: u64, window: Duration) -> Result<Vec<Row>, Failure> {
    eprintln!("agent: {agents} agents …");
    let coordinator = Server::coordinator("6s")?;
    let address = coordinator.address("address")?;
    let names = (0..agents).map(|number| Server::agent(address, &format!("agent-{number}")));
    let servers: Vec<Server> = names.collect::<Result<_, _>>()?;
    thread::sleep(SETTLE);
    let cpu = |server: &Server| server.cpu();
    let (before, began) = (servers.iter().map(cpu).collect::<Result<Vec<_>, _>>()?, Instant::now());
    thread::sleep(window);
    let took = began.elapsed().as_secs_f64();
    let mut shares = Vec::new();
    let mut memory = Vec::new();
    for (server, before) in servers.iter().zip(before) {
        shares.push((server.cpu()? - before) / took * 100.0);
        memory.push(server.rss()? / 1e6);
    }
    let row = Row::new("agent")
        .with("agents", agents)
        .with("probe_targets", (agents - 1).min(10))
        .with("seconds", window.as_secs())
        .number("rss_mb", stats::median(&memory))
        .number("rss_mb_max", stats::quantile(&memory, 1.0))
        .number("cpu_percent", stats::median(&shares))
        .number("cpu_percent_max", stats::quantile(&shares, 1.0));
    Ok(vec![row])
}
