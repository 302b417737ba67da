//! Detection time of failures, with the false verdicts of the same runs, and the speed of the simulator.

use std::time::Instant;

use wyneos_sim::{Report, Scenario};

use crate::{Failure, output::Row, stats};

/// The fault that is injected at the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Death {
    /// The machine loses power.
    Crash,
    /// The agent is killed while its machine lives.
    Kill,
}

/// A fresh cluster settles for 20 s; a failure that is not detected within the following 20 s counts as missed.
fn scenario(nodes: u64, death: Death) -> Result<Scenario, Failure> {
    let kind = match death {
        Death::Crash => "crash",
        Death::Kill => "kill",
    };
    let share = 100.0 * dying(nodes) as f64 / nodes as f64;
    format!(
        "name = \"detection\"\nduration = \"40s\"\n[cluster]\nnodes = {nodes}\n\
         [[fault]]\nat = \"20s\"\nkind = \"{kind}\"\ntargets = [\"{share}%\"]\n"
    )
    .parse()
    .map_err(Failure::of("the scenario"))
}

/// Returns one hundredth of the nodes, at least one.
fn dying(nodes: u64) -> u64 {
    (nodes / 100).max(1)
}

/// Simulates clusters of every size in `sizes` until at least `deaths` nodes failed in each.
pub(crate) fn run(sizes: &[u64], deaths: u64, death: Death) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for &nodes in sizes {
        let scenario = scenario(nodes, death)?;
        let seeds = deaths.div_ceil(dying(nodes));
        eprintln!("simulate: {nodes} nodes, {seeds} seeds …");
        let began = Instant::now();
        let reports: Vec<Report> = (1..=seeds)
            .map(|seed| wyneos_sim::run(&scenario, seed, |_| true))
            .collect();
        let took = began.elapsed().as_secs_f64();
        let simulated: f64 = reports.iter().map(|report| report.seconds).sum();
        let found: Vec<f64> = reports
            .iter()
            .flat_map(|report| &report.detections)
            .map(|detection| detection.after.unwrap_or(f64::INFINITY))
            .collect();
        let never = found.iter().filter(|after| after.is_infinite()).count();
        let invalid: Vec<String> = reports
            .iter()
            .flat_map(|report| report.failures.iter().map(|why| format!("seed {}: {why}", report.seed)))
            .collect();
        if let Some(first) = invalid.first() {
            return Err(Failure::new(format!("an invariant did not hold: {first}")));
        }
        let row = Row::new("simulate")
            .with("nodes", nodes)
            .with("seeds", seeds)
            .with("deaths", found.len())
            .with("never_found", never)
            .with(
                "false_verdicts",
                reports.iter().map(|report| report.false_verdicts).sum::<usize>(),
            )
            .number("detection_s", stats::median(&found))
            .number("detection_p99_s", stats::quantile(&found, 0.99))
            .number("detection_max_s", stats::quantile(&found, 1.0))
            .number("simulated_s", simulated)
            .number("wall_s", took)
            .number("times_real", simulated / took);
        rows.push(row);
    }
    Ok(rows)
}
