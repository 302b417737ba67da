//! Placement decisions: why instances are started and stopped. Instance records refer to them.

use std::sync::Arc;

use super::{Aim, Autonomy, healing::causes};
use crate::{
    autonomy::{Alternative, Because, Evidence, Fact, Proposal, Source},
    ctx::Ctx,
    id::DecisionId,
    placement::Plan,
    workload::{Instance, Table},
};

/// Maximum number of starts and of stops listed in a decision; its events list all.
const LISTED: usize = 32;

impl Autonomy {
    /// Causes of a plan: decisions that declared nodes lost, that moved instances, and that operators approved.
    fn led_to(&self, plan: &Plan) -> Vec<Because> {
        let starts = plan.starts.iter().map(|start| &start.why);
        let mut led = causes(starts.chain(plan.stops.iter().map(|(_, why)| why)));
        let approved = plan.healed.iter().filter_map(|id| self.approved.get(id));
        led.extend(approved.copied().map(Because::Decision));
        led.into_iter().collect()
    }

    /// Records the decision for a plan, which the instances' records refer to, and returns its id.
    pub(crate) fn placed(&mut self, ctx: &mut Ctx, table: &Table, name: &Arc<str>, plan: &Plan) -> DecisionId {
        let wall = ctx.wall_now();
        let mut evidence = Vec::new();
        let placement = |fact: Fact| Evidence::new(wall, Source::Placement, fact);
        for start in plan.starts.iter().take(LISTED) {
            evidence.push(placement(Fact::Start {
                of: Instance::new(name, start.slot),
                on: ctx.registry[start.node].named(),
                score: start.score.total,
                why: start.why.clone(),
            }));
        }
        for (id, why) in plan.stops.iter().take(LISTED) {
            let Some(held) = table.held(*id) else { continue };
            let (of, on, why) = (held.instance(), ctx.registry[held.index].named(), why.clone());
            evidence.push(placement(Fact::Stop { of, on, why }));
        }
        for id in plan.revised.iter().take(LISTED) {
            let Some(held) = table.held(*id) else { continue };
            evidence.push(placement(Fact::Keep {
                of: held.instance(),
                on: ctx.registry[held.index].named(),
                revision: held.record.revision,
            }));
        }
        if let Some(why) = &plan.failed {
            evidence.push(Evidence::new(wall, Source::Update, Fact::UpdateFailed(why.clone())));
        }
        for waiting in &plan.waiting {
            let (slots, reason) = (waiting.slots, waiting.reason.clone());
            evidence.push(placement(Fact::Waits { slots, reason }));
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
            caused_by: self.led_to(plan),
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
