//! What operators ask for, and what they are answered.

use std::{borrow::Cow, sync::Arc, time::Duration};

pub use crate::access::{Denial, TokenProblem};
use crate::{
    access::{Credential, Enrolment, OperatorRecord, Role, TokenRecord},
    autonomy::{Decision, Policy, PolicyChange},
    id::NodeId,
    integrity::Digest,
    node::{Admission, Eligibility, Labels},
    placement::{Score, Waiting},
    registry::NoSuchNode,
    text::Quoted,
    time::WallTime,
    workload::{AssignmentId, Spec, log},
};

/// A caller that waits for an answer, numbered by the driver: by the audit's intent of a change, and from
/// [`UNRECORDED`](RequestId::UNRECORDED) on for what changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

impl RequestId {
    /// The first number of requests that have no intent.
    pub const UNRECORDED: u64 = 1 << 63;

    /// The number of the audit's intent, where there is one.
    pub fn intent(self) -> Option<u64> {
        (self.0 < RequestId::UNRECORDED).then_some(self.0)
    }
}

/// An operator's command. A node is named by its id, a unique prefix of it, or its name.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// No new work on the node.
    Cordon {
        /// The node.
        node: String,
    },
    /// Takes a cordon back.
    Uncordon {
        /// The node.
        node: String,
    },
    /// Sets and removes labels.
    Label {
        /// The node.
        node: String,
        /// Labels to set.
        set: Labels,
        /// Keys to remove.
        remove: Vec<String>,
    },
    /// Has the agent measure and report now.
    Refresh {
        /// The node.
        node: String,
    },
    /// Sets the node's heartbeat interval.
    SetHeartbeat {
        /// The node.
        node: String,
        /// The interval; `None` for the cluster's.
        interval: Option<Duration>,
    },
    /// Lets the node take part, on the machine that it is on now.
    Admit {
        /// The node.
        node: String,
    },
    /// Shuts the node out.
    Revoke {
        /// The node.
        node: String,
        /// Why, for people.
        reason: String,
    },
    /// Forgets a node that is gone for good.
    Forget {
        /// The node.
        node: String,
        /// Nothing is done; the answer says what would be.
        plan: bool,
        /// Why, for people.
        reason: String,
    },
    /// A host wants a certificate by a join token.
    Enrol(Box<Enrolment>),
    /// A node wants its certificate renewed.
    Renew {
        /// The node.
        node: NodeId,
        /// Of its public key.
        key: Digest,
        /// The newest step of the CA's replacement, as in its identity.
        ca_step: u64,
    },
    /// Keeps a join token; `created` and `created_by` are set, and `expires` is this long from now.
    CreateToken {
        /// What is kept.
        token: Box<TokenRecord>,
        /// How long it can be used.
        ttl: Duration,
    },
    /// Drops a join token.
    DeleteToken {
        /// Its id.
        id: String,
    },
    /// Makes an operator, or gives one that does not hold any more another credential.
    CreateOperator {
        /// The name.
        name: String,
        /// What it may do.
        role: Role,
        /// By what it is known.
        credential: Credential,
        /// How long it holds.
        ttl: Duration,
    },
    /// Shuts an operator out.
    RevokeOperator {
        /// The name.
        name: String,
    },
    /// Notes that a new CA is about to sign.
    AuthorityActivates,
    /// Notes that only the CA that was activated last is trusted any more.
    AuthorityRetired,
    /// Has a node emptied of its work, and takes no new work to it.
    Drain {
        /// The node.
        node: String,
        /// How long that may take; what is there then is stopped all the same. `None`: as long as it takes.
        deadline: Option<Duration>,
        /// Daemons stay.
        keep_daemons: bool,
        /// Nothing is done; the answer says what would be.
        plan: bool,
    },
    /// What should run.
    Workload(Box<WorkloadCommand>),
    /// What would happen if nodes were lost, or emptied. Nothing is done.
    WhatIf {
        /// The nodes: `key=value` of a label, or a node's name.
        nodes: String,
        /// They are emptied, and not lost.
        drained: bool,
    },
    /// Has work leave the nodes that have most of it for those that have least.
    Rebalance {
        /// Nothing is done; the answer says what would be.
        plan: bool,
    },
    /// Sets what Autonomy may do.
    SetPolicy(PolicyChange),
    /// Answers a decision that waits for an operator.
    Decide {
        /// Its id.
        id: u64,
        /// Whether it is to be carried out.
        approve: bool,
    },
    /// What an instance wrote is wanted; its number is set by the coordinator.
    ReadLog {
        /// The instance: its id, or its workload's name and slot.
        assignment: String,
        /// Which stream.
        stream: log::Stream,
        /// Where to begin.
        from: log::From,
        /// What a later process wrote is not wanted.
        within: bool,
    },
}

impl Command {
    /// True for what hosts ask for, thousands of them at once: readers see its effect soon, but not before its answer.
    pub fn is_of_host(&self) -> bool {
        matches!(self, Command::Enrol(_) | Command::Renew { .. })
    }

    /// True for a command that changes nothing and is answered with what would be done.
    pub fn is_plan(&self) -> bool {
        match self {
            Command::Forget { plan, .. } | Command::Drain { plan, .. } | Command::Rebalance { plan } => *plan,
            Command::Workload(command) => command.plan,
            Command::WhatIf { .. } => true,
            _ => false,
        }
    }
}

/// A change of what should run.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadCommand {
    /// Nothing is done; the answer says what would be.
    pub plan: bool,
    /// The revision at which it is meant to be carried out; refused at another one. 0 for a workload that must not be there.
    pub at: Option<u64>,
    /// Of a declaration: as many instances as there should be now, if there are any, whatever it says.
    pub keep_replicas: bool,
    /// Of a declaration: also where instances would stop that nothing takes the place of.
    pub force: bool,
    /// What.
    pub verb: WorkloadVerb,
}

/// A change of what should run.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkloadVerb {
    /// Should run like this from now on.
    Apply(Arc<Spec>),
    /// Should have so many instances.
    Scale {
        /// Its name.
        name: String,
        /// How many.
        replicas: u32,
    },
    /// Its instances should be replaced, one after another.
    Restart {
        /// Its name.
        name: String,
    },
    /// Its canaries are well: the rest may follow.
    Promote {
        /// Its name.
        name: String,
    },
    /// Should not run any more.
    Delete {
        /// Its name.
        name: String,
    },
}

impl WorkloadVerb {
    /// The workload's name.
    pub fn workload(&self) -> &str {
        match self {
            WorkloadVerb::Apply(spec) => &spec.name,
            WorkloadVerb::Scale { name, .. }
            | WorkloadVerb::Restart { name }
            | WorkloadVerb::Promote { name }
            | WorkloadVerb::Delete { name } => name,
        }
    }

    /// Its name, as people give it.
    pub const fn name(&self) -> &'static str {
        match self {
            WorkloadVerb::Apply(_) => "apply",
            WorkloadVerb::Scale { .. } => "scale",
            WorkloadVerb::Restart { .. } => "restart",
            WorkloadVerb::Promote { .. } => "promote",
            WorkloadVerb::Delete { .. } => "delete",
        }
    }
}

/// What becomes of a workload by a change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changed {
    /// Its name.
    pub name: String,
    /// Its revision now, or (of a plan) before the change; 0 for none.
    pub revision: u64,
    /// It was carried out; otherwise it is what would be done.
    pub applied: bool,
    /// Whether anything differs from what was.
    pub changed: bool,
    /// Its declaration, with its defaults.
    pub spec: Option<Arc<Spec>>,
    /// How many instances there should be before the change, where that is another number.
    pub replicas_before: Option<u32>,
    /// Instances that are started at once: node, its name, and why.
    pub starts: Vec<PlannedStart>,
    /// Instances that are stopped at once.
    pub stops: Vec<PlannedStop>,
    /// Instances that run and that no workload had, which it takes over.
    pub adopted: u32,
    /// Instances that follow later, as only so many are replaced at once.
    pub later: u32,
    /// Slots that wait, and for what.
    pub waiting: Vec<Waiting>,
    /// Nodes that take none, or no further one, and why.
    pub rejections: Vec<(NodeId, String, String)>,
    /// The event that records it; 0 when nothing changed.
    pub event: u64,
}

/// An instance that would stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStop {
    /// Its id.
    pub id: AssignmentId,
    /// Its slot.
    pub slot: u32,
    /// Its node's name.
    pub node_name: String,
    /// Why it stops.
    pub reason: String,
    /// Nothing takes its place.
    pub unreplaced: bool,
}

/// The result of forgetting a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Forgotten {
    /// The node.
    pub node: NodeId,
    /// The node's name, which is free now.
    pub name: String,
    /// It was carried out; otherwise it is what would be done.
    pub applied: bool,
    /// It was revoked, and stays shut out.
    pub barred: bool,
    /// Of a plan: a lease that the node was promised may run until then, and the node must not be forgotten before.
    pub not_before: Option<WallTime>,
    /// For each workload with instances on the node: its stops are the instances given up, its starts the first replacements.
    pub changes: Vec<Changed>,
    /// The event that records it; 0 of a plan.
    pub event: u64,
}

/// An instance that is started.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedStart {
    /// Its workload's name.
    pub workload: String,
    /// Its slot.
    pub slot: u32,
    /// Its node.
    pub node: NodeId,
    /// The node's name.
    pub node_name: String,
    /// By what that wins.
    pub score: Score,
    /// Why it is started.
    pub reason: String,
}

/// What a command came to. `event` is the number of the event that records it, 0 when nothing changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Of a cordon or its taking back.
    Eligibility {
        /// The node's eligibility now.
        eligibility: Eligibility,
        /// Did anything change?
        changed: bool,
        /// The event.
        event: u64,
    },
    /// Of a label.
    Labels {
        /// The node's labels now.
        labels: Labels,
        /// Did anything change?
        changed: bool,
        /// The event.
        event: u64,
    },
    /// Of an admission, a revocation, an enrolment or a renewal.
    Admission {
        /// The node.
        node: NodeId,
        /// What it is now.
        admission: Admission,
        /// Did anything change?
        changed: bool,
        /// The event.
        event: u64,
    },
    /// A node that is, or would be, forgotten.
    Forgotten(Box<Forgotten>),
    /// Of a token that was kept or dropped.
    Token(Box<TokenRecord>),
    /// Of an operator that was made or shut out.
    Operator(Box<OperatorRecord>),
    /// Of a step of the CA's replacement that was noted.
    Noted,
    /// Of a change of what should run, and of a drain: a workload each.
    Workloads(Vec<Changed>),
    /// What an instance wrote.
    Log(log::Chunk),
    /// What Autonomy may do now.
    Policy {
        /// What.
        policy: Policy,
        /// The event; 0 when nothing changed.
        event: u64,
    },
    /// A decision that was answered.
    Decision(Arc<Decision>),
    /// Of a refresh or a heartbeat interval.
    Directive {
        /// The directive; 0 when the node has no session.
        id: u64,
        /// The event.
        event: u64,
    },
}

/// Why a command is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The node is not known, or not the only one.
    #[error(transparent)]
    Node(#[from] NoSuchNode),
    /// A field is wrong.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// It needs a session, and the node has none.
    #[error("node {} has no session: wait until it is online", Quoted(.0))]
    NoSession(String),
    /// It cannot be done yet; `detail` says what has to happen first.
    #[error("{detail}")]
    NotYet {
        /// Why, for programs.
        reason: &'static str,
        /// Why, for people.
        detail: String,
    },
    /// What it names is not there.
    #[error("no {what} {}", Quoted(.name))]
    Unknown {
        /// A kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// What it would make is there.
    #[error("{what} {} exists: revoke it first", Quoted(.name))]
    Exists {
        /// A kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// It was meant for another revision.
    #[error("workload {} {}", Quoted(.name), revised(*.now, *.at))]
    Revision {
        /// The workload.
        name: String,
        /// Its revision now.
        now: u64,
        /// The one it was meant for.
        at: u64,
    },
    /// It is being deleted: its name is free once its instances are gone.
    #[error("workload {} is being deleted: wait until its instances are gone", Quoted(.0))]
    Deleting(String),
    /// It cannot be read.
    #[error("{0}")]
    Log(String),
    /// Whoever asks may not have it.
    #[error("{0}")]
    Denied(Denial),
    /// A limit is reached.
    #[error("{0}")]
    Overloaded(Limit),
}

/// A limit that is reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}{}", if *.passes { ": try again later" } else { "" })]
pub struct Limit {
    /// What is full, and what to do about a limit that stands.
    pub what: Cow<'static, str>,
    /// True if the condition ends by itself within seconds, so that a repeated call may succeed.
    pub passes: bool,
}

impl Limit {
    /// A limit that ends by itself within seconds.
    pub fn passes(what: &'static str) -> Limit {
        let what = Cow::Borrowed(what);
        Limit { what, passes: true }
    }

    /// A limit that stands until somebody makes room; `what` says how.
    pub fn stands(what: impl Into<Cow<'static, str>>) -> Limit {
        let what = what.into();
        Limit { what, passes: false }
    }
}

/// The conflict between a workload's revision and the one that a change was meant for; 0 is for a workload that is not there yet.
fn revised(now: u64, at: u64) -> String {
    match (now, at) {
        (_, 0) => format!(
            "exists already, at revision {now}, and revision 0 is for a new one: choose another name, or change this one with revision {now}"
        ),
        (0, _) => format!("is not declared, and the change is for revision {at}: somebody deleted it; plan again"),
        _ => format!("is at revision {now}, not {at}: somebody changed it; plan again"),
    }
}
