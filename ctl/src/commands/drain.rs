//! Draining a node: the request, and waiting until the node is empty.

use std::{collections::BTreeSet, time::Duration};

use tonic::transport::Channel;
use wyneos::{
    client,
    v1::{self, workload_service_client::WorkloadServiceClient},
};
use wyneos_core::text::Quoted;

use super::{
    assignments::assignments_of,
    changes::{change, more_changes, waiting_slots},
    workloads::all_of,
};
use crate::{
    args::DrainArgs,
    context::Context,
    exit::Exit,
    failure::Failure,
    text::{self, Table, clean},
};

/// Interval between two polls of a drain.
const LOOK: Duration = Duration::from_millis(500);

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
    let mut there = match context.is_json() {
        true => Vec::new(),
        false => assignments_of(context, &mut client, "", &args.node, false).await?,
    };
    let answer = context
        .call(&what, client::cluster(channel).drain_node(request))
        .await?;
    if args.keep_daemons && !context.is_json() {
        without_daemons(context, &mut client, &mut there).await?;
    }
    let node = clean(&args.node);
    context.show(&answer, |answer| drained(&node, args.plan, answer, &there))?;
    if args.plan {
        return nobody_waits(&what, &answer);
    }
    match args.no_wait {
        true => Ok(()),
        false => until_empty(context, client, &args).await,
    }
}

/// Fails if a plan finds no other node for an instance.
fn nobody_waits(what: &str, answer: &v1::DrainNodeResponse) -> Result<(), Failure> {
    let blocked: u32 = answer.changes.iter().map(waiting_slots).sum();
    match blocked.saturating_add(answer.more_waiting) {
        0 => Ok(()),
        blocked => {
            let instances = text::count(blocked, "instance");
            let message = format!("{what}: {instances} would have no other node to run on");
            Err(Failure::new(Exit::Failed, message))
        }
    }
}

/// Waits until the node has no instances, and lists the remaining ones on standard error whenever there are fewer.
async fn until_empty(
    context: &Context,
    mut client: WorkloadServiceClient<Channel>,
    args: &DrainArgs,
) -> Result<(), Failure> {
    let mut told = None;
    loop {
        let mut left = assignments_of(context, &mut client, "", &args.node, false).await?;
        if args.keep_daemons {
            without_daemons(context, &mut client, &mut left).await?;
        }
        if left.is_empty() {
            text::stderr(&format!("{} is empty", clean(&args.node)));
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

/// Removes the instances of daemons.
async fn without_daemons(
    context: &Context,
    client: &mut WorkloadServiceClient<Channel>,
    rows: &mut Vec<v1::AssignmentRow>,
) -> Result<(), Failure> {
    let workloads = all_of(context, client).await?.workloads.into_iter();
    let daemons = workloads.filter(|workload| workload.kind == "daemon");
    let daemons: BTreeSet<String> = daemons.map(|workload| workload.name).collect();
    let is_daemon = |row: &v1::AssignmentRow| {
        row.assignment
            .as_ref()
            .is_some_and(|one| daemons.contains(&one.workload))
    };
    rows.retain(|row| !is_daemon(row));
    Ok(())
}

/// The result of a drain or its plan: where the node's work moves, and what stops on the node.
pub(super) fn drained(node: &str, plan: bool, answer: &v1::DrainNodeResponse, there: &[v1::AssignmentRow]) -> String {
    let mut told: Vec<String> = answer.changes.iter().map(|one| change(Some(one))).collect();
    let mut table = Table::new(["STOPS", "ID", "NODE", "WHEN"]);
    let of = |row: &v1::AssignmentRow| row.assignment.clone().unwrap_or_default();
    for one in there.iter().map(of).filter(|one| one.goal() != v1::Goal::Stop) {
        let has_replacement = |start: &v1::PlannedStart| start.workload == one.workload && start.slot == one.slot;
        let starts = answer.changes.iter().flat_map(|change| &change.starts);
        let when = match starts.into_iter().any(has_replacement) {
            true => "its replacement is healthy",
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
