//! Rendering of facts as sentences.

use std::{fmt, sync::Arc};

use super::evidence::{Ending, Fact, Source, Why};
use crate::text::Span;

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Session => "session",
            Source::Mesh => "mesh",
            Source::Telemetry => "telemetry",
            Source::Predictive => "predictive",
            Source::Placement => "placement",
            Source::Update => "update",
            Source::Admission => "admission",
            Source::Event => "event",
            Source::Node(node) => &node.name,
            Source::Told(name) => name,
        })
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ending::ByHost => "its host ended the session's transport without a goodbye",
            Ending::Silent => "nothing came through the session's transport any more",
            Ending::Content(what) => what,
        })
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fact::NeverHeard => f.write_str("never heard since the coordinator started"),
            Fact::LastHeard { heartbeat: None } => f.write_str("last heard"),
            Fact::LastHeard {
                heartbeat: Some(sequence),
            } => write!(f, "last heard: heartbeat {sequence}"),
            Fact::Silent { span, limit } => write!(f, "silent for {}; the limit is {}", Span(*span), Span(*limit)),
            Fact::Unanswered { ago } => write!(f, "asked {} ago, no answer yet", Span(*ago)),
            Fact::Sees(sight) => f.write_str(sight.meaning()),
            Fact::NobodyHeard { span, window } => {
                write!(
                    f,
                    "nobody heard it for {}; the window is {}",
                    Span(*span),
                    Span(*window)
                )
            }
            Fact::NoSign { liveness, span } => {
                write!(f, "{} without a sign of life for {}", liveness.name(), Span(*span))
            }
            Fact::Relayed { ago } => write!(f, "passed on its question {} ago", Span(*ago)),
            Fact::SessionEnded(ending) => ending.fmt(f),
            Fact::EndedBefore(ending) => write!(f, "an earlier one ended: {ending}"),
            Fact::NotBack { grace } => write!(f, "not back {} after the coordinator started", Span(*grace)),
            Fact::Heartbeat { sequence } => write!(f, "heartbeat {sequence} arrived"),
            Fact::Opened { session, incarnation } => {
                write!(f, "session {session:x} opened, incarnation {incarnation}")
            }
            Fact::Returns { within, times, steady } => write!(
                f,
                "returns within {}: {times}; it is online again once it is heard for {} without a break",
                Span(*within),
                Span(*steady)
            ),
            Fact::Goodbye(reason) => write!(f, "the agent said goodbye: {reason}"),
            Fact::Revoked { by, reason } => write!(f, "revoked by {by}: {reason}"),
            Fact::Reading {
                channel,
                value,
                threshold,
            } => write!(f, "{channel} is {value:.4}; its threshold is {threshold}"),
            Fact::Expected {
                within,
                value,
                low,
                high,
            } => write!(
                f,
                "expected in {}: {value:.4} (80%: {low:.4} to {high:.4})",
                Span(*within)
            ),
            Fact::Skill {
                skill,
                coverage,
                forecasts,
            } => write!(
                f,
                "skill {skill:.2} against persistence, interval coverage {coverage:.2}, over {forecasts} forecasts"
            ),
            Fact::Load {
                here,
                load,
                there,
                after,
            } => write!(f, "{here} has a load of {load}%, {there} would have {after}%"),
            Fact::Hot { node, cycles } => write!(f, "{node} was hot for {cycles} cycles"),
            Fact::Uneven {
                label,
                fullest,
                many,
                emptiest,
                few,
            } => write!(
                f,
                "{label} {} has {many} instances, {} has {few} and room for more",
                named(fullest),
                named(emptiest)
            ),
            Fact::Start { of, on, score, why } => write!(f, "start {of} on {on} (score {score}): {why}"),
            Fact::Stop { of, on, why } => write!(f, "stop {of} on {on}: {why}"),
            Fact::Keep { of, on, revision } => write!(
                f,
                "keep {of} on {on}: it runs by revision {revision}, which differs in nothing that it would have to start anew for"
            ),
            Fact::HeldBack { of, on, why } => write!(f, "{of} on {on} was lost: {why}"),
            Fact::WouldStop { of, on, why } => write!(f, "{of} on {on}: {why}"),
            Fact::Waits { slots: 1, reason } => write!(f, "1 waits: {reason}"),
            Fact::Waits { slots, reason } => write!(f, "{slots} wait: {reason}"),
            Fact::UpdateFailed(why) => f.write_str(why),
            Fact::LeftOut { facts, room } => write!(
                f,
                "{facts} more facts are left out, as an event has room for {room} bytes of them"
            ),
            Fact::Told(fact) => f.write_str(fact),
        }
    }
}

fn named(value: &Option<Arc<str>>) -> &str {
    value.as_deref().unwrap_or("no value")
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Declared => f.write_str("declared"),
            Why::DeclaredForNode => f.write_str("declared for every node that fits"),
            Why::Deleted => f.write_str("the workload was deleted"),
            Why::ScaledDown => f.write_str("scaled down"),
            Why::Lost(loss) => write!(f, "its node is gone: {}", loss.cause.meaning()),
            Why::LostBefore(loss) => write!(f, "the one before was lost: {}", loss.cause.meaning()),
            Why::Failed(detail) => write!(f, "the one before failed: {detail}"),
            Why::Interrupted(detail) => write!(f, "its host ended the one before: {detail}"),
            Why::StoppedBefore(reason) => write!(f, "the one before {reason}"),
            Why::Restarted => f.write_str("a restart was asked for"),
            Why::NodeEmptied => f.write_str("its node is to be emptied"),
            Why::Revised { to, from } => write!(f, "revision {to} takes the place of {from}"),
            Why::Unfit => f.write_str("its node no longer meets the constraints"),
            Why::NotMeant => f.write_str("its node no longer meets the constraints, or takes no work"),
            Why::SlotTaken => f.write_str("another instance has its slot"),
            Why::GivesWay { to, priority, own } => {
                write!(f, "gives way to {to}: priority {priority} above {own}")
            }
            Why::Leaves { reason, .. } => f.write_str(reason),
            Why::Succeeds { of, why } => write!(f, "{of} is to leave: {why}"),
            Why::Overdue(why) => write!(f, "{why}, and the time for that is over"),
        }
    }
}
