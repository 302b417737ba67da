//! `wynectl why` of a workload or an instance.

use wyneos::v1;

use super::{
    state::{instances, state},
    view::because,
};
use crate::{
    commands::{
        assignments::{how, phase},
        changes::{kept_out, waiting},
        why,
    },
    text::{self, Fields, Table, clean},
};

/// The workload or the instance of this name, and the retained history of its state.
pub(crate) fn explain(name: &str, answer: &v1::ExplainWorkloadResponse) -> String {
    let mut view = match (&answer.assignment, &answer.workload) {
        (Some(row), _) => instance(row, answer.before.as_ref()).text(),
        (None, Some(workload)) => unplaced(name, workload).text(),
        (None, None) => "No workload of that name is declared any more; this is its retained history.\n".to_owned(),
    };
    let placed = |row: &v1::AssignmentRow| {
        let one = row.assignment.as_ref();
        one.is_none_or(|one| phase(one) != v1::InstancePhase::Ended)
    };
    if let Some(workload) = &answer.workload
        && !answer.assignment.as_ref().is_some_and(placed)
    {
        view += &waiting(&workload.waiting);
        view += &kept_out(&workload.waiting);
    }
    if !answer.events.is_empty() {
        let mut table = Table::new(["AGE", "EVENT"]);
        for event in &answer.events {
            table.row([text::age(event.time.as_ref()), clean(&event.summary)]);
        }
        view += &format!("\n{}", table.view(0));
    }
    for decision in &answer.decisions {
        view += &format!("\n{}", why::in_full(decision));
    }
    if !answer.causes.is_empty() {
        view += "\nCauses\n";
        let causes: Vec<String> = answer.causes.iter().map(why::in_full).collect();
        view += &causes.join("\n");
    }
    view
}

/// An instance, and the previous one in its slot.
fn instance(row: &v1::AssignmentRow, before: Option<&v1::AssignmentRow>) -> Fields {
    let mut fields = Fields::default();
    let one = row.assignment.clone().unwrap_or_default();
    let status = one.status.clone().unwrap_or_default();
    let score = one.score.unwrap_or_default();
    fields.add(
        "instance",
        format!("{}.{} ({})", clean(&one.workload), one.slot, clean(&one.id)),
    );
    fields.add("node", clean(&row.node_name));
    let user = match row.user.as_str() {
        "" => "unknown".to_owned(),
        user => clean(user),
    };
    fields.add("user", user);
    fields.add("state", how(&one));
    fields.add("detail", clean(&status.detail));
    if !status.last_stderr.is_empty() {
        let line = clean(&status.last_stderr);
        fields.add("stderr", format!("{line} (last line of the ended process)"));
    }
    fields.add("placed", text::timestamp(one.placed.as_ref()));
    fields.add("because", clean(&one.reason));
    fields.add(
        "score",
        format!(
            "{}: headroom {}, calm {}, affinity {}, trust {}, record {}, closeness {}",
            score.total, score.headroom, score.calm, score.affinity, score.trust, score.record, score.closeness
        ),
    );
    if !one.stop_reason.is_empty() {
        fields.add("stops", clean(&one.stop_reason));
    }
    if let Some(row) = before {
        fields.add("before", ended(row));
    }
    fields
}

/// The result of an instance.
fn ended(row: &v1::AssignmentRow) -> String {
    let one = row.assignment.clone().unwrap_or_default();
    let status = one.status.clone().unwrap_or_default();
    let place = format!("{} on {}", clean(&one.id), clean(&row.node_name));
    format!("{place}, {}: {}", how(&one), because(&status))
}

/// A workload, or one of its slots that has no instance.
fn unplaced(name: &str, workload: &v1::Workload) -> Fields {
    let mut fields = Fields::default();
    if name != workload.name {
        let how = match workload.waiting.is_empty() {
            true => "not placed at present",
            false => "waits",
        };
        fields.add("instance", format!("{}: {how}", clean(name)));
    }
    fields.add("workload", clean(&workload.name));
    fields.add("state", state(workload));
    fields.add("instances", instances(workload));
    fields
}
