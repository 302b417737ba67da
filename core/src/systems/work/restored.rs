//! Recovery after a restoration from a backup: changes since the backup are known only to agents, which are given time
//! to report them.
//!
//! Until then nothing is started, and nothing is stopped except deleted workloads: an instance that seems to be missing
//! may well run. For singletons this lasts until every lease granted by the lost coordinator is over.

use std::time::Duration;

use super::Work;
use crate::{
    ctx::alarm::Timer,
    ctx::{Ctx, DRIFT},
    event::EventBody,
    node::{Admission, NodeIndex},
    placement::{Plan, Waiting},
    standing::{self, SINGLETON},
    text::Span,
    time::Time,
    workload::{AssignmentId, Declared},
};

/// Re-evaluation interval while a node's descriptions are pending.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Work {
    /// Begins the waiting period unless it is already over.
    pub(crate) fn begin_restored(&mut self, ctx: &mut Ctx) {
        let Some(restored) = self.restored.filter(|restored| !restored.settled) else {
            return;
        };
        // The lost coordinator may have run until now: the time since the backup counts, not the time until `restore`.
        let age = ctx.wall_now().after(restored.taken);
        let summary = format!(
            "the state was restored from a backup made at {}, {} ago: nodes and operators that were revoked since must be revoked again; \
             running instances are taken over as agents report them, and nothing is started until then",
            restored.taken,
            Span(Duration::from_secs(age.as_secs()))
        );
        self.note_restored(ctx, summary);
        ctx.timers.set(self.everybody_was_heard(ctx), Timer::Settle);
    }

    /// Time by which all present nodes have reported their instances.
    fn everybody_was_heard(&self, ctx: &Ctx) -> Time {
        ctx.clock.resumed_at + ctx.config.restart_grace
    }

    /// Time by which every lease granted by the lost coordinator is over, including those of nodes unknown here.
    pub(crate) fn leases_are_over(&self, ctx: &Ctx) -> Time {
        let own = standing::lease(ctx.config.cycle, ctx.config.heartbeat);
        let given = ctx.registry.iter().map(|(_, node)| node.record.lease);
        let longest = given.fold(own, Duration::max) * SINGLETON;
        ctx.clock.started_at + longest + longest / DRIFT
    }

    /// Ends the waiting period, or extends it if it is not over yet.
    pub(crate) fn settle(&mut self, ctx: &mut Ctx) {
        let over = self.everybody_was_heard(ctx).max(self.leases_are_over(ctx));
        if over > ctx.clock.now {
            ctx.timers.set(over, Timer::Settle);
        } else if let Some(restored) = &mut self.restored {
            restored.settled = true;
            ctx.outbox.keep_restored(*restored);
            self.note_restored(
                ctx,
                "what runs since before the state was restored is known: work is placed as usual".to_owned(),
            );
        }
        let names: Vec<_> = self.table.workloads().map(|(name, _)| name.clone()).collect();
        for name in names {
            self.dirty(ctx, name);
        }
    }

    fn note_restored(&mut self, ctx: &mut Ctx, summary: String) {
        let (verb, by) = ("restore".to_owned(), String::new());
        let detail = summary.clone();
        ctx.record(None, summary, EventBody::Command { verb, detail, by });
    }

    /// Whether an instance id was assigned before the restoration.
    pub(crate) fn is_of_before(&self, id: AssignmentId) -> bool {
        self.restored.is_some_and(|restored| id.epoch() <= restored.epoch)
    }

    /// Whether an instance id is one that this coordinator has not assigned yet.
    pub(crate) fn is_of_later(&self, ctx: &Ctx, id: AssignmentId) -> bool {
        id.epoch() > ctx.term.epoch
            || id.epoch() == ctx.term.epoch && self.table.held(id).is_none() && id.count() > self.placed
    }

    /// Time until which nothing of a workload is started or stopped, and the reason.
    fn waits_for_agents(&self, ctx: &Ctx, singleton: bool) -> Option<(Time, &'static str)> {
        if self.restored.is_some_and(|restored| !restored.settled) {
            let heard = self.everybody_was_heard(ctx);
            let over = if singleton {
                heard.max(self.leases_are_over(ctx))
            } else {
                heard
            };
            if over > ctx.clock.now {
                return Some((over, "the state was restored, and agents have yet to tell what runs"));
            }
        }
        if singleton && self.somebody_is_asked(ctx) {
            let why = "a node has yet to say what its instances are for, and there must never be two";
            return Some((ctx.clock.now + LOOK_AGAIN, why));
        }
        None
    }

    /// Whether a node that may hold a lease has instances whose description is pending.
    fn somebody_is_asked(&self, ctx: &Ctx) -> bool {
        let admitted = |index: NodeIndex| ctx.registry[index].record.admission == Admission::Admitted;
        let mut asked = self.dialogues.nodes.iter();
        let mut unsaid = self.dialogues.unsaid.iter();
        asked.any(|(index, dialogue)| !dialogue.strangers.is_empty() && admitted(*index))
            || unsaid.any(|index| admitted(*index) && ctx.lease_ends(*index) > ctx.clock.now)
    }

    /// Reduces a workload's plan to what may be executed before agents have reported.
    pub(crate) fn until_heard(&self, ctx: &Ctx, declared: &Declared, plan: Plan) -> Plan {
        let nothing = plan.starts.is_empty() && plan.stops.is_empty();
        let Some(spec) = declared.record.spec().filter(|_| !declared.record.deleted && !nothing) else {
            return plan;
        };
        let Some((until, why)) = self.waits_for_agents(ctx, spec.singleton) else {
            return plan;
        };
        let mut waiting = plan.waiting;
        if !plan.starts.is_empty() {
            let (slots, reason) = (plan.starts.len() as u32, why.to_owned());
            waiting.push(Waiting {
                slots,
                reason,
                nodes: Vec::new(),
                failures: 0,
                given_up: false,
            });
        }
        Plan {
            waiting,
            revised: plan.revised,
            later: plan.later + plan.stops.len() as u32,
            wake: Some(plan.wake.map_or(until, |wake| wake.min(until))),
            ..Plan::default()
        }
    }

    /// Whether starts and stops are suspended because agents' reports are pending.
    pub(crate) fn is_listening(&self, ctx: &Ctx, singleton: bool) -> bool {
        self.waits_for_agents(ctx, singleton).is_some()
    }
}
