//! Detection time of real failures: a coordinator and agents in network namespaces, whose links are taken down and
//! whose agents are killed, one after another.

use std::{
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use wyneos_netns::{Network, PATIENCE, missing};

use crate::{Failure, detection::Death, output::Row, stats};

/// Delay between two failures, so that the return of the previous host no longer counts as recent.
const CALM: Duration = Duration::from_secs(3);

/// Causes `deaths` failures among `agents` real agents, one at a time.
pub(crate) fn run(agents: usize, deaths: usize, death: Death) -> Result<Vec<Row>, Failure> {
    if let Some(why) = missing() {
        return Err(Failure::new(format!("{why}: this makes network namespaces")));
    }
    let mut network = Network::start(agents, &[]);
    let mut found = Vec::new();
    for number in 0..deaths {
        let host = 1 + number % agents;
        network.settle();
        thread::sleep(CALM);
        let died = now();
        match death {
            Death::Crash => network.link(host, false),
            Death::Kill => network.kill(host),
        }
        network.becomes(host, "OFFLINE", PATIENCE);
        let at = newest(&network.events(), host).ok_or_else(|| Failure::new("no event tells of the death"))?;
        found.push((at - died) as f64 / 1e3);
        match death {
            Death::Crash => network.link(host, true),
            Death::Kill => network.spawn_agent(host),
        }
        eprintln!("death: {} of {deaths}: {:.2} s", number + 1, (at - died) as f64 / 1e3);
    }
    network.settle();
    let verdicts = offline(&network.events()).count();
    Ok(vec![
        Row::new("death")
            .with("agents", agents)
            .with("deaths", deaths)
            .with("kind", format!("{death:?}").to_lowercase())
            .with("false_verdicts", verdicts.saturating_sub(deaths))
            .number("detection_s", stats::median(&found))
            .number("detection_p99_s", stats::quantile(&found, 0.99))
            .number("detection_max_s", stats::quantile(&found, 1.0)),
    ])
}

/// Returns the time in milliseconds since 1970. The coordinator runs on the same machine and uses the same clock.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Returns the events of nodes that became offline.
fn offline(events: &[Value]) -> impl DoubleEndedIterator<Item = &Value> {
    events
        .iter()
        .filter(|event| event["liveness"]["to"] == "LIVENESS_OFFLINE")
}

/// Returns when a host was last declared offline, in milliseconds since 1970.
fn newest(events: &[Value], host: usize) -> Option<i64> {
    let name = format!("node-{host}");
    let of_host = offline(events).rfind(|event| event["nodeName"] == name.as_str())?;
    let time = humantime::parse_rfc3339(of_host["time"].as_str()?).ok()?;
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}
