//! Why a command is not carried out.

use std::borrow::Cow;

use crate::{access::Denial, registry::NoSuchNode, text::Quoted};

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
