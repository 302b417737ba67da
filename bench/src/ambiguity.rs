//! Distinction between failed machines and a coordinator that is partitioned from them: whether each case is identified
//! correctly.

use std::{sync::Mutex, time::Instant};

use wyneos_sim::Scenario;

use crate::{Failure, output::Row, seeds};

/// The cases: a name, the kind of the fault, the zones that it affects, and the finding that is required within 12 s.
const CASES: [(&str, &str, &str, &str); 4] = [
    ("a zone loses power", "crash", "\"zone-2\"", "nodes-down"),
    (
        "cut off from a zone",
        "coordinator-cut",
        "\"zone-2\"",
        "coordinator-cut",
    ),
    (
        "two zones of three lose power",
        "crash",
        "\"zone-2\", \"zone-3\"",
        "ambiguous",
    ),
    (
        "cut off from two zones of three",
        "coordinator-cut",
        "\"zone-2\", \"zone-3\"",
        "coordinator-cut",
    ),
];

/// 30 nodes in three zones, with a packet loss of 0.5 %. Nodes behind a partition must not be declared offline. When
/// two zones fail, their nodes must not be declared offline either: that case is ambiguous.
fn scenario(kind: &str, zones: &str, finding: &str) -> Result<Scenario, Failure> {
    let spared = match finding {
        "nodes-down" => "targets = [\"zone-1\", \"zone-3\"]\n",
        _ => "",
    };
    format!(
        "name = \"ambiguity\"\nduration = \"40s\"\n[cluster]\nnodes = 30\nzones = 3\n[network]\nloss = 0.005\n\
         [[fault]]\nat = \"20s\"\nkind = \"{kind}\"\ntargets = [{zones}]\n\
         [[expect]]\nfinding = \"{finding}\"\nnear = [{zones}]\nby = \"32s\"\n\
         [[expect]]\n{spared}liveness = \"offline\"\nnever = true\n"
    )
    .parse()
    .map_err(Failure::of("the scenario"))
}

/// Runs each case with `count` seeds.
pub(crate) fn run(count: u64) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for (name, kind, zones, finding) in CASES {
        eprintln!("ambiguity: {name}, {count} seeds …");
        let scenario = scenario(kind, zones, finding)?;
        let (wrong, offline) = (Mutex::new(Vec::new()), Mutex::new(0));
        let began = Instant::now();
        seeds::each(&scenario, 1..=count, |report| {
            if !report.passed() {
                wrong
                    .lock()
                    .unwrap_or_else(|poisoned| poisoned.into_inner())
                    .push(report.seed);
            }
            *offline.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) += report.false_verdicts;
        });
        let mut wrong = wrong.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        wrong.sort_unstable();
        let right = count - wrong.len() as u64;
        wrong.truncate(10);
        let row = Row::new("ambiguity")
            .with("case", name)
            .with("seeds", count)
            .with("right", right)
            .with(
                "false_verdicts",
                offline.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()),
            )
            .with("wrong_seeds", format!("{wrong:?}"))
            .number("wall_s", began.elapsed().as_secs_f64());
        rows.push(row);
    }
    Ok(rows)
}
