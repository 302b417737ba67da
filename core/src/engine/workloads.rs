//! Operator commands about work: workload specifications and draining of nodes.

use std::{collections::BTreeSet, sync::Arc};

use super::{ChangeWorkload, Changed, Coordinator, Refusal, WorkloadVerb};
use crate::{
    command::{Command, Drain},
    event::EventBody,
    id::Revision,
    node::{Eligibility, NodeIndex},
    placement::Plan,
    systems::work::{adoption::Adoption, declare::keeping},
    text::{Span, count},
    workload::{Held, Kind, Workload},
};

impl Coordinator {
    /// Handles a command that changes a workload.
    pub(super) fn change_workload(&mut self, command: ChangeWorkload, by: &str) -> Result<Box<Changed>, Refusal> {
        let name = command.verb.workload().to_owned();
        let before = self
            .work
            .table()
            .declared(&name)
            .map(|declared| Arc::clone(&declared.record));
        let now = before.as_ref().map_or(Revision(0), |record| record.revision);
        if let Some(at) = command.at.filter(|at| *at != now) {
            return Err(Refusal::Revision { name, now, at });
        }
        let deletes = matches!(command.verb, WorkloadVerb::Delete { .. });
        if deletes && before.is_none() && self.work.table().orphans(&name).next().is_some() {
            return Ok(self.delete_unknown(&name, command.plan, by));
        }
        let counted = command
            .keep_replicas
            .then(|| keeping(&command.verb, before.as_deref()))
            .flatten();
        if let Some(WorkloadVerb::Apply(spec)) = &counted {
            // The retained replica count may exceed what the new specification allows.
            let (field, checked) = ("replicas", spec.check());
            let invalid = |bad: crate::workload::BadSpec| format!("left out, so as many as there are: {bad}");
            checked.map_err(|bad| Refusal::Invalid {
                field,
                reason: invalid(bad),
            })?;
        }
        let verb = counted.as_ref().unwrap_or(&command.verb);
        let after = self.work.changed_record(&self.ctx, verb, before.as_ref(), by)?;
        self.work.check_near(&name, &after)?;
        let changed = before.as_ref() != Some(&after);
        let mut fleet = self.cluster().fleet();
        if after.spec().is_some_and(|spec| !spec.fixed_ports.is_empty()) && !self.work.table().has_fixed_ports() {
            self.cluster().hand_out(&mut fleet);
        }
        let mut declared = self.work.declared_as(&name, &after);
        if changed {
            // Failures under an earlier specification, or before a repeated request, cause no back-off.
            declared.not_before.clear();
        }
        let adoption = match changed && !after.deleted {
            true => self.work.adoption(&self.ctx, &name, &mut declared),
            false => Adoption::default(),
        };
        // A plan includes the instances that would be adopted, and is rolled back afterwards.
        let untouched = (!adoption.is_empty()).then(|| self.work.table().clone());
        self.work.adopt_all(&adoption);
        let ambiguous = self.guardian.climate(&mut self.ctx).ambiguous;
        let plan = match changed {
            true => {
                let may = self.autonomy.allowance(self.ctx.clock.now);
                self.work.plan(&self.ctx, &declared, ambiguous, &mut fleet, may)
            }
            false => Plan::default(),
        };
        if !command.plan && !command.force && !plan.unreplaced.is_empty() {
            if let Some(untouched) = untouched {
                self.work.put_back(untouched);
            }
            return Err(self.work.refuse_unreplaced(&self.ctx, &plan));
        }
        let mut told = self.work.tell_plan(&self.ctx, &name, &plan);
        told.adopted = adoption.len();
        (told.spec, told.changed, told.applied) = (after.spec().cloned(), changed, !command.plan);
        told.revision = now;
        let replicas = |record: &Workload| record.spec().and_then(|spec| spec.replicas());
        let replicas_before = before.as_deref().and_then(replicas);
        told.replicas_before = replicas_before.filter(|_| replicas_before != replicas(&after));
        if command.plan {
            if let Some(spec) = after.spec() {
                told.rejections = self.work.rejections(&self.ctx, spec, &declared, &plan, &fleet);
            }
            if let Some(untouched) = untouched {
                self.work.put_back(untouched);
            }
            return Ok(Box::new(told));
        }
        if changed {
            told.revision = declared.record.revision;
            if deletes {
                told.stops.extend(self.work.delete_orphans(&mut self.ctx, &name, false));
            }
            self.work.declare(&mut self.ctx, &name, &declared.record);
            let summary = format!("{} {name}: revision {}", command.verb.name(), told.revision);
            told.event = self.ctx.record(
                None,
                summary,
                EventBody::Workload {
                    workload: name.clone(),
                    assignment: None,
                    by: by.to_owned(),
                },
            );
            let name: Arc<str> = name.as_str().into();
            self.work.take_over(&mut self.ctx, &name, declared.record, adoption);
            if let Some(wake) = plan.wake {
                self.work.wake(&name, wake);
                self.work.look_at_work(&mut self.ctx, wake);
            }
            self.carry_out_plan(&name, plan);
            self.work.dirty(&mut self.ctx, name);
        }
        Ok(Box::new(told))
    }

    /// Deletes a workload of which only instances are known.
    pub(super) fn delete_unknown(&mut self, name: &str, plan: bool, by: &str) -> Box<Changed> {
        let mut told = Changed {
            name: name.to_owned(),
            stops: self.work.delete_orphans(&mut self.ctx, name, plan),
            applied: !plan,
            changed: true,
            ..Changed::default()
        };
        if !plan {
            let summary = format!(
                "delete {name}: {} without a workload",
                count(told.stops.len() as u64, "instance")
            );
            let body = EventBody::Workload {
                workload: name.to_owned(),
                assignment: None,
                by: by.to_owned(),
            };
            told.event = self.ctx.record(None, summary, body);
        }
        Box::new(told)
    }

    /// Drains a node.
    pub(super) fn drain(&mut self, drain: &Drain, by: &str) -> Result<Vec<Changed>, Refusal> {
        let &Drain {
            ref node,
            deadline,
            keep_daemons,
            plan,
        } = drain;
        let index = self.ctx.registry.resolve(node)?;
        let mut told = self
            .work
            .without(self.cluster(), &BTreeSet::from([index]), false, keep_daemons);
        if plan {
            return Ok(told);
        }
        let (now, wall, lived) = (self.ctx.clock.now, self.ctx.wall_now(), self.ctx.lived());
        let node = &mut self.ctx.registry[index];
        node.drain_until = deadline.map(|deadline| now + deadline);
        let record = Arc::make_mut(&mut node.record);
        record.eligibility = Eligibility::Draining;
        record.drain_deadline = deadline.map(|deadline| wall.plus(deadline));
        record.drain_keeps_daemons = keep_daemons;
        record.drain_lived = deadline.map(|deadline| lived.saturating_add(deadline));
        let within = deadline.map_or("as long as it takes".to_owned(), |deadline| {
            format!("within {}", Span(deadline))
        });
        let leaves = |held: &&Held| {
            !keep_daemons
                || self
                    .work
                    .table()
                    .spec_of(&held.record)
                    .is_none_or(|spec| spec.kind != Kind::Daemon)
        };
        let left = self.work.table().of_node(index).filter(leaves).count();
        let event = self.carried_out(
            index,
            Drain::VERB,
            format!("{} to be moved, {within}", count(left as u64, "instance")),
            by,
        );
        for change in &mut told {
            (change.event, change.applied) = (event, true);
        }
        self.work.node_changed(&mut self.ctx, index);
        Ok(told)
    }

    /// Plans the loss or the draining of nodes.
    pub(super) fn what_if(&self, nodes: &str, drained: bool) -> Result<Vec<Changed>, Refusal> {
        let gone: BTreeSet<NodeIndex> = match nodes.split_once('=') {
            Some((key, value)) => {
                let has = |labels: crate::node::Labels| labels.get(key).is_some_and(|own| own == value);
                let nodes = self.ctx.registry.iter().filter(|(_, node)| has(node.record.labels()));
                nodes.map(|(index, _)| index).collect()
            }
            None => BTreeSet::from([self.ctx.registry.resolve(nodes)?]),
        };
        if gone.is_empty() {
            let (what, name) = ("node with the label", nodes.to_owned());
            return Err(Refusal::Unknown { what, name });
        }
        Ok(self.work.without(self.cluster(), &gone, !drained, false))
    }
}
