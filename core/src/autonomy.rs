//! Autonomy: decisions with their evidence.

mod evidence;
mod prose;
mod stored;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

pub use evidence::{Ending, Evidence, Fact, Loss, Source, Why};
use serde::{Deserialize, Serialize};

pub use crate::id::Because;
use crate::{id::NodeId, node::NodeIndex, telemetry::Channel, time::WallTime, workload::AssignmentId};

/// Decisions that a snapshot shows.
pub const RECENT: usize = 16;

/// Instances that a decision names in one of its lists at most; evidence names as many.
pub const MOVED: usize = 32;

/// Cycles without a predicted crossing after which a threshold decision is resolved.
const CALM_CYCLES: u64 = 5;

/// Whether decisions are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Says what it would do.
    #[default]
    Observe,
    /// Waits for approval.
    Advise,
    /// Does it.
    Act,
}

/// What became of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Noted.
    Observed,
    /// What it was about is over.
    Resolved,
    /// It was carried out.
    Done,
    /// It waits for an operator.
    Pending,
    /// An operator did not want it.
    Rejected,
    /// Nobody answered in time.
    Expired,
    /// It was carried out, and what it was for came about.
    Helped,
    /// It was carried out, and what it was for did not come about.
    DidNotHelp,
}

/// What Autonomy does of itself, and how far it may go; set by operators, and durable. What an operator declares is done in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Work of nodes that were given up is placed elsewhere.
    pub heal: Mode,
    /// Work leaves nodes that have too much of it.
    pub rebalance: Mode,
    /// Work of a lower priority is stopped to make room.
    #[serde(default = "act")]
    pub preempt: Mode,
}

/// What of it is to be otherwise; what is `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyChange {
    /// Work of nodes that were given up.
    pub heal: Option<Mode>,
    /// Work of nodes that have too much of it.
    pub rebalance: Option<Mode>,
    /// Work of a lower priority.
    pub preempt: Option<Mode>,
}

const fn act() -> Mode {
    Mode::Act
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            heal: Mode::Act,
            rebalance: Mode::Advise,
            preempt: act(),
        }
    }
}

impl Mode {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Observe => "observe",
            Mode::Advise => "advise",
            Mode::Act => "act",
        }
    }
}

/// What a decision is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Whether a node is alive.
    Liveness,
    /// A channel that is expected to reach its threshold.
    Threshold,
    /// Where instances of a workload run.
    Placement,
    /// Work of nodes that were given up, which is not placed elsewhere by itself.
    Heal,
    /// Work that leaves a node that has too much of it.
    Rebalance,
    /// Work of a lower priority, which is not stopped by itself to make room.
    Preempt,
}

impl Kind {
    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Liveness => "liveness",
            Kind::Threshold => "threshold",
            Kind::Placement => "placement",
            Kind::Heal => "heal",
            Kind::Rebalance => "rebalance",
            Kind::Preempt => "preempt",
        }
    }
}

/// Something that could have been done instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alternative {
    /// What.
    pub action: String,
    /// Why not.
    pub rejected_because: String,
}

impl Alternative {
    /// `action`, and why it was not chosen.
    pub fn new(action: &str, rejected_because: impl Into<String>) -> Alternative {
        Alternative {
            action: action.to_owned(),
            rejected_because: rejected_because.into(),
        }
    }
}

/// What Autonomy wants done and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Unique in the cluster's life: epoch × 2³² + a count.
    pub id: u64,
    /// When it was taken.
    pub time: WallTime,
    /// Epoch in which it was taken.
    pub epoch: u64,
    /// Last cycle begun before it.
    pub cycle: u64,
    /// The node it is about; `None` when it is about several.
    pub node: Option<NodeId>,
    /// What it is about.
    pub kind: Kind,
    /// The rule that led to it.
    pub rule: String,
    /// What is concluded and what would be done.
    pub action: String,
    /// The facts it rests on, oldest first.
    pub evidence: Vec<Evidence>,
    /// What else was considered.
    pub alternatives: Vec<Alternative>,
    /// The mode it was taken in.
    pub mode: Mode,
    /// What became of it.
    pub outcome: Outcome,
    /// For a threshold: the channel's name.
    #[serde(default)]
    pub channel: String,
    /// For a placement: the workload's name.
    #[serde(default)]
    pub workload: String,
    /// For a placement: instances that are replaced because their nodes were given up; the first [`MOVED`].
    #[serde(default)]
    pub lost: Vec<AssignmentId>,
    /// For a placement: instances of other workloads that make room; the first [`MOVED`].
    #[serde(default)]
    pub displaced: Vec<AssignmentId>,
    /// What led to it: earlier decisions and events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caused_by: Vec<Because>,
}

impl Decision {
    /// One sentence for an event: the action of a new decision, or what became of an earlier one.
    pub fn summary(&self) -> String {
        let (id, action) = (self.id, &self.action);
        match self.outcome {
            Outcome::Observed | Outcome::Pending | Outcome::Done => action.clone(),
            // The action is about a state that is over.
            Outcome::Resolved => format!("decision {id} is resolved ({})", self.rule),
            Outcome::Rejected => format!("decision {id} is rejected: {action}"),
            Outcome::Expired => format!("decision {id} expired without an answer: {action}"),
            Outcome::Helped => format!("decision {id} helped: {action}"),
            Outcome::DidNotHelp => format!("decision {id} did not help: {action}"),
        }
    }
}

/// What a decision is about, to tell whether one is open already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Liveness,
    Threshold(Channel),
}

#[derive(Debug)]
struct Open {
    decision: Arc<Decision>,
    last_cycle: u64,
}

/// The decisions of this coordinator's life.
#[derive(Debug, Default)]
pub struct Ledger {
    mode: Mode,
    epoch: u64,
    total: u64,
    taken: u64,
    open: BTreeMap<(NodeIndex, Topic), Open>,
    recent: VecDeque<Arc<Decision>>,
}

/// Autonomy at a glance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overview {
    /// Whether decisions are carried out.
    pub mode: Mode,
    /// Decisions in the cluster's life.
    pub total: u64,
    /// Open ones.
    pub open: u32,
    /// The newest, newest first.
    pub recent: Vec<Arc<Decision>>,
}

/// The rules that lead to decisions.
pub const RULES: [&str; 14] = [
    "session-alive",
    "session-lost",
    "nobody-hears-it",
    "peers-hear-it",
    "flapping",
    "goodbye",
    "revoked",
    "restart",
    "threshold-ahead",
    "declared-runs",
    "lost-is-replaced",
    "hot-sheds-work",
    "spread-is-evened-out",
    "higher-priority-first",
];

/// A decision before it has a number.
#[derive(Debug)]
pub struct Proposal {
    /// Where the node is in the registry.
    pub index: Option<NodeIndex>,
    /// The node; `None` when it is about several.
    pub node: Option<NodeId>,
    /// When.
    pub time: WallTime,
    /// The cycle.
    pub cycle: u64,
    /// The rule that led to it.
    pub rule: &'static str,
    /// What is concluded and what would be done.
    pub action: String,
    /// The facts.
    pub evidence: Vec<Evidence>,
    /// What else was considered.
    pub alternatives: Vec<Alternative>,
    /// What led to it.
    pub caused_by: Vec<Because>,
}

impl Ledger {
    /// The ledger of `epoch`, in a cluster that took `total` decisions so far.
    pub fn new(epoch: u64, total: u64) -> Ledger {
        Ledger {
            epoch,
            total,
            ..Ledger::default()
        }
    }

    /// The decision behind a node's present liveness, while the node is neither online nor left.
    pub fn verdict(&self, index: NodeIndex) -> Option<u64> {
        let open = self.open.get(&(index, Topic::Liveness))?;
        Some(open.decision.id)
    }

    /// A node's liveness changed: what is decided, and what an earlier decision comes to.
    pub fn liveness(&mut self, index: NodeIndex, proposal: Proposal, settled: bool) -> Vec<Arc<Decision>> {
        let key = (index, Topic::Liveness);
        let mut decisions: Vec<Arc<Decision>> = self.resolve(key).into_iter().collect();
        let cycle = proposal.cycle;
        let decision = self.take(proposal, Kind::Liveness);
        let decision = self.note(decision);
        if !settled {
            self.open.insert(
                key,
                Open {
                    decision: Arc::clone(&decision),
                    last_cycle: cycle,
                },
            );
        }
        decisions.push(decision);
        decisions
    }

    /// A channel is expected to reach its threshold; the caller saw that no decision about it is open
    /// ([`Ledger::still_crossing`]).
    pub fn threshold(&mut self, index: NodeIndex, channel: Channel, proposal: Proposal) -> Arc<Decision> {
        let key = (index, Topic::Threshold(channel));
        let cycle = proposal.cycle;
        let mut decision = self.take(proposal, Kind::Threshold);
        decision.channel = channel.name().to_owned();
        let decision = self.note(decision);
        self.open.insert(
            key,
            Open {
                decision: Arc::clone(&decision),
                last_cycle: cycle,
            },
        );
        decision
    }

    /// Notes that an expected crossing is still expected; false when no decision about it is open.
    pub fn still_crossing(&mut self, index: NodeIndex, channel: Channel, cycle: u64) -> bool {
        self.open
            .get_mut(&(index, Topic::Threshold(channel)))
            .map(|open| open.last_cycle = cycle)
            .is_some()
    }

    /// Resolves the threshold decisions whose crossing was not expected for some cycles.
    pub fn settle(&mut self, cycle: u64) -> Vec<Arc<Decision>> {
        let calm = |(key, open): (&(NodeIndex, Topic), &Open)| {
            (key.1 != Topic::Liveness && open.last_cycle + CALM_CYCLES <= cycle).then_some(*key)
        };
        let over: Vec<_> = self.open.iter().filter_map(calm).collect();
        over.into_iter().filter_map(|key| self.resolve(key)).collect()
    }

    /// A node is forgotten: what was open about it is resolved.
    pub fn forget(&mut self, index: NodeIndex) -> Vec<Arc<Decision>> {
        let open: Vec<_> = self.open.keys().filter(|key| key.0 == index).copied().collect();
        open.into_iter().filter_map(|key| self.resolve(key)).collect()
    }

    fn resolve(&mut self, key: (NodeIndex, Topic)) -> Option<Arc<Decision>> {
        let mut decision = self.open.remove(&key)?.decision;
        Arc::make_mut(&mut decision).outcome = Outcome::Resolved;
        if let Some(shown) = self.recent.iter_mut().find(|shown| shown.id == decision.id) {
            *shown = Arc::clone(&decision);
        }
        Some(decision)
    }

    /// Instances of a workload are started, stopped or moved; `lost` ones are replaced, and `displaced` ones of other workloads make room.
    pub fn placement(
        &mut self,
        workload: &str,
        proposal: Proposal,
        lost: &[AssignmentId],
        displaced: &[AssignmentId],
    ) -> Arc<Decision> {
        let mut decision = self.take(proposal, Kind::Placement);
        let first = |ids: &[AssignmentId]| ids.iter().take(MOVED).copied().collect();
        (decision.lost, decision.displaced) = (first(lost), first(displaced));
        (decision.workload, decision.outcome, decision.mode) = (workload.to_owned(), Outcome::Done, Mode::Act);
        self.note(decision)
    }

    /// Something about a workload that is only said, waits for an operator, or is done.
    pub fn about(&mut self, workload: &str, kind: Kind, mode: Mode, proposal: Proposal) -> Arc<Decision> {
        let mut decision = self.take(proposal, kind);
        decision.outcome = match mode {
            Mode::Observe => Outcome::Observed,
            Mode::Advise => Outcome::Pending,
            Mode::Act => Outcome::Done,
        };
        (decision.workload, decision.mode) = (workload.to_owned(), mode);
        self.note(decision)
    }

    /// What became of a decision.
    pub fn conclude(&mut self, decision: &Arc<Decision>, outcome: Outcome) -> Arc<Decision> {
        let mut decision = Arc::clone(decision);
        Arc::make_mut(&mut decision).outcome = outcome;
        if let Some(shown) = self.recent.iter_mut().find(|shown| shown.id == decision.id) {
            *shown = Arc::clone(&decision);
        }
        decision
    }

    fn take(&mut self, proposal: Proposal, kind: Kind) -> Decision {
        self.taken += 1;
        self.total += 1;
        Decision {
            id: self.epoch << 32 | self.taken,
            time: proposal.time,
            epoch: self.epoch,
            cycle: proposal.cycle,
            node: proposal.node,
            kind,
            rule: proposal.rule.to_owned(),
            action: proposal.action,
            evidence: proposal.evidence,
            alternatives: proposal.alternatives,
            mode: self.mode,
            outcome: Outcome::Observed,
            channel: String::new(),
            workload: String::new(),
            lost: Vec::new(),
            displaced: Vec::new(),
            caused_by: proposal.caused_by,
        }
    }

    /// Shows a decision among the newest.
    fn note(&mut self, decision: Decision) -> Arc<Decision> {
        let decision = Arc::new(decision);
        if self.recent.len() == RECENT {
            self.recent.pop_back();
        }
        self.recent.push_front(Arc::clone(&decision));
        decision
    }

    /// Decisions in the cluster's life.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Autonomy at a glance.
    pub fn overview(&self) -> Overview {
        Overview {
            mode: self.mode,
            total: self.total,
            open: self.open.len() as u32,
            recent: self.recent.iter().cloned().collect(),
        }
    }
}
