//! The cost of a heartbeat and of a connected agent, compared with a server that discards heartbeats.

use std::{
    net::SocketAddr,
    str::FromStr,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::Duration,
};

use crate::{
    Failure,
    load::Load,
    output::Row,
    process::{self, Server},
    stats,
};

/// Time limit for opening all sessions.
const OPEN: Duration = Duration::from_secs(120);

/// Delay between the opening of the last session and the measurement.
const SETTLE: Duration = Duration::from_secs(2);

/// Minimum share of the requested rate: below it the measurement is rejected, because the load was not sustained.
const KEPT_UP: f64 = 0.97;

/// A load of `agents` agents with `hz` heartbeats per second each, written `agents x hz`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) agents: u64,
    pub(crate) hz: f64,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        let wrong = || format!("{text:?} is not AGENTSxHZ, as in 2000x5");
        let (agents, hz) = text.split_once('x').ok_or_else(wrong)?;
        let rate = Rate {
            agents: agents.parse().map_err(|_| wrong())?,
            hz: crate::hertz(hz)?,
        };
        let fits = (1..=19_000).contains(&rate.agents);
        fits.then_some(rate)
            .ok_or_else(|| format!("{text:?}: 1 to 19000 agents"))
    }
}

/// Cost of a server under a load.
#[derive(Clone, Copy, Debug)]
struct Cost {
    cpu_micros: f64,
    rss_bytes: f64,
    /// Achieved share of the requested heartbeat rate.
    kept: f64,
    heartbeats: u64,
    lost: u64,
    idle_rss: f64,
}

fn measure(server: &Server, address: SocketAddr, rate: Rate, window: Duration, tls: bool) -> Result<Cost, Failure> {
    // Memory that the runtime and the listener allocate on first use is not attributed to the agents.
    thread::sleep(SETTLE);
    let idle_rss = server.rss()?;
    let ca = tls.then(|| server.ca().map(Arc::new)).transpose()?;
    let load = Load::start(address, rate.agents, rate.hz, false, ca)?;
    load.wait(rate.agents, OPEN)?;
    thread::sleep(SETTLE);
    let (cpu, sent) = (server.cpu()?, load.counts.sent.load(Relaxed));
    let began = std::time::Instant::now();
    thread::sleep(window);
    let heartbeats = load.counts.sent.load(Relaxed) - sent;
    let (cpu, took) = (server.cpu()? - cpu, began.elapsed().as_secs_f64());
    let rss = server.rss()? - idle_rss;
    let standing = load.counts.standing.load(Relaxed);
    if standing != rate.agents {
        return Err(Failure::new(format!(
            "only {standing} of {} sessions stand at the end",
            rate.agents
        )));
    }
    Ok(Cost {
        cpu_micros: cpu * 1e6 / heartbeats as f64,
        rss_bytes: rss / rate.agents as f64,
        kept: heartbeats as f64 / (took * rate.hz * rate.agents as f64),
        heartbeats,
        lost: load.counts.lost.load(Relaxed),
        idle_rss,
    })
}

fn pair(rate: Rate, window: Duration, tls: bool) -> Result<(Cost, Cost), Failure> {
    let server = match tls {
        true => Server::secure_coordinator("6s", "127.0.0.1:0")?,
        false => Server::coordinator("6s")?,
    };
    let address = server.address("address")?;
    let ours = measure(&server, address, rate, window, tls)?;
    // Every heartbeat sent must have been received: a coordinator that drops heartbeats would appear cheap.
    let metrics = process::metrics(server.address("metrics_address")?)?;
    let taken = process::value(&metrics, "wyneos_coordinator_heartbeats_total").unwrap_or(0.0);
    if taken < ours.heartbeats as f64 {
        return Err(Failure::new(format!(
            "the coordinator took {taken} heartbeats of at least {} sent",
            ours.heartbeats
        )));
    }
    drop(server);
    let server = match tls {
        true => Server::secure_null()?,
        false => Server::null(&["null-server"])?,
    };
    let address = server.address("address")?;
    let null = measure(&server, address, rate, window, tls)?;
    Ok((ours, null))
}

/// Measures every rate, `repeat` times.
pub(crate) fn run(rates: &[Rate], repeat: u32, window: Duration, tls: bool) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for &rate in rates {
        let mut pairs = Vec::new();
        for round in 1..=repeat {
            eprintln!("ingest: {} agents, {} Hz, {round} of {repeat} …", rate.agents, rate.hz);
            pairs.push(pair(rate, window, tls)?);
        }
        rows.push(row(rate, window, &pairs).with("tls", tls));
    }
    Ok(rows)
}

fn row(rate: Rate, window: Duration, pairs: &[(Cost, Cost)]) -> Row {
    let all = |of: &dyn Fn(&(Cost, Cost)) -> f64| pairs.iter().map(of).collect::<Vec<_>>();
    let middle = |of: &dyn Fn(&(Cost, Cost)) -> f64| stats::median(&all(of));
    let cpu_ratios = all(&|(ours, null)| ours.cpu_micros / null.cpu_micros);
    let rss_ratios = all(&|(ours, null)| ours.rss_bytes / null.rss_bytes);
    let kept = stats::quantile(&all(&|(ours, null)| ours.kept.min(null.kept)), 0.0);
    let mut row = Row::new("ingest")
        .with("agents", rate.agents)
        .with("hz", rate.hz)
        .with("seconds", window.as_secs())
        .with("repeats", pairs.len())
        .number("cpu_ratio", stats::median(&cpu_ratios))
        .number("cpu_ratio_min", stats::quantile(&cpu_ratios, 0.0))
        .number("cpu_ratio_max", stats::quantile(&cpu_ratios, 1.0))
        .number("cpu_us_heartbeat", middle(&|(ours, _)| ours.cpu_micros))
        .number("null_cpu_us_heartbeat", middle(&|(_, null)| null.cpu_micros))
        .number("rss_ratio", stats::median(&rss_ratios))
        .number("rss_ratio_min", stats::quantile(&rss_ratios, 0.0))
        .number("rss_ratio_max", stats::quantile(&rss_ratios, 1.0))
        .number("rss_bytes_agent", middle(&|(ours, _)| ours.rss_bytes))
        .number("null_rss_bytes_agent", middle(&|(_, null)| null.rss_bytes))
        .number("idle_rss_bytes", middle(&|(ours, _)| ours.idle_rss))
        .number("heartbeats", middle(&|(ours, _)| ours.heartbeats as f64))
        .number("null_heartbeats", middle(&|(_, null)| null.heartbeats as f64))
        .number("sessions_lost", middle(&|(ours, _)| ours.lost as f64))
        .number("kept_up", kept);
    if kept < KEPT_UP {
        row = row.with("note", "the load was not kept up: the machine is too busy");
    }
    row
}
