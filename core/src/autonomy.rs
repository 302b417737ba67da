//! Autonomy: decisions and their evidence.

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
use crate::{
    id::{Cycle, DecisionId, Epoch, NodeId},
    node::NodeIndex,
    telemetry::Channel,
    time::WallTime,
    workload::AssignmentId,
};

/// Number of recent decisions in a snapshot.
pub const RECENT: usize = 16;

/// Maximum number of instances that a decision names in one of its lists; the same limit applies to its evidence.
pub const MOVED: usize = 32;

/// Cycles without a predicted crossing after which a threshold decision is resolved.
const CALM_CYCLES: u64 = 5;

/// Degree of automation of an action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Records what would be done.
    #[default]
    Observe,
    /// Waits for an operator's approval.
    Advise,
    /// Acts without approval.
    Act,
}

/// State or result of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Recorded only.
    Observed,
    /// The condition that the decision concerned is over.
    Resolved,
    /// Carried out.
    Done,
    /// Pending approval by an operator.
    Pending,
    /// Rejected by an operator.
    Rejected,
    /// Expired without an answer.
    Expired,
    /// Carried out, and the goal was reached.
    Helped,
    /// Carried out, and the goal was not reached.
    DidNotHelp,
}

/// Policy for automatic actions; set by operators and durable. It does not restrict the execution of declared
/// workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Replacement of instances whose nodes were given up.
    pub heal: Mode,
    /// Moves of instances off overloaded nodes.
    pub rebalance: Mode,
    /// Preemption of instances with a lower priority.
    #[serde(default = "act")]
    pub preempt: Mode,
}

/// A partial policy update; `None` leaves a field unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyChange {
    /// Replacement of instances whose nodes were given up.
    pub heal: Option<Mode>,
    /// Moves of instances off overloaded nodes.
    pub rebalance: Option<Mode>,
    /// Preemption of instances with a lower priority.
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
    /// Name of the mode.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Observe => "observe",
            Mode::Advise => "advise",
            Mode::Act => "act",
        }
    }
}

/// Subject of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Liveness of a node.
    Liveness,
    /// A channel that is predicted to reach its threshold.
    Threshold,
    /// Placement of a workload's instances.
    Placement,
    /// Lost instances that are not replaced automatically.
    Heal,
    /// Moves of instances off overloaded nodes or out of an uneven spread.
    Rebalance,
    /// Preemptions that are not carried out automatically.
    Preempt,
}

impl Kind {
    /// Name on the wire.
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

/// An alternative that was considered and rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alternative {
    /// The action.
    pub action: String,
    /// Reason for the rejection.
    pub rejected_because: String,
}

impl Alternative {
    /// Creates an alternative from an action and the reason for its rejection.
    pub fn new(action: &str, rejected_because: impl Into<String>) -> Alternative {
        Alternative {
            action: action.to_owned(),
            rejected_because: rejected_because.into(),
        }
    }
}

/// A decision of Autonomy with its reasons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Unique id within the cluster's lifetime: epoch × 2³² + a counter.
    pub id: DecisionId,
    /// Time of the decision.
    pub time: WallTime,
    /// Epoch of the decision.
    pub epoch: Epoch,
    /// The last cycle that began before the decision.
    pub cycle: Cycle,
    /// The node concerned; `None` if several are.
    pub node: Option<NodeId>,
    /// Subject of the decision.
    pub kind: Kind,
    /// The rule that led to the decision.
    pub rule: String,
    /// The conclusion and the action.
    pub action: String,
    /// The facts behind the decision, oldest first.
    pub evidence: Vec<Evidence>,
    /// Alternatives that were rejected.
    pub alternatives: Vec<Alternative>,
    /// The mode at the time of the decision.
    pub mode: Mode,
    /// State or result of the decision.
    pub outcome: Outcome,
    /// For a threshold decision: the channel's name.
    #[serde(default)]
    pub channel: String,
    /// Name of the workload concerned; empty if none.
    #[serde(default)]
    pub workload: String,
    /// For a placement: instances that are replaced because their nodes were given up; the first [`MOVED`].
    #[serde(default)]
    pub lost: Vec<AssignmentId>,
    /// For a placement: preempted instances of other workloads; the first [`MOVED`].
    #[serde(default)]
    pub displaced: Vec<AssignmentId>,
    /// Earlier decisions and events that led to this decision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caused_by: Vec<Because>,
}

impl Decision {
    /// A one-sentence summary for an event: the action of a new decision, or the outcome of an earlier one.
    pub fn summary(&self) -> String {
        let (id, action) = (self.id, &self.action);
        match self.outcome {
            Outcome::Observed | Outcome::Pending | Outcome::Done => action.clone(),
            // The action describes a condition that is over.
            Outcome::Resolved => format!("decision {id} is resolved ({})", self.rule),
            Outcome::Rejected => format!("decision {id} is rejected: {action}"),
            Outcome::Expired => format!("decision {id} expired without an answer: {action}"),
            Outcome::Helped => format!("decision {id} helped: {action}"),
            Outcome::DidNotHelp => format!("decision {id} did not help: {action}"),
        }
    }
}

/// Subject of a decision per node, to find an open decision on the same subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Liveness,
    Threshold(Channel),
}

#[derive(Debug)]
struct Open {
    decision: Arc<Decision>,
    last_cycle: Cycle,
}

/// Decisions taken since this coordinator started.
#[derive(Debug, Default)]
pub struct Ledger {
    mode: Mode,
    epoch: Epoch,
    total: u64,
    taken: u64,
    open: BTreeMap<(NodeIndex, Topic), Open>,
    recent: VecDeque<Arc<Decision>>,
}

/// Summary of Autonomy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overview {
    /// The mode of decisions that no policy covers.
    pub mode: Mode,
    /// Number of decisions in the cluster's lifetime.
    pub total: u64,
    /// Number of open decisions.
    pub open: u32,
    /// The most recent decisions, newest first.
    pub recent: Vec<Arc<Decision>>,
}

/// Names of the rules that lead to decisions.
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

/// A decision that has no id yet.
#[derive(Debug)]
pub struct Proposal {
    /// Index of the node in the registry.
    pub index: Option<NodeIndex>,
    /// The node concerned; `None` if several are.
    pub node: Option<NodeId>,
    /// Time of the decision.
    pub time: WallTime,
    /// The current cycle.
    pub cycle: Cycle,
    /// The rule that leads to the decision.
    pub rule: &'static str,
    /// The conclusion and the action.
    pub action: String,
    /// The facts behind the decision.
    pub evidence: Vec<Evidence>,
    /// Alternatives that were rejected.
    pub alternatives: Vec<Alternative>,
    /// Earlier decisions and events that led to this decision.
    pub caused_by: Vec<Because>,
}

impl Ledger {
    /// Creates the ledger of `epoch`, in a cluster that has taken `total` decisions so far.
    pub fn new(epoch: Epoch, total: u64) -> Ledger {
        Ledger {
            epoch,
            total,
            ..Ledger::default()
        }
    }

    /// The id of the decision behind a node's current liveness, unless the node is online or has left.
    pub fn verdict(&self, index: NodeIndex) -> Option<DecisionId> {
        let open = self.open.get(&(index, Topic::Liveness))?;
        Some(open.decision.id)
    }

    /// Records a decision about a node's changed liveness and resolves the previous one. It stays open unless
    /// `settled`. Returns the changed decisions.
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

    /// Records a decision about a channel that is predicted to reach its threshold. The caller has checked that none is
    /// open ([`Ledger::still_crossing`]).
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

    /// Records that a crossing is still predicted; returns false if no decision about it is open.
    pub fn still_crossing(&mut self, index: NodeIndex, channel: Channel, cycle: Cycle) -> bool {
        self.open
            .get_mut(&(index, Topic::Threshold(channel)))
            .map(|open| open.last_cycle = cycle)
            .is_some()
    }

    /// Resolves threshold decisions whose crossing has not been predicted for `CALM_CYCLES` cycles.
    pub fn settle(&mut self, cycle: Cycle) -> Vec<Arc<Decision>> {
        let calm = |(key, open): (&(NodeIndex, Topic), &Open)| {
            (key.1 != Topic::Liveness && open.last_cycle.after(CALM_CYCLES) <= cycle).then_some(*key)
        };
        let over: Vec<_> = self.open.iter().filter_map(calm).collect();
        over.into_iter().filter_map(|key| self.resolve(key)).collect()
    }

    /// Resolves the open decisions about a node that is being forgotten.
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

    /// Records a placement decision: `lost` instances are replaced, and `displaced` instances of other workloads are
    /// preempted.
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

    /// Records a decision about a workload, with the outcome that follows from `mode`.
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

    /// Sets the outcome of a decision.
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
            id: DecisionId(self.epoch.number(self.taken)),
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

    /// Adds a decision to the recent ones.
    fn note(&mut self, decision: Decision) -> Arc<Decision> {
        let decision = Arc::new(decision);
        if self.recent.len() == RECENT {
            self.recent.pop_back();
        }
        self.recent.push_front(Arc::clone(&decision));
        decision
    }

    /// Number of decisions in the cluster's lifetime.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Summary of Autonomy.
    pub fn overview(&self) -> Overview {
        Overview {
            mode: self.mode,
            total: self.total,
            open: self.open.len() as u32,
            recent: self.recent.iter().cloned().collect(),
        }
    }
}
