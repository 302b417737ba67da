//! False verdicts: many simulated hours in which a third of the nodes stalls repeatedly, and no node fails.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use wyneos_sim::Scenario;

use crate::{Failure, output::Row, seeds};

const NODES: u64 = 100;

/// Duration of one run, in minutes.
const MINUTES: u64 = 30;

/// Number of runs between two progress messages.
const TELL: u64 = 100;

/// The configuration of `scenarios/starved-third.toml`, with a longer duration.
fn scenario() -> Result<Scenario, Failure> {
    format!(
        "name = \"false verdicts\"\nduration = \"{MINUTES}m\"\n[cluster]\nnodes = {NODES}\n[network]\nloss = 0.01\n\
         [[fault]]\nat = \"30s\"\nkind = \"starve\"\nspeed = 0.5\npause = \"1s\"\ntargets = [\"32%\"]\n"
    )
    .parse()
    .map_err(Failure::of("the scenario"))
}

/// Failures observed over the runs.
#[derive(Default)]
struct Wrong {
    /// Seeds of runs in which a running node was declared offline.
    seeds: Vec<u64>,
    verdicts: usize,
    /// The first invariant that was violated.
    broken: Option<String>,
}

/// Simulates at least `node_hours` on as many threads as there are CPUs, with consecutive seeds from `first` on.
pub(crate) fn run(node_hours: u64, first: u64) -> Result<Vec<Row>, Failure> {
    let scenario = scenario()?;
    let count = (node_hours * 60).div_ceil(NODES * MINUTES);
    let last = first.saturating_add(count - 1);
    let (done, suspicions) = (AtomicU64::new(0), AtomicU64::new(0));
    let wrong = Mutex::new(Wrong::default());
    let began = Instant::now();
    seeds::each(&scenario, first..=last, |report| {
        let suspected = report
            .transitions
            .iter()
            .filter(|transition| transition.to == "suspect");
        suspicions.fetch_add(suspected.count() as u64, Ordering::Relaxed);
        if report.false_verdicts > 0 || !report.failures.is_empty() {
            let mut wrong = wrong.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            wrong.verdicts += report.false_verdicts;
            wrong.seeds.push(report.seed);
            let first = report.failures.into_iter().next();
            wrong.broken = wrong.broken.take().or(first);
        }
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if done.is_multiple_of(TELL) {
            let hours = done * NODES * MINUTES / 60;
            eprintln!("false-verdicts: {hours} node-hours after {:.0?} …", began.elapsed());
        }
    });
    let wrong = wrong.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let (Some(broken), 0) = (&wrong.broken, wrong.verdicts) {
        return Err(Failure::new(format!("an invariant did not hold: {broken}")));
    }
    let row = Row::new("false-verdicts")
        .with("node_hours", count * NODES * MINUTES / 60)
        .with("seeds", format!("{first}-{last}"))
        .with("suspicions", suspicions.into_inner())
        .with("false_verdicts", wrong.verdicts)
        .with("wrong_seeds", format!("{:?}", wrong.seeds))
        .with("threads", seeds::threads())
        .number("wall_s", began.elapsed().as_secs_f64());
    Ok(vec![row])
}
