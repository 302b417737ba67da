//! Changes of workloads, made or planned, for people.

use std::collections::BTreeMap;

use wyneos::v1;

use crate::text::{self, Table, clean};

/// The result of a declaration or its plan, and the user that its programs run as.
pub(super) fn declared(declared: Option<&v1::WorkloadChange>) -> String {
    let spec = declared.and_then(|change| change.spec.as_ref());
    let user = match spec.map(|spec| spec.user.as_str()) {
        None => String::new(),
        Some("") => "runs as the default user of each node (`wynectl node NODE` shows it)\n".to_owned(),
        Some(user) => format!("runs as the user {}\n", clean(user)),
    };
    change(declared) + &user
}

/// A change, made or planned.
pub(super) fn change(change: Option<&v1::WorkloadChange>) -> String {
    let Some(change) = change else { return String::new() };
    let name = clean(&change.name);
    let starts = change.starts.len() as u64 + u64::from(change.more_starts);
    let stops = change.stops.len() as u64 + u64::from(change.more_stops);
    // 0 for a workload that is not declared: a new one, or one of which only instances are known.
    let revision = match change.revision {
        0 => text::NONE.to_owned(),
        revision => revision.to_string(),
    };
    let mut told = match (change.applied, change.changed) {
        (_, false) => format!("{name}: nothing differs from revision {revision}\n"),
        (true, true) => format!("{name}: revision {revision} (event {})", change.event_sequence),
        (false, true) if change.revision == 0 && change.spec.is_some() => format!("{name}: new"),
        (false, true) => format!("{name}: planned at revision {revision}"),
    };
    if let (true, Some(before), Some(now)) = (change.changed, change.replicas_before, replicas(change)) {
        told += &format!(", {before} → {now} instances");
    }
    if change.changed {
        let verb = if change.applied { "" } else { "would " };
        // `1 starts`, `2 start`, `1 would start`.
        let does = |number: u64, does: &str| match number == 1 && change.applied {
            true => format!("{does}s"),
            false => format!("{verb}{does}"),
        };
        let mut parts = vec![format!("{} {}", text::count(starts, "instance"), does(starts, "start"))];
        if change.adopted > 0 {
            let taken = match (change.applied, change.adopted) {
                (true, 1) => "is adopted",
                (true, _) => "are adopted",
                (false, _) => "would be adopted",
            };
            parts.push(format!("{} {taken}", text::count(change.adopted, "running instance")));
        }
        if stops > 0 {
            parts.push(format!("{stops} {}", does(stops, "stop")));
        }
        if change.later > 0 {
            let later = u64::from(change.later);
            let pace = if later == 1 { "later" } else { "a few at a time" };
            parts.push(format!("{later} {}, {pace}", does(later, "follow")));
        }
        let waiting = waiting_slots(change);
        if waiting > 0 {
            parts.push(format!("{waiting} {}", does(waiting.into(), "wait")));
        }
        told = text::hanging(
            "",
            &format!("{told}: {}", parts.join(", ")),
            4,
            Some(text::view_columns()),
        );
    }
    if !change.starts.is_empty() {
        told.push('\n');
        told.push_str(&starts_table(&change.starts));
    }
    if !change.stops.is_empty() {
        let mut table = Table::new(["STOPS", "ID", "NODE", "BECAUSE"]);
        for stop in &change.stops {
            let instance = match stop.slot {
                Some(slot) => format!("{name}.{slot}"),
                None => name.clone(),
            };
            table.row([
                instance,
                clean(&stop.assignment_id),
                clean(&stop.node_name),
                clean(&stop.reason),
            ]);
        }
        told.push('\n');
        told.push_str(&table.view(0));
        if !change.applied {
            told.push_str(&unreplaced(&change.stops));
        }
    }
    told.push_str(&waiting(&change.waiting));
    // A plan lists all nodes.
    match change.rejections.is_empty() {
        true => told.push_str(&kept_out(&change.waiting)),
        false => told.push_str(&rejections(&change.rejections)),
    }
    told.push_str(&left_out(change));
    told
}

/// Desired number of instances after a change.
fn replicas(change: &v1::WorkloadChange) -> Option<u32> {
    use v1::workload_spec::Kind;
    match change.spec.as_ref()?.kind.as_ref()? {
        Kind::Service(service) => Some(service.replicas),
        Kind::Batch(batch) => Some(batch.replicas),
        Kind::Daemon(_) => None,
    }
}

/// Waiting slots, listed or not. Slots that failed permanently wait for nothing.
pub(super) fn waiting_slots(change: &v1::WorkloadChange) -> u32 {
    let waits = change.waiting.iter().filter(|waiting| !waiting.given_up);
    let listed: u32 = waits.map(|waiting| waiting.slots).sum();
    listed.saturating_add(change.more_waiting)
}

/// Entries that the lists of a change have no room for.
fn left_out(change: &v1::WorkloadChange) -> String {
    let nodes: u32 = change.waiting.iter().map(|waiting| waiting.more_nodes).sum();
    let parts = [
        (change.more_starts, "start"),
        (change.more_stops, "stop"),
        (change.more_waiting, "waiting slot"),
        (nodes.saturating_add(change.more_rejections), "rejecting node"),
    ];
    let parts = parts.into_iter().filter(|(more, _)| *more > 0);
    let parts: Vec<String> = parts.map(|(more, what)| text::count(more, what)).collect();
    match parts.is_empty() {
        true => String::new(),
        false => {
            let line = format!("not listed, because the answer has no room: {}", parts.join(", "));
            format!("\n{}", text::hanging("", &line, 4, Some(text::view_columns())))
        }
    }
}

/// Number of instances that stop without a replacement.
fn unreplaced(stops: &[v1::PlannedStop]) -> String {
    match stops.iter().filter(|stop| stop.unreplaced).count() as u64 {
        0 => String::new(),
        1 => "1 of these stops without a replacement: apply requires --force for that\n".to_owned(),
        number => format!("{number} of these stop without a replacement: apply requires --force for that\n"),
    }
}

/// Number of further changes that the answer has no room for.
pub(super) fn more_changes(more: u32, thing: &str) -> String {
    match more {
        0 => String::new(),
        more => format!(
            "\n{} more, for which the answer has no room\n",
            text::count(more, thing)
        ),
    }
}

fn starts_table(starts: &[v1::PlannedStart]) -> String {
    let mut by_node: BTreeMap<(&str, &str), (u32, &v1::PlannedStart)> = BTreeMap::new();
    for start in starts {
        by_node.entry((&start.node_name, &start.reason)).or_insert((0, start)).0 += 1;
    }
    let mut table = Table::new([
        "NODE",
        "STARTS",
        "SCORE",
        "HEADROOM",
        "CALM",
        "AFFINITY",
        "TRUST",
        "RECORD",
        "CLOSENESS",
        "BECAUSE",
    ]);
    for (count, start) in by_node.values() {
        let score = start.score.unwrap_or_default();
        let parts = [
            score.total,
            score.headroom,
            score.calm,
            score.affinity,
            score.trust,
            score.record,
            score.closeness,
        ];
        let mut cells = vec![clean(&start.node_name), count.to_string()];
        cells.extend(parts.map(|part| part.to_string()));
        cells.push(clean(&start.reason));
        table.row(cells);
    }
    table.view(0)
}

pub(super) fn waiting(waiting: &[v1::Waiting]) -> String {
    if waiting.is_empty() {
        return String::new();
    }
    let mut view = String::new();
    for (given_up, headings) in [(true, ["FAILED", "BECAUSE"]), (false, ["WAIT", "FOR"])] {
        let mut table = Table::new(headings);
        for waiting in waiting.iter().filter(|waiting| waiting.given_up == given_up) {
            table.row([waiting.slots.to_string(), clean(&waiting.reason)]);
        }
        if !table.is_empty() {
            view += &format!("\n{}", table.view(0));
        }
    }
    view
}

/// Nodes that do not accept the waiting slots.
pub(super) fn kept_out(waiting: &[v1::Waiting]) -> String {
    rejections(waiting.iter().flat_map(|waiting| &waiting.nodes))
}

fn rejections<'a>(nodes: impl IntoIterator<Item = &'a v1::Rejection>) -> String {
    let mut nodes = nodes.into_iter().peekable();
    if nodes.peek().is_none() {
        return String::new();
    }
    let mut table = Table::new(["NODE", "WHY NOT"]);
    for rejection in nodes {
        table.row([clean(&rejection.node_name), clean(&rejection.reason)]);
    }
    format!("\n{}", table.view(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_have_a_revision_or_none_and_counts_that_agree() {
        let mut one = v1::WorkloadChange {
            name: "esc".to_owned(),
            changed: true,
            spec: Some(v1::WorkloadSpec::default()),
            starts: vec![v1::PlannedStart::default()],
            stops: vec![v1::PlannedStop::default()],
            later: 1,
            adopted: 1,
            waiting: vec![v1::Waiting {
                slots: 1,
                ..v1::Waiting::default()
            }],
            ..v1::WorkloadChange::default()
        };
        let told = |change: &v1::WorkloadChange| super::change(Some(change)).replace("\n    ", " ");
        assert!(
            told(&one).starts_with("esc: new: 1 instance would start,"),
            "{}",
            told(&one)
        );
        one.applied = true;
        let done = told(&one);
        let line = "esc: revision - (event 0): 1 instance starts, 1 running instance is adopted, 1 stops, 1 follows, later, 1 waits\n";
        assert!(done.starts_with(line), "{done}");
        (one.more_starts, one.more_waiting, one.more_rejections) = (2, 1, 3);
        one.waiting[0].more_nodes = 4;
        let more = told(&one);
        assert!(more.contains("3 instances start,") && more.contains("2 wait"), "{more}");
        let end = "\nnot listed, because the answer has no room: 2 starts, 1 waiting slot, 7 rejecting nodes\n";
        assert!(more.ends_with(end), "{more}");
        (one.applied, one.spec) = (false, None);
        assert!(told(&one).starts_with("esc: planned at revision -:"), "{}", told(&one));
    }
}
