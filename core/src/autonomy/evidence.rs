//! Evidence: the facts that decisions rest on, as data. `prose.rs` renders them for people, `stored.rs` stores them beside their sentences.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    id::{Because, DecisionId, NodeId, Revision, SessionNo},
    mesh::Sight,
    node::{Cause, Liveness, Named},
    text::{SENTENCE, is_hidden, shortened},
    time::WallTime,
    workload::Instance,
};

/// A fact with its time and source.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Time at which the fact held.
    pub time: WallTime,
    /// Origin of the fact.
    pub source: Source,
    /// The fact.
    pub fact: Fact,
}

/// Origin of a fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The node's session with the coordinator.
    Session,
    /// The observers of a node collectively.
    Mesh,
    /// The newest telemetry sample.
    Telemetry,
    /// The Predictive Engine's forecasts.
    Predictive,
    /// Placement.
    Placement,
    /// The evaluation of an update.
    Update,
    /// An operator's decision on admission.
    Admission,
    /// The event that contains the decision.
    Event,
    /// A node's report.
    Node(Named),
    /// A source recorded by an earlier version, by name.
    Told(String),
}

/// How a session ended without a goodbye.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The node's host closed the transport.
    ByHost,
    /// The transport fell silent.
    Silent,
    /// The agent sent an unacceptable message; a description of it.
    Content(String),
}

/// An observed fact that a decision rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// The node has not been heard since the coordinator started.
    NeverHeard,
    /// The node was last heard at the time of the evidence.
    LastHeard {
        /// Sequence number of the session's last heartbeat; `None` if there was none.
        heartbeat: Option<u64>,
    },
    /// The node's session has been silent for too long.
    Silent {
        /// Duration of the silence.
        span: Duration,
        /// Maximum tolerated duration.
        limit: Duration,
    },
    /// The node has not answered a ping.
    Unanswered {
        /// Time since the ping.
        ago: Duration,
    },
    /// An observer's observation of the node.
    Sees(Sight),
    /// Neither an observer nor the session heard the node.
    NobodyHeard {
        /// Duration of the silence.
        span: Duration,
        /// Time for which a live node may be unheard.
        window: Duration,
    },
    /// A node in doubt gave no sign of life, and no observer can report on it.
    NoSign {
        /// The node's liveness.
        liveness: Liveness,
        /// Duration of the silence.
        span: Duration,
    },
    /// A peer forwarded the node's question about its standing.
    Relayed {
        /// Time since then.
        ago: Duration,
    },
    /// The node's session ended without a goodbye.
    SessionEnded(Ending),
    /// An earlier session of the node ended without a goodbye.
    EndedBefore(Ending),
    /// The node did not return after a start of the coordinator.
    NotBack {
        /// Time for which it was awaited.
        grace: Duration,
    },
    /// A heartbeat of the node was received.
    Heartbeat {
        /// Sequence number in the session.
        sequence: u64,
    },
    /// The node opened a session.
    Opened {
        /// Session number.
        session: SessionNo,
        /// The incarnation of the agent that opened it.
        incarnation: u64,
    },
    /// The node returned repeatedly.
    Returns {
        /// Period under consideration.
        within: Duration,
        /// Number of returns within the period, up to the maximum counted.
        times: u32,
        /// Time for which it must be heard without interruption to become online.
        steady: Duration,
    },
    /// The agent said goodbye; the reason.
    Goodbye(String),
    /// The node was revoked.
    Revoked {
        /// The operator.
        by: String,
        /// The reason.
        reason: String,
    },
    /// Current value of a channel.
    Reading {
        /// Name of the channel.
        channel: String,
        /// Value in the channel's unit.
        value: f32,
        /// Threshold of the channel, in its unit.
        threshold: f32,
    },
    /// Predicted value of a channel.
    Expected {
        /// Prediction horizon.
        within: Duration,
        /// Predicted value in the channel's unit.
        value: f32,
        /// Lower bound of the 80% interval.
        low: f32,
        /// Upper bound of the 80% interval.
        high: f32,
    },
    /// Accuracy of a channel's past forecasts.
    Skill {
        /// 1 − the forecasts' mean squared error ÷ that of the persistence forecast.
        skill: f32,
        /// Fraction of past values within their 80% interval, 0 to 1.
        coverage: f32,
        /// Number of forecasts evaluated.
        forecasts: u32,
    },
    /// A node's load, compared with the load of another node after taking over one of its instances.
    Load {
        /// The node.
        here: Named,
        /// Load of the node, in percent.
        load: u32,
        /// The other node.
        there: Named,
        /// Load of the other node after the move, in percent.
        after: u32,
    },
    /// A node was hot.
    Hot {
        /// The node.
        node: Named,
        /// Number of consecutive cycles.
        cycles: u32,
    },
    /// Instances of a workload are spread unevenly.
    Uneven {
        /// The spread label.
        label: String,
        /// The label value with the most instances; `None` for nodes without the label.
        fullest: Option<Arc<str>>,
        /// Number of instances there.
        many: u32,
        /// The label value with the fewest instances; `None` for nodes without the label.
        emptiest: Option<Arc<str>>,
        /// Number of instances there.
        few: u32,
    },
    /// An instance is started.
    Start {
        /// The instance.
        of: Instance,
        /// The node of the instance.
        on: Named,
        /// Score of the node.
        score: i64,
        /// Reason for the start.
        why: Why,
    },
    /// An instance is stopped.
    Stop {
        /// The instance.
        of: Instance,
        /// The node of the instance.
        on: Named,
        /// Reason for the stop.
        why: Why,
    },
    /// An instance keeps running under a newer revision.
    Keep {
        /// The instance.
        of: Instance,
        /// The node of the instance.
        on: Named,
        /// The revision it was started with.
        revision: Revision,
    },
    /// A lost instance is not replaced automatically.
    HeldBack {
        /// The instance.
        of: Instance,
        /// The node it ran on.
        on: Named,
        /// Reason why it counts as lost.
        why: Why,
    },
    /// An instance would be preempted.
    WouldStop {
        /// The instance.
        of: Instance,
        /// The node of the instance.
        on: Named,
        /// Reason.
        why: Why,
    },
    /// Slots of a workload have no instance.
    Waits {
        /// Number of slots.
        slots: u32,
        /// The reason, human-readable.
        reason: String,
    },
    /// An update failed; the reason, human-readable.
    UpdateFailed(String),
    /// Further facts exceeded the size limit of an event.
    LeftOut {
        /// Number of omitted facts.
        facts: u64,
        /// Size limit of facts in an event, in bytes.
        room: u64,
    },
    /// A fact recorded by an earlier version, as a sentence.
    Told(String),
}

/// Reason for the start, stop or move of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The workload requires it.
    Declared,
    /// The workload requires one on every suitable node.
    DeclaredForNode,
    /// The workload was deleted.
    Deleted,
    /// The workload was scaled down.
    ScaledDown,
    /// The node of the instance was given up.
    Lost(Loss),
    /// The node of its predecessor was given up.
    LostBefore(Loss),
    /// The predecessor failed; how, human-readable.
    Failed(String),
    /// The host terminated the predecessor; how, human-readable.
    Interrupted(String),
    /// The predecessor was stopped; why, human-readable.
    StoppedBefore(String),
    /// An operator requested a restart.
    Restarted,
    /// The node of the instance is being drained.
    NodeEmptied,
    /// A newer revision replaces the one it runs.
    Revised {
        /// The newer revision.
        to: Revision,
        /// The revision it runs.
        from: Revision,
    },
    /// The node of the instance no longer meets the constraints.
    Unfit,
    /// The node of a daemon instance no longer meets the constraints, or takes no work.
    NotMeant,
    /// Another instance has its slot.
    SlotTaken,
    /// The instance is preempted by a workload with a higher priority.
    GivesWay {
        /// The preempting workload.
        to: Arc<str>,
        /// Priority of the preempting workload.
        priority: u8,
        /// Priority of the instance's own workload.
        own: u8,
    },
    /// A decision moves it off its node.
    Leaves {
        /// The reason, human-readable.
        reason: String,
        /// The cause of the move; `None` if unknown.
        because: Option<Because>,
    },
    /// The instance replaces one that is to leave.
    Succeeds {
        /// The instance it replaces.
        of: Instance,
        /// Reason why that instance leaves.
        why: Box<Why>,
    },
    /// The deadline for its replacement has passed.
    Overdue(Box<Why>),
}

/// A node that was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The node.
    pub node: NodeId,
    /// Reason why it was given up.
    pub cause: Cause,
    /// The decision that gave it up; `None` if unknown.
    pub decision: Option<DecisionId>,
}

impl Evidence {
    /// Creates evidence of a `fact` that `source` observed at `time`.
    pub const fn new(time: WallTime, source: Source, fact: Fact) -> Evidence {
        Evidence { time, source, fact }
    }
}

impl Fact {
    /// The instance concerned.
    pub fn instance(&self) -> Option<&Instance> {
        match self {
            Fact::Start { of, .. }
            | Fact::Stop { of, .. }
            | Fact::Keep { of, .. }
            | Fact::HeldBack { of, .. }
            | Fact::WouldStop { of, .. } => Some(of),
            _ => None,
        }
    }

    /// Reason for the action on the instance.
    pub fn why(&self) -> Option<&Why> {
        match self {
            Fact::Start { why, .. }
            | Fact::Stop { why, .. }
            | Fact::HeldBack { why, .. }
            | Fact::WouldStop { why, .. } => Some(why),
            _ => None,
        }
    }

    /// Externally supplied text within the fact.
    fn text_mut(&mut self) -> Option<&mut String> {
        match self {
            Fact::SessionEnded(Ending::Content(text))
            | Fact::EndedBefore(Ending::Content(text))
            | Fact::Goodbye(text)
            | Fact::Revoked { reason: text, .. }
            | Fact::Waits { reason: text, .. }
            | Fact::UpdateFailed(text)
            | Fact::Told(text) => Some(text),
            Fact::Start { why, .. }
            | Fact::Stop { why, .. }
            | Fact::HeldBack { why, .. }
            | Fact::WouldStop { why, .. } => why.text_mut(),
            _ => None,
        }
    }

    /// Whether the fact's sentence is no longer than [`SENTENCE`] and free of control characters.
    pub(crate) fn is_short(&self) -> bool {
        let text = self.to_string();
        text.len() <= SENTENCE && !text.contains(is_hidden)
    }

    /// Truncates externally supplied text so that the fact's sentence has at most [`SENTENCE`] bytes and no control
    /// characters.
    pub(crate) fn shorten(&mut self) {
        if self.is_short() {
            return;
        }
        let whole = self.to_string().len();
        if let Some(text) = self.text_mut() {
            let rest = whole - text.len();
            *text = shortened(text, SENTENCE.saturating_sub(rest));
        }
        if !self.is_short() {
            *self = Fact::Told(shortened(&self.to_string(), SENTENCE));
        }
    }
}

impl Why {
    /// The decision or event that caused it.
    pub fn because(&self) -> Option<Because> {
        match self {
            Why::Lost(loss) | Why::LostBefore(loss) => loss.decision.map(Because::Decision),
            Why::Leaves { because, .. } => *because,
            Why::Succeeds { why, .. } | Why::Overdue(why) => why.because(),
            _ => None,
        }
    }

    /// The lost node that caused it.
    pub fn loss(&self) -> Option<&Loss> {
        match self {
            Why::Lost(loss) | Why::LostBefore(loss) => Some(loss),
            Why::Succeeds { why, .. } | Why::Overdue(why) => why.loss(),
            _ => None,
        }
    }

    fn text_mut(&mut self) -> Option<&mut String> {
        match self {
            Why::Failed(text)
            | Why::Interrupted(text)
            | Why::StoppedBefore(text)
            | Why::Leaves { reason: text, .. } => Some(text),
            Why::Succeeds { why, .. } | Why::Overdue(why) => why.text_mut(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
