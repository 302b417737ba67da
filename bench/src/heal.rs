//! Recovery time of work: after machine failures, among real agents in network namespaces, and after processes exit.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use wyneos_netns::{Network, PATIENCE, missing};

use crate::{Failure, output::Row, stats};

/// Delay between two failures, so that the return of the previous host no longer counts as recent.
const CALM: Duration = Duration::from_secs(3);

/// Polling interval. Results exceed the true times by up to this interval plus the duration of a poll.
const LOOK: Duration = Duration::from_millis(10);

/// Backoff before a process is restarted.
const BACKOFF: Duration = Duration::from_millis(100);

/// A running instance: its node, process id and restart count.
struct Running {
    node: String,
    pid: i32,
    restarts: u64,
}

fn running(network: &Network) -> Vec<Running> {
    let Some(answer) = network.wynectl(&["assignments"]) else {
        return Vec::new();
    };
    let rows = answer["assignments"].as_array().cloned().unwrap_or_default();
    let read = |row: &Value| {
        let status = &row["assignment"]["status"];
        (status["phase"] == "INSTANCE_PHASE_RUNNING").then(|| Running {
            node: row["nodeName"].as_str().unwrap_or_default().to_owned(),
            pid: status["pid"].as_i64().unwrap_or_default() as i32,
            restarts: status["restarts"].as_u64().unwrap_or_default(),
        })
    };
    rows.iter().filter_map(read).collect()
}

/// Waits until the running instances satisfy the condition, and returns the time it took.
fn until(network: &Network, what: &str, so: impl Fn(&[Running]) -> bool) -> Result<Duration, Failure> {
    let began = Instant::now();
    while !so(&running(network)) {
        if began.elapsed() > PATIENCE {
            return Err(Failure::new(format!("not within {PATIENCE:?}: {what}")));
        }
        thread::sleep(LOOK);
    }
    Ok(began.elapsed())
}

/// Causes machine failures, each with an instance on the machine, and then process exits.
pub(crate) fn run(agents: usize, deaths: usize) -> Result<Vec<Row>, Failure> {
    if let Some(why) = missing() {
        return Err(Failure::new(format!("{why}: this makes network namespaces")));
    }
    let network = Network::start(agents, &[]);
    let file = std::env::temp_dir().join(format!("wyneos-bench-{}.toml", std::process::id()));
    let declaration = format!(
        "name = \"work\"\nkind = \"service\"\nreplicas = {agents}\ncommand = \"/bin/sleep\"\nargs = [\"100000\"]\n\
         reschedule_delay = \"0s\"\n[restart]\nattempts = 1000\nbackoff = \"{}ms\"\nbackoff_max = \"{}ms\"\n",
        BACKOFF.as_millis(),
        BACKOFF.as_millis()
    );
    fs::write(&file, declaration).map_err(Failure::of("a file"))?;
    network.settle();
    let applied = network.wynectl(&["apply", "-f", &file.display().to_string()]);
    drop(fs::remove_file(&file));
    applied.ok_or_else(|| Failure::new("the work could not be declared"))?;
    until(&network, "all run", |running| running.len() == agents)?;
    let mut moved = Vec::new();
    for number in 0..deaths {
        let host = 1 + number % agents;
        let name = format!("node-{host}");
        network.settle();
        thread::sleep(CALM);
        if !running(&network).iter().any(|one| one.node == name) {
            continue;
        }
        network.link(host, false);
        let took = until(&network, "all run elsewhere", |running| {
            running.iter().filter(|one| one.node != name).count() == agents
        })?;
        network.link(host, true);
        until(&network, "the surplus is stopped", |running| running.len() == agents)?;
        moved.push(took.as_secs_f64());
        eprintln!("heal: {} of {deaths}: {:.2} s", number + 1, took.as_secs_f64());
    }
    let mut restarted = Vec::new();
    for _ in 0..deaths {
        // The process with the fewest restarts has run for the longest time: one that exits soon after its start waits
        // longer than the base backoff.
        let Some(one) = running(&network).into_iter().min_by_key(|one| one.restarts) else {
            break;
        };
        let began = Instant::now();
        if let Some(pid) = Pid::from_raw(one.pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
        until(&network, "it is started again", |running| {
            running
                .iter()
                .any(|now| now.node == one.node && now.restarts > one.restarts && now.pid != one.pid)
        })?;
        restarted.push(began.elapsed().saturating_sub(BACKOFF).as_secs_f64() * 1e3);
    }
    Ok(vec![
        Row::new("heal")
            .with("agents", agents)
            .with("deaths", moved.len())
            .number("moved_s", stats::median(&moved))
            .number("moved_p99_s", stats::quantile(&moved, 0.99))
            .number("moved_max_s", stats::quantile(&moved, 1.0))
            .number("restarted_ms", stats::median(&restarted))
            .number("restarted_p99_ms", stats::quantile(&restarted, 0.99)),
    ])
}
