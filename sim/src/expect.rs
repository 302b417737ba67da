//! Comparison of expectations with what happened.

use std::collections::BTreeSet;

use wyneos_core::{mesh::FindingKind, node::Liveness, time::Time};

use crate::{
    names::name,
    scenario::{self, Expect},
    scene::Scene,
    script::Met,
};

/// Records unmet expectations as failures.
pub(crate) fn check(scene: &mut Scene<'_>, met: &Met) {
    let first_fault = scene
        .stage
        .scenario
        .faults
        .iter()
        .map(|fault| fault.at)
        .min()
        .unwrap_or_default();
    let scenario = scene.stage.scenario;
    for expect in &scenario.expects {
        let after = Time(0) + expect.after.unwrap_or(first_fault);
        if let Some(workload) = &expect.workload {
            if let Err(why) = runs(scene, expect, workload, after) {
                scene.stage.fail(format!("{workload}: {why}"));
            }
            continue;
        }
        if let Some(kind) = expect.finding {
            if let Err(why) = found(scene, met, expect, kind, after) {
                scene.stage.fail(why);
            }
            continue;
        }
        for node in targets(scene, met, expect, &expect.targets) {
            if let Err(why) = holds(scene, expect, node, after) {
                scene.stage.fail(format!("{}: {why}", name(node)));
            }
        }
    }
}

/// Resolves the targets of an expectation; percentages refer to the nodes that the faults affected.
fn targets(scene: &Scene<'_>, met_of_faults: &Met, expect: &Expect, names: &[String]) -> BTreeSet<usize> {
    let cluster = &scene.stage.scenario.cluster;
    if names.is_empty() && expect.finding.is_none() {
        return (0..cluster.nodes).collect();
    }
    let mut met = |_| met_of_faults.values().flatten().copied().collect();
    scenario::resolve(names, cluster, &mut met).0
}

/// Checks the number of running or started programs of a workload.
fn runs(scene: &Scene<'_>, expect: &Expect, workload: &str, after: Time) -> Result<(), String> {
    let of = scene.witness.runs.iter().filter(|(_, name, ..)| name == workload);
    if let Some(most) = expect.starts_at_most {
        let starts: Vec<String> = of
            .filter(|(at, _, _, started)| *started && *at >= after)
            .map(|(at, _, node, _)| format!("{} at {:.1} s", name(*node), at.0 as f64 / 1e9))
            .collect();
        return match starts.len() > most {
            true => Err(format!(
                "{} starts where at most {most} are expected: {starts:?}",
                starts.len()
            )),
            false => Ok(()),
        };
    }
    if let Some(wanted) = expect.done {
        let done = scene.witness.done.get(workload).map_or(0, BTreeSet::len);
        return match done == wanted {
            true => Ok(()),
            false => Err(format!("{done} parts are done, where {wanted} are expected")),
        };
    }
    let wanted = expect.running.unwrap_or_default();
    let (mut now, mut was) = (0u32, false);
    let until = expect.by.map(|by| Time(0) + by);
    for (at, .., started) in of {
        if until.is_some_and(|until| *at > until) {
            break;
        }
        was |= now == wanted && *at >= after;
        now = if *started { now + 1 } else { now.saturating_sub(1) };
        was |= now == wanted && *at >= after;
    }
    // If nothing happened in the period, the previous state applies.
    match (now == wanted, was, expect.at_end) {
        (true, ..) | (_, true, false) => Ok(()),
        _ => Err(format!("{now} run, where {wanted} are expected")),
    }
}

fn found(scene: &Scene<'_>, met: &Met, expect: &Expect, kind: FindingKind, after: Time) -> Result<(), String> {
    let sides = (
        targets(scene, met, expect, &expect.near),
        targets(scene, met, expect, &expect.far),
    );
    let any = expect.near.is_empty() && expect.far.is_empty();
    let of_kind: Vec<_> = scene
        .witness
        .findings
        .iter()
        .filter(|(_, _, found, told)| {
            // With packet loss in both directions, sides of equal size may be exchanged.
            let turned = kind != FindingKind::OneWay && (found.1.clone(), found.0.clone()) == sides;
            let alike = *found == sides || turned;
            told.kind == kind.name() && (any || alike)
        })
        .collect();
    let name = kind.name();
    let others = || {
        let told: Vec<String> = scene
            .witness
            .findings
            .iter()
            .filter(|(_, open, ..)| *open)
            .map(|(at, _, _, told)| {
                format!(
                    "{:.1} s {} {:?} {:?}",
                    at.0 as f64 / 1e9,
                    told.kind,
                    told.near,
                    told.far
                )
            })
            .collect();
        format!("found were {told:?}")
    };
    if expect.at_end && !of_kind.last().is_some_and(|(_, open, ..)| *open) {
        return Err(format!("{name} is not found at the end; {}", others()));
    }
    if expect.never
        && let Some((at, ..)) = of_kind.iter().find(|(at, open, ..)| *at >= after && *open)
    {
        let at = at.0 as f64 / 1e9;
        return Err(format!(
            "{name} was found at {at:.3} s, which it never should; {}",
            others()
        ));
    }
    if let Some(by) = expect.by
        && !of_kind
            .iter()
            .any(|(at, open, ..)| *open && *at >= after && *at <= Time(0) + by)
    {
        return Err(format!("{name} was not found by {by:?}; {}", others()));
    }
    Ok(())
}

/// Times at which an expected transient event happened to a node.
fn happened(scene: &Scene<'_>, expect: &Expect, node: usize) -> Option<(String, Vec<Time>)> {
    if let Some(told) = expect.told {
        let told_so = scene
            .witness
            .told
            .iter()
            .filter(|(_, of, liveness)| *of == node && *liveness == told);
        return Some((format!("told {}", told.name()), told_so.map(|(at, ..)| *at).collect()));
    }
    if let Some(rule) = &expect.decision {
        let taken = scene
            .witness
            .decisions
            .iter()
            .filter(|(_, of, by)| *of == node && by == rule);
        return Some((format!("decided by {rule}"), taken.map(|(at, ..)| *at).collect()));
    }
    let ran_out = scene
        .witness
        .lapses
        .iter()
        .filter(|(_, of)| *of == node)
        .map(|(at, _)| *at);
    expect.lapse.then(|| ("without a lease".to_owned(), ran_out.collect()))
}

fn holds(scene: &Scene<'_>, expect: &Expect, node: usize, after: Time) -> Result<(), String> {
    let of_node: Vec<(Time, &str)> = scene
        .witness
        .transitions
        .iter()
        .filter(|(_, of, _)| *of == node)
        .map(|(at, _, transition)| (*at, transition.to.as_str()))
        .collect();
    let later = || of_node.iter().filter(|(at, _)| *at >= after);
    if let Some(most) = expect.transitions_at_most {
        let made: Vec<&str> = later().map(|(_, to)| *to).collect();
        if made.len() > most {
            return Err(format!(
                "{} transitions where at most {most} are expected: {made:?}",
                made.len()
            ));
        }
    }
    if let Some((what, times)) = happened(scene, expect, node) {
        let seconds = |at: &Time| at.0 as f64 / 1e9;
        let mut later = times.iter().filter(|at| **at >= after);
        return match (expect.by, later.next()) {
            (None, Some(at)) => Err(format!("{what} at {:.3} s, which it never should", seconds(at))),
            (Some(by), first) if first.is_none_or(|at| *at > Time(0) + by) => Err(format!("not {what} by {by:?}")),
            _ => Ok(()),
        };
    }
    let Some(liveness) = expect.liveness.map(Liveness::name) else {
        return Ok(());
    };
    let last = of_node.last().map_or("unseen", |(_, to)| *to);
    if expect.at_end && last != liveness {
        return Err(format!("is {last} at the end, not {liveness}"));
    }
    if expect.never
        && let Some((at, _)) = later().find(|(_, to)| *to == liveness)
    {
        return Err(format!(
            "became {liveness} at {:.3} s, which it never should",
            at.0 as f64 / 1e9
        ));
    }
    if let Some(by) = expect.by {
        let was_before = of_node
            .iter()
            .rfind(|(at, _)| *at < after)
            .is_some_and(|(_, to)| *to == liveness);
        let became = later().any(|(at, to)| *to == liveness && *at <= Time(0) + by);
        if !was_before && !became {
            return Err(format!("was not {liveness} by {by:?}"));
        }
    }
    Ok(())
}
