//! Adoption of instances that agents report and that are unknown here: started after the backup that was restored, or
//! on a node that was given up permanently.
//!
//! Agents are asked to describe them. An instance for which a workload has a free slot is adopted while it runs; the
//! others keep running and remain visible until a workload of their name is applied or deleted.

use std::{collections::BTreeMap, collections::BTreeSet, sync::Arc};

use super::Work;
use crate::{
    command::PlannedStop,
    ctx::{Ctx, outbox::Then},
    id::{DecisionId, Revision},
    node::{Admission, Liveness, NodeIndex},
    placement::Score,
    workload::{
        Assigned, Assignment, AssignmentId, Declared, Goal, Held, Kind, Numbers, Phase, Spec, Status, Workload,
    },
};

/// Instances that a workload adopts.
#[derive(Debug, Default)]
pub(crate) struct Adoption {
    /// Adopted instances with their slots and revisions.
    taken: Vec<(AssignmentId, u32, Revision)>,
    /// Slots filled by the adoption.
    slots: BTreeSet<u32>,
    /// Instances whose slots are already served by a healthy instance.
    surplus: Vec<AssignmentId>,
}

impl Adoption {
    /// Whether there is nothing to adopt.
    pub(crate) fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.surplus.is_empty()
    }

    fn take(&mut self, declared: &mut Declared, held: &Held, slot: u32, runs_by: &Arc<Spec>) {
        let revision = known_as(&mut declared.record, held.record.revision, runs_by);
        declared.assignments.insert(held.record.id);
        self.taken.push((held.record.id, slot, revision));
    }

    /// Number of adopted instances.
    pub(crate) fn len(&self) -> u32 {
        self.slots.len() as u32
    }
}

impl Work {
    /// Handles an agent's descriptions of instances.
    pub(crate) fn described(
        &mut self,
        ctx: &mut Ctx,
        index: NodeIndex,
        instances: Vec<Assigned>,
        refused: Vec<(AssignmentId, String)>,
    ) {
        for assigned in instances {
            let Some(dialogue) = self.dialogues.nodes.get_mut(&index) else {
                return;
            };
            let id = assigned.id;
            if dialogue.asked.remove(&id)
                && let Some(status) = dialogue.strangers.remove(&id)
                && self.table.held(id).is_none()
            {
                self.take_in(ctx, index, assigned, status);
            }
        }
        for (id, reason) in refused {
            let Some(dialogue) = self.dialogues.nodes.get_mut(&index) else {
                return;
            };
            if dialogue.asked.remove(&id) && dialogue.strangers.remove(&id).is_some() {
                let node = ctx.registry[index].name();
                let detail = format!(
                    "{node} runs instance {id}, whose declaration cannot be accepted; it is not touched: {reason}"
                );
                ctx.record_instance(Some(index), "", id, detail);
            }
        }
        // More instances may remain to be described.
        ctx.outbox.then(Then::Tell(index));
    }

    fn take_in(&mut self, ctx: &mut Ctx, index: NodeIndex, assigned: Assigned, status: Status) {
        let Assigned {
            id,
            slot,
            revision,
            spec,
        } = assigned;
        let name: Arc<str> = spec.name.as_str().into();
        let record = Assignment {
            id,
            workload: Arc::clone(&name),
            slot,
            revision,
            node: ctx.registry[index].record.id(),
            goal: Goal::Run,
            placed: status.since,
            reason: "its node has it, and it was not known here".to_owned(),
            score: Score::default(),
            decision: DecisionId(0),
            replaces: None,
            attempt: 0,
            stop_reason: String::new(),
            leaving: String::new(),
            leaving_because: None,
            end: None,
            orphan: Some(Arc::clone(&spec)),
        };
        let now = ctx.clock.now;
        self.table.hold(Arc::new(record), index, now);
        ctx.outbox.keep_assignment(id);
        let node = ctx.registry[index].name();
        let detail = format!("{node} has {name}.{slot} (instance {id}), which is not known here: it runs on");
        ctx.record_instance(Some(index), &name, id, detail);
        self.update(ctx, id, status);
        self.dirty(ctx, name);
    }

    /// Selects the orphans for which the workload `declared` has a place. Its record then includes the revisions that
    /// they run.
    pub(crate) fn adoption(&self, ctx: &Ctx, name: &str, declared: &mut Declared) -> Adoption {
        let mut adoption = Adoption::default();
        let Some(spec) = declared.record.spec().cloned() else {
            return adoption;
        };
        let mut orphans: Vec<&Held> = self.table.orphans(name).collect();
        // Newest first: of two instances of one slot, the newer one was meant to stay.
        orphans.reverse();
        for held in orphans {
            let Some(runs_by) = held.record.orphan.as_ref().filter(|_| self.may_be_adopted(ctx, held)) else {
                continue;
            };
            if !is_of_a_kind(runs_by, &spec) {
                continue;
            }
            let slot = match spec.replicas() {
                Some(_) => held.record.slot,
                // A daemon's slot is its node's index.
                None => held.index.0,
            };
            if held.record.goal == Goal::Stop {
                // The instance is stopping, and its replacement may have to wait for that.
                adoption.take(declared, held, slot, runs_by);
                continue;
            }
            if spec.replicas().is_some_and(|replicas| slot >= replicas) || adoption.slots.contains(&slot) {
                continue;
            }
            match self.place_of(ctx, declared, slot, held) {
                Place::Free => {
                    adoption.slots.insert(slot);
                    adoption.take(declared, held, slot, runs_by);
                }
                Place::Served if !self.is_listening(ctx, spec.singleton) => adoption.surplus.push(held.record.id),
                Place::Served | Place::Unclear => {}
            }
        }
        adoption
    }

    fn may_be_adopted(&self, ctx: &Ctx, held: &Held) -> bool {
        let node = &ctx.registry[held.index];
        held.is_there() && node.record.admission == Admission::Admitted
    }

    /// State of a workload's slot with regard to an orphan.
    fn place_of(&self, ctx: &Ctx, declared: &Declared, slot: u32, orphan: &Held) -> Place {
        let daemon = declared.record.spec().is_some_and(|spec| spec.kind == Kind::Daemon);
        let mut place = Place::Free;
        for held in self.table.instances(declared) {
            let here = match daemon {
                true => held.index == orphan.index,
                false => held.record.slot == slot,
            };
            if !here || held.record.id == orphan.record.id {
                continue;
            }
            let complete = held.status.complete && held.status.phase == Phase::Ended && held.record.goal == Goal::Run;
            if complete && declared.record.spec().is_some_and(|spec| spec.kind.is_batch()) {
                return Place::Unclear;
            }
            let gone = matches!(ctx.registry[held.index].liveness(), Liveness::Offline | Liveness::Left);
            if !held.is_wanted() || gone {
                continue;
            }
            if held.status.healthy {
                return Place::Served;
            }
            place = Place::Unclear;
        }
        place
    }

    /// Adopts orphans for which a workload has a place.
    pub(crate) fn adopt(&mut self, ctx: &mut Ctx, name: &Arc<str>) {
        if self.table.orphans(name).next().is_none() {
            return;
        }
        let Some(mut declared) = self.table.declared(name).filter(|known| !known.record.deleted).cloned() else {
            return;
        };
        let adoption = self.adoption(ctx, name, &mut declared);
        self.take_over(ctx, name, declared.record, adoption);
    }

    /// Assigns adopted instances to their workload in the table.
    pub(crate) fn adopt_all(&mut self, adoption: &Adoption) {
        for (id, slot, revision) in &adoption.taken {
            let number = self.number_of(*id).unwrap_or(*slot);
            self.table.adopt(*id, number, *revision);
        }
    }

    /// Slot number of an adopted daemon instance: the previous one unless it is in use.
    fn number_of(&self, id: AssignmentId) -> Option<u32> {
        let held = self.table.held(id)?;
        let declared = self.table.declared(&held.record.workload)?;
        let daemon = declared.record.spec().is_some_and(|spec| spec.replicas().is_none());
        daemon.then(|| Numbers::of(self.table.instances(declared)).take(Some(held.record.slot)))
    }

    /// Executes an adoption; `record` is the workload's record that results from it.
    pub(crate) fn take_over(&mut self, ctx: &mut Ctx, name: &Arc<str>, record: Arc<Workload>, adoption: Adoption) {
        let now = self.table.declared(name).map(|declared| &declared.record);
        if now.is_some_and(|known| *known != record) {
            let summary = format!(
                "{name}: what runs by a declaration that is not known here is taken over; the present one is revision {}",
                record.revision
            );
            ctx.record_workload(name, summary);
            self.table.declare(name, record);
            ctx.outbox.keep_workload(name);
        }
        self.adopt_all(&adoption);
        for (id, slot, _) in adoption.taken {
            ctx.outbox.keep_assignment(id);
            let index = self.table.held(id).map(|held| held.index);
            if !adoption.slots.contains(&slot) {
                continue;
            }
            ctx.record_instance(
                index,
                name,
                id,
                format!("{name}.{slot} ({id}) is taken over as it runs"),
            );
        }
        for id in adoption.surplus {
            self.set_goal(ctx, id, Goal::Stop, "another instance has its slot");
        }
    }

    /// Stops the orphans of a workload's name and returns them.
    pub(crate) fn delete_orphans(&mut self, ctx: &mut Ctx, name: &str, plan: bool) -> Vec<PlannedStop> {
        let reason = "the workload was deleted";
        let orphans = self.table.orphans(name).filter(|held| held.is_there());
        let stops = orphans.filter(|held| held.record.goal == Goal::Run).map(|held| {
            let node_name = ctx.registry[held.index].name().to_owned();
            let (id, slot, reason) = (held.record.id, held.record.slot, reason.to_owned());
            PlannedStop {
                id,
                slot,
                node_name,
                reason,
                unreplaced: false,
            }
        });
        let stops: Vec<_> = stops.collect();
        for id in stops.iter().map(|stop| &stop.id).filter(|_| !plan) {
            self.set_goal(ctx, *id, Goal::Stop, reason);
            let index = self.table.held(*id).map(|held| held.index);
            if index.is_some_and(|index| ctx.registry[index].record.admission == Admission::Revoked) {
                // A revoked node sends no further reports.
                let gone = self.table.remove(*id).map(|index| (*id, index));
                self.forget(ctx, gone.into_iter().collect());
            }
        }
        stops
    }
}

/// State of a slot.
enum Place {
    /// The slot has no instance, or only one whose node was given up.
    Free,
    /// The slot has a healthy instance.
    Served,
    /// The slot has an instance not known to be healthy, or needs none.
    Unclear,
}

/// Whether an instance of one specification can belong to the other.
fn is_of_a_kind(one: &Spec, other: &Spec) -> bool {
    let kind = |spec: &Spec| (spec.kind.is_batch(), spec.kind == Kind::Daemon);
    kind(one) == kind(other)
}

/// Ensures that a workload's record includes the specification that instances of `revision` run, and returns its
/// revision number there. A number above the current revision was assigned by a coordinator whose state was lost; the
/// current specification then becomes the next revision after it.
fn known_as(record: &mut Arc<Workload>, revision: Revision, runs_by: &Arc<Spec>) -> Revision {
    let newest = |revisions: &BTreeMap<Revision, Arc<Spec>>| revisions.keys().next_back().copied().unwrap_or_default();
    if record.revisions.get(&revision) == Some(runs_by) {
        return revision;
    }
    let own = Arc::make_mut(record);
    let number = match own.revisions.contains_key(&revision) || revision == Revision(0) {
        true => newest(&own.revisions).next(),
        false => revision,
    };
    own.revisions.insert(number, Arc::clone(runs_by));
    if number > own.revision
        && let Some(present) = own.spec().cloned()
    {
        let before = std::mem::replace(&mut own.revision, newest(&own.revisions).next());
        own.revisions.insert(own.revision, present);
        for kept in [&mut own.stable, &mut own.promoted] {
            if *kept == before {
                *kept = own.revision;
            }
        }
    }
    number
}
