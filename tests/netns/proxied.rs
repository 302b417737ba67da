//! A service behind a real proxy, on machines that lose power.

use std::{
    fs,
    time::{Duration, Instant},
};

use wyneos_netns::{Load, Network, PATIENCE, Proxy, SERVICE};

use super::skipped;

/// Number of agents; large enough that silent nodes are a minority.
const AGENTS: usize = 6;

/// Maximum duration of errors, with the proxy's retries off.
const ERRORS: Duration = Duration::from_millis(1_500);

/// Returns the machines with an instance of `web` that accepts requests.
fn hosts(network: &Network) -> Vec<usize> {
    let answer = network
        .wynectl(&["assignments", "--workload", "web"])
        .unwrap_or_default();
    let rows = answer["assignments"].as_array().cloned().unwrap_or_default();
    let serves = rows
        .iter()
        .filter(|row| row["addresses"].as_array().is_some_and(|all| !all.is_empty()));
    let host = |row: &serde_json::Value| row["nodeName"].as_str()?.strip_prefix("node-")?.parse().ok();
    serves.filter_map(host).collect()
}

#[test]
fn errors_end_soon_after_a_machine_lost_its_power() {
    if skipped() {
        return;
    }
    if let Some(why) = Proxy::missing() {
        assert!(std::env::var_os("WYNEOS_TOOLS_REQUIRED").is_none(), "{why}");
        eprintln!("skipped: {why}");
        return;
    }
    let network = Network::start(AGENTS, &[]);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), SERVICE).unwrap();
    network
        .wynectl(&["apply", "-f", &file.path().display().to_string()])
        .unwrap();
    let hosts = network.until("it runs", PATIENCE, |network| {
        Some(hosts(network)).filter(|hosts| hosts.len() == 4)
    });
    let proxy = Proxy::start(&Network::coordinator(), "web", Some(&network.space(0)), &["--cut"]);
    network.until("it answers", PATIENCE, |network| {
        let trial = Load::start(&proxy.socket(), "web ");
        network.until("requests are answered", PATIENCE, |_| (trial.sent() > 8).then_some(()));
        trial.end().1.is_empty().then_some(())
    });
    let load = Load::start(&proxy.socket(), "web ");
    let before = load.sent();
    network.until("it is busy", PATIENCE, |_| (load.sent() > before + 200).then_some(()));
    let off = Instant::now();
    network.power_off(hosts[0]);
    network.until("it runs elsewhere", PATIENCE, |network| {
        let now = self::hosts(network);
        (now.len() == 4 && !now.contains(&hosts[0])).then_some(())
    });
    let (sent, failed) = load.end();
    let early = failed.iter().filter(|failed| failed.ended < off).count();
    let last = failed.iter().map(|failed| failed.ended - off).max().unwrap_or_default();
    println!(
        "{} of {sent} requests failed, the last after {last:?}; again whole after {:?}",
        failed.len(),
        off.elapsed()
    );
    for failed in &failed {
        println!("{:?} to {:?}: {}", failed.began - off, failed.ended - off, failed.why);
    }
    assert_eq!(early, 0, "{failed:?}");
    assert!(last <= ERRORS, "errors for {last:?}: {failed:?}");
}
