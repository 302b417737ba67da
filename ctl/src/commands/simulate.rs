//! `wynectl simulate`: runs scenarios against the engine.

use std::{
    io::{IsTerminal as _, Write as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::mpsc, time::interval};
use wyneos_shell::files;
use wyneos_sim::{Report, Scenario};

use crate::{
    args::SimulateArgs,
    context::Context,
    exit::Exit,
    failure::Failure,
    text::{self, Colour, Table, clean, paint},
};

/// Interval between two reports of progress on a terminal.
const PROGRESS: Duration = Duration::from_millis(500);

/// Runs a scenario with one or more seeds.
pub(crate) async fn run(context: &Context, args: SimulateArgs) -> Result<(), Failure> {
    let scenario = read(&args.file)?;
    let (stop, millis) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (reports, mut finished) = mpsc::channel(16);
    let seeds = args.seed..args.seed.saturating_add(args.seeds);
    let (stopped, passed_by) = (Arc::clone(&stop), Arc::clone(&millis));
    let whole = scenario.duration.as_secs_f64();
    let worker = tokio::task::spawn_blocking(move || {
        for seed in seeds {
            let report = wyneos_sim::run(&scenario, seed, |seconds| {
                passed_by.store((seconds * 1e3) as u64, Ordering::Relaxed);
                !stopped.load(Ordering::Relaxed)
            });
            if reports.blocking_send(report).is_err() || stopped.load(Ordering::Relaxed) {
                return;
            }
        }
    });
    let shows = std::io::stderr().is_terminal();
    let mut tick = interval(PROGRESS);
    let (mut runs, mut failed) = (0u64, Vec::new());
    loop {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c(), if !stop.load(Ordering::Relaxed) => stop.store(true, Ordering::Relaxed),
            report = finished.recv() => {
                let Some(report) = report else { break };
                if shows {
                    progress("");
                }
                runs += 1;
                if !report.passed() {
                    failed.push(report.seed);
                }
                show(context, &report, args.seeds == 1)?;
            }
            _ = tick.tick(), if shows => {
                let seconds = millis.load(Ordering::Relaxed) as f64 / 1e3;
                progress(&format!("run {} of {}: {seconds:.0} of {whole:.0} s", runs + 1, args.seeds));
            }
        }
    }
    worker
        .await
        .map_err(|_| Failure::new(Exit::Failed, "the simulation failed; this is a fault of wynectl"))?;
    if let Some(first) = failed.first() {
        let message = format!("{} of {} did not hold", failed.len(), text::count(runs, "run"));
        let hint = format!(
            "to repeat the first: wynectl simulate {} --seed {first}",
            args.file.display()
        );
        return Err(Failure::new(Exit::Unverified, message).hint(hint));
    }
    Ok(())
}

fn read(path: &Path) -> Result<Scenario, Failure> {
    let told = |error: &dyn std::fmt::Display| Failure::new(Exit::Failed, format!("{}: {error}", path.display()));
    let text = files::read_named_text(path, files::TEXT).map_err(|error| told(&error))?;
    text.parse().map_err(|error| told(&error))
}

/// One line that the next one overwrites.
fn progress(line: &str) {
    let mut stderr = std::io::stderr().lock();
    drop(write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush()));
}

/// One side of a finding.
fn side(names: &[String]) -> String {
    match names.len() {
        0 => "-".to_owned(),
        1..=6 => clean(&names.join(", ")),
        many => format!("{} and {} more", clean(&names[..5].join(", ")), many - 5),
    }
}

fn show(context: &Context, report: &Report, in_full: bool) -> Result<(), Failure> {
    if context.is_json() {
        let json = serde_json::to_string(report)
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot write the report: {error}")))?;
        return context.text(&format!("{}\n", text::json_safe(&json)));
    }
    let verdict = match (report.passed(), report.complete) {
        (true, true) => paint(Colour::Green, "held"),
        (true, false) => paint(Colour::Yellow, "interrupted"),
        (false, _) => paint(Colour::Red, "did not hold"),
    };
    let mut out = String::new();
    if in_full && !report.transitions.is_empty() {
        let mut table = Table::new(["AT", "NODE", "FROM", "TO", "CAUSE", "EVIDENCE"]);
        for transition in &report.transitions {
            table.row([
                format!("{:.3}s", transition.at),
                clean(&transition.node),
                transition.from.clone().unwrap_or_default(),
                transition.to.clone(),
                clean(&transition.cause),
                clean(&transition.evidence.join("; ")),
            ]);
        }
        out.push_str(&table.text(0));
    }
    if in_full && !report.findings.is_empty() {
        let mut table = Table::new(["AT", "FINDING", "", "NEAR", "FAR", "DETAIL"]);
        for found in &report.findings {
            table.row([
                format!("{:.3}s", found.at),
                found.kind.clone(),
                if found.open { "" } else { "over" }.to_owned(),
                side(&found.near),
                side(&found.far),
                clean(&found.detail),
            ]);
        }
        out.push_str(&format!("\n{}", table.text(0)));
    }
    if in_full && !report.moves.is_empty() {
        let mut table = Table::new(["AT", "MOVE", "INSTANCE", "NODE", "BECAUSE"]);
        for moved in &report.moves {
            table.row([
                format!("{:.3}s", moved.at),
                moved.what.clone(),
                clean(&moved.instance),
                clean(&moved.node),
                clean(&moved.reason),
            ]);
        }
        out.push_str(&format!("\n{}", table.text(0)));
    }
    for found in &report.detections {
        let after = found
            .after
            .map_or("never".to_owned(), |after| format!("after {after:.3} s"));
        out.push_str(&format!(
            "{} died at {:.3} s: offline {after}\n",
            clean(&found.node),
            found.died
        ));
    }
    for failure in &report.failures {
        out.push_str(&format!("{} {}\n", paint(Colour::Red, "failed:"), clean(failure)));
    }
    out.push_str(&format!(
        "{}, seed {}: {verdict}; {:.0} s simulated, {}, {} false verdicts, trace {}\n",
        clean(&report.scenario),
        report.seed,
        report.seconds,
        text::count(report.transitions.len() as u64, "transition"),
        report.false_verdicts,
        text::short(&report.trace_hash),
    ));
    context.text(&out)
}
