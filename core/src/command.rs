//! What operators ask for, and what they are answered: a type a command, and one table that says what each is answered with.

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

/// A command: what is asked, and the type of its answer. A node is named by its id, a unique prefix of it, or its name.
pub trait Command: Into<Asked> {
    /// What it is answered with.
    type Reply: TryFrom<Answer, Error = OtherAnswer>;
    /// Its name, as events have it.
    const VERB: &'static str;
}

/// An answer to another command than the one that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is to another command")]
pub struct OtherAnswer;

/// Makes the table of commands: of each its name, by the type of its reply.
macro_rules! commands {
    ($($reply:ty: $($command:ident $verb:literal),+;)+) => {
        /// What is asked: a variant a command.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Asked {
            $($(#[doc = concat!("The command `", $verb, "`.")] $command($command),)+)+
        }

        /// What a command came to: a variant a command.
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
    /// True for what hosts ask for, thousands of them at once: readers see its effect soon, but not before its answer.
    pub fn is_of_host(&self) -> bool {
        matches!(self, Asked::Enrol(_) | Asked::Renew(_))
    }

    /// True for a command that changes nothing and is answered with what would be done.
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

    /// What it is about, for the audit.
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

/// No new work on the node.
#[derive(Clone, Debug, PartialEq)]
pub struct Cordon {
    /// The node.
    pub node: String,
}

/// Takes a cordon back.
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

/// Has the agent measure and report now.
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
    /// The interval; `None` for the cluster's.
    pub interval: Option<Duration>,
}

/// Lets the node take part, on the machine that it is on now.
#[derive(Clone, Debug, PartialEq)]
pub struct Admit {
    /// The node.
    pub node: String,
}

/// Shuts the node out.
#[derive(Clone, Debug, PartialEq)]
pub struct Revoke {
    /// The node.
    pub node: String,
    /// Why, for people.
    pub reason: String,
}

/// Forgets a node that is gone for good.
#[derive(Clone, Debug, PartialEq)]
pub struct Forget {
    /// The node.
    pub node: String,
    /// Nothing is done; the answer says what would be.
    pub plan: bool,
    /// Why, for people.
    pub reason: String,
}

/// A host wants a certificate by a join token.
#[derive(Clone, Debug, PartialEq)]
pub struct Enrol(pub Box<Enrolment>);

/// A node wants its certificate renewed.
#[derive(Clone, Debug, PartialEq)]
pub struct Renew {
    /// The node.
    pub node: NodeId,
    /// Of its public key.
    pub key: Digest,
    /// The newest step of the CA's replacement, as in its identity.
    pub ca_step: u64,
}

/// Keeps a join token; `created` and `created_by` are set, and `expires` is this long from now.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateToken {
    /// What is kept.
    pub token: Box<TokenRecord>,
    /// How long it can be used.
    pub ttl: Duration,
}

/// Drops a join token.
#[derive(Clone, Debug, PartialEq)]
pub struct DeleteToken {
    /// Its id.
    pub id: String,
}

/// Makes an operator, or gives one that does not hold any more another credential.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateOperator {
    /// The name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// By what it is known.
    pub credential: Credential,
    /// How long it holds.
    pub ttl: Duration,
}

/// Shuts an operator out.
#[derive(Clone, Debug, PartialEq)]
pub struct RevokeOperator {
    /// The name.
    pub name: String,
}

/// Notes that a new CA is about to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthorityActivates;

/// Notes that only the CA that was activated last is trusted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthorityRetired;

/// Has a node emptied of its work, and takes no new work to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Drain {
    /// The node.
    pub node: String,
    /// How long that may take; what is there then is stopped all the same. `None`: as long as it takes.
    pub deadline: Option<Duration>,
    /// Daemons stay.
    pub keep_daemons: bool,
    /// Nothing is done; the answer says what would be.
    pub plan: bool,
}

/// What would happen if nodes were lost, or emptied. Nothing is done.
#[derive(Clone, Debug, PartialEq)]
pub struct WhatIf {
    /// The nodes: `key=value` of a label, or a node's name.
    pub nodes: String,
    /// They are emptied, and not lost.
    pub drained: bool,
}

/// Has work leave the nodes that have most of it for those that have least.
#[derive(Clone, Debug, PartialEq)]
pub struct Rebalance {
    /// Nothing is done; the answer says what would be.
    pub plan: bool,
}

/// Sets what Autonomy may do.
#[derive(Clone, Debug, PartialEq)]
pub struct SetPolicy(pub PolicyChange);

/// Answers a decision that waits for an operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Decide {
    /// Its id.
    pub id: DecisionId,
    /// Whether it is to be carried out.
    pub approve: bool,
}

/// What an instance wrote is wanted; its number is set by the coordinator.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadLog {
    /// The instance: its id, or its workload's name and slot.
    pub assignment: String,
    /// Which stream.
    pub stream: log::Stream,
    /// Where to begin.
    pub from: log::From,
    /// What a later process wrote is not wanted.
    pub within: bool,
}

/// The reply to a cordon or its taking back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeEligibility {
    /// The node's eligibility now.
    pub eligibility: Eligibility,
    /// Did anything change?
    pub changed: bool,
    /// The event that records it; 0 when nothing changed.
    pub event: EventNo,
}

/// The reply to a change of labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLabels {
    /// The node's labels now.
    pub labels: Labels,
    /// Did anything change?
    pub changed: bool,
    /// The event that records it; 0 when nothing changed.
    pub event: EventNo,
}

/// The reply to an admission, a revocation, an enrolment or a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeAdmission {
    /// The node.
    pub node: NodeId,
    /// Its admission now.
    pub admission: Admission,
    /// Did anything change?
    pub changed: bool,
    /// The event that records it; 0 when nothing changed.
    pub event: EventNo,
}

/// The reply to a refresh or a heartbeat interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The directive; 0 when the node has no session.
    pub id: DirectiveId,
    /// The event that records it.
    pub event: EventNo,
}

/// The reply to a step of the CA's replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted;

/// What Autonomy may do now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PolicySet {
    /// The policy.
    pub policy: Policy,
    /// The event that records its change; 0 when nothing changed.
    pub event: EventNo,
}
