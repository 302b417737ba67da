//! Messages from the coordinator to agents.

use std::sync::Arc;

use wyneos_core::{
    behaviour::{Directive, Order},
    coordinator::{Message, ProbePlan, RefusalReason, Refused, Welcome},
    id::{BadUuid, DirectiveId, Epoch, NodeId, SessionNo},
    workload::AssignmentId,
};

use super::{
    ConvertError,
    agent::no_such_value,
    check,
    instance::{log_request_in, log_request_out, work_in, work_out},
    node::same,
    standing::{lease_in, standing_in, standing_out},
    time::{duration, duration_in},
};
use crate::v1::{self, session_response};

same!(
    RefusalReason,
    v1::RefusalReason {
        Invalid,
        Stale,
        Revoked,
        Replaced,
        Disputed,
        Readmitted,
        Unreadable,
        Shutdown,
        Overloaded,
        Timeout
    }
);

impl From<Message> for v1::SessionResponse {
    fn from(message: Message) -> v1::SessionResponse {
        let mut heard_sequence = 0;
        let message = match message {
            Message::Welcome(welcome) => session_response::Message::Welcome((*welcome).into()),
            Message::Refused(refused) => session_response::Message::Refused(v1::Refused {
                reason: v1::RefusalReason::from(refused.reason).into(),
                detail: refused.detail,
                retry_after: refused.retry_after.map(duration),
            }),
            Message::Directive(directive) => session_response::Message::Directive(directive.into()),
            Message::ProbePlan(plan) => session_response::Message::ProbePlan(plan.into()),
            Message::Seal { seal, heard } => {
                heard_sequence = heard;
                session_response::Message::Seal((&*seal).into())
            }
            Message::Ping { number } => session_response::Message::Ping(v1::Ping { number }),
            Message::Noted => session_response::Message::Noted(v1::Noted {}),
            Message::Work(work) => session_response::Message::Work(work_out(*work)),
            Message::ReadLog(request) => session_response::Message::Log(log_request_out(request)),
            Message::Standing { number, standing } => session_response::Message::Answer(v1::QuestionAnswer {
                number,
                standing: Some(standing_out(standing)),
            }),
        };
        v1::SessionResponse {
            message: Some(message),
            heard_sequence,
        }
    }
}

impl From<Welcome> for v1::Welcome {
    fn from(welcome: Welcome) -> v1::Welcome {
        v1::Welcome {
            cluster_id: welcome.cluster.to_string(),
            epoch: welcome.epoch.0,
            session: welcome.session.0,
            cycle_interval: Some(duration(welcome.cycle_interval)),
            heartbeat_interval: Some(duration(welcome.heartbeat_interval)),
            probe_plan: Some(welcome.probe_plan.into()),
            admission: v1::Admission::from(welcome.admission).into(),
            lease: Some(duration(welcome.lease)),
            next_assignment: welcome.next_assignment.0,
            notes_sightings: welcome.notes_sightings,
        }
    }
}

impl From<ProbePlan> for v1::ProbePlan {
    fn from(plan: ProbePlan) -> v1::ProbePlan {
        let target = |(id, address): (NodeId, String)| v1::ProbeTarget {
            node_id: id.to_string(),
            address,
        };
        v1::ProbePlan {
            version: plan.version,
            interval: Some(duration(plan.interval)),
            targets: plan.targets.into_iter().map(target).collect(),
            observer_ids: plan.observers.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<Directive> for v1::Directive {
    fn from(directive: Directive) -> v1::Directive {
        use v1::directive::Order as Wire;
        let order = match directive.order {
            Order::Refresh => Wire::Refresh(v1::Refresh {}),
            Order::SetHeartbeat(interval) => Wire::SetHeartbeat(v1::SetHeartbeat {
                interval: Some(duration(interval)),
            }),
        };
        v1::Directive {
            id: directive.id.0,
            epoch: directive.epoch.0,
            session: directive.session.0,
            expires_in: Some(duration(directive.expires_in)),
            order: Some(order),
        }
    }
}

impl TryFrom<v1::SessionResponse> for Message {
    type Error = ConvertError;

    fn try_from(response: v1::SessionResponse) -> Result<Message, ConvertError> {
        use session_response::Message as Wire;
        Ok(match check::require("message", response.message)? {
            Wire::Welcome(welcome) => Message::Welcome(Box::new(
                welcome
                    .try_into()
                    .map_err(|error: ConvertError| error.within("welcome"))?,
            )),
            Wire::Refused(refused) => Message::Refused(Refused {
                reason: refused
                    .reason()
                    .try_into()
                    .map_err(|_| no_such_value("refused.reason", refused.reason))?,
                retry_after: optional_span("refused.retry_after", refused.retry_after)?,
                detail: refused.detail,
            }),
            Wire::Directive(directive) => Message::Directive(
                directive
                    .try_into()
                    .map_err(|error: ConvertError| error.within("directive"))?,
            ),
            Wire::ProbePlan(plan) => Message::ProbePlan(
                plan.try_into()
                    .map_err(|error: ConvertError| error.within("probe_plan"))?,
            ),
            Wire::Ping(v1::Ping { number }) => Message::Ping { number },
            Wire::Noted(v1::Noted {}) => Message::Noted,
            Wire::Work(work) => Message::Work(Box::new(work_in(work)?)),
            Wire::Log(request) => Message::ReadLog(log_request_in(request)?),
            Wire::Seal(seal) => Message::Seal {
                seal: Arc::new((&seal).try_into().map_err(|error: ConvertError| error.within("seal"))?),
                heard: response.heard_sequence,
            },
            Wire::Answer(answer) => {
                let standing = check::require("answer.standing", answer.standing)?;
                Message::Standing {
                    number: answer.number,
                    standing: standing_in(standing).map_err(|error| error.within("answer.standing"))?,
                }
            }
        })
    }
}

fn span(field: &str, span: Option<prost_types::Duration>) -> Result<std::time::Duration, ConvertError> {
    duration_in(field, &check::require(field, span)?)
}

fn optional_span(
    field: &str,
    span: Option<prost_types::Duration>,
) -> Result<Option<std::time::Duration>, ConvertError> {
    span.map(|span| duration_in(field, &span)).transpose()
}

impl TryFrom<v1::Welcome> for Welcome {
    type Error = ConvertError;

    fn try_from(welcome: v1::Welcome) -> Result<Welcome, ConvertError> {
        let plan = check::require("probe_plan", welcome.probe_plan.clone())?;
        Ok(Welcome {
            cluster: check::uuid("cluster_id", &welcome.cluster_id)?,
            epoch: Epoch(welcome.epoch),
            session: SessionNo(welcome.session),
            cycle_interval: span("cycle_interval", welcome.cycle_interval)?,
            heartbeat_interval: span("heartbeat_interval", welcome.heartbeat_interval)?,
            probe_plan: plan
                .try_into()
                .map_err(|error: ConvertError| error.within("probe_plan"))?,
            admission: welcome
                .admission()
                .try_into()
                .map_err(|_| no_such_value("admission", welcome.admission))?,
            lease: lease_in("lease", welcome.lease)?,
            next_assignment: AssignmentId(welcome.next_assignment),
            notes_sightings: welcome.notes_sightings,
        })
    }
}

impl TryFrom<v1::ProbePlan> for ProbePlan {
    type Error = ConvertError;

    fn try_from(plan: v1::ProbePlan) -> Result<ProbePlan, ConvertError> {
        check::at_most("targets", plan.targets.len(), 64)?;
        check::at_most("observer_ids", plan.observer_ids.len(), 64)?;
        let observer = |(at, id): (usize, &String)| {
            let named = |bad: BadUuid| ConvertError::new(format!("observer_ids[{at}]"), bad.to_string());
            id.parse().map_err(named)
        };
        let observers = plan.observer_ids.iter().enumerate().map(observer);
        let target = |(at, target): (usize, v1::ProbeTarget)| {
            target_in(target).map_err(|error| error.within(&format!("targets[{at}]")))
        };
        Ok(ProbePlan {
            version: plan.version,
            interval: span("interval", plan.interval)?,
            observers: observers.collect::<Result<_, ConvertError>>()?,
            targets: plan
                .targets
                .into_iter()
                .enumerate()
                .map(target)
                .collect::<Result<_, ConvertError>>()?,
        })
    }
}

fn target_in(target: v1::ProbeTarget) -> Result<(NodeId, String), ConvertError> {
    Ok((
        check::uuid("node_id", &target.node_id)?,
        check::address("address", target.address)?,
    ))
}

impl TryFrom<v1::Directive> for Directive {
    type Error = ConvertError;

    fn try_from(directive: v1::Directive) -> Result<Directive, ConvertError> {
        use v1::directive::Order as Wire;
        let order = match check::require("order", directive.order)? {
            Wire::Refresh(v1::Refresh {}) => Order::Refresh,
            Wire::SetHeartbeat(set) => Order::SetHeartbeat(span("set_heartbeat.interval", set.interval)?),
        };
        Ok(Directive {
            id: DirectiveId(directive.id),
            epoch: Epoch(directive.epoch),
            session: SessionNo(directive.session),
            expires_in: span("expires_in", directive.expires_in)?,
            order,
        })
    }
}
