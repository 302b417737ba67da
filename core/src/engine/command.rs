//! Operator commands, which are durable before they are answered.

use std::{sync::Arc, time::Duration};

use super::{Answer, Asked, Coordinator, Effect, Limit, Refusal, RequestId};
use crate::{
    behaviour::{HEARTBEAT_MAX, HEARTBEAT_MIN, Order, out_of_range},
    command::{
        Admit, Command, Cordon, CreateToken, Decide, DeleteToken, Enrol, Issued, Label, NodeEligibility, NodeLabels,
        Rebalance, Refresh, Revoke, RevokeOperator, SetHeartbeat, SetPolicy, Uncordon, WhatIf,
    },
    ctx::outbox::Then,
    event::EventBody,
    id::{DirectiveId, EventNo},
    limits,
    node::{Eligibility, NodeIndex},
    text::Span,
};

impl Coordinator {
    pub(super) fn command(&mut self, request: RequestId, command: Asked, by: &str) {
        if let Asked::ReadLog(wanted) = &command {
            if let Err(refusal) = self.work.read_log(&mut self.ctx, request, wanted) {
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
            // Answers without a change wait too: they may depend on a change that is not durable yet.
            Ok(answer) => self.ctx.outbox.then(Then::Reply(request, Ok(answer))),
            Err(refusal) => self.ctx.outbox.push(Effect::Reply {
                request,
                answer: Err(refusal),
            }),
        }
    }

    /// Executes a command; the audit's intent is stored in the same batch as its changes, whichever flush writes that.
    fn carry_out_recorded(&mut self, request: RequestId, command: Asked, by: &str) -> Result<Answer, Refusal> {
        self.ctx.outbox.keep_intent(request);
        let shows = !command.is_plan() && !command.is_of_host();
        let answer = self.carry_out(command, by);
        if answer.is_err() {
            self.ctx.outbox.drop_intent(request);
        }
        if shows && answer.is_ok() {
            // The caller can read the change as soon as it has the answer.
            self.view_now();
        }
        answer
    }

    pub(super) fn carry_out(&mut self, command: Asked, by: &str) -> Result<Answer, Refusal> {
        match command {
            Asked::Cordon(Cordon { node }) => self.cordon(&node, by).map(Answer::Cordon),
            Asked::Uncordon(Uncordon { node }) => self.uncordon(&node, by).map(Answer::Uncordon),
            Asked::Label(label) => self.label(label, by).map(Answer::Label),
            Asked::Refresh(Refresh { node }) => self.refresh(&node, by).map(Answer::Refresh),
            Asked::SetHeartbeat(SetHeartbeat { node, interval }) => {
                self.set_heartbeat(&node, interval, by).map(Answer::SetHeartbeat)
            }
            Asked::Admit(Admit { node }) => self.admit_node(&node, by).map(Answer::Admit),
            Asked::Revoke(Revoke { node, reason }) => self.revoke_node(&node, &reason, by).map(Answer::Revoke),
            Asked::Forget(forget) => self.forget_node(&forget, by).map(Answer::Forget),
            Asked::Enrol(Enrol(enrolment)) => self.enrol(*enrolment).map(Answer::Enrol),
            Asked::Renew(renewal) => self.renew(&renewal).map(Answer::Renew),
            Asked::CreateToken(CreateToken { token, ttl }) => {
                let created = self.admissions.create_token(&mut self.ctx, *token, ttl, by);
                created.map(Answer::CreateToken)
            }
            Asked::DeleteToken(DeleteToken { id }) => {
                let deleted = self.admissions.delete_token(&mut self.ctx, &id, by);
                deleted.map(Answer::DeleteToken)
            }
            Asked::CreateOperator(operator) => {
                let created = self.admissions.create_operator(&mut self.ctx, operator, by);
                created.map(Answer::CreateOperator)
            }
            Asked::RevokeOperator(RevokeOperator { name }) => {
                let revoked = self.admissions.revoke_operator(&mut self.ctx, name, by);
                revoked.map(Answer::RevokeOperator)
            }
            Asked::AuthorityActivates(_) => {
                let noted = self.admissions.authority_activates(&mut self.ctx);
                Ok(Answer::AuthorityActivates(noted))
            }
            Asked::AuthorityRetired(_) => {
                let noted = self.admissions.authority_retired(&mut self.ctx);
                Ok(Answer::AuthorityRetired(noted))
            }
            Asked::Drain(drain) => self.drain(&drain, by).map(Answer::Drain),
            Asked::WhatIf(WhatIf { nodes, drained }) => self.what_if(&nodes, drained).map(Answer::WhatIf),
            Asked::Rebalance(Rebalance { plan }) => Ok(Answer::Rebalance(self.rebalance_now(plan, by))),
            Asked::SetPolicy(SetPolicy(change)) => Ok(Answer::SetPolicy(self.set_policy(change, by))),
            Asked::Decide(Decide { id, approve }) => self.decide(id, approve, by).map(Answer::Decide),
            Asked::ChangeWorkload(change) => self.change_workload(change, by).map(Answer::ChangeWorkload),
            // Answered by the agent.
            Asked::ReadLog(_) => Err(Refusal::Overloaded(Limit::stands("logs are read otherwise"))),
        }
    }

    fn cordon(&mut self, node: &str, by: &str) -> Result<NodeEligibility, Refusal> {
        self.set_eligibility(node, Cordon::VERB, by, |before| match before {
            // Draining and isolated nodes accept no new work either.
            Eligibility::Eligible => Eligibility::Cordoned,
            same => same,
        })
    }

    fn uncordon(&mut self, node: &str, by: &str) -> Result<NodeEligibility, Refusal> {
        self.set_eligibility(node, Uncordon::VERB, by, |before| match before {
            Eligibility::Cordoned | Eligibility::Draining => Eligibility::Eligible,
            // Uncordoning does not end an isolation.
            same => same,
        })
    }

    fn set_eligibility(
        &mut self,
        node: &str,
        verb: &str,
        by: &str,
        after: impl FnOnce(Eligibility) -> Eligibility,
    ) -> Result<NodeEligibility, Refusal> {
        let index = self.ctx.registry.resolve(node)?;
        let before = self.ctx.registry[index].record.eligibility;
        let eligibility = after(before);
        if eligibility == before {
            return Ok(NodeEligibility {
                eligibility,
                changed: false,
                event: EventNo::default(),
            });
        }
        let node = &mut self.ctx.registry[index];
        node.drain_until = None;
        let record = Arc::make_mut(&mut node.record);
        (record.eligibility, record.drain_deadline, record.drain_lived) = (eligibility, None, None);
        record.drain_keeps_daemons = false;
        let event = self.carried_out(index, verb, format!("eligibility is {}", eligibility.name()), by);
        Ok(NodeEligibility {
            eligibility,
            changed: true,
            event,
        })
    }

    fn label(&mut self, label: Label, by: &str) -> Result<NodeLabels, Refusal> {
        let Label { node, set, remove } = label;
        let index = self.ctx.registry.resolve(&node)?;
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
            return Ok(NodeLabels {
                labels: before.labels(),
                changed,
                event: EventNo::default(),
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
        let event = self.carried_out(index, Label::VERB, changes.join(" "), by);
        Ok(NodeLabels { labels, changed, event })
    }

    fn refresh(&mut self, node: &str, by: &str) -> Result<Issued, Refusal> {
        let index = self.ctx.registry.resolve(node)?;
        if self.ctx.registry[index].live_session().is_none() {
            return Err(Refusal::NoSession(node.to_owned()));
        }
        let id = self
            .behaviour
            .issue(&mut self.ctx, index, Order::Refresh)
            .ok_or(Refusal::Overloaded(Limit::passes("too many directives under way")))?;
        let event = self.carried_out(index, Refresh::VERB, format!("directive {id}"), by);
        Ok(Issued { id, event })
    }

    fn set_heartbeat(&mut self, node: &str, interval: Option<Duration>, by: &str) -> Result<Issued, Refusal> {
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
            None => DirectiveId::default(),
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
        let event = self.carried_out(index, SetHeartbeat::VERB, format!("interval is {shown}"), by);
        Ok(Issued { id, event })
    }

    /// Stores a command's change of a node, and records its event.
    pub(super) fn carried_out(&mut self, index: NodeIndex, verb: &str, detail: String, by: &str) -> EventNo {
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
