//! Lists of workloads, one workload, and the results of what-ifs and rebalancing, for people.

use std::collections::BTreeSet;

use wyneos::v1;

use super::state::{instances, state};
use crate::{
    commands::{
        assignments::{assignments_table, phase},
        changes::{change, kept_out, more_changes, waiting, waiting_slots},
    },
    text::{self, Fields, Table, clean},
};

/// A table of workloads.
pub(in crate::commands) fn all(workloads: &[v1::Workload]) -> String {
    let mut table = Table::new([
        "NAME", "KIND", "REVISION", "DESIRED", "RUNNING", "HEALTHY", "CURRENT", "STATE",
    ]);
    for workload in workloads {
        table.row([
            clean(&workload.name),
            workload.kind.clone(),
            workload.revision.to_string(),
            workload.desired.to_string(),
            workload.running.to_string(),
            workload.healthy.to_string(),
            workload.current.to_string(),
            state(workload),
        ]);
    }
    table.text(0)
}

/// One workload with its present and ended instances.
pub(in crate::commands) fn one(answer: &v1::GetWorkloadResponse, rows: &[v1::AssignmentRow]) -> String {
    let mut view = String::new();
    if let Some(workload) = &answer.workload {
        view += &fields(workload, answer.spec.as_ref(), rows).text();
        view += &waiting(&workload.waiting);
        view += &kept_out(&workload.waiting);
    }
    if !rows.is_empty() {
        view.push('\n');
        view += &assignments_table(rows, answer.workload.as_slice()).view(0);
    }
    view + &ended(&answer.assignments)
}

fn fields(workload: &v1::Workload, spec: Option<&v1::WorkloadSpec>, rows: &[v1::AssignmentRow]) -> Fields {
    let mut fields = Fields::default();
    fields.add("name", clean(&workload.name));
    fields.add("kind", workload.kind.clone());
    fields.add("state", state(workload));
    fields.add("instances", instances(workload));
    if workload.kind == "batch" {
        fields.add("run", workload.run.to_string());
    }
    let stable = match workload.stable_revision {
        0 => text::NONE.to_owned(),
        stable => stable.to_string(),
    };
    fields.add("revision", format!("{} (stable: {stable})", workload.revision));
    let when = text::timestamp(workload.time.as_ref());
    fields.add("declared", format!("{when} by {}", by(&workload.declared_by)));
    if let Some(spec) = spec {
        let words: Vec<String> = [&spec.command]
            .into_iter()
            .chain(&spec.args)
            .map(|word| clean(word))
            .collect();
        fields.add("command", words.join(" "));
        fields.add("user", user(&spec.user, rows));
        if !spec.env.is_empty() {
            let names: Vec<String> = spec.env.iter().map(|variable| clean(&variable.name)).collect();
            fields.add("environment", names.join(", "));
        }
    }
    fields
}

/// The principal that declared it. Without TLS the coordinator records every caller as `anybody`.
fn by(whom: &str) -> String {
    match whom {
        "anybody" => "an unauthenticated caller".to_owned(),
        whom => clean(whom),
    }
}

/// The user that the programs of a workload run as: the declared one, or the default users of the nodes that run it.
fn user(declared: &str, rows: &[v1::AssignmentRow]) -> String {
    if !declared.is_empty() {
        return clean(declared);
    }
    let named: BTreeSet<&str> = rows
        .iter()
        .map(|row| row.user.as_str())
        .filter(|user| !user.is_empty())
        .collect();
    match named.is_empty() {
        true => "the default user of its node".to_owned(),
        false => format!(
            "{} (the default of its nodes)",
            clean(&named.into_iter().collect::<Vec<_>>().join(", "))
        ),
    }
}

/// A table of the ended instances, the last one first.
fn ended(assignments: &[v1::Assignment]) -> String {
    let mut table = Table::new(["ENDED", "INSTANCE", "AGE", "BECAUSE"]);
    let ended = |one: &&v1::Assignment| phase(one) == v1::InstancePhase::Ended;
    for one in assignments.iter().filter(ended).rev() {
        let status = one.status.clone().unwrap_or_default();
        table.row([
            clean(&one.id),
            format!("{}.{}", clean(&one.workload), one.slot),
            text::age(status.since.as_ref()),
            because(&status),
        ]);
    }
    match table.is_empty() {
        true => String::new(),
        false => format!("\n{}", table.view(0)),
    }
}

/// The reason of an instance's end, and the last line of its standard error.
pub(super) fn because(status: &v1::InstanceStatus) -> String {
    let because = match status.outcome_unknown {
        true => format!("outcome unknown: {}", clean(&status.detail)),
        false => clean(&status.detail),
    };
    match status.last_stderr.as_str() {
        "" => because,
        line => format!("{because}; stderr: {}", clean(line)),
    }
}

/// The effect on work if nodes were gone.
pub(in crate::commands) fn what_if(answer: &v1::WhatIfResponse) -> String {
    if answer.changes.is_empty() {
        return "no instances run there\n".to_owned();
    }
    let starts: usize = answer
        .changes
        .iter()
        .map(|change| change.starts.len() + change.more_starts as usize)
        .sum();
    let waiting: u32 = answer.changes.iter().map(waiting_slots).sum();
    let mut told = format!(
        "{} affected: {} would start elsewhere, {} would wait\n\n",
        text::count(answer.changes.len() as u64 + u64::from(answer.more_changes), "workload"),
        text::count(starts as u64 + u64::from(answer.more_starts), "instance"),
        waiting.saturating_add(answer.more_waiting)
    );
    let changes: Vec<String> = answer.changes.iter().map(|one| change(Some(one))).collect();
    told.push_str(&changes.join("\n"));
    told.push_str(&more_changes(answer.more_changes, "workload"));
    told
}

/// The moves of a rebalancing.
pub(in crate::commands) fn rebalanced(answer: &v1::RebalanceResponse) -> String {
    if answer.changes.is_empty() {
        return "no move would improve the balance enough\n".to_owned();
    }
    let mut table = Table::new(["INSTANCE", "FROM", "TO", "BECAUSE"]);
    for change in &answer.changes {
        for (start, stop) in change.starts.iter().zip(&change.stops) {
            table.row([
                format!("{}.{}", clean(&start.workload), start.slot),
                clean(&stop.node_name),
                clean(&start.node_name),
                clean(&start.reason),
            ]);
        }
    }
    table.text(0) + &more_changes(answer.more_changes, "move")
}
