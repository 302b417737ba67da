//! Events and decisions.

use wyneos_core::{
    autonomy::{Decision, Mode, Outcome},
    behaviour::DirectiveRecord,
    event::{Event, EventBody},
};

use super::{node::same, time::timestamp};
use crate::v1;

same!(Mode, v1::AutonomyMode { Observe, Advise, Act });
same!(
    Outcome,
    v1::DecisionOutcome {
        Observed,
        Resolved,
        Done,
        Pending,
        Rejected,
        Expired,
        Helped,
        DidNotHelp
    }
);

impl From<&Event> for v1::Event {
    fn from(event: &Event) -> v1::Event {
        v1::Event {
            sequence: event.sequence.0,
            time: Some(timestamp(event.time)),
            epoch: event.epoch.0,
            cycle: event.cycle.0,
            node_id: event.node.map(|id| id.to_string()).unwrap_or_default(),
            node_name: event.node_name.clone(),
            summary: event.summary.clone(),
            body: Some((&event.body).into()),
            times: event.times,
        }
    }
}

impl From<&EventBody> for v1::event::Body {
    fn from(body: &EventBody) -> v1::event::Body {
        use v1::event::Body;
        match body {
            EventBody::Liveness { from, to, cause } => Body::Liveness(v1::LivenessTransition {
                from: from.map_or(v1::Liveness::Unspecified, Into::into).into(),
                to: v1::Liveness::from(*to).into(),
                cause: v1::LivenessCause::from(*cause).into(),
            }),
            EventBody::Decision(decision) => Body::Decision((&**decision).into()),
            EventBody::Directive(record) => Body::Directive(record.into()),
            EventBody::Command { verb, detail, by } => Body::Command(v1::CommandRecord {
                verb: verb.clone(),
                detail: detail.clone(),
                by: by.clone(),
            }),
            EventBody::Impostor { detail } => Body::Impostor(v1::ImpostorRecord { detail: detail.clone() }),
            EventBody::Session { detail } => Body::Session(v1::SessionRecord { detail: detail.clone() }),
            EventBody::Finding { finding, open } => Body::Finding(v1::FindingRecord {
                finding: Some(finding.into()),
                open: *open,
            }),
            EventBody::Workload {
                workload,
                assignment,
                by,
            } => Body::Workload(v1::WorkloadRecord {
                workload: workload.clone(),
                assignment_id: assignment.map(|id| id.to_string()).unwrap_or_default(),
                by: by.clone(),
            }),
            EventBody::Coordinator { started, version } => Body::Coordinator(v1::CoordinatorRecord {
                started: *started,
                version: version.clone(),
            }),
        }
    }
}

impl From<&DirectiveRecord> for v1::DirectiveRecord {
    fn from(record: &DirectiveRecord) -> v1::DirectiveRecord {
        v1::DirectiveRecord {
            id: record.id.0,
            order: record.order.clone(),
            state: v1::DirectiveState::from(record.state).into(),
            detail: record.detail.clone(),
            attempts: record.attempts,
        }
    }
}

impl From<&Decision> for v1::Decision {
    fn from(decision: &Decision) -> v1::Decision {
        let alternatives = decision.alternatives.iter().map(|alternative| v1::Alternative {
            action: alternative.action.clone(),
            rejected_because: alternative.rejected_because.clone(),
        });
        v1::Decision {
            id: decision.id.0,
            time: Some(timestamp(decision.time)),
            epoch: decision.epoch.0,
            cycle: decision.cycle.0,
            node_id: decision.node.map(|id| id.to_string()).unwrap_or_default(),
            kind: decision.kind.name().to_owned(),
            rule: decision.rule.clone(),
            action: decision.action.clone(),
            evidence: decision.evidence.iter().map(Into::into).collect(),
            alternatives: alternatives.collect(),
            mode: v1::AutonomyMode::from(decision.mode).into(),
            outcome: v1::DecisionOutcome::from(decision.outcome).into(),
            channel: decision.channel.clone(),
            workload: decision.workload.clone(),
            caused_by: decision.caused_by.iter().map(|because| (*because).into()).collect(),
        }
    }
}
