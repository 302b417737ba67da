//! Operators' commands: durable before they are answered.

use std::{sync::Arc, time::Duration};

use super::{Answer, Command, Coordinator, Effect, Limit, Refusal, RequestId};
use crate::{
    behaviour::{HEARTBEAT_MAX, HEARTBEAT_MIN, Order, out_of_range},
    ctx::outbox::Then,
    event::EventBody,
    limits,
    node::{Eligibility, Labels, NodeIndex},
    text::Span,
};

impl Coordinator {
    pub(super) fn command(&mut self, request: RequestId, command: Command, by: &str) {
        if let Command::ReadLog {
            assignment,
            stream,
            from,
            within,
        } = &command
        {
            if let Err(refusal) = self
                .work
                .read_log(&mut self.ctx, request, assignment, (*stream, *from, *within))
            {
                let answer = Err(refusal);
                self.ctx.outbox.push(Effect::Reply { request, answer });
            }
            return;
        }
        let answer = if self.ctx.outbox.is_behind() {
            Err(Refusal::Overloaded(Limit::passes("the store is behind")))
        } else if self.ctx.stopping {
            Err(Refusal::Overloaded(Limit::passes("the coordinator is shutting down")))
        } else {
            self.carry_out_recorded(request, command, by)
        };
        match answer {
            // Also what changed nothing waits: it may rest on a change that is not durable yet.
            Ok(answer) => self.ctx.outbox.then(Then::Reply(request, Ok(answer))),
            Err(refusal) => self.ctx.outbox.push(Effect::Reply {
                request,
                answer: Err(refusal),
            }),
        }
    }

    /// Carries a command out, and has its intent kept with its changes: in the same batch, whatever hands that to the store.
    fn carry_out_recorded(&mut self, request: RequestId, command: Command, by: &str) -> Result<Answer, Refusal> {
        self.ctx.outbox.keep_intent(request);
        let shows = !command.is_plan() && !command.is_of_host();
        let answer = self.carry_out(command, by);
        if answer.is_err() {
            self.ctx.outbox.drop_intent(request);
        }
        if shows && answer.is_ok() {
            // Whoever is answered reads what was changed.
            self.view_now();
        }
        answer
    }

    pub(super) fn carry_out(&mut self, command: Command, by: &str) -> Result<Answer, Refusal> {
        match command {
            Command::Cordon { node } => self.set_cordon(&node, true, by),
            Command::Uncordon { node } => self.set_cordon(&node, false, by),
            Command::Label { node, set, remove } => self.label(&node, set, &remove, by),
            Command::Refresh { node } => self.refresh(&node, by),
            Command::SetHeartbeat { node, interval } => self.set_heartbeat(&node, interval, by),
            Command::Admit { node } => self.admit_node(&node, by),
            Command::Revoke { node, reason } => self.revoke_node(&node, &reason, by),
            Command::Forget { node, plan, reason } => self.forget_node(&node, plan, &reason, by),
            Command::Enrol(enrolment) => self.enrol(*enrolment),
            Command::Renew { node, key, ca_step } => self.renew(node, key, ca_step),
            Command::CreateToken { token, ttl } => self.admissions.create_token(&mut self.ctx, *token, ttl, by),
            Command::DeleteToken { id } => self.admissions.delete_token(&mut self.ctx, &id, by),
            Command::CreateOperator {
                name,
                role,
                credential,
                ttl,
            } => self
                .admissions
                .create_operator(&mut self.ctx, name, role, credential, ttl, by),
            Command::RevokeOperator { name } => self.admissions.revoke_operator(&mut self.ctx, name, by),
            Command::AuthorityActivates => Ok(self.admissions.authority_activates(&mut self.ctx)),
            Command::AuthorityRetired => Ok(self.admissions.authority_retired(&mut self.ctx)),
            Command::Drain {
                node,
                deadline,
                keep_daemons,
                plan,
            } => self.drain(&node, deadline, keep_daemons, plan, by),
            Command::WhatIf { nodes, drained } => self.what_if(&nodes, drained),
            Command::Rebalance { plan } => self.rebalance_now(plan, by),
            Command::SetPolicy(change) => Ok(self.set_policy(change, by)),
            Command::Decide { id, approve } => self.decide(id, approve, by),
            Command::Workload(command) => self.workload_command(*command, by),
            // Answered by the agent.
            Command::ReadLog { .. } => Err(Refusal::Overloaded(Limit::stands("logs are read otherwise"))),
        }
    }

    fn set_cordon(&mut self, node: &str, cordon: bool, by: &str) -> Result<Answer, Refusal> {
        let index = self.ctx.registry.resolve(node)?;
        let before = self.ctx.registry[index].record.eligibility;
        let eligibility = match (before, cordon) {
            (Eligibility::Eligible, true) => Eligibility::Cordoned,
            (Eligibility::Cordoned | Eligibility::Draining, false) => Eligibility::Eligible,
            // Draining and isolated nodes get no new work either; uncordoning does not end an isolation.
            (same, _) => same,
        };
        if eligibility == before {
            return Ok(Answer::Eligibility {
                eligibility,
                changed: false,
                event: 0,
            });
        }
        let node = &mut self.ctx.registry[index];
        node.drain_until = None;
        let record = Arc::make_mut(&mut node.record);
        (record.eligibility, record.drain_deadline, record.drain_lived) = (eligibility, None, None);
        record.drain_keeps_daemons = false;
        let verb = if cordon { "cordon" } else { "uncordon" };
        let event = self.carried_out(index, verb, format!("eligibility is {}", eligibility.name()), by);
        Ok(Answer::Eligibility {
            eligibility,
            changed: true,
            event,
        })
    }

    fn label(&mut self, node: &str, set: Labels, remove: &[String], by: &str) -> Result<Answer, Refusal> {
        let index = self.ctx.registry.resolve(node)?;
        if let Some(twice) = remove.iter().find(|key| set.contains_key(*key)) {
            let reason = format!("{twice:?} is both set and removed");
            return Err(Refusal::Invalid {
                field: "remove",
                reason,
            });
        }
        let before = &self.ctx.registry[index].record;
        let mut labels = before.operator_labels.clone();
        labels.retain(|key, _| !remove.contains(key));
        labels.extend(set.clone());
        let changed = labels != before.operator_labels;
        if !changed {
            return Ok(Answer::Labels {
                labels: before.labels(),
                changed,
                event: 0,
            });
        }
        let mut record = Arc::clone(before);
        Arc::make_mut(&mut record).operator_labels = labels;
        let labels = record.labels();
        if labels.len() > limits::LABELS {
            let reason = format!(
                "the node would have {} labels; at most {}",
                labels.len(),
                limits::LABELS
            );
            return Err(Refusal::Invalid { field: "set", reason });
        }
        self.ctx.registry[index].record = record;
        let mut changes: Vec<String> = set.iter().map(|(key, value)| format!("{key}={value}")).collect();
        changes.extend(remove.iter().map(|key| format!("{key}-")));
        let event = self.carried_out(index, "label", changes.join(" "), by);
        Ok(Answer::Labels { labels, changed, event })
    }

    fn refresh(&mut self, node: &str, by: &str) -> Result<Answer, Refusal> {
        let index = self.ctx.registry.resolve(node)?;
        if self.ctx.registry[index].live_session().is_none() {
            return Err(Refusal::NoSession(node.to_owned()));
        }
        let id = self
            .behaviour
            .issue(&mut self.ctx, index, Order::Refresh)
            .ok_or(Refusal::Overloaded(Limit::passes("too many directives under way")))?;
        let event = self.carried_out(index, "refresh", format!("directive {id}"), by);
        Ok(Answer::Directive { id, event })
    }

    fn set_heartbeat(&mut self, node: &str, interval: Option<Duration>, by: &str) -> Result<Answer, Refusal> {
        let index = self.ctx.registry.resolve(node)?;
        if let Some(interval) = interval.filter(|interval| !(HEARTBEAT_MIN..=HEARTBEAT_MAX).contains(interval)) {
            let reason = out_of_range(interval);
            return Err(Refusal::Invalid {
                field: "interval",
                reason,
            });
        }
        let wanted = interval.unwrap_or(self.ctx.config.heartbeat);
        let id = match self.ctx.registry[index].live_session() {
            None => 0,
            Some(_) => {
                let issued = self.behaviour.issue(&mut self.ctx, index, Order::SetHeartbeat(wanted));
                issued.ok_or(Refusal::Overloaded(Limit::passes("too many directives under way")))?
            }
        };
        if let Some(session) = &mut self.ctx.registry[index].session {
            session.interval = session.interval.max(wanted);
        }
        Arc::make_mut(&mut self.ctx.registry[index].record).heartbeat = interval;
        let shown = interval.map_or("the cluster's".to_owned(), |interval| Span(interval).to_string());
        let event = self.carried_out(index, "set-heartbeat", format!("interval is {shown}"), by);
        Ok(Answer::Directive { id, event })
    }

    /// Keeps what a command changed, and records it.
    pub(super) fn carried_out(&mut self, index: NodeIndex, verb: &str, detail: String, by: &str) -> u64 {
        self.ctx.keep(index);
        self.work.node_changed(&mut self.ctx, index);
        let summary = format!("{verb} {}: {detail}", self.ctx.registry[index].name());
        self.ctx.record(
            Some(index),
            summary,
            EventBody::Command {
                verb: verb.to_owned(),
                detail,
                by: by.to_owned(),
            },
        )
    }
}
