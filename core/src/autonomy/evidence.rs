//! Evidence: the facts that decisions rest on, as data. `prose.rs` renders them for people, `stored.rs` stores them beside their sentences.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    id::{Because, NodeId},
    mesh::Sight,
    node::{Cause, Liveness, Named},
    text::{SENTENCE, is_hidden, shortened},
    time::WallTime,
    workload::Instance,
};

/// A fact, its time, and who saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// When it was so.
    pub time: WallTime,
    /// Who saw it.
    pub source: Source,
    /// The fact.
    pub fact: Fact,
}

/// Who or what saw a fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The node's session with the coordinator.
    Session,
    /// The observers of a node, all together.
    Mesh,
    /// The newest sample.
    Telemetry,
    /// The forecasts.
    Predictive,
    /// Placement.
    Placement,
    /// The judgement of an update.
    Update,
    /// Admission, by operators.
    Admission,
    /// The event that holds the decision.
    Event,
    /// A node.
    Node(Named),
    /// A source of an earlier version, by its name.
    Told(String),
}

/// How a session ended that did not say goodbye.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The node's host ended the transport.
    ByHost,
    /// Nothing came through the transport any more.
    Silent,
    /// A message could not be accepted: which, for people.
    Content(String),
}

/// Something that was so, and that a decision rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// The node was not heard since the coordinator started.
    NeverHeard,
    /// The node was heard last at that time.
    LastHeard {
        /// Number of its last heartbeat in the session; `None` when there was none.
        heartbeat: Option<u64>,
    },
    /// The session of a node is silent for too long.
    Silent {
        /// How long it has been silent.
        span: Duration,
        /// How long it may be.
        limit: Duration,
    },
    /// The node was asked and did not answer yet.
    Unanswered {
        /// How long ago it was asked.
        ago: Duration,
    },
    /// An observer's sight of the node.
    Sees(Sight),
    /// No observer, and no session, heard the node.
    NobodyHeard {
        /// For how long.
        span: Duration,
        /// How long a node that is there may be unheard.
        window: Duration,
    },
    /// A node in doubt gave no sign of life, and no observer can tell.
    NoSign {
        /// What it was concluded to be.
        liveness: Liveness,
        /// For how long.
        span: Duration,
    },
    /// A peer passed on the node's question for its standing.
    Relayed {
        /// How long ago.
        ago: Duration,
    },
    /// The node's session ended without a goodbye.
    SessionEnded(Ending),
    /// An earlier session of the node ended without a goodbye.
    EndedBefore(Ending),
    /// The node did not come back after a start of the coordinator.
    NotBack {
        /// How long it was waited for.
        grace: Duration,
    },
    /// A heartbeat of the node arrived.
    Heartbeat {
        /// Its number in the session.
        sequence: u64,
    },
    /// The node opened a session.
    Opened {
        /// Number of the session.
        session: u64,
        /// Which of its agent's starts opened it.
        incarnation: u64,
    },
    /// The node came back again and again.
    Returns {
        /// Within this time.
        within: Duration,
        /// How often, as far as it is counted.
        times: u32,
        /// How long it must be heard without a break to be online again.
        steady: Duration,
    },
    /// The agent said goodbye: why, for people.
    Goodbye(String),
    /// An operator shut the node out.
    Revoked {
        /// The operator.
        by: String,
        /// Why, for people.
        reason: String,
    },
    /// A channel's value now.
    Reading {
        /// The channel's name.
        channel: String,
        /// The value, in the channel's unit.
        value: f32,
        /// The value at which it becomes a problem.
        threshold: f32,
    },
    /// A channel's expected value.
    Expected {
        /// How far ahead.
        within: Duration,
        /// The value, in the channel's unit.
        value: f32,
        /// Lower end of the 80% interval.
        low: f32,
        /// Upper end of the 80% interval.
        high: f32,
    },
    /// How good the forecasts of a channel were.
    Skill {
        /// 1 − the forecasts' mean squared error ÷ persistence's.
        skill: f32,
        /// Share of past values that fell into their 80% interval.
        coverage: f32,
        /// Forecasts that were measured.
        forecasts: u32,
    },
    /// A node has more load than another one would have with one of its instances.
    Load {
        /// The node.
        here: Named,
        /// Its load, in percent.
        load: u32,
        /// The other one.
        there: Named,
        /// The load that it would have, in percent.
        after: u32,
    },
    /// A node has been hot.
    Hot {
        /// The node.
        node: Named,
        /// For how many cycles.
        cycles: u32,
    },
    /// Instances of a workload are spread unevenly.
    Uneven {
        /// The label that they are spread by.
        label: String,
        /// The value with most instances; `None` for nodes without the label.
        fullest: Option<Arc<str>>,
        /// Instances there.
        many: u32,
        /// The value with fewest; `None` for nodes without the label.
        emptiest: Option<Arc<str>>,
        /// Instances there.
        few: u32,
    },
    /// An instance is started.
    Start {
        /// The instance.
        of: Instance,
        /// Its node.
        on: Named,
        /// By what the node won.
        score: i64,
        /// Why it is started.
        why: Why,
    },
    /// An instance is stopped.
    Stop {
        /// The instance.
        of: Instance,
        /// Its node.
        on: Named,
        /// Why.
        why: Why,
    },
    /// An instance runs on by a newer declaration.
    Keep {
        /// The instance.
        of: Instance,
        /// Its node.
        on: Named,
        /// The declaration that it was started by.
        revision: u64,
    },
    /// An instance was lost, and is not replaced by itself.
    HeldBack {
        /// The instance.
        of: Instance,
        /// The node that it was on.
        on: Named,
        /// Why it counts as lost.
        why: Why,
    },
    /// An instance would be stopped to make room.
    WouldStop {
        /// The instance.
        of: Instance,
        /// Its node.
        on: Named,
        /// Why.
        why: Why,
    },
    /// Slots of a workload have no instance.
    Waits {
        /// How many.
        slots: u32,
        /// For what, for people.
        reason: String,
    },
    /// An update failed: why, for people.
    UpdateFailed(String),
    /// Further facts had no room in an event.
    LeftOut {
        /// How many.
        facts: u64,
        /// Bytes of facts that an event has room for.
        room: u64,
    },
    /// A fact of an earlier version, as its sentence.
    Told(String),
}

/// Why an instance is started, stopped or moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It is declared.
    Declared,
    /// It is declared for every node that fits.
    DeclaredForNode,
    /// Its workload was deleted.
    Deleted,
    /// More run than are declared.
    ScaledDown,
    /// Its node was given up.
    Lost(Loss),
    /// The node of the one before it was given up.
    LostBefore(Loss),
    /// The one before it failed: how, for people.
    Failed(String),
    /// The host of the one before it ended that: how, for people.
    Interrupted(String),
    /// The one before it was stopped: why, for people.
    StoppedBefore(String),
    /// An operator asked for a restart.
    Restarted,
    /// Its node is to be emptied.
    NodeEmptied,
    /// A newer declaration takes the place of the one that it runs by.
    Revised {
        /// The newer one.
        to: u64,
        /// The one that it runs by.
        from: u64,
    },
    /// Its node does not meet the constraints any more.
    Unfit,
    /// Its node does not meet the constraints any more, or takes no work; of a workload that runs once on every node.
    NotMeant,
    /// Another instance has its slot.
    SlotTaken,
    /// It makes room for a workload of a higher priority.
    GivesWay {
        /// That workload.
        to: Arc<str>,
        /// The priority of that workload.
        priority: u8,
        /// Its own.
        own: u8,
    },
    /// It was decided that it leaves its node.
    Leaves {
        /// Why, for people.
        reason: String,
        /// What led to that; `None` where that is not known.
        because: Option<Because>,
    },
    /// Another instance is to leave its place to it.
    Succeeds {
        /// The other one.
        of: Instance,
        /// Why that leaves.
        why: Box<Why>,
    },
    /// The time is over within which another one should have taken its place.
    Overdue(Box<Why>),
}

/// A node that was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The node.
    pub node: NodeId,
    /// Why it was given up.
    pub cause: Cause,
    /// The decision that gave it up; `None` when that is not known.
    pub decision: Option<u64>,
}

impl Evidence {
    /// What `source` saw at `time`.
    pub const fn new(time: WallTime, source: Source, fact: Fact) -> Evidence {
        Evidence { time, source, fact }
    }
}

impl Fact {
    /// The instance that it is about.
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

    /// Why something is done to that instance.
    pub fn why(&self) -> Option<&Why> {
        match self {
            Fact::Start { why, .. }
            | Fact::Stop { why, .. }
            | Fact::HeldBack { why, .. }
            | Fact::WouldStop { why, .. } => Some(why),
            _ => None,
        }
    }

    /// The text of others within it.
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

    /// True when its sentence is no longer than [`SENTENCE`] and has no control characters.
    pub(crate) fn is_short(&self) -> bool {
        let text = self.to_string();
        text.len() <= SENTENCE && !text.contains(is_hidden)
    }

    /// Shortens the text of others within it so that its sentence has [`SENTENCE`] bytes at most and no control characters.
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
    /// The decision or event behind it.
    pub fn because(&self) -> Option<Because> {
        match self {
            Why::Lost(loss) | Why::LostBefore(loss) => loss.decision.map(Because::Decision),
            Why::Leaves { because, .. } => *because,
            Why::Succeeds { why, .. } | Why::Overdue(why) => why.because(),
            _ => None,
        }
    }

    /// The node whose loss is behind it.
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
