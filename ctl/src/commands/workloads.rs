//! Workloads: what should run, what does, and what it writes.

use std::{collections::BTreeSet, time::Duration};

use tonic::transport::Channel;
use wyneos::{
    client,
    v1::{self, workload_service_client::WorkloadServiceClient},
};

use super::{
    PAGE,
    assignments::{assignments_of, assignments_table, how, phase},
    changes::{change, declared, kept_out, more_changes, waiting, waiting_slots},
    next_page, nothing,
    settle::{self, Until},
    why,
};
use wyneos_core::text::Quoted;

use crate::{
    args::{ApplyArgs, ChangeArgs, DrainArgs, PlanArgs, RebalanceArgs, ScaleArgs, WaitArgs, WhatIfArgs, WorkloadArgs},
    context::Context,
    declaration::{self, Declaration},
    exit::Exit,
    failure::Failure,
    text::{self, Fields, Table, clean},
};

/// How often a drain is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// `wynectl plan`.
pub(crate) async fn plan(context: &Context, args: PlanArgs) -> Result<(), Failure> {
    let Declaration { spec, keep_replicas } = declaration::read(&args.file)?;
    let mut client = client::workloads(context.connect().await?);
    let request = v1::PlanWorkloadRequest {
        spec: Some(spec),
        keep_replicas,
    };
    let answer = context.call("plan the workload", client.plan_workload(request)).await?;
    context.show(&answer, |answer| declared(answer.change.as_ref()))
}

/// `wynectl apply`.
pub(crate) async fn apply(context: &Context, args: ApplyArgs) -> Result<(), Failure> {
    let ApplyArgs {
        declaration,
        change: how,
        force,
        wait,
    } = args;
    if how.plan {
        return plan(context, declaration).await;
    }
    let Declaration { spec, keep_replicas } = declaration::read(&declaration.file)?;
    let request = v1::ApplyWorkloadRequest {
        spec: Some(spec),
        revision: how.revision,
        keep_replicas,
        force,
    };
    let mut client = client::workloads(context.connect().await?);
    let what = "apply the workload";
    let answer = context.call(what, client.apply_workload(request)).await?;
    context.show(&answer, |answer| declared(answer.change.as_ref()))?;
    through(context, client, what, &wait, true, answer.change).await
}

/// Waits until a change is through, as far as that was asked for.
async fn through(
    context: &Context,
    client: WorkloadServiceClient<Channel>,
    what: &str,
    args: &WaitArgs,
    by_itself: bool,
    change: Option<v1::WorkloadChange>,
) -> Result<(), Failure> {
    let Some(change) = change.filter(|change| change.applied) else {
        return Ok(());
    };
    let update = change.spec.and_then(|spec| spec.update);
    let min_healthy = update.as_ref().and_then(|update| update.min_healthy);
    let lasts = min_healthy
        .and_then(|span| Duration::try_from(span).ok())
        .unwrap_or_default();
    let until = Until::Settled(change.revision, update.map_or(0, |update| update.canary), lasts);
    settle::wait(
        context,
        client,
        (what, &change.name),
        args,
        by_itself && change.changed,
        until,
    )
    .await
}

/// `wynectl scale`.
pub(crate) async fn scale(context: &Context, args: ScaleArgs) -> Result<(), Failure> {
    let what = format!("scale workload {}", Quoted(&args.name));
    let ChangeArgs { plan, revision } = args.change;
    let request = v1::ScaleWorkloadRequest {
        name: args.name,
        replicas: args.replicas,
        revision,
        plan,
    };
    let mut client = client::workloads(context.connect().await?);
    let answer = context.call(&what, client.scale_workload(request)).await?;
    context.show(&answer, |answer| change(answer.change.as_ref()))?;
    through(context, client, &what, &args.wait, false, answer.change).await
}

/// `wynectl restart`.
pub(crate) async fn restart(context: &Context, args: WorkloadArgs) -> Result<(), Failure> {
    let what = format!("restart workload {}", Quoted(&args.name));
    let ChangeArgs { plan, revision } = args.change;
    let request = v1::RestartWorkloadRequest {
        name: args.name,
        revision,
        plan,
    };
    let mut client = client::workloads(context.connect().await?);
    let answer = context.call(&what, client.restart_workload(request)).await?;
    context.show(&answer, |answer| change(answer.change.as_ref()))?;
    through(context, client, &what, &args.wait, false, answer.change).await
}

/// `wynectl promote`.
pub(crate) async fn promote(context: &Context, args: WorkloadArgs) -> Result<(), Failure> {
    let what = format!("promote workload {}", Quoted(&args.name));
    let ChangeArgs { plan, revision } = args.change;
    let request = v1::PromoteWorkloadRequest {
        name: args.name,
        revision,
        plan,
    };
    let mut client = client::workloads(context.connect().await?);
    let answer = context.call(&what, client.promote_workload(request)).await?;
    context.show(&answer, |answer| change(answer.change.as_ref()))?;
    through(context, client, &what, &args.wait, false, answer.change).await
}

/// `wynectl delete`.
pub(crate) async fn delete(context: &Context, args: WorkloadArgs) -> Result<(), Failure> {
    let what = format!("delete workload {}", Quoted(&args.name));
    let ChangeArgs { plan, revision } = args.change;
    let request = v1::DeleteWorkloadRequest {
        name: args.name.clone(),
        revision,
        plan,
    };
    let mut client = client::workloads(context.connect().await?);
    let answer = context.call(&what, client.delete_workload(request)).await?;
    context.show(&answer, |answer| change(answer.change.as_ref()))?;
    if plan {
        return Ok(());
    }
    settle::wait(context, client, (&what, &args.name), &args.wait, false, Until::Gone).await
}

/// Every workload.
pub(super) async fn all_of(
    context: &Context,
    client: &mut v1::workload_service_client::WorkloadServiceClient<tonic::transport::Channel>,
) -> Result<v1::ListWorkloadsResponse, Failure> {
    let mut all = v1::ListWorkloadsResponse::default();
    let mut page_token = String::new();
    loop {
        let request = v1::ListWorkloadsRequest {
            page_size: PAGE,
            page_token: page_token.clone(),
        };
        let mut page = context
            .call("list the workloads", client.list_workloads(request))
            .await?;
        all.workloads.append(&mut page.workloads);
        if !next_page("list the workloads", &mut page_token, &mut page.next_page_token)? {
            return Ok(all);
        }
    }
}

/// `wynectl workloads`.
pub(crate) async fn list(context: &Context) -> Result<(), Failure> {
    let mut client = client::workloads(context.connect().await?);
    let all = all_of(context, &mut client).await?;
    if !context.is_json() && all.workloads.is_empty() {
        nothing("workloads");
        return Ok(());
    }
    context.show(&all, |all| {
        let mut table = Table::new([
            "NAME", "KIND", "REVISION", "DESIRED", "RUNNING", "HEALTHY", "CURRENT", "STATE",
        ]);
        for workload in &all.workloads {
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
    })
}

/// Who declared it. Without TLS the coordinator records every caller as `anybody`.
fn by(whom: &str) -> String {
    match whom {
        "anybody" => "an unauthenticated caller".to_owned(),
        whom => clean(whom),
    }
}

/// Instances that do not stay up, how often they failed, and why.
fn failing(workload: &v1::Workload) -> Option<String> {
    let again: Vec<&v1::Waiting> = workload
        .waiting
        .iter()
        .filter(|waiting| waiting.failures > 0 && !waiting.given_up)
        .collect();
    let number = u64::from(workload.failing) + again.iter().map(|waiting| u64::from(waiting.slots)).sum::<u64>();
    let mut why: Vec<String> = again.iter().map(|waiting| clean(&waiting.reason)).collect();
    if workload.failing > 0 {
        let restarts = text::count(workload.failing_restarts, "restart");
        let last = match workload.failure.as_str() {
            "" => "its process ended".to_owned(),
            failure => clean(failure),
        };
        why.insert(0, format!("{restarts}, the last because of: {last}"));
    }
    (number > 0).then(|| format!("failing: {}; {}", text::count(number, "instance"), why.join("; ")))
}

/// Parts of a batch that failed and are not tried again.
pub(super) fn given_up(workload: &v1::Workload) -> u32 {
    let over = workload.waiting.iter().filter(|waiting| waiting.given_up);
    over.map(|waiting| waiting.slots).sum()
}

/// The parts of a batch: done, failed and why, waiting and for what.
fn batch(workload: &v1::Workload) -> String {
    let reasons = |given_up: bool| {
        let those = workload
            .waiting
            .iter()
            .filter(move |waiting| waiting.given_up == given_up);
        let reasons: Vec<String> = those.map(|waiting| clean(&waiting.reason)).collect();
        reasons.join("; ")
    };
    let mut told = format!("{} of {} done", workload.complete, workload.desired);
    if let Some(unsure) = unsure(workload) {
        told += &format!(", {unsure}");
    }
    let failed = given_up(workload);
    if failed > 0 {
        told += &format!(", {failed} failed: {}", reasons(true));
    }
    if let Some(failing) = failing(workload) {
        return format!("{told}; {failing}");
    }
    let waiting: u32 = workload.waiting.iter().map(|waiting| waiting.slots).sum();
    match waiting.saturating_sub(failed) {
        0 => told,
        1 => format!("{told}; 1 waits: {}", reasons(false)),
        more => format!("{told}; {more} wait: {}", reasons(false)),
    }
}

/// The instances of a workload, counted.
fn instances(workload: &v1::Workload) -> String {
    let (desired, running, healthy) = (workload.desired, workload.running, workload.healthy);
    match workload.kind.as_str() {
        "batch" => format!(
            "{desired} desired, {} done, {} failed, {running} running",
            workload.complete,
            given_up(workload)
        ),
        _ => {
            let unsure = unsure(workload).map_or_else(String::new, |unsure| format!(", {unsure}"));
            format!("{desired} desired, {running} running, {healthy} healthy{unsure}")
        }
    }
}

/// How many instances are lost, or may be.
fn unsure(workload: &v1::Workload) -> Option<String> {
    let counts = [(workload.lost, "lost"), (workload.unknown, "unknown")];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let told: Vec<String> = counts.map(|(count, what)| format!("{count} {what}")).collect();
    (!told.is_empty()).then(|| told.join(", "))
}

/// How a workload is, in a few words.
pub(super) fn state(workload: &v1::Workload) -> String {
    match workload.oom_kills {
        0 => state_but_for_memory(workload),
        kills => format!("{}; {}", state_but_for_memory(workload), out_of_memory(kills)),
    }
}

/// Processes that were killed, whether or not their instances noticed.
pub(super) fn out_of_memory(kills: u32) -> String {
    match kills {
        1 => "1 process was killed: out of memory".to_owned(),
        _ => format!("{kills} processes were killed: out of memory"),
    }
}

fn state_but_for_memory(workload: &v1::Workload) -> String {
    let waiting: u32 = workload.waiting.iter().map(|waiting| waiting.slots).sum();
    if workload.deleted {
        return "is being deleted".to_owned();
    }
    if workload.kind == "batch" {
        return batch(workload);
    }
    if let Some(failing) = failing(workload) {
        return failing;
    }
    if waiting > 0 {
        let first = workload
            .waiting
            .first()
            .map(|waiting| clean(&waiting.reason))
            .unwrap_or_default();
        let verb = if waiting == 1 { "waits" } else { "wait" };
        return format!("{waiting} {verb}: {first}");
    }
    if !workload.rolled_back.is_empty() {
        return format!("the last update failed: {}", clean(&workload.rolled_back));
    }
    if workload.revision != workload.stable_revision {
        let phase = match workload.stable_revision {
            0 => "starting",
            _ => "updating",
        };
        let all = workload.healthy >= workload.desired && workload.current >= workload.desired;
        return match all {
            true => format!("{phase}: all are healthy, and have to stay so for `min_healthy`"),
            false => phase.to_owned(),
        };
    }
    if workload.healthy < workload.desired {
        return match unsure(workload) {
            Some(unsure) => format!("recovering: {unsure}"),
            None => "recovering".to_owned(),
        };
    }
    "well".to_owned()
}

/// `wynectl workload`.
pub(crate) async fn show(context: &Context, name: String) -> Result<(), Failure> {
    let what = format!("get workload {}", Quoted(&name));
    let mut client = client::workloads(context.connect().await?);
    let request = v1::GetWorkloadRequest { name: name.clone() };
    let answer = context.call(&what, client.get_workload(request)).await?;
    if context.is_json() {
        return context.json(&answer);
    }
    let rows = assignments_of(context, &mut client, &name, "", false).await?;
    let mut view = String::new();
    if let Some(workload) = &answer.workload {
        let mut fields = Fields::default();
        fields.add("name", clean(&workload.name));
        fields.add("kind", workload.kind.clone());
        fields.add("state", state(workload));
        fields.add("instances", instances(workload));
        if workload.kind == "batch" {
            fields.add("run", workload.run.to_string());
        }
        fields.add(
            "revision",
            match workload.stable_revision {
                0 => format!("{} (stable: {})", workload.revision, text::NONE),
                stable => format!("{} (stable: {stable})", workload.revision),
            },
        );
        fields.add(
            "declared",
            format!(
                "{} by {}",
                text::timestamp(workload.time.as_ref()),
                by(&workload.declared_by)
            ),
        );
        if let Some(spec) = &answer.spec {
            let words: Vec<String> = [&spec.command]
                .into_iter()
                .chain(&spec.args)
                .map(|word| clean(word))
                .collect();
            fields.add("command", words.join(" "));
            fields.add("user", user(&spec.user, &rows));
            if !spec.env.is_empty() {
                let names: Vec<String> = spec.env.iter().map(|variable| clean(&variable.name)).collect();
                fields.add("environment", names.join(", "));
            }
        }
        view += &fields.text();
        view += &waiting(&workload.waiting);
        view += &kept_out(&workload.waiting);
    }
    if !rows.is_empty() {
        view.push('\n');
        view += &assignments_table(&rows, answer.workload.as_slice()).view(0);
    }
    let ended: Vec<&v1::Assignment> = answer
        .assignments
        .iter()
        .filter(|one| phase(one) == v1::InstancePhase::Ended)
        .collect();
    if !ended.is_empty() {
        let mut table = Table::new(["ENDED", "INSTANCE", "AGE", "BECAUSE"]);
        for one in ended.iter().rev() {
            let status = one.status.clone().unwrap_or_default();
            table.row([
                clean(&one.id),
                format!("{}.{}", clean(&one.workload), one.slot),
                text::age(status.since.as_ref()),
                because(&status),
            ]);
        }
        view.push('\n');
        view += &table.view(0);
    }
    context.text(&view)
}

/// The user that the programs of a workload run as: the declared one, or the default ones of the nodes that run it.
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

/// The result of a drain or its plan: where the node's work goes, and what stops on the node.
fn drained(node: &str, plan: bool, answer: &v1::DrainNodeResponse, there: &[v1::AssignmentRow]) -> String {
    let mut told: Vec<String> = answer.changes.iter().map(|one| change(Some(one))).collect();
    let mut table = Table::new(["STOPS", "ID", "NODE", "WHEN"]);
    let of = |row: &v1::AssignmentRow| row.assignment.clone().unwrap_or_default();
    for one in there.iter().map(of).filter(|one| one.goal() != v1::Goal::Stop) {
        let has_replacement = |start: &v1::PlannedStart| start.workload == one.workload && start.slot == one.slot;
        let starts = answer.changes.iter().flat_map(|change| &change.starts);
        let when = match starts.into_iter().any(has_replacement) {
            true => "its replacement is well",
            false => "it can be replaced, or at the deadline",
        };
        table.row([
            format!("{}.{}", clean(&one.workload), one.slot),
            clean(&one.id),
            node.to_owned(),
            when.to_owned(),
        ]);
    }
    match table.is_empty() {
        true => told.push(format!("{node}: has no instances\n")),
        false => told.push(table.view(0)),
    }
    if answer.more_changes > 0 {
        told.push(more_changes(answer.more_changes, "workload"));
    }
    let verb = if plan { "would take" } else { "takes" };
    told.push(format!("{node} {verb} no new work until `wynectl uncordon {node}`\n"));
    told.join("\n")
}

/// The names of all daemons.
async fn daemons(context: &Context, client: &mut WorkloadServiceClient<Channel>) -> Result<BTreeSet<String>, Failure> {
    let workloads = all_of(context, client).await?.workloads.into_iter();
    let daemons = workloads.filter(|workload| workload.kind == "daemon");
    Ok(daemons.map(|workload| workload.name).collect())
}

/// Whether an instance is one of these workloads'.
fn is_of(row: &v1::AssignmentRow, names: &BTreeSet<String>) -> bool {
    row.assignment.as_ref().is_some_and(|one| names.contains(&one.workload))
}

/// `wynectl drain`.
pub(crate) async fn drain(context: &Context, args: DrainArgs) -> Result<(), Failure> {
    let what = format!("drain node {}", Quoted(&args.node));
    let channel = context.connect().await?;
    let request = v1::DrainNodeRequest {
        node: args.node.clone(),
        deadline: args.deadline.map(wyneos::convert::duration),
        keep_daemons: args.keep_daemons,
        plan: args.plan,
    };
    let mut client = client::workloads(channel.clone());
    let there = match context.is_json() {
        true => Vec::new(),
        false => assignments_of(context, &mut client, "", &args.node, false).await?,
    };
    let answer = context
        .call(&what, client::cluster(channel).drain_node(request))
        .await?;
    let node = clean(&args.node);
    let mut there = there;
    if args.keep_daemons && !context.is_json() {
        let daemons = daemons(context, &mut client).await?;
        there.retain(|row| !is_of(row, &daemons));
    }
    context.show(&answer, |answer| drained(&node, args.plan, answer, &there))?;
    let blocked: u32 = answer.changes.iter().map(waiting_slots).sum();
    let blocked = blocked.saturating_add(answer.more_waiting);
    if args.plan {
        return match blocked {
            0 => Ok(()),
            _ => Err(Failure::new(
                Exit::Failed,
                format!(
                    "{what}: {} would have no other node to run on",
                    text::count(blocked, "instance")
                ),
            )),
        };
    }
    if args.no_wait {
        return Ok(());
    }
    let mut told = None;
    loop {
        let mut left = assignments_of(context, &mut client, "", &args.node, false).await?;
        if args.keep_daemons {
            let daemons = daemons(context, &mut client).await?;
            left.retain(|row| !is_of(row, &daemons));
        }
        if left.is_empty() {
            text::stderr(&format!("{node} is empty"));
            return Ok(());
        }
        if told != Some(left.len()) {
            told = Some(left.len());
            let names: Vec<String> = left
                .iter()
                .filter_map(|row| row.assignment.as_ref())
                .map(|one| format!("{}.{}", clean(&one.workload), one.slot))
                .collect();
            text::stderr(&format!(
                "{}: {}",
                text::count(left.len() as u64, "instance"),
                names.join(", ")
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// `wynectl whatif`.
pub(crate) async fn what_if(context: &Context, args: WhatIfArgs) -> Result<(), Failure> {
    let wrong = || {
        Failure::new(
            Exit::Usage,
            "whatif: say which nodes and how they are, as in 'zone=a down' or 'node-3 drained'",
        )
    };
    let text = args.what.join(" ");
    let (nodes, state) = text.rsplit_once(' ').ok_or_else(wrong)?;
    let drained = match state {
        "down" => false,
        "drained" => true,
        _ => return Err(wrong()),
    };
    let nodes = nodes.trim().to_owned();
    let request = v1::WhatIfRequest { nodes, drained };
    let mut client = client::workloads(context.connect().await?);
    let answer = context.call("whatif", client.what_if(request)).await?;
    context.show(&answer, |answer| {
        if answer.changes.is_empty() {
            return "nothing runs there\n".to_owned();
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
    })
}

/// `wynectl rebalance`.
pub(crate) async fn rebalance(context: &Context, args: RebalanceArgs) -> Result<(), Failure> {
    let request = v1::RebalanceRequest { plan: args.plan };
    let mut client = client::workloads(context.connect().await?);
    let answer = context.call("rebalance", client.rebalance(request)).await?;
    context.show(&answer, |answer| {
        if answer.changes.is_empty() {
            return "no move would gain enough\n".to_owned();
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
    })
}

/// Why an instance has ended, and what it wrote last to its standard error.
fn because(status: &v1::InstanceStatus) -> String {
    let because = match status.outcome_unknown {
        true => format!("outcome unknown: {}", clean(&status.detail)),
        false => clean(&status.detail),
    };
    match status.last_stderr.as_str() {
        "" => because,
        line => format!("{because}; stderr: {}", clean(line)),
    }
}

/// What became of the instance before in a slot.
fn before(fields: &mut Fields, row: &v1::AssignmentRow) {
    let one = row.assignment.clone().unwrap_or_default();
    let status = one.status.clone().unwrap_or_default();
    let place = format!("{} on {}", clean(&one.id), clean(&row.node_name));
    fields.add("before", format!("{place}, {}: {}", how(&one), because(&status)));
}

/// `wynectl why` of a workload or an instance.
pub(crate) fn explain(name: &str, answer: &v1::ExplainWorkloadResponse) -> String {
    let mut view = String::new();
    let mut fields = Fields::default();
    if let Some(row) = &answer.assignment {
        let one = row.assignment.clone().unwrap_or_default();
        let status = one.status.clone().unwrap_or_default();
        let score = one.score.unwrap_or_default();
        fields.add(
            "instance",
            format!("{}.{} ({})", clean(&one.workload), one.slot, clean(&one.id)),
        );
        fields.add("node", clean(&row.node_name));
        fields.add(
            "user",
            if row.user.is_empty() {
                "not known".to_owned()
            } else {
                clean(&row.user)
            },
        );
        fields.add("state", how(&one));
        fields.add("detail", clean(&status.detail));
        if !status.last_stderr.is_empty() {
            fields.add(
                "stderr",
                format!("{} (last line of the process that ended)", clean(&status.last_stderr)),
            );
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
        if let Some(row) = &answer.before {
            before(&mut fields, row);
        }
    } else if let Some(workload) = &answer.workload {
        if name != workload.name {
            let how = if workload.waiting.is_empty() {
                "not placed now"
            } else {
                "waits"
            };
            fields.add("instance", format!("{}: {how}", clean(name)));
        }
        fields.add("workload", clean(&workload.name));
        fields.add("state", state(workload));
        fields.add("instances", instances(workload));
    } else {
        view += "No workload of that name is declared any more; this is what is kept of it.\n";
    }
    view += &fields.text();
    let ended = |row: &v1::AssignmentRow| {
        row.assignment
            .as_ref()
            .is_some_and(|one| phase(one) == v1::InstancePhase::Ended)
    };
    if let Some(workload) = answer
        .workload
        .as_ref()
        .filter(|_| answer.assignment.as_ref().is_none_or(ended))
    {
        view += &waiting(&workload.waiting);
        view += &kept_out(&workload.waiting);
    }
    if !answer.events.is_empty() {
        let mut table = Table::new(["AGE", "WHAT HAPPENED"]);
        for event in &answer.events {
            table.row([text::age(event.time.as_ref()), clean(&event.summary)]);
        }
        view += &format!("\n{}", table.view(0));
    }
    for decision in &answer.decisions {
        view += &format!("\n{}", why::in_full(decision));
    }
    view
}
