//! Instances: their nodes, addresses and output.

use std::{
    collections::BTreeSet,
    io::{self, Write as _},
};

use wyneos::{client, v1};

use super::{
    PAGE,
    follow::Follower,
    next_page, nothing,
    workloads::{all_of, out_of_memory},
};
use wyneos_core::text::Quoted;

use crate::{
    args::{AssignmentsArgs, LogsArgs},
    context::Context,
    failure::Failure,
    text::{self, Table, clean},
};

pub(super) fn phase(one: &v1::Assignment) -> v1::InstancePhase {
    one.status.as_ref().map(v1::InstanceStatus::phase).unwrap_or_default()
}

/// An instance's phase for people.
pub(super) fn how(one: &v1::Assignment) -> String {
    let name = phase(one)
        .as_str_name()
        .trim_start_matches("INSTANCE_PHASE_")
        .to_lowercase();
    let name = match one.orphaned {
        true => format!("{name} (orphaned)"),
        false => name,
    };
    match (one.goal(), one.status.as_ref().is_some_and(|status| status.healthy)) {
        (v1::Goal::Stop, _) if name != "ended" => format!("{name} (to stop)"),
        (_, false) if name == "running" => "running, not healthy".to_owned(),
        _ => name,
    }
}

pub(super) async fn assignments_of(
    context: &Context,
    client: &mut v1::workload_service_client::WorkloadServiceClient<tonic::transport::Channel>,
    workload: &str,
    node: &str,
    ended: bool,
) -> Result<Vec<v1::AssignmentRow>, Failure> {
    let (mut rows, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListAssignmentsRequest {
            workload: workload.to_owned(),
            node: node.to_owned(),
            ended,
            page_size: PAGE,
            page_token: page_token.clone(),
        };
        let mut page = context
            .call("list the assignments", client.list_assignments(request))
            .await?;
        rows.append(&mut page.assignments);
        if !next_page("list the assignments", &mut page_token, &mut page.next_page_token)? {
            return Ok(rows);
        }
    }
}

/// Further details of an instance.
fn detail(one: &v1::Assignment, status: &v1::InstanceStatus, workloads: &[v1::Workload]) -> String {
    let told = match (one.stop_reason.as_str(), one.orphaned) {
        ("", true) => orphan(one, workloads.iter().find(|workload| workload.name == one.workload)),
        ("", false) => clean(&status.detail),
        (reason, _) => clean(reason),
    };
    match (status.oom_kills, told.is_empty()) {
        (0, _) => told,
        (kills, true) => out_of_memory(kills),
        (kills, false) => format!("{told}; {}", out_of_memory(kills)),
    }
}

/// The reason for which an instance is orphaned; `workload` is the declared one of its name.
fn orphan(one: &v1::Assignment, workload: Option<&v1::Workload>) -> String {
    let name = clean(&one.workload);
    let Some(workload) = workload.filter(|workload| !workload.deleted) else {
        return format!("it belongs to no workload: apply or delete {name}");
    };
    let beyond = workload.kind != "daemon" && one.slot >= workload.desired;
    match (workload.waiting.first(), beyond) {
        (_, true) => format!(
            "beyond the {} declared: `wynectl scale {name}` adopts it",
            workload.desired
        ),
        (Some(waiting), false) => format!("{name} is declared and waits to adopt it: {}", clean(&waiting.reason)),
        (None, false) => format!("{name} is declared and adopts it once its slot is free and its node admitted"),
    }
}

/// A table of instances; `workloads` are the declared workloads of their names, as far as they are known.
pub(super) fn assignments_table(rows: &[v1::AssignmentRow], workloads: &[v1::Workload]) -> Table {
    let mut table = Table::new([
        "ID",
        "INSTANCE",
        "NODE",
        "STATE",
        "SINCE",
        "RESTARTS",
        "REVISION",
        "ADDRESSES",
        "DETAIL",
    ]);
    for row in rows {
        let one = row.assignment.clone().unwrap_or_default();
        let status = one.status.clone().unwrap_or_default();
        table.row([
            clean(&one.id),
            format!("{}.{}", clean(&one.workload), one.slot),
            clean(&row.node_name),
            how(&one),
            text::age(status.since.as_ref()),
            status.restarts.to_string(),
            one.revision.to_string(),
            clean(&row.addresses.join(" ")),
            detail(&one, &status, workloads),
        ]);
    }
    table
}

/// `wynectl assignments`.
pub(crate) async fn assignments(context: &Context, args: AssignmentsArgs) -> Result<(), Failure> {
    let mut client = client::workloads(context.connect().await?);
    if args.watch {
        return watch(context, client, args.workload).await;
    }
    let assignments = assignments_of(context, &mut client, &args.workload, &args.node, args.ended).await?;
    if !context.is_json() && assignments.is_empty() {
        nothing("assignments");
        return Ok(());
    }
    let is_orphan = |row: &v1::AssignmentRow| row.assignment.as_ref().is_some_and(|one| one.orphaned);
    let workloads = match !context.is_json() && assignments.iter().any(is_orphan) {
        true => all_of(context, &mut client).await?.workloads,
        false => Vec::new(),
    };
    let all = v1::ListAssignmentsResponse {
        assignments,
        ..v1::ListAssignmentsResponse::default()
    };
    context.show(&all, |all| assignments_table(&all.assignments, &workloads).text(0))
}

/// The instances that a watch has reported. A stream that replaces a broken one begins with all instances, and does not
/// report those that were removed meanwhile.
#[derive(Default)]
struct Told {
    ids: BTreeSet<String>,
    /// Instances reported by an earlier stream and not yet by this one; `None` once this one has reported all
    /// instances.
    missing: Option<BTreeSet<String>>,
}

impl Told {
    fn begin(&mut self) {
        self.missing = Some(self.ids.clone());
    }

    /// Adds to an answer the instances that were removed between two streams.
    fn complete(&mut self, answer: &mut v1::WatchAssignmentsResponse) {
        let changed = answer
            .changed
            .iter()
            .filter_map(|row| Some(&row.assignment.as_ref()?.id));
        for id in changed {
            self.ids.insert(id.clone());
            self.missing.as_mut().map(|missing| missing.remove(id));
        }
        if !answer.more {
            answer.removed.extend(self.missing.take().into_iter().flatten());
        }
        for id in &answer.removed {
            self.ids.remove(id);
            self.missing.as_mut().map(|missing| missing.remove(id));
        }
    }
}

async fn watch(
    context: &Context,
    mut client: v1::workload_service_client::WorkloadServiceClient<tonic::transport::Channel>,
    workload: String,
) -> Result<(), Failure> {
    let mut follower = Follower::new(context, "watch the assignments");
    let mut told = Told::default();
    if !context.is_json() {
        context.text(&watched_line(["ID", "INSTANCE", "NODE"], "STATE", text::columns()))?;
    }
    loop {
        let request = v1::WatchAssignmentsRequest {
            workload: workload.clone(),
        };
        let Some(mut stream) = follower.open(client.watch_assignments(request)).await? else {
            continue;
        };
        told.begin();
        loop {
            match stream.message().await {
                Ok(Some(mut answer)) => {
                    follower.heard();
                    told.complete(&mut answer);
                    tell_changes(context, &answer)?;
                }
                Ok(None) => {
                    follower.ended().await;
                    break;
                }
                Err(status) => {
                    follower.lost(&status).await?;
                    break;
                }
            }
        }
    }
}

/// A line of `assignments -w`, on several lines if it is wider than `most`.
pub(super) fn watched_line([id, instance, node]: [&str; 3], told: &str, most: Option<usize>) -> String {
    let line = format!("{id:<16}  {instance:<16}  {node:<12}  {told}");
    text::hanging("", &line, 4, most)
}

fn tell_changes(context: &Context, answer: &v1::WatchAssignmentsResponse) -> Result<(), Failure> {
    if context.is_json() {
        return context.json_line(answer);
    }
    let mut lines = String::new();
    for row in &answer.changed {
        let one = row.assignment.clone().unwrap_or_default();
        let status = one.status.clone().unwrap_or_default();
        let more = clean(&[row.addresses.join(" "), status.detail].join(" "));
        let told = match more.trim() {
            "" => how(&one),
            more => format!("{}; {more}", how(&one)),
        };
        let instance = format!("{}.{}", clean(&one.workload), one.slot);
        let place = [clean(&one.id), instance, clean(&row.node_name)];
        lines += &watched_line(place.each_ref().map(String::as_str), &told, text::columns());
    }
    for id in &answer.removed {
        lines += &format!("{}   is no longer retained\n", clean(id));
    }
    context.text(&lines)
}

/// `wynectl logs`. A program's output is passed on unchanged.
pub(crate) async fn logs(context: &Context, args: LogsArgs) -> Result<(), Failure> {
    let what = format!("read the log of {}", Quoted(&args.instance));
    let is_id = args.instance.len() == 16 && args.instance.bytes().all(|byte| byte.is_ascii_hexdigit());
    let assignment = match is_id || args.instance.contains('.') {
        true => args.instance,
        false => format!("{}.0", args.instance),
    };
    let stream = if args.stderr {
        v1::LogStream::Stderr
    } else {
        v1::LogStream::Stdout
    };
    let (named, previous) = (clean(&assignment), args.previous);
    let moved = |answer: &v1::ReadLogsResponse| {
        let place = format!("{} on {}", clean(&answer.assignment_id), clean(&answer.node_name));
        match previous {
            true => format!("{named}: had no previous process; the previous instance was {place}"),
            false => format!("{named}: continues as {place}"),
        }
    };
    let request = v1::ReadLogsRequest {
        assignment,
        stream: stream.into(),
        tail_bytes: args.tail.unwrap_or_default(),
        previous: args.previous,
        follow: args.follow,
    };
    let mut client = client::workloads(context.connect().await?);
    let mut answers = context.call(&what, client.read_logs(request)).await?;
    let mut lines = text::Lines::new(text::is_raw(&io::stdout()));
    let write = |bytes: &[u8]| {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(Failure::output)
    };
    loop {
        match answers.message().await {
            Ok(Some(answer)) => {
                if !answer.assignment_id.is_empty() {
                    write(&lines.end())?;
                    text::stderr(&moved(&answer));
                }
                write(&lines.take(&answer.data))?;
            }
            Ok(None) => return write(&lines.end()),
            Err(status) => {
                write(&lines.end())?;
                return Err(context.failed(&what, &status));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_forgotten_between_two_streams_is_told_as_removed() {
        let row = |id: &str| v1::AssignmentRow {
            assignment: Some(v1::Assignment {
                id: id.to_owned(),
                ..v1::Assignment::default()
            }),
            ..v1::AssignmentRow::default()
        };
        let mut told = Told::default();
        let mut removed = |ids: &[&str], gone: &[&str], more: bool, anew: bool| {
            let mut answer = v1::WatchAssignmentsResponse {
                changed: ids.iter().copied().map(row).collect(),
                removed: gone.iter().copied().map(str::to_owned).collect(),
                more,
                all: false,
            };
            if anew {
                told.begin();
            }
            told.complete(&mut answer);
            answer.removed
        };
        assert!(removed(&["1", "2"], &[], true, true).is_empty());
        assert!(removed(&["3", "4"], &[], false, false).is_empty());
        assert_eq!(removed(&[], &["4"], false, false), ["4"]);
        assert!(removed(&["2"], &[], true, true).is_empty());
        assert_eq!(removed(&["5"], &[], false, false), ["1", "3"]);
        assert!(removed(&["2"], &[], false, false).is_empty());
        assert!(removed(&["2", "5"], &[], false, true).is_empty());
    }

    #[test]
    fn an_orphan_says_what_it_waits_for() {
        let one = v1::Assignment {
            workload: "scheduler".to_owned(),
            slot: 1,
            orphaned: true,
            ..v1::Assignment::default()
        };
        let told = |workloads: &[v1::Workload]| detail(&one, &v1::InstanceStatus::default(), workloads);
        assert_eq!(told(&[]), "it belongs to no workload: apply or delete scheduler");
        let mut declared = v1::Workload {
            name: "scheduler".to_owned(),
            desired: 2,
            waiting: vec![v1::Waiting {
                reason: "agents have yet to tell what runs".to_owned(),
                ..v1::Waiting::default()
            }],
            ..v1::Workload::default()
        };
        let waits = told(std::slice::from_ref(&declared));
        assert!(
            waits.contains("agents have yet to tell") && !waits.contains("delete"),
            "{waits}"
        );
        declared.waiting.clear();
        assert!(told(std::slice::from_ref(&declared)).contains("its slot is free"));
        declared.desired = 1;
        assert!(told(std::slice::from_ref(&declared)).contains("wynectl scale scheduler"));
        declared.deleted = true;
        assert!(told(std::slice::from_ref(&declared)).contains("belongs to no workload"));
    }
}
