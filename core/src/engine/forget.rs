//! Forgetting nodes: the records of a node that is permanently gone are removed and its name becomes available.
//!
//! A node is forgotten by an operator or by age. It must be gone, and no lease ever granted to it may still be valid:
//! its instances are given up permanently, and a singleton must not be started while its predecessor may still run
//! (docs/self-healing.md).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Changed, Coordinator, Effect, Forgotten, PlannedStop, Refusal};
use crate::{
    access::BARRED,
    command::{Command, Forget},
    event::EventBody,
    id::{EventNo, SessionNo},
    node::{Admission, Liveness, Node, NodeIndex},
    text::Span,
    time::WallTime,
    workload::{Assignment, Goal, Held},
};

/// Maximum number of nodes forgotten by age in one cycle.
const A_CYCLE: usize = 16;

/// Maximum number of sufficiently old nodes examined in one cycle.
const LOOKS_A_CYCLE: usize = 256;

/// Number of times a node's absence is persisted before it reaches the age limit, within the bounds of the interval
/// between writes. A restart of the coordinator loses the absence since the last write.
const STEPS: u32 = 32;
const STEP_MIN: Duration = Duration::from_secs(1);
const STEP_MAX: Duration = Duration::from_secs(3_600);

/// Maximum number of given-up instances that are recorded in events of their own.
const LISTED: usize = 32;

/// Reason for the end of an instance on a forgotten node.
const GIVEN_UP: &str = "given up for good: its node is forgotten";

/// Refusal code for a node that may still hold a valid lease.
const LEASE: &str = "NODE_LEASE";

fn not_yet(reason: &'static str, detail: String) -> Result<(), Refusal> {
    Err(Refusal::NotYet { reason, detail })
}

/// Whether a node is absent and not expected to return: offline, left, revoked or never admitted.
fn is_gone(node: &Node) -> bool {
    let lost = matches!(node.liveness(), Liveness::Offline | Liveness::Left);
    node.session.is_none() && (lost || node.record.admission != Admission::Admitted)
}

impl Coordinator {
    /// Forgets a node, or plans it, on behalf of an operator.
    pub(super) fn forget_node(&mut self, forget: &Forget, by: &str) -> Result<Box<Forgotten>, Refusal> {
        let Forget { node, plan, reason } = forget;
        let plan = *plan;
        let index = self.ctx.registry.resolve(node)?;
        let not_before = match (self.may_forget(index), plan) {
            // A plan is shown even while a lease may be valid; it states the earliest time.
            (Err(Refusal::NotYet { reason: LEASE, .. }), true) => Some(self.lease_over(index)),
            (may, _) => may.map(|()| None)?,
        };
        let record = &self.ctx.registry[index].record;
        let (node, name, barred) = (
            record.id(),
            record.facts.name.clone(),
            record.admission == Admission::Revoked,
        );
        let mut changes = self.given_up(index);
        let event = match plan {
            true => EventNo::default(),
            false => self.forget_at(index, reason, by),
        };
        for change in &mut changes {
            (change.applied, change.event) = (!plan, event);
        }
        Ok(Box::new(Forgotten {
            node,
            name,
            applied: !plan,
            barred,
            not_before,
            changes,
            event,
        }))
    }

    /// Wall-clock time at which no lease of a node is valid any more, rounded up to seconds.
    fn lease_over(&self, index: NodeIndex) -> WallTime {
        let left = self.ctx.lease_ends(index).since(self.ctx.clock.now).as_secs() + 1;
        self.ctx.wall_now().plus(Duration::from_secs(left))
    }

    /// Checks whether a node may be forgotten; the error states what must happen first.
    fn may_forget(&self, index: NodeIndex) -> Result<(), Refusal> {
        let node = &self.ctx.registry[index];
        let (name, liveness) = (node.name(), node.liveness().name());
        if node.session.is_some() {
            let detail = format!(
                "node {name:?} is connected ({liveness}): stop its agent or revoke it (`wynectl revoke`); an agent that runs would be \
                 back at once"
            );
            return not_yet("NODE_PRESENT", detail);
        }
        if !is_gone(node) {
            let detail = format!(
                "node {name:?} is {liveness}: wait until it is offline, or revoke it (`wynectl revoke`); only nodes that are offline, \
                 left, revoked or were never admitted are forgotten"
            );
            return not_yet("NODE_PRESENT", detail);
        }
        let over = self.ctx.lease_ends(index);
        if node.record.session != SessionNo(0) && over > self.ctx.clock.now {
            let left = over.since(self.ctx.clock.now).as_secs() + 1;
            let until = self.lease_over(index);
            let detail = format!(
                "a lease that was promised to node {name:?} may run for another {left} s, until {until}, and singletons on it with it: try \
                 again then"
            );
            return not_yet(LEASE, detail);
        }
        if let Some(held) = self.work.table().of_node(index).find(|held| self.work.never_ends(held)) {
            let detail = format!(
                "instance {} on node {name:?} runs without a lease, and {:?} is a singleton by now: there must never be two; delete the \
                 workload first",
                held.record.id, held.record.workload
            );
            return not_yet("NODE_SINGLETON", detail);
        }
        if node.record.admission == Admission::Revoked && !self.admissions.has_room_for_barred(&self.ctx) {
            let detail = format!(
                "{BARRED} revoked nodes that were forgotten are remembered, the limit: node {name:?} stays revoked; try again when \
                 certificates of those have expired"
            );
            return not_yet("BARRED", detail);
        }
        Ok(())
    }

    /// The instances that would be given up with a node, and their first replacements.
    fn given_up(&mut self, index: NodeIndex) -> Vec<Changed> {
        let untouched = self.work.table().clone();
        let node = self.ctx.registry[index].name().to_owned();
        let mut lost: BTreeMap<Arc<str>, Vec<Arc<Assignment>>> = BTreeMap::new();
        for record in self.work.forget_node(index) {
            lost.entry(Arc::clone(&record.workload)).or_default().push(record);
        }
        let ambiguous = self.guardian.climate(&mut self.ctx).ambiguous;
        let mut fleet = self.cluster().fleet();
        fleet.close(index);
        let mut order: Vec<(u8, Arc<str>)> = lost
            .keys()
            .map(|name| (self.work.table().priority(name), Arc::clone(name)))
            .collect();
        order.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
        let mut told = Vec::new();
        for (_, name) in order {
            let mut change = Changed {
                name: name.to_string(),
                ..Changed::default()
            };
            if let Some(declared) = self.work.table().declared(&name) {
                let plan = self.work.plan(
                    &self.ctx,
                    declared,
                    ambiguous,
                    &mut fleet,
                    self.autonomy.allowance(self.ctx.clock.now),
                );
                change = self.work.tell_plan(&self.ctx, &name, &plan);
                change.revision = declared.record.revision;
            }
            let gone = lost.remove(&name).unwrap_or_default().into_iter();
            change.stops.extend(gone.map(|record| PlannedStop {
                id: record.id,
                slot: record.slot,
                node_name: node.clone(),
                reason: GIVEN_UP.to_owned(),
                unreplaced: false,
            }));
            change.changed = true;
            told.push(change);
        }
        self.work.put_back(untouched);
        told
    }

    /// Forgets a node that may be forgotten and returns the number of the event.
    fn forget_at(&mut self, index: NodeIndex, reason: &str, by: &str) -> EventNo {
        let name = self.ctx.registry[index].name().to_owned();
        let detail = match reason {
            "" => "its record, labels and identity are removed",
            reason => reason,
        };
        let body = EventBody::Command {
            verb: Forget::VERB.to_owned(),
            detail: detail.to_owned(),
            by: by.to_owned(),
        };
        let event = self.ctx.record(Some(index), format!("forget {name}: {detail}"), body);
        // These record events that need the node's name.
        self.behaviour.forget(&mut self.ctx, index);
        self.autonomy.close(&mut self.ctx, index);
        self.guardian.close_findings(&mut self.ctx, index);
        self.give_up_instances(index, &name);
        let record = Arc::clone(&self.ctx.registry[index].record);
        if record.admission == Admission::Revoked {
            self.admissions.bar(&mut self.ctx, &record);
        }
        self.ctx.forget_repeating(index);
        self.ctx.outbox.drop_node(index, record.id());
        self.let_go(index);
        event
    }

    fn give_up_instances(&mut self, index: NodeIndex, node: &str) {
        let lost = self.work.forget_node(index);
        let wanted = lost.iter().filter(|record| record.goal == Goal::Run);
        let wanted: Vec<Arc<Assignment>> = wanted.take(LISTED).cloned().collect();
        for record in wanted {
            let (workload, slot) = (&record.workload, record.slot);
            let summary = format!("{workload}.{slot} on {node} is {GIVEN_UP}");
            self.ctx.record_instance(Some(index), workload, record.id, summary);
        }
        for record in lost {
            self.ctx.outbox.keep_assignment(record.id);
            self.work.dirty(&mut self.ctx, Arc::clone(&record.workload));
        }
    }

    /// Removes a node from every system and reserves its index until no telemetry sample contains it.
    fn let_go(&mut self, index: NodeIndex) {
        for request in self.work.forget_dialogue(index) {
            let answer = Err(Refusal::Log("its node was forgotten".to_owned()));
            self.ctx.outbox.push(Effect::Reply { request, answer });
        }
        self.predictive.forget(index);
        self.autonomy.forget(index);
        self.telemetry.matrix_mut().silence(index);
        self.rows.forget(index);
        self.ctx.outbox.forget(index);
        let member = self.guardian.forget(&mut self.ctx, index);
        self.ctx
            .registry
            .remove(index, self.ctx.clock.cycle.after(self.telemetry.matrix().keep() as u64));
        if member {
            self.guardian.replan(&mut self.ctx);
        }
        self.work.room_changed(&mut self.ctx);
        self.ctx.view_soon();
    }

    /// Releases reserved indexes and forgets nodes that have been gone too long, at the start of a cycle.
    pub(super) fn forget_stage(&mut self) {
        let places = self.ctx.registry.tidy(self.ctx.clock.cycle);
        self.telemetry.matrix_mut().truncate(places);
        let Some(after) = self.ctx.config.forget_after else {
            return;
        };
        self.age(after);
        let old = self.ctx.registry.iter();
        let old = old.filter(|(_, node)| node.record.gone >= after && is_gone(node));
        let old: Vec<NodeIndex> = old.map(|(index, _)| index).take(LOOKS_A_CYCLE).collect();
        let mut forgotten = 0;
        for index in old {
            // Nodes with wanted instances are not forgotten automatically: an operator, or the node itself, must act
            // first.
            let wanted = self.work.table().of_node(index).any(Held::is_wanted);
            if forgotten >= A_CYCLE || wanted || self.ctx.outbox.is_behind() || self.may_forget(index).is_err() {
                continue;
            }
            forgotten += 1;
            let reason = format!("it was gone for {} (forget_after)", Span(after));
            self.forget_at(index, &reason, "coordinator");
        }
    }

    /// Adds the time since the last call to the recorded absence of nodes. Only running time of this process counts, so
    /// wall-clock changes do not age nodes.
    fn age(&mut self, after: Duration) {
        let passed = self.ctx.clock.now.since(self.aged);
        if passed < (after / STEPS).clamp(STEP_MIN, STEP_MAX) {
            return;
        }
        self.aged = self.ctx.clock.now;
        let gone: Vec<NodeIndex> = self
            .ctx
            .registry
            .iter()
            .filter(|(_, node)| is_gone(node) && node.record.gone < after)
            .map(|(index, _)| index)
            .collect();
        for index in gone {
            let node = &mut self.ctx.registry[index];
            // The node may have gone after the last call.
            let passed = passed.min(self.ctx.clock.now.since(node.since()));
            let record = Arc::make_mut(&mut node.record);
            record.gone = record.gone.saturating_add(passed);
            self.ctx.keep(index);
        }
    }
}
