//! Evidence: facts with their sentences and data, and causes of decisions.

use wyneos_core::{
    autonomy::{Because, Evidence, Fact, Source, Why},
    node::Named,
    workload::Instance,
};

use super::time::{duration, timestamp};
use crate::v1::{self, evidence::Data};

impl From<Because> for v1::Because {
    fn from(because: Because) -> v1::Because {
        use v1::because::Of;
        let of = match because {
            Because::Decision(id) => Of::DecisionId(id.0),
            Because::Event(number) => Of::EventSequence(number.0),
            Because::Finding(id) => Of::FindingId(id),
        };
        v1::Because { of: Some(of) }
    }
}

impl From<&Evidence> for v1::Evidence {
    fn from(evidence: &Evidence) -> v1::Evidence {
        v1::Evidence {
            time: Some(timestamp(evidence.time)),
            source: evidence.source.to_string(),
            fact: evidence.fact.to_string(),
            observer_id: match &evidence.source {
                Source::Node(node) => node.id.to_string(),
                _ => String::new(),
            },
            data: data(&evidence.fact),
        }
    }
}

fn data(fact: &Fact) -> Option<Data> {
    let silence = |span, limit: Option<_>, by_everybody| {
        Data::Silence(v1::SilenceFact {
            span: Some(duration(span)),
            limit: limit.map(duration),
            by_everybody,
        })
    };
    let data = match fact {
        Fact::Sees(sight) => Data::Sight(v1::Sight::from(*sight).into()),
        Fact::Silent { span, limit } => silence(*span, Some(*limit), false),
        Fact::NobodyHeard { span, window } => silence(*span, Some(*window), true),
        Fact::NoSign { span, .. } => silence(*span, None, true),
        Fact::Reading {
            channel,
            value,
            threshold,
        } => Data::Reading(v1::ReadingFact {
            channel: channel.clone(),
            value: f64::from(*value),
            threshold: f64::from(*threshold),
        }),
        Fact::Start { of, on, why, .. } => moved(v1::Move::Start, of, on, Some(why)),
        Fact::Stop { of, on, why } => moved(v1::Move::Stop, of, on, Some(why)),
        Fact::Keep { of, on, .. } => moved(v1::Move::Keep, of, on, None),
        Fact::HeldBack { of, on, why } => moved(v1::Move::HeldBack, of, on, Some(why)),
        Fact::WouldStop { of, on, why } => moved(v1::Move::WouldStop, of, on, Some(why)),
        _ => return None,
    };
    Some(data)
}

fn moved(what: v1::Move, of: &Instance, on: &Named, why: Option<&Why>) -> Data {
    let loss = why.and_then(Why::loss);
    Data::Move(v1::MoveFact {
        r#move: what.into(),
        workload: of.workload.to_string(),
        slot: of.slot,
        assignment_id: of.id.map(|id| id.to_string()).unwrap_or_default(),
        node_id: on.id.to_string(),
        node_name: on.name.to_string(),
        reason: why.map_or(v1::MoveReason::Unspecified, reason).into(),
        because: why.and_then(Why::because).map(Into::into),
        lost_node_id: loss.map(|loss| loss.node.to_string()).unwrap_or_default(),
        lost_cause: loss
            .map_or(v1::LivenessCause::Unspecified, |loss| loss.cause.into())
            .into(),
    })
}

fn reason(why: &Why) -> v1::MoveReason {
    use v1::MoveReason;
    match why {
        Why::Declared | Why::DeclaredForNode => MoveReason::Declared,
        Why::Deleted => MoveReason::Deleted,
        Why::ScaledDown => MoveReason::ScaledDown,
        Why::Lost(_) | Why::LostBefore(_) => MoveReason::Lost,
        Why::Failed(_) => MoveReason::Failed,
        Why::Interrupted(_) => MoveReason::Interrupted,
        Why::StoppedBefore(_) => MoveReason::StoppedBefore,
        Why::Restarted => MoveReason::Restarted,
        Why::NodeEmptied => MoveReason::NodeEmptied,
        Why::Revised { .. } => MoveReason::Revised,
        Why::Unfit | Why::NotMeant => MoveReason::Unfit,
        Why::SlotTaken => MoveReason::SlotTaken,
        Why::GivesWay { .. } => MoveReason::GivesWay,
        Why::Leaves { .. } => MoveReason::Leaves,
        Why::Succeeds { why, .. } | Why::Overdue(why) => reason(why),
    }
}
