//! After a restoration: what came after the backup is known to agents alone, and they are given the time to tell it.
//!
//! Until then nothing is started and, but for what is to be deleted, nothing is stopped: what seems to be missing may well run somewhere. For
//! singletons that takes until the last lease of the coordinator that was lost is over, wherever it was given.

use std::time::Duration;

use super::{Coordinator, Timer, instances::DRIFT};
use crate::{
    event::EventBody,
    node::{Admission, NodeIndex},
    placement::{Plan, Waiting},
    standing::{self, SINGLETON},
    text::Span,
    time::Time,
    workload::{AssignmentId, Declared},
};

/// While a node has yet to say what its instances are for, it is looked again so often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Coordinator {
    /// Begins to wait, unless that was done already.
    pub(super) fn begin_restored(&mut self) {
        let Some(restored) = self.restored.filter(|restored| !restored.settled) else {
            return;
        };
        // The lost coordinator may have gone on until now: what matters is the time since the backup, not the time until `restore`.
        let age = self.ctx.wall_now().after(restored.taken);
        let summary = format!(
            "the state was restored from a backup made at {}, {} ago: nodes and operators that were revoked since must be revoked again; \
             running instances are taken over as agents report them, and nothing is started until then",
            restored.taken,
            Span(Duration::from_secs(age.as_secs()))
        );
        self.note_restored(summary);
        self.ctx.timers.set(self.everybody_was_heard(), Timer::Settle);
    }

    /// When whoever is there has told what it has.
    fn everybody_was_heard(&self) -> Time {
        self.ctx.clock.resumed_at + self.ctx.config.restart_grace
    }

    /// When no lease of the coordinator that was lost can run any more: also not that of a node which is not known here.
    pub(super) fn leases_are_over(&self) -> Time {
        let own = standing::lease(self.ctx.config.cycle, self.ctx.config.heartbeat);
        let given = self.ctx.registry.iter().map(|(_, node)| node.record.lease);
        let longest = given.fold(own, Duration::max) * SINGLETON;
        self.ctx.clock.started_at + longest + longest / DRIFT
    }

    /// Agents had the time to tell what they have.
    pub(super) fn settle(&mut self) {
        let over = self.everybody_was_heard().max(self.leases_are_over());
        if over > self.ctx.clock.now {
            self.ctx.timers.set(over, Timer::Settle);
        } else if let Some(restored) = &mut self.restored {
            restored.settled = true;
            self.ctx.outbox.keep_restored(*restored);
            self.note_restored(
                "what runs since before the state was restored is known: work is placed as usual".to_owned(),
            );
        }
        let names: Vec<_> = self.table.workloads().map(|(name, _)| name.clone()).collect();
        for name in names {
            self.dirty(name);
        }
    }

    fn note_restored(&mut self, summary: String) {
        let (verb, by) = ("restore".to_owned(), String::new());
        let detail = summary.clone();
        self.ctx.record(None, summary, EventBody::Command { verb, detail, by });
    }

    /// Entries of the audit are missing.
    pub(super) fn audit_lost(&mut self, detail: String) {
        let (verb, by) = ("audit".to_owned(), String::new());
        let summary = detail.clone();
        self.ctx.record(None, summary, EventBody::Command { verb, detail, by });
    }

    /// An instance's number was given out before the state was restored.
    pub(super) fn is_of_before(&self, id: AssignmentId) -> bool {
        self.restored.is_some_and(|restored| id.epoch() <= restored.epoch)
    }

    /// An instance's number is one that this coordinator has yet to give out, or one after it.
    pub(super) fn is_of_later(&self, id: AssignmentId) -> bool {
        id.epoch() > self.ctx.term.epoch
            || id.epoch() == self.ctx.term.epoch && self.table.held(id).is_none() && id.count() > self.agenda.placed
    }

    /// Until when nothing is started of a workload, or stopped, and why.
    fn waits_for_agents(&self, singleton: bool) -> Option<(Time, &'static str)> {
        if self.restored.is_some_and(|restored| !restored.settled) {
            let heard = self.everybody_was_heard();
            let over = if singleton {
                heard.max(self.leases_are_over())
            } else {
                heard
            };
            if over > self.ctx.clock.now {
                return Some((over, "the state was restored, and agents have yet to tell what runs"));
            }
        }
        if singleton && self.somebody_is_asked() {
            let why = "a node has yet to say what its instances are for, and there must never be two";
            return Some((self.ctx.clock.now + LOOK_AGAIN, why));
        }
        None
    }

    /// A node that may have a lease has instances of which it has not said what they are for.
    fn somebody_is_asked(&self) -> bool {
        let admitted = |index: NodeIndex| self.ctx.registry[index].record.admission == Admission::Admitted;
        let mut asked = self.dialogues.nodes.iter();
        let mut unsaid = self.dialogues.unsaid.iter();
        asked.any(|(index, dialogue)| !dialogue.strangers.is_empty() && admitted(*index))
            || unsaid.any(|index| admitted(*index) && self.lease_ends(*index) > self.ctx.clock.now)
    }

    /// A workload's plan, as far as it can be carried out before agents have told what runs.
    pub(super) fn until_heard(&self, declared: &Declared, plan: Plan) -> Plan {
        let nothing = plan.starts.is_empty() && plan.stops.is_empty();
        let Some(spec) = declared.record.spec().filter(|_| !declared.record.deleted && !nothing) else {
            return plan;
        };
        let Some((until, why)) = self.waits_for_agents(spec.singleton) else {
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

    /// True while nothing is started, or stopped, as agents have yet to tell what runs.
    pub(super) fn is_listening(&self, singleton: bool) -> bool {
        self.waits_for_agents(singleton).is_some()
    }
}
