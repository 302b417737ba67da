//! The effect on clients of a service behind a proxy: of updates, restarts, scaling and drains, and of machines that
//! lose power. It runs in network namespaces, with the proxy's retries disabled.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use wyneos_netns::{Load, Network, PATIENCE, Proxy, SERVICE, missing};

use crate::{Failure, output::Row, stats};

/// Number of instances of the service.
const REPLICAS: usize = 4;

/// Delay between two failures, so that the return of the previous host no longer counts as recent.
const CALM: Duration = Duration::from_secs(3);

/// Number of requests before a machine fails.
const BUSY: u64 = 200;

/// Returns the hosts that run an instance with an address.
fn hosts(network: &Network) -> Vec<usize> {
    let answer = network
        .wynectl(&["assignments", "--workload", "web"])
        .unwrap_or_default();
    let rows = answer["assignments"].as_array().cloned().unwrap_or_default();
    let serves = |row: &&serde_json::Value| row["addresses"].as_array().is_some_and(|all| !all.is_empty());
    let host = |row: &serde_json::Value| row["nodeName"].as_str()?.strip_prefix("node-")?.parse().ok();
    rows.iter().filter(serves).filter_map(host).collect()
}

fn serves(network: &Network) -> Vec<usize> {
    network.until("the service is whole", PATIENCE, |network| {
        Some(hosts(network)).filter(|hosts| hosts.len() == REPLICAS)
    })
}

/// Runs wynectl, which must succeed.
fn does(network: &Network, args: &[&str]) -> Result<(), Failure> {
    let answer = network.wynectl(args);
    answer
        .map(drop)
        .ok_or_else(|| Failure::new(format!("wynectl {} failed", args.join(" "))))
}

/// Declares the service with this stop delay; `number` makes the declaration differ from others.
fn declare(network: &Network, delay: Duration, number: u32) -> Result<(), Failure> {
    let text = SERVICE.replace("delay = \"1s\"", &format!("delay = \"{}ms\"", delay.as_millis()));
    let file = tempfile::NamedTempFile::new().map_err(Failure::of("a file"))?;
    fs::write(file.path(), format!("{text}\n[env]\nNUMBER = \"{number}\"\n")).map_err(Failure::of("a file"))?;
    does(network, &["apply", "-f", &file.path().display().to_string(), "--wait"])
}

/// Performs every kind of change that operators make to a service until `requests` requests were sent, and reports how
/// many of them failed.
fn changes(network: &Network, delay: Duration, requests: u64, first: u32) -> Result<Row, Failure> {
    declare(network, delay, first)?;
    serves(network);
    let proxy = Proxy::start(&Network::coordinator(), "web", Some(&network.space(0)), &[]);
    answers(network, &proxy);
    let (load, mut rounds) = (Load::start(&proxy.socket(), "web "), 0);
    while load.sent() < requests {
        rounds += 1;
        declare(network, delay, first + rounds)?;
        does(network, &["restart", "web", "--wait"])?;
        does(network, &["scale", "web", "2", "--wait"])?;
        does(network, &["scale", "web", "4", "--wait"])?;
        let node = format!("node-{}", serves(network)[0]);
        does(network, &["drain", &node])?;
        does(network, &["uncordon", &node])?;
        serves(network);
    }
    let (sent, failed) = load.end();
    Ok(Row::new("changes")
        .with("delay_ms", delay.as_millis() as u64)
        .with("rounds", rounds)
        .with("requests", sent)
        .with("failed", failed.len()))
}

/// Waits until requests are answered.
fn answers(network: &Network, proxy: &Proxy) {
    network.until("requests are answered", PATIENCE, |network| {
        let trial = Load::start(&proxy.socket(), "web ");
        network.until("requests come back", PATIENCE, |_| (trial.sent() > 8).then_some(()));
        trial.end().1.is_empty().then_some(())
    });
}

/// Powers off machines that serve, one after another.
fn losses(network: &mut Network, deaths: usize) -> Result<Row, Failure> {
    declare(network, Duration::from_secs(1), 0)?;
    serves(network);
    let proxy = Proxy::start(&Network::coordinator(), "web", Some(&network.space(0)), &["--cut"]);
    answers(network, &proxy);
    let (mut lasted, mut counts) = (Vec::new(), Vec::new());
    for number in 0..deaths {
        network.settle();
        thread::sleep(CALM);
        let host = serves(network)[0];
        let load = Load::start(&proxy.socket(), "web ");
        // Varies the phase relative to all periodic activity.
        let busy = BUSY + 7 * number as u64;
        network.until("it is busy", PATIENCE, |_| (load.sent() > busy).then_some(()));
        let off = Instant::now();
        network.power_off(host);
        network.until("the service is whole without it", PATIENCE, |network| {
            let now = hosts(network);
            (now.len() == REPLICAS && !now.contains(&host)).then_some(())
        });
        let (sent, failed) = load.end();
        let last = failed
            .iter()
            .map(|failed| failed.ended.saturating_duration_since(off))
            .max();
        lasted.push(last.unwrap_or_default().as_secs_f64());
        counts.push(failed.len() as f64);
        eprintln!(
            "proxied: {} of {deaths}: {} of {sent} failed, within {last:.2?}",
            number + 1,
            failed.len()
        );
        network.power_on(host);
    }
    Ok(Row::new("power loss")
        .with("deaths", deaths)
        .number("failed", stats::median(&counts))
        .number("errors_s", stats::median(&lasted))
        .number("errors_max_s", stats::quantile(&lasted, 1.0)))
}

/// Measures the changes with each of these delays, and then machine failures.
pub(crate) fn run(agents: usize, delays: &[Duration], requests: u64, deaths: usize) -> Result<Vec<Row>, Failure> {
    if let Some(why) = missing().or_else(Proxy::missing) {
        return Err(Failure::new(format!("{why}: this runs a proxy in network namespaces")));
    }
    let mut network = Network::start(agents, &[]);
    let mut rows = Vec::new();
    for (number, delay) in (1..).zip(delays) {
        rows.push(changes(&network, *delay, requests, 1_000 * number)?);
    }
    if deaths > 0 {
        rows.push(losses(&mut network, deaths)?);
    }
    Ok(rows)
}
