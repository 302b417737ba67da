//! Why instances are started and stopped: the decision that their records name.

use std::sync::Arc;

use super::{Aim, Autonomy};
use crate::{
    autonomy::{Alternative, Evidence, Proposal},
    ctx::Ctx,
    placement::Plan,
    workload::Table,
};

/// Moves that a decision lists at most; its events have them all.
const LISTED: usize = 32;

impl Autonomy {
    /// Why it is done: the decision that the instances' records name.
    pub(crate) fn placed(&mut self, ctx: &mut Ctx, table: &Table, name: &Arc<str>, plan: &Plan) -> u64 {
        let wall = ctx.wall_now();
        let mut evidence = Vec::new();
        for start in plan.starts.iter().take(LISTED) {
            let node = ctx.registry[start.node].name();
            let score = start.score.total;
            let fact = format!(
                "start {name}.{} on {node} (score {score}): {}",
                start.slot, start.reason
            );
            evidence.push(Evidence::new(wall, "placement", fact));
        }
        for (id, reason) in plan.stops.iter().take(LISTED) {
            let Some(held) = table.held(*id) else { continue };
            let (of, slot) = (&held.record.workload, held.record.slot);
            let node = ctx.registry[held.index].name();
            let fact = format!("stop {of}.{slot} on {node}: {reason}");
            evidence.push(Evidence::new(wall, "placement", fact));
        }
        for id in plan.revised.iter().take(LISTED) {
            let Some(held) = table.held(*id) else { continue };
            let (slot, node) = (held.record.slot, ctx.registry[held.index].name());
            let fact = format!(
                "keep {name}.{slot} on {node}: it runs by revision {}, which differs in nothing that it would have to start anew for",
                held.record.revision
            );
            evidence.push(Evidence::new(wall, "placement", fact));
        }
        if let Some(why) = &plan.failed {
            evidence.push(Evidence::new(wall, "update", why.as_str()));
        }
        for waiting in &plan.waiting {
            let fact = {
                let verb = if waiting.slots == 1 { "waits" } else { "wait" };
                format!("{} {verb}: {}", waiting.slots, waiting.reason)
            };
            evidence.push(Evidence::new(wall, "placement", fact));
        }
        let about = match (plan.starts.as_slice(), plan.stops.as_slice()) {
            ([one], []) => Some(one.node),
            ([], [(id, _)]) => table.held(*id).map(|held| held.index),
            _ => None,
        };
        let mut parts = Vec::new();
        for (verb, count) in [
            ("start", plan.starts.len()),
            ("stop", plan.stops.len()),
            ("carry over", plan.revised.len()),
        ] {
            if count > 0 {
                parts.push(format!("{verb} {count}"));
            }
        }
        if let Some(why) = &plan.failed {
            parts.push(format!("take the update back: {why}"));
        }
        let alternatives = plan.considered.iter();
        let proposal = Proposal {
            index: about,
            node: about.map(|index| ctx.registry[index].record.id()),
            time: wall,
            cycle: ctx.clock.cycle,
            rule: "declared-runs",
            action: format!("{name}: {}", parts.join(", ")),
            evidence,
            alternatives: alternatives
                .map(|(what, why)| Alternative::new(what, why.as_str()))
                .collect(),
        };
        let decision = self.ledger.placement(name, proposal, &plan.healed, &plan.preempted);
        let id = decision.id;
        let mut slots = plan.roomed.clone();
        if !plan.healed.is_empty() {
            slots.extend(plan.starts.iter().map(|start| start.slot));
        }
        let mends = !plan.healed.is_empty() || !plan.preempted.is_empty();
        if mends && !slots.is_empty() {
            self.check_later(ctx.clock.now, Arc::clone(&decision), Aim::Runs(Arc::clone(name), slots));
        }
        ctx.record_decision(about, decision);
        id
    }
}
