//! Workloads: declaring, changing and simulating them.

mod explain;
mod state;
pub(super) mod view;

use std::{future::Future, time::Duration};

use prost::{Message, Name};
use tonic::{Response, Status, transport::Channel};
use wyneos::{
    client,
    v1::{self, workload_service_client::WorkloadServiceClient},
};
use wyneos_core::text::Quoted;

use super::{
    PAGE,
    assignments::assignments_of,
    changes::{change, declared},
    next_page, nothing,
    settle::{self, Until},
};
use crate::{
    args::{ApplyArgs, ChangeArgs, PlanArgs, RebalanceArgs, ScaleArgs, WaitArgs, WhatIfArgs, WorkloadArgs},
    context::Context,
    declaration::{self, Declaration},
    exit::Exit,
    failure::Failure,
};

pub(super) use explain::explain;
pub(super) use state::{given_up, out_of_memory, state};

type Client = WorkloadServiceClient<Channel>;

/// An answer with the effect of a command on a workload.
trait Changes: Message + Name {
    /// The change, made or planned; none if nothing is known of the workload.
    fn change(&self) -> Option<&v1::WorkloadChange>;
}

macro_rules! changes {
    ($($answer:ident)*) => {$(
        impl Changes for v1::$answer {
            fn change(&self) -> Option<&v1::WorkloadChange> {
                self.change.as_ref()
            }
        }
    )*};
}

changes! {
    PlanWorkloadResponse
    ApplyWorkloadResponse
    ScaleWorkloadResponse
    RestartWorkloadResponse
    PromoteWorkloadResponse
    DeleteWorkloadResponse
}

/// Waits for the answer to a change, shows it with `view`, and returns it.
async fn told<A: Changes>(
    context: &Context,
    what: &str,
    call: impl Future<Output = Result<Response<A>, Status>>,
    view: fn(Option<&v1::WorkloadChange>) -> String,
) -> Result<Option<v1::WorkloadChange>, Failure> {
    let answer = context.call(what, call).await?;
    context.show(&answer, |answer| view(answer.change()))?;
    Ok(answer.change().cloned())
}

/// `wynectl plan`.
pub(crate) async fn plan(context: &Context, args: PlanArgs) -> Result<(), Failure> {
    let Declaration { spec, keep_replicas } = declaration::read(&args.file)?;
    let mut client = client::workloads(context.connect().await?);
    let request = v1::PlanWorkloadRequest {
        spec: Some(spec),
        keep_replicas,
    };
    told(context, "plan the workload", client.plan_workload(request), declared).await?;
    Ok(())
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
    let change = told(context, what, client.apply_workload(request), declared).await?;
    through(context, client, what, &wait, true, change).await
}

/// Waits until a change is complete, as requested.
async fn through(
    context: &Context,
    client: Client,
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
    let change = told(context, &what, client.scale_workload(request), change).await?;
    through(context, client, &what, &args.wait, false, change).await
}

/// `wynectl restart`.
pub(crate) async fn restart(context: &Context, args: WorkloadArgs) -> Result<(), Failure> {
    let what = format!("restart workload {}", Quoted(&args.name));
    let ChangeArgs { plan, revision } = args.change;
    let name = args.name;
    let request = v1::RestartWorkloadRequest { name, revision, plan };
    let mut client = client::workloads(context.connect().await?);
    let change = told(context, &what, client.restart_workload(request), change).await?;
    through(context, client, &what, &args.wait, false, change).await
}

/// `wynectl promote`.
pub(crate) async fn promote(context: &Context, args: WorkloadArgs) -> Result<(), Failure> {
    let what = format!("promote workload {}", Quoted(&args.name));
    let ChangeArgs { plan, revision } = args.change;
    let name = args.name;
    let request = v1::PromoteWorkloadRequest { name, revision, plan };
    let mut client = client::workloads(context.connect().await?);
    let change = told(context, &what, client.promote_workload(request), change).await?;
    through(context, client, &what, &args.wait, false, change).await
}

/// `wynectl delete`.
pub(crate) async fn delete(context: &Context, args: WorkloadArgs) -> Result<(), Failure> {
    let what = format!("delete workload {}", Quoted(&args.name));
    let ChangeArgs { plan, revision } = args.change;
    let name = args.name.clone();
    let request = v1::DeleteWorkloadRequest { name, revision, plan };
    let mut client = client::workloads(context.connect().await?);
    told(context, &what, client.delete_workload(request), change).await?;
    if plan {
        return Ok(());
    }
    settle::wait(context, client, (&what, &args.name), &args.wait, false, Until::Gone).await
}

/// Every workload.
pub(super) async fn all_of(context: &Context, client: &mut Client) -> Result<v1::ListWorkloadsResponse, Failure> {
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
    context.show(&all, |all| view::all(&all.workloads))
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
    context.text(&view::one(&answer, &rows))
}

/// `wynectl whatif`.
pub(crate) async fn what_if(context: &Context, args: WhatIfArgs) -> Result<(), Failure> {
    let wrong = || {
        Failure::new(
            Exit::Usage,
            "whatif: give the nodes and their state, as in 'zone=a down' or 'node-3 drained'",
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
    context.show(&answer, view::what_if)
}

/// `wynectl rebalance`.
pub(crate) async fn rebalance(context: &Context, args: RebalanceArgs) -> Result<(), Failure> {
    let request = v1::RebalanceRequest { plan: args.plan };
    let mut client = client::workloads(context.connect().await?);
    let answer = context.call("rebalance", client.rebalance(request)).await?;
    context.show(&answer, view::rebalanced)
}
