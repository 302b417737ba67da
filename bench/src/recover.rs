//! Recovery time of work after many machines fail at once, in the simulator.

use std::collections::BTreeMap;

use wyneos_sim::{Report, Scenario};

use crate::{Failure, output::Row, stats};

/// Time of the failure, in seconds; all instances run well before it.
const DEATH: f64 = 60.0;

/// Returns a scenario with one instance per node, also on every node that fails.
fn scenario(nodes: u64, deaths: u64) -> Result<Scenario, Failure> {
    let share = 100.0 * deaths as f64 / nodes as f64;
    format!(
        "name = \"recover\"\nduration = \"90s\"\n[cluster]\nnodes = {nodes}\n\
         [[workload]]\nat = \"10s\"\nname = \"web\"\nreplicas = {nodes}\nreschedule_delay = \"0s\"\n\
         [[fault]]\nat = \"{DEATH}s\"\nkind = \"crash\"\ntargets = [\"{share}%\"]\n\
         [[expect]]\nworkload = \"web\"\nrunning = {nodes}\nat_end = true\n"
    )
    .parse()
    .map_err(Failure::of("the scenario"))
}

/// Returns the seconds from the failure until all instances run again, and the maximum number of instances on a machine
/// at that time.
fn recovery(report: &Report, nodes: u64) -> Option<(f64, u32)> {
    let (mut running, mut places, mut back) = (0u64, BTreeMap::<&str, u32>::new(), None);
    for program in &report.programs {
        let there = places.entry(&program.node).or_default();
        if program.started {
            (running, *there) = (running + 1, *there + 1);
        } else {
            (running, *there) = (running - 1, there.saturating_sub(1));
        }
        if program.at >= DEATH {
            back = (running == nodes).then_some(program.at - DEATH);
        }
    }
    Some((back?, places.values().copied().max()?))
}

/// Simulates the simultaneous failure of `deaths` nodes, once per seed.
pub(crate) fn run(nodes: u64, deaths: u64, seeds: u64) -> Result<Vec<Row>, Failure> {
    let scenario = scenario(nodes, deaths)?;
    let mut times = Vec::new();
    let mut most = 0;
    for seed in 1..=seeds {
        eprintln!("recover: {nodes} nodes, {deaths} die, seed {seed} …");
        let report = wyneos_sim::run(&scenario, seed, |_| true);
        if let Some(why) = report.failures.first() {
            return Err(Failure::new(format!("seed {seed}: {why}")));
        }
        let died = report.detections.len() as u64;
        if died != deaths {
            return Err(Failure::new(format!("seed {seed}: {died} died instead of {deaths}")));
        }
        let (took, there) =
            recovery(&report, nodes).ok_or_else(|| Failure::new(format!("seed {seed}: not everything runs again")))?;
        times.push(took);
        most = most.max(there);
    }
    Ok(vec![
        Row::new("recover")
            .with("nodes", nodes)
            .with("deaths", deaths)
            .with("seeds", seeds)
            .number("all_run_again_s", stats::median(&times))
            .number("longest_s", stats::quantile(&times, 1.0))
            .with("instances_on_one_node", most),
    ])
}
