//! Operator commands and their replies: one type per command, and one table of their reply types.

mod refusal;
mod work;

use std::{sync::Arc, time::Duration};

pub use refusal::{Limit, Refusal};
pub use work::{ChangeWorkload, Changed, Forgotten, PlannedStart, PlannedStop, WorkloadVerb};

pub use crate::access::{Denial, TokenProblem};
use crate::{
    access::{Credential, Enrolment, OperatorRecord, Role, TokenRecord},
    autonomy::{Decision, Mode, Policy, PolicyChange},
    id::{DecisionId, DirectiveId, EventNo, NodeId},
    integrity::Digest,
    node::{Admission, Eligibility, Labels},
    text::Span,
    workload::log,
};

/// A command, with its type of reply. A node is named by its id, a unique prefix of it, or its name.
pub trait Command: Into<Asked> {
    /// The reply of the command.
    type Reply: TryFrom<Answer, Error = OtherAnswer>;
    /// The command's name in events.
    const VERB: &'static str;
}

/// An answer that belongs to another command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is to another command")]
pub struct OtherAnswer;

/// Defines the table of commands: their names, grouped by type of reply.
macro_rules! commands {
    ($($reply:ty: $($command:ident $verb:literal),+;)+) => {
        /// A command: one variant per type.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Asked {
            $($(#[doc = concat!("The command `", $verb, "`.")] $command($command),)+)+
        }

        /// The reply to a command: one variant per type.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Answer {
            $($(#[doc = concat!("Of the command `", $verb, "`.")] $command($reply),)+)+
        }

        $($(
            impl Command for $command {
                type Reply = $reply;
                const VERB: &'static str = $verb;
            }

            impl From<$command> for Asked {
                fn from(command: $command) -> Asked {
                    Asked::$command(command)
                }
            }
        )+

        impl TryFrom<Answer> for $reply {
            type Error = OtherAnswer;

            fn try_from(answer: Answer) -> Result<$reply, OtherAnswer> {
                match answer {
                    $(Answer::$command(reply))|+ => Ok(reply),
                    _ => Err(OtherAnswer),
                }
            }
        })+
    };
}

commands! {
    NodeEligibility: Cordon "cordon", Uncordon "uncordon";
    NodeLabels: Label "label";
    Issued: Refresh "refresh", SetHeartbeat "set-heartbeat";
    NodeAdmission: Admit "admit", Revoke "revoke", Enrol "join", Renew "renew";
    Box<Forgotten>: Forget "forget";
    Box<TokenRecord>: CreateToken "token create", DeleteToken "token delete";
    Box<OperatorRecord>: CreateOperator "operator create", RevokeOperator "operator revoke";
    Noted: AuthorityActivates "ca activate", AuthorityRetired "ca retire";
    Vec<Changed>: Drain "drain", WhatIf "what-if", Rebalance "rebalance";
    Box<Changed>: ChangeWorkload "workload";
    PolicySet: SetPolicy "autonomy";
    Arc<Decision>: Decide "decide";
    log::Chunk: ReadLog "logs";
}

impl Asked {
    /// Returns whether hosts send this command, possibly thousands of them at once: its effect is visible to readers
    /// soon, but not before the answer.
    pub fn is_of_host(&self) -> bool {
        matches!(self, Asked::Enrol(_) | Asked::Renew(_))
    }

    /// Returns whether the command changes nothing and is answered with the changes it would make.
    pub fn is_plan(&self) -> bool {
        match self {
            Asked::Forget(Forget { plan, .. })
            | Asked::Drain(Drain { plan, .. })
            | Asked::Rebalance(Rebalance { plan })
            | Asked::ChangeWorkload(ChangeWorkload { plan, .. }) => *plan,
            Asked::WhatIf(_) => true,
            _ => false,
        }
    }

    /// Returns the subject of the command, for the audit.
    pub fn about(&self) -> String {
        match self {
            Asked::Cordon(Cordon { node })
            | Asked::Uncordon(Uncordon { node })
            | Asked::Refresh(Refresh { node })
            | Asked::Admit(Admit { node })
            | Asked::Drain(Drain { node, .. }) => format!("node {node}"),
            Asked::Label(Label { node, set, remove }) => {
                let set = set.iter().map(|(key, value)| format!("{key}={value}"));
                let changes: Vec<String> = set.chain(remove.iter().map(|key| format!("{key}-"))).collect();
                format!("node {node}: {}", changes.join(", "))
            }
            Asked::SetHeartbeat(SetHeartbeat { node, interval }) => match interval {
                Some(interval) => format!("node {node}: every {}", Span(*interval)),
                None => format!("node {node}: the cluster's own interval"),
            },
            Asked::Revoke(Revoke { node, reason }) | Asked::Forget(Forget { node, reason, .. }) => {
                if reason.is_empty() {
                    return format!("node {node}");
                }
                format!("node {node}: {reason}")
            }
            Asked::Enrol(Enrol(enrolment)) => format!("node {} by join token {}", enrolment.node, enrolment.token),
            Asked::Renew(renewal) => format!("node {}", renewal.node),
            Asked::CreateToken(CreateToken { token, .. }) => format!("join token {}", token.id),
            Asked::DeleteToken(DeleteToken { id }) => format!("join token {id}"),
            Asked::CreateOperator(CreateOperator { name, role, .. }) => format!("operator {name}, {}", role.name()),
            Asked::RevokeOperator(RevokeOperator { name }) => format!("operator {name}"),
            Asked::AuthorityActivates(_) | Asked::AuthorityRetired(_) => "CA".to_owned(),
            Asked::ChangeWorkload(change) => format!("workload {}", change.verb.workload()),
            Asked::WhatIf(WhatIf { nodes, .. }) => format!("what if {nodes}"),
            Asked::Rebalance(_) => "all nodes".to_owned(),
            Asked::SetPolicy(SetPolicy(change)) => {
                let named = |mode: Option<Mode>| mode.map_or("as it is", Mode::name);
                let (heal, rebalance, preempt) = (named(change.heal), named(change.rebalance), named(change.preempt));
                format!("heal {heal}, rebalance {rebalance}, preempt {preempt}")
            }
            Asked::Decide(Decide { id, .. }) => format!("decision {id}"),
            Asked::ReadLog(ReadLog { assignment, .. }) => format!("assignment {assignment}"),
        }
    }
}

/// Marks a node as unschedulable for new work.
#[derive(Clone, Debug, PartialEq)]
pub struct Cordon {
    /// The node.
    pub node: String,
}

/// Reverts a cordon.
#[derive(Clone, Debug, PartialEq)]
pub struct Uncordon {
    /// The node.
    pub node: String,
}

/// Sets and removes labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// The node.
    pub node: String,
    /// Labels to set.
    pub set: Labels,
    /// Keys to remove.
    pub remove: Vec<String>,
}

/// Requests an immediate measurement and report from the agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Refresh {
    /// The node.
    pub node: String,
}

/// Sets the node's heartbeat interval.
#[derive(Clone, Debug, PartialEq)]
pub struct SetHeartbeat {
    /// The node.
    pub node: String,
    /// The interval; `None` for the cluster's default.
    pub interval: Option<Duration>,
}

/// Admits the node, on the machine that it runs on now.
#[derive(Clone, Debug, PartialEq)]
pub struct Admit {
    /// The node.
    pub node: String,
}

/// Revokes the node.
#[derive(Clone, Debug, PartialEq)]
pub struct Revoke {
    /// The node.
    pub node: String,
    /// Reason, for people.
    pub reason: String,
}

/// Forgets a node that is permanently gone.
#[derive(Clone, Debug, PartialEq)]
pub struct Forget {
    /// The node.
    pub node: String,
    /// Whether to only report the changes.
    pub plan: bool,
    /// Reason, for people.
    pub reason: String,
}

/// Requests a certificate with a join token, on behalf of a host.
#[derive(Clone, Debug, PartialEq)]
pub struct Enrol(pub Box<Enrolment>);

/// Requests the renewal of a node's certificate.
#[derive(Clone, Debug, PartialEq)]
pub struct Renew {
    /// The node.
    pub node: NodeId,
    /// Digest of the node's public key.
    pub key: Digest,
    /// The newest step of the CA rotation, as in the node's identity.
    pub ca_step: u64,
}

/// Stores a join token; the coordinator sets `created`, `created_by` and `expires`.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateToken {
    /// The token.
    pub token: Box<TokenRecord>,
    /// Lifetime of the token.
    pub ttl: Duration,
}

/// Deletes a join token.
#[derive(Clone, Debug, PartialEq)]
pub struct DeleteToken {
    /// Id of the token.
    pub id: String,
}

/// Creates an operator, or replaces the credential of one that has expired.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateOperator {
    /// The operator's name.
    pub name: String,
    /// The operator's role.
    pub role: Role,
    /// The operator's credential.
    pub credential: Credential,
    /// Lifetime of the credential.
    pub ttl: Duration,
}

/// Revokes an operator.
#[derive(Clone, Debug, PartialEq)]
pub struct RevokeOperator {
    /// The operator's name.
    pub name: String,
}

/// Records that a new CA is about to become active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthorityActivates;

/// Records that only the CA activated last is still trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthorityRetired;

/// Drains a node: moves its work off, and places no new work on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Drain {
    /// The node.
    pub node: String,
    /// Maximum duration; remaining instances are stopped after it. `None` for no limit.
    pub deadline: Option<Duration>,
    /// Whether daemons keep running.
    pub keep_daemons: bool,
    /// Whether to only report the changes.
    pub plan: bool,
}

/// Reports the effects of losing or draining nodes, without any change.
#[derive(Clone, Debug, PartialEq)]
pub struct WhatIf {
    /// The nodes: a label as `key=value`, or a node's name.
    pub nodes: String,
    /// Whether the nodes are drained rather than lost.
    pub drained: bool,
}

/// Moves work from the nodes with the most to those with the least.
#[derive(Clone, Debug, PartialEq)]
pub struct Rebalance {
    /// Whether to only report the changes.
    pub plan: bool,
}

/// Updates the policy of Autonomy.
#[derive(Clone, Debug, PartialEq)]
pub struct SetPolicy(pub PolicyChange);

/// Approves or rejects a pending decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Decide {
    /// Id of the decision.
    pub id: DecisionId,
    /// Whether the decision is approved.
    pub approve: bool,
}

/// Requests output of an instance; the coordinator sets the request's number.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadLog {
    /// The instance: its id, or the name of its workload and its slot.
    pub assignment: String,
    /// The output stream.
    pub stream: log::Stream,
    /// Start of the range.
    pub from: log::From,
    /// Whether to exclude the output of later processes.
    pub within: bool,
}

/// The reply to a cordon or uncordon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeEligibility {
    /// The node's eligibility.
    pub eligibility: Eligibility,
    /// Whether anything changed.
    pub changed: bool,
    /// The event that records the change; 0 if nothing changed.
    pub event: EventNo,
}

/// The reply to a change of labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLabels {
    /// The node's labels.
    pub labels: Labels,
    /// Whether anything changed.
    pub changed: bool,
    /// The event that records the change; 0 if nothing changed.
    pub event: EventNo,
}

/// The reply to an admission, a revocation, an enrolment or a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeAdmission {
    /// The node.
    pub node: NodeId,
    /// The node's admission.
    pub admission: Admission,
    /// Whether anything changed.
    pub changed: bool,
    /// The event that records the change; 0 if nothing changed.
    pub event: EventNo,
}

/// The reply to a refresh or a change of the heartbeat interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The directive; 0 if the node has no session.
    pub id: DirectiveId,
    /// The event that records the command.
    pub event: EventNo,
}

/// The reply to a step of the CA rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted;

/// The current policy of Autonomy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PolicySet {
    /// The policy.
    pub policy: Policy,
    /// The event that records the change; 0 if nothing changed.
    pub event: EventNo,
}
