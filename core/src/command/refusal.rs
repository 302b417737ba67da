//! Refusals of commands.

use std::borrow::Cow;

use crate::{access::Denial, id::Revision, registry::NoSuchNode, text::Quoted};

/// Reason why a command is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The node is unknown or ambiguous.
    #[error(transparent)]
    Node(#[from] NoSuchNode),
    /// A field is invalid.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// The error.
        reason: String,
    },
    /// The command requires a session, and the node has none.
    #[error("node {} has no session: wait until it is online", Quoted(.0))]
    NoSession(String),
    /// The command is not possible yet; `detail` states the precondition.
    #[error("{detail}")]
    NotYet {
        /// Reason, for programs.
        reason: &'static str,
        /// Explanation, for people.
        detail: String,
    },
    /// The named object does not exist.
    #[error("no {what} {}", Quoted(.name))]
    Unknown {
        /// Kind of object.
        what: &'static str,
        /// Name of the object.
        name: String,
    },
    /// The object to be created exists already.
    #[error("{what} {} exists: revoke it first", Quoted(.name))]
    Exists {
        /// Kind of object.
        what: &'static str,
        /// Name of the object.
        name: String,
    },
    /// The command is meant for another revision.
    #[error("workload {} {}", Quoted(.name), revised(*.now, *.at))]
    Revision {
        /// The workload.
        name: String,
        /// Current revision.
        now: Revision,
        /// Expected revision.
        at: Revision,
    },
    /// The workload is being deleted; its name is free once its instances are gone.
    #[error("workload {} is being deleted: wait until its instances are gone", Quoted(.0))]
    Deleting(String),
    /// The log cannot be read.
    #[error("{0}")]
    Log(String),
    /// The caller lacks permission.
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
    /// Exhausted resource and, for a permanent limit, the remedy.
    pub what: Cow<'static, str>,
    /// Whether the condition ends by itself within seconds, so that a repeated call may succeed.
    pub passes: bool,
}

impl Limit {
    /// Creates a limit that ends by itself within seconds.
    pub fn passes(what: &'static str) -> Limit {
        let what = Cow::Borrowed(what);
        Limit { what, passes: true }
    }

    /// Creates a limit that holds until somebody frees resources; `what` states how.
    pub fn stands(what: impl Into<Cow<'static, str>>) -> Limit {
        let what = what.into();
        Limit { what, passes: false }
    }
}

/// Describes a conflict between a workload's current and expected revisions; 0 is a workload that does not exist.
fn revised(now: Revision, at: Revision) -> String {
    match (now.0, at.0) {
        (_, 0) => format!(
            "exists already, at revision {now}, and revision 0 is for a new one: choose another name, or change this one with revision {now}"
        ),
        (0, _) => format!("is not declared, and the change is for revision {at}: somebody deleted it; plan again"),
        _ => format!("is at revision {now}, not {at}: somebody changed it; plan again"),
    }
}
