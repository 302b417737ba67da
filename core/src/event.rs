//! Events: what happened, numbered and durable.

mod bounded;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    autonomy::Decision,
    behaviour::DirectiveRecord,
    id::NodeId,
    mesh::Finding,
    node::{Cause, Liveness},
    time::WallTime,
    workload::AssignmentId,
};

impl Event {
    /// The workload that it is about; empty for none.
    pub fn workload(&self) -> &str {
        match &self.body {
            EventBody::Workload { workload, .. } => workload,
            EventBody::Decision(decision) => &decision.workload,
            _ => "",
        }
    }

    /// The subject as a key: a workload, a node, the mesh, or (empty) the cluster. Each subject has its own share of the history.
    pub fn subject(&self) -> String {
        match (self.workload(), self.node, &self.body) {
            ("", Some(node), _) => format!("node {node}"),
            ("", None, EventBody::Finding { .. }) => "mesh".to_owned(),
            ("", None, _) => String::new(),
            (workload, ..) => format!("workload {workload}"),
        }
    }
}

fn once() -> u32 {
    1
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// 1 for the cluster's first, then +1.
    pub sequence: u64,
    /// When.
    pub time: WallTime,
    /// Epoch in which it happened.
    pub epoch: u64,
    /// Last cycle begun before it.
    pub cycle: u64,
    /// The node it is about.
    pub node: Option<NodeId>,
    /// The node's name at the time.
    pub node_name: String,
    /// One sentence for people.
    pub summary: String,
    /// What happened.
    pub body: EventBody,
    /// Occurrences since the previous such event; 1 for an event that does not repeat.
    #[serde(default = "once")]
    pub times: u32,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventBody {
    /// A node's liveness changed.
    Liveness {
        /// Before; `None` for a node that was not known.
        from: Option<Liveness>,
        /// After.
        to: Liveness,
        /// Why.
        cause: Cause,
    },
    /// A decision was taken, or its outcome changed.
    Decision(Arc<Decision>),
    /// A directive moved on.
    Directive(DirectiveRecord),
    /// An operator's command was carried out.
    Command {
        /// Its verb.
        verb: String,
        /// What it changed, for people.
        detail: String,
        /// Who gave it.
        #[serde(default)]
        by: String,
    },
    /// The mesh found something, or it is over.
    Finding {
        /// What.
        finding: Finding,
        /// False when it is over.
        open: bool,
    },
    /// Two processes claim to be one node, or a node came from another machine.
    Impostor {
        /// Who they are, for people.
        detail: String,
    },
    /// A session ended over its content.
    Session {
        /// The content that could not be accepted, for people.
        detail: String,
    },
    /// Something about a workload or an instance of it; the summary says what.
    Workload {
        /// The workload's name; empty when it is not known.
        workload: String,
        /// The instance.
        assignment: Option<AssignmentId>,
        /// Who had it done; empty for the coordinator.
        by: String,
    },
    /// The coordinator started or stopped.
    Coordinator {
        /// True for a start.
        started: bool,
        /// Its version.
        version: String,
    },
}
