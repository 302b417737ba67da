//! Workloads: what would become of a declaration.

use std::collections::BTreeMap;

use wyneos::{client, v1};

use crate::{
    args::PlanArgs,
    context::Context,
    declaration,
    failure::Failure,
    text::{self, Table, clean},
};

/// `wynectl plan`.
pub(crate) async fn plan(context: &Context, args: PlanArgs) -> Result<(), Failure> {
    let spec = Some(declaration::read(&args.file)?);
    let mut client = client::workloads(context.connect().await?);
    let request = v1::PlanWorkloadRequest { spec };
    let answer = context.call("plan the workload", client.plan_workload(request)).await?;
    context.show(&answer, view)
}

fn view(plan: &v1::PlanWorkloadResponse) -> String {
    let name = plan.spec.as_ref().map_or("", |spec| spec.name.as_str());
    let starts = plan.starts.len() as u64;
    let mut told = format!("{}: {} would start", clean(name), text::count(starts, "instance"));
    if plan.pending > 0 {
        told.push_str(&format!(", {} would wait: no node takes them", plan.pending));
    }
    told.push_str(&format!(" (by cycle {})\n", plan.cycle));
    let mut by_node: BTreeMap<&str, (u32, &v1::PlannedStart)> = BTreeMap::new();
    for start in &plan.starts {
        by_node.entry(&start.node_id).or_insert((0, start)).0 += 1;
    }
    if !by_node.is_empty() {
        let mut table = Table::new([
            "NODE", "STARTS", "SCORE", "HEADROOM", "CALM", "AFFINITY", "TRUST", "RECORD",
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
            ];
            let mut cells = vec![clean(&start.node_name), count.to_string()];
            cells.extend(parts.map(|part| part.to_string()));
            table.row(cells);
        }
        told.push('\n');
        told.push_str(&table.text(0));
    }
    if !plan.rejections.is_empty() {
        let mut table = Table::new(["NODE", "TAKES NONE"]);
        for rejection in &plan.rejections {
            table.row([clean(&rejection.node_name), clean(&rejection.reason)]);
        }
        told.push('\n');
        told.push_str(&table.text(0));
    }
    told
}
